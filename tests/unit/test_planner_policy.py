"""Whole ticks in which what the policy promises depends on what was sent, seen and waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.action import OutcomeKind
from heteroscale.entities.plan import Plan
from heteroscale.entities.policy import FeedbackSpec, ProportionalSpec, ScheduleSpec
from heteroscale.entities.service import BrakeSpec, Mode
from heteroscale.entities.snapshot import Signal
from heteroscale.entities.state import FleetState
from heteroscale.planner import plan
from tests.builders import NOW_S, build_service, build_state
from tests.ticking import GUARD, LIFECYCLE, Run, counted

FEEDBACK = (FeedbackSpec(signal=Signal.TTFT),)


@pytest.mark.parametrize("answer", [OutcomeKind.REFUSED, OutcomeKind.STALE, None])
def test_a_step_of_feedback_that_did_not_happen_is_planned_again(
    answer: OutcomeKind | None,
) -> None:
    run = Run(build_service(feedback=FEEDBACK), replicas=10)
    first = run.look(ttft_s=1.5)
    assert counted(first) == [("g0", "decode", 10, 12), ("g0", "prefill", 10, 12)]
    if answer is None:
        # a mode that does not act: nothing is sent
        run.send()
    else:
        run.send(*first.actions, answer=answer)
    assert run.look(ttft_s=1.5).actions == first.actions


def test_a_step_of_feedback_that_happened_is_waited_for() -> None:
    run = Run(build_service(feedback=FEEDBACK), replicas=10)
    run.tick(ttft_s=1.5)
    for _ in range(3):
        assert run.tick(ttft_s=1.5).actions == ()
        assert run.codes()[0] == "feedback_waits"


def test_a_service_that_cannot_use_metrics_scales_in_by_its_schedule_for_good() -> None:
    always = ScheduleSpec(
        name="always",
        timezone="UTC",
        days=tuple(range(1, 8)),
        start_s=0,
        end_s=86_400,
        replicas={"decode": 3},
    )
    run = Run(build_service(schedules=(always,), guard=GUARD, lifecycle=LIFECYCLE), replicas=4)
    for _ in range(40):
        run.world.pass_time(run.now_s)
        snapshot = replace(run.world.snapshot(run.now_s, {}), utc_offsets_s={"UTC": 0})
        run.plan, run.state = plan(run.state, snapshot, run.fleet)
        run.send(*run.plan.actions)
    assert run.world.states("chat", "decode") == ["ready"] * 3
    assert run.world.states("chat", "prefill") == ["ready"] * 3


def braked(*modes: Mode, waits_s: float = 0.0) -> tuple[Run, Plan]:
    """Look at as many services of ten replicas as there are modes, with a quarter of their load."""
    specs = [build_service(f"s{i:02d}", guard=GUARD, mode=mode) for i, mode in enumerate(modes)]
    run = Run(*specs, replicas=10, nodes=20 * len(specs))
    run.fleet = replace(run.fleet, brake=BrakeSpec(share=0.5, services=3))
    services = {
        name: replace(state, scale_in_until_s=NOW_S + waits_s if name != "s00" else 0.0)
        for name, state in run.state.services.items()
    }
    run.state = replace(run.state, services=services)
    return run, run.look(2500.0)


def test_cool_downs_that_end_one_after_another_do_not_get_past_the_brake() -> None:
    run, made = braked(*[Mode.ENFORCE] * 4, waits_s=60.0)
    assert made.actions == ()
    assert "brake_share" in run.codes("s00")
    assert "cool_down_in" in run.codes("s01")


def test_services_that_do_not_act_brake_nobody_who_does() -> None:
    run, made = braked(Mode.ENFORCE, Mode.OBSERVE, Mode.OBSERVE, Mode.RECOMMEND)
    assert {action.service for action in made.actions} == {"s00"}
    assert "brake_share" in run.codes("s01")


@pytest.mark.parametrize("others", [1, 3])
def test_while_the_brake_holds_no_partner_gives_back_either(others: int) -> None:
    control = ProportionalSpec(signal=Signal.TPS, role="decode", target=250.0)
    steady = build_service("steady", guard=GUARD, proportional=(control,))
    asking = [build_service(f"s{i:02d}", guard=GUARD) for i in range(others)]
    run = Run(steady, *asking, replicas=0, nodes=100)
    run.fleet = replace(run.fleet, brake=BrakeSpec(share=0.5, services=3))
    run.world.settle(steady, {"prefill": 15, "decode": 10}, NOW_S - 600.0)
    for spec in asking:
        run.world.settle(spec, {"prefill": 10, "decode": 10}, NOW_S - 600.0)
    states = {spec.name: build_state(scale_in_until_s=NOW_S + 60.0) for spec in asking}
    run.state = FleetState(services={**states, "steady": build_state()})
    run.look(2500.0)
    assert run.codes("steady")[-1] == ("surplus_waits" if others == 3 else "withdrawn")
