"""What was taken out of rotation and what becomes of it when a service is enforced no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.action import Effect, OutcomeKind, RotationAction
from heteroscale.entities.policy import GuardSpec, LifecycleSpec
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import Mode, ServiceSpec
from heteroscale.entities.snapshot import InstanceState, ServiceSnapshot, Signal, Snapshot
from heteroscale.entities.state import FleetState
from heteroscale.journal.fold import planned
from heteroscale.journal.replay import replay
from heteroscale.loop import ControlLoop
from tests.unit.journal.fleets import (
    World,
    fleet,
    readings,
    service,
    states,
    world,
)


def shrinking(*, observe_s: float = 600.0) -> World:
    """Return a service under enforcement that has just withdrawn some of its instances."""
    run = world(fleet(patient(observe_s=observe_s)))
    for role in ("prefill", "decode"):
        run.subclusters["alpha"].place("chat", "chat-alpha", role, "H20", 6)
    run.metrics.readings = {"chat": readings(1000.0)}
    for _ in range(60):
        run.tick()
        if states(run)["withdrawn"]:
            return run
    raise AssertionError("nothing was withdrawn")


def patient(*, mode: Mode = Mode.ENFORCE, observe_s: float = 600.0) -> ServiceSpec:
    """Return a service that soon scales in and then watches for long."""
    spec = replace(service("chat", mode=mode), lifecycle=LifecycleSpec(observe_s=observe_s))
    guard = GuardSpec(stabilization_window_s=30.0)
    return replace(spec, policy=replace(spec.policy, guard=guard))


def test_what_was_withdrawn_comes_back_when_its_service_is_only_observed() -> None:
    run = shrinking()
    total = sum(states(run).values())
    run.loop.reload(fleet(patient(mode=Mode.OBSERVE)))
    report = run.tick()
    assert [one.effect for one in report.sent] == [Effect.RESTORE] * len(report.sent)
    assert states(run) == {"ready": total}
    assert ReasonCode.RESTORED_CANCELLED in [one.code for one in report.plan.decisions[0].reasons]
    for _ in range(80):
        assert run.tick().sent == ()
    assert states(run) == {"ready": total}
    assert replay(run.lines()).fault is None


def test_what_a_pin_keeps_out_comes_back_as_well_when_its_service_is_only_observed() -> None:
    run = shrinking()
    run.loop.reload(fleet(replace(patient(mode=Mode.OBSERVE), pin={"prefill": 1, "decode": 1})))
    run.tick()
    assert not states(run)["withdrawn"]
    assert replay(run.lines()).fault is None


def test_what_was_withdrawn_comes_back_at_once_when_a_restart_finds_it_only_observed() -> None:
    run = shrinking()
    loop = ControlLoop(
        fleet(patient(mode=Mode.OBSERVE)),
        run.clock,
        run.metrics,
        tuple(run.subclusters.values()),
        run.store,
        None,
    )
    loop.tick()
    assert not states(run)["withdrawn"]


def test_what_was_withdrawn_comes_back_when_nobody_asks_for_its_service_any_more() -> None:
    run = shrinking()
    withdrawn = states(run)["withdrawn"]
    run.loop.reload(fleet())
    report = run.tick()
    assert len(report.sent) == withdrawn
    assert report.notices == (
        f"chat is no longer asked for: {withdrawn} of its instances come back",
    )
    assert not states(run)["withdrawn"]
    for _ in range(10):
        report = run.tick()
        assert (report.sent, report.notices) == ((), ())
    assert report.state == FleetState(left_gpus=report.state.left_gpus)
    assert replay(run.lines()).fault is None


def test_a_service_that_was_let_go_belongs_to_whoever_withdraws_its_instances_next() -> None:
    run = shrinking()
    run.loop.reload(fleet())
    for _ in range(10):
        run.tick()
    one = run.subclusters["alpha"].observe().instances[0]
    run.subclusters["alpha"].change(one.uid, state=InstanceState.WITHDRAWN)
    assert run.tick().sent == ()
    assert states(run)["withdrawn"] == 1


def test_a_recommended_scale_in_goes_on_only_when_approved_but_is_undone_by_itself() -> None:
    run = shrinking(observe_s=60.0)
    withdrawn = states(run)["withdrawn"]
    run.loop.reload(fleet(patient(mode=Mode.RECOMMEND, observe_s=60.0)))
    for _ in range(20):
        assert run.tick().sent == ()
    assert states(run)["withdrawn"] == withdrawn
    slow = tuple(
        replace(one, value=5.0) if one.signal is Signal.TTFT else one for one in readings(1000.0)
    )
    run.metrics.readings = {"chat": slow}
    report = run.tick()
    assert [one.effect for one in report.sent] == [Effect.RESTORE] * withdrawn
    assert not states(run)["withdrawn"]
    assert replay(run.lines()).fault is None


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RECOMMEND])
def test_the_readiness_gate_lets_newcomers_in_whatever_the_mode(mode: Mode) -> None:
    run = world(fleet(service("chat", mode=mode)))
    place = run.subclusters["alpha"]
    place.place("chat", "chat-alpha", "decode", "H20", 1, state=InstanceState.HELD)
    report = run.tick()
    assert [one.effect for one in report.sent] == [Effect.UPKEEP]
    assert states(run) == {"ready": 5}


def let_go(run: World) -> tuple[FleetState, Snapshot]:
    """Return what is remembered and seen of a shrinking service at the next tick."""
    report = run.tick()
    return report.state, run.tick().snapshot


def test_what_is_held_or_will_be_comes_back_with_its_service_let_go() -> None:
    state, snapshot = let_go(shrinking())
    seen = snapshot.services["chat"]
    held, starting, *others = seen.instances
    instances = (
        replace(held, state=InstanceState.HELD, held=True),
        replace(starting, state=InstanceState.STARTING, held=True),
        *(replace(one, state=InstanceState.READY) for one in others),
    )
    seen = replace(seen, instances=instances)
    plan, after = planned(state, replace(snapshot, services={"chat": seen}), fleet())
    returns = [(one.uid, one.effect) for one in plan.actions if isinstance(one, RotationAction)]
    assert returns == [(one.uid, Effect.UPKEEP) for one in instances[:2]]
    assert list(after.services) == ["chat"]


def test_what_is_out_of_reach_stays_remembered_until_it_can_come_back() -> None:
    state, snapshot = let_go(shrinking())
    plan, after = planned(state, replace(snapshot, unreachable=("alpha",)), fleet())
    assert plan.actions == ()
    assert list(after.services) == ["chat"]
    plan, _ = planned(after, snapshot, fleet())
    assert {one.effect for one in plan.actions} == {Effect.RESTORE}


def test_what_was_just_sent_may_still_show_and_is_waited_for() -> None:
    run = shrinking()
    state, snapshot = run.reports[-1].state, run.reports[-1].snapshot
    assert state.services["chat"].pending
    _, after = planned(state, snapshot, fleet())
    assert list(after.services) == ["chat"]
    _, after = planned(state, replace(snapshot, now_s=snapshot.now_s + 75.0), fleet())
    assert list(after.services) == []


def test_a_service_the_planner_failed_on_is_left_alone() -> None:
    state, snapshot = let_go(shrinking())
    other = service("code")
    observed = fleet(patient(mode=Mode.OBSERVE), other)
    services = {**snapshot.services, "code": ServiceSnapshot()}
    snapshot = replace(snapshot, services=services)
    for excluded in (("chat",), ("chat", "code")):
        plan, after = planned(state, snapshot, observed, excluded)
        assert {one.service for one in plan.actions} <= {"code"}
        assert after.services["chat"] == state.services["chat"]


def test_what_is_on_its_way_back_is_not_sent_again() -> None:
    run = shrinking()
    run.loop.reload(fleet(patient(mode=Mode.OBSERVE)))
    run.subclusters["alpha"].answer = OutcomeKind.UNKNOWN
    report = run.tick()
    again, _ = planned(report.state, report.snapshot, fleet(patient(mode=Mode.OBSERVE)))
    assert report.sent
    assert not {one.id for one in report.sent} & {one.id for one in again.actions}


def test_it_is_not_said_to_drain_what_comes_back() -> None:
    run = shrinking(observe_s=0.0)
    observed = fleet(patient(mode=Mode.OBSERVE, observe_s=0.0))
    run.loop.reload(observed)
    report = run.tick()
    codes = [one.code for one in report.plan.decisions[0].reasons]
    assert ReasonCode.RESTORED_CANCELLED in codes
    assert ReasonCode.DRAINED not in codes
    assert {one.effect for one in report.sent} == {Effect.RESTORE}
