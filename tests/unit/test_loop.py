"""What the loop adds to the plan: what is sent, in which order things happen, what is kept."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest

from heteroscale.adapters.memory import (
    MemoryClock,
    MemoryStore,
    MemorySubcluster,
)
from heteroscale.entities.action import OutcomeKind
from heteroscale.entities.policy import ScheduleSpec
from heteroscale.entities.service import FleetSpec, Mode
from heteroscale.entities.state import FleetState
from heteroscale.journal.codec import settled_fleet
from heteroscale.journal.replay import replay
from heteroscale.loop import ControlLoop, actions_digest
from tests.unit.journal.fleets import (
    BUSY_TPS,
    INTERVAL_S,
    START_S,
    Answering,
    World,
    busy,
    fleet,
    nodes,
    readings,
    service,
    world,
)


def replicas(run: World, name: str) -> int:
    """Return the instances that the sub-clusters are asked to have of a service."""
    return sum(
        one.replicas
        for place in run.subclusters.values()
        for one in place.observe().group_roles
        if one.service == name
    )


class Journalled(MemoryStore):
    """A store that notes what had been done when it was asked to save."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self._notes = notes

    def save(self, state: FleetState, acting: frozenset[str]) -> None:
        self._notes.append(f"save {sorted(acting)}")
        super().save(state, acting)


def test_enforced_actions_are_sent_and_their_outcomes_reach_the_next_snapshot() -> None:
    run = busy(Mode.ENFORCE)
    first = run.tick()
    assert first.sent == first.plan.actions
    assert first.sent
    assert [one.kind for one in first.outcomes] == [OutcomeKind.APPLIED] * len(first.sent)
    assert first.snapshot.outcomes == ()
    assert run.tick().snapshot.outcomes == first.outcomes
    assert replicas(run, "chat") > 4


def test_the_state_is_saved_before_anything_is_applied() -> None:
    notes: list[str] = []
    clock = MemoryClock(START_S)
    place = Answering(notes, clock)
    run = busy(Mode.ENFORCE)
    for role in ("prefill", "decode"):
        place.place("chat", "chat-alpha", role, "H20", 2)
    loop = ControlLoop(
        fleet(service("chat")), clock, run.metrics, (place,), Journalled(notes), None
    )
    report = loop.tick()
    assert notes == ["save ['chat']", f"apply {len(report.sent)} by +15"]


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RECOMMEND])
def test_a_service_that_only_watches_plans_the_same_and_sends_nothing(mode: Mode) -> None:
    run = busy(mode)
    report = run.tick()
    assert report.plan == busy(Mode.ENFORCE).tick().plan
    assert (report.sent, report.outcomes) == ((), ())
    assert replicas(run, "chat") == 4


def test_an_approved_plan_is_sent_once_and_only_for_its_service() -> None:
    run = busy(Mode.RECOMMEND, Mode.RECOMMEND, Mode.OBSERVE)
    shown = run.tick().plan
    for name in ("chat", "docs"):
        plan_digest = actions_digest(shown, name)
        assert plan_digest is not None
        run.loop.approve(name, plan_digest)
    report = run.tick()
    assert {one.service for one in report.sent} == {"chat"}
    assert report.notices == ()
    run.metrics.readings = {name: readings(4 * BUSY_TPS) for name in ("chat", "code", "docs")}
    assert run.tick().sent == ()


def test_an_approval_of_another_plan_is_declined_with_a_notice() -> None:
    run = busy(Mode.RECOMMEND)
    run.loop.approve("chat", "0123456789abcdef")
    report = run.tick()
    assert report.sent == ()
    assert report.notices == ("chat: the approved plan is no longer the plan; not sent",)
    plan_digest = actions_digest(report.plan, "chat")
    assert plan_digest is not None
    run.loop.approve("chat", plan_digest)
    assert run.tick().sent


def test_a_plan_without_actions_of_a_service_has_nothing_to_approve() -> None:
    assert actions_digest(busy(Mode.ENFORCE).tick().plan, "docs") is None


def test_the_collector_is_as_it_was_whatever_happens() -> None:
    run = busy(Mode.ENFORCE)
    assert gc.isenabled()
    run.tick()
    assert gc.isenabled()
    gc.disable()
    try:
        run.tick()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_other_specs_are_taken_between_ticks() -> None:
    run = busy(Mode.OBSERVE)
    run.tick()
    run.loop.reload(fleet(service("chat"), service("code")))
    report = run.tick()
    assert [one.service for one in report.plan.decisions] == ["chat", "code"]
    assert report.sent
    assert replay(run.lines()).fault is None


def test_specs_that_come_while_others_are_taken_are_taken_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = busy(Mode.OBSERVE)
    newest = fleet(service("chat"), service("code"), service("docs"))

    def settled(specs: FleetSpec) -> FleetSpec:
        if specs is not newest:
            run.loop.reload(newest)
        return settled_fleet(specs)

    monkeypatch.setattr("heteroscale.loop.control.settled_fleet", settled)
    run.loop.reload(fleet(service("chat"), service("code")))
    assert [len(run.tick().plan.decisions) for _ in range(2)] == [2, 3]


def test_a_service_nobody_asked_for_stays_visible_for_the_nodes_it_occupies() -> None:
    run = busy(Mode.OBSERVE)
    run.subclusters["alpha"].place("other", "other-0", "decode", "H20", 1)
    report = run.tick()
    assert list(report.snapshot.services) == ["chat", "other"]
    assert [one.service for one in report.plan.decisions] == ["chat"]


def test_what_has_not_changed_stays_the_same_object() -> None:
    run = busy(Mode.OBSERVE, Mode.OBSERVE)
    first = run.tick().snapshot
    run.subclusters["alpha"].place("code", "code-alpha", "decode", "H20", 1)
    second = run.tick().snapshot
    assert second.inventory is first.inventory
    assert second.services["chat"].instances is first.services["chat"].instances
    assert len(second.services["code"].instances) == 5


def test_the_generation_follows_the_nodes() -> None:
    run = busy(Mode.OBSERVE)
    first = run.tick().snapshot.inventory
    place = MemorySubcluster("alpha", run.clock, nodes=nodes("alpha", 65))
    loop = ControlLoop(fleet(service("chat")), run.clock, run.metrics, (place,), run.store, None)
    second = loop.tick().snapshot.inventory
    assert second.generation != first.generation
    assert second.nodes == tuple(sorted(nodes("alpha", 65), key=lambda node: node.name))


def test_every_zone_a_schedule_names_gets_its_offset() -> None:
    night = ScheduleSpec(
        name="night", timezone="Asia/Shanghai", days=(1,), start_s=0, end_s=3600, ratio={}
    )
    spec = service("chat")
    spec = replace(spec, policy=replace(spec.policy, schedules=(night,)))
    run = world(fleet(spec))
    assert run.tick().snapshot.utc_offsets_s == {"Asia/Shanghai": 8 * 3600}


def test_a_clock_set_back_does_not_put_off_the_next_save() -> None:
    notes: list[str] = []
    run = busy(Mode.OBSERVE)
    loop = ControlLoop(
        fleet(service("chat", mode=Mode.OBSERVE)),
        run.clock,
        run.metrics,
        tuple(run.subclusters.values()),
        Journalled(notes),
        None,
    )
    loop.tick()
    run.clock.advance(-86_400.0)
    for _ in range(5):
        loop.tick()
        run.clock.advance(INTERVAL_S)
    assert notes == ["save []"] * 3


def test_a_quiet_loop_saves_once_a_minute() -> None:
    notes: list[str] = []
    run = busy(Mode.OBSERVE)
    loop = ControlLoop(
        fleet(service("chat", mode=Mode.OBSERVE)),
        run.clock,
        run.metrics,
        tuple(run.subclusters.values()),
        Journalled(notes),
        None,
    )
    for _ in range(9):
        loop.tick()
        run.clock.advance(INTERVAL_S)
    assert notes == ["save []"] * 3


def test_a_restart_goes_on_from_the_store_with_the_same_plans() -> None:
    whole, cut = busy(Mode.ENFORCE), busy(Mode.ENFORCE)
    for _ in range(3):
        whole.tick()
        cut.tick()
    cut.loop = ControlLoop(
        fleet(service("chat")),
        cut.clock,
        cut.metrics,
        tuple(cut.subclusters.values()),
        cut.store,
        None,
    )
    for _ in range(3):
        assert cut.tick().plan.actions == whole.tick().plan.actions
