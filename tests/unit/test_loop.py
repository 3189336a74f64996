"""What the loop adds to the plan: what is sent, in which order things happen, and what may fail."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from heteroscale import planner
from heteroscale.adapters.memory import MemoryClock, MemoryStore, MemorySubcluster
from heteroscale.entities.action import Action, Outcome, OutcomeKind
from heteroscale.entities.plan import Plan
from heteroscale.entities.policy import ScheduleSpec
from heteroscale.entities.service import FleetSpec, Mode
from heteroscale.entities.snapshot import Snapshot
from heteroscale.entities.state import FleetState
from heteroscale.errors import InvariantViolation
from heteroscale.journal.replay import replay
from heteroscale.loop import ControlLoop, actions_digest
from tests.unit.journal.fleets import (
    INTERVAL_S,
    START_S,
    World,
    fleet,
    nodes,
    readings,
    service,
    world,
)

BUSY_TPS = 3500.0


def busy(*modes: Mode, subclusters: tuple[str, ...] = ("alpha",)) -> World:
    """Return services, one per mode, whose load asks for more than they have."""
    names = ("chat", "code", "docs")[: len(modes)]
    specs = tuple(service(name, mode=mode) for name, mode in zip(names, modes, strict=True))
    run = world(fleet(*specs), subclusters=subclusters)
    run.metrics.readings = {name: readings(BUSY_TPS) for name in names}
    return run


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


class Answering(MemorySubcluster):
    """A sub-cluster that notes every batch, and may answer out of turn."""

    def __init__(self, notes: list[str], clock: MemoryClock) -> None:
        super().__init__("alpha", clock, nodes=nodes("alpha", 64))
        self.notes = notes
        self.answers: int | None = None
        self.fault: Exception | None = None

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        self.notes.append(f"apply {len(actions)} by +{deadline_s - START_S:.0f}")
        if self.fault is not None:
            raise self.fault
        return super().apply(actions, deadline_s)[: self.answers]


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


def test_failing_metrics_leave_every_reading_missing_and_nothing_is_done() -> None:
    run = busy(Mode.ENFORCE)
    run.metrics.down = True
    report = run.tick()
    assert report.snapshot.services["chat"].readings == ()
    assert report.sent == ()
    assert report.notices == (
        "metrics: MetricsUnavailable: the metrics source is switched off; every reading is missing",
    )


def test_a_silent_sub_cluster_keeps_its_last_observation_until_it_is_stale() -> None:
    run = busy(Mode.OBSERVE, subclusters=("alpha", "beta"))
    run.tick()
    run.subclusters["beta"].down = True
    unreachable = [run.tick().snapshot.unreachable for _ in range(6)]
    stale_after = int(fleet().stale_s / INTERVAL_S)
    assert unreachable == [()] * stale_after + [("beta",)] * (6 - stale_after)
    kept = run.reports[-1].snapshot
    assert len(kept.services["chat"].instances) == 8
    assert kept.inventory == run.reports[0].snapshot.inventory
    assert run.reports[-1].notices == (
        "sub-cluster beta: SubclusterUnavailable: beta is switched off",
    )


def test_an_adapter_whose_cache_is_old_is_unreachable_though_it_answers() -> None:
    run = busy(Mode.OBSERVE)
    run.subclusters["alpha"].age_s = 61.0
    assert run.tick().snapshot.unreachable == ("alpha",)


def test_a_sub_cluster_never_seen_is_unreachable_and_has_nothing() -> None:
    run = busy(Mode.OBSERVE)
    run.subclusters["alpha"].down = True
    snapshot = run.tick().snapshot
    assert snapshot.unreachable == ("alpha",)
    assert snapshot.services["chat"].instances == ()
    assert snapshot.inventory.nodes == ()


@pytest.mark.parametrize(
    ("answers", "fault", "kind", "detail"),
    [
        (0, None, OutcomeKind.UNKNOWN, "no answer"),
        (None, RuntimeError("broken pipe"), OutcomeKind.UNKNOWN, "RuntimeError: broken pipe"),
    ],
    ids=["an answer that never came", "a failure halfway"],
)
def test_what_may_have_happened_is_unknown(
    answers: int | None, fault: Exception | None, kind: OutcomeKind, detail: str
) -> None:
    run = busy(Mode.ENFORCE)
    clock = MemoryClock(START_S)
    place = Answering([], clock)
    place.answers, place.fault = answers, fault
    for role in ("prefill", "decode"):
        place.place("chat", "chat-alpha", role, "H20", 2)
    loop = ControlLoop(fleet(service("chat")), clock, run.metrics, (place,), MemoryStore(), None)
    report = loop.tick()
    assert report.sent
    assert report.outcomes == tuple(
        Outcome(action_id=one.id, service="chat", kind=kind, at_s=START_S, detail=detail)
        for one in report.sent
    )


def test_a_sub_cluster_that_cannot_be_reached_refuses_and_the_other_acts() -> None:
    run = busy(Mode.ENFORCE, subclusters=("alpha", "beta"))
    run.tick()
    run.metrics.readings = {"chat": readings(40_000.0)}
    run.subclusters["alpha"].down = True
    for _ in range(16):
        report = run.tick()
        if any(one.subcluster == "alpha" for one in report.sent):
            break
    kinds = {
        (action.subcluster, outcome.kind)
        for action, outcome in zip(report.sent, report.outcomes, strict=True)
    }
    assert kinds <= {("alpha", OutcomeKind.REFUSED), ("beta", OutcomeKind.APPLIED)}


def test_what_cannot_be_remembered_is_not_sent() -> None:
    run = busy(Mode.ENFORCE)
    run.store.down = True
    report = run.tick()
    assert report.plan.actions
    assert (report.sent, report.outcomes) == ((), ())
    assert report.notices == ("store: OSError: the store is switched off; nothing is sent",)
    run.store.down = False
    assert run.tick().sent
    assert replay(run.lines()).fault is None


def test_a_lost_record_does_not_stop_the_fleet_and_the_journal_goes_on_after_it() -> None:
    run = busy(Mode.ENFORCE)
    run.tick()
    run.journal.down = True
    run.metrics.readings = {"chat": readings(40_000.0)}
    lost = run.tick()
    assert lost.notices == (
        "journal: OSError: the journal is switched off; this tick leaves no record",
    )
    run.journal.down = False
    run.tick()
    run.tick()
    report = replay(run.lines())
    assert (report.records, report.fault) == (3, None)


Planner = Callable[[FleetState, Snapshot, FleetSpec], tuple[Plan, FleetState]]


def failing(name: str, sound: Planner) -> Planner:
    """Return a planner that breaks on one service."""

    def plan(state: FleetState, snapshot: Snapshot, spec: FleetSpec) -> tuple[Plan, FleetState]:
        if any(one.name == name for one in spec.services):
            raise InvariantViolation(f"{name}: 3 of 2 nodes are free")
        return sound(state, snapshot, spec)

    return plan


def test_a_service_the_planner_breaks_on_is_left_out_and_the_rest_act(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = busy(Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE)
    calm = run.tick()
    monkeypatch.setattr("heteroscale.journal.fold.plan", failing("code", planner.plan))
    run.metrics.readings = {name: readings(40_000.0) for name in ("chat", "code", "docs")}
    for _ in range(16):
        report = run.tick()
        if report.sent:
            break
    assert report.excluded == {"code": "InvariantViolation: code: 3 of 2 nodes are free"}
    assert [one.service for one in report.plan.decisions] == ["chat", "docs"]
    assert {one.service for one in report.sent} == {"chat", "docs"}
    assert report.state.services["code"] == calm.state.services["code"]
    monkeypatch.undo()
    assert replay(run.lines()).fault is None


def test_when_planning_fails_for_all_together_nobody_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    run = busy(Mode.ENFORCE, Mode.ENFORCE)

    def plan(state: FleetState, snapshot: Snapshot, spec: FleetSpec) -> tuple[Plan, FleetState]:
        if len(spec.services) == 2:
            raise InvariantViolation("together they do not fit")
        return planner.plan(state, snapshot, spec)

    monkeypatch.setattr("heteroscale.journal.fold.plan", plan)
    before = run.loop.tick()
    error = "InvariantViolation: together they do not fit"
    assert before.excluded == {"chat": error, "code": error}
    assert (before.plan.decisions, before.sent, before.state) == ((), (), FleetState())
    assert replay(run.lines()).fault is None


def test_actions_whose_waits_cannot_begin_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    run = busy(Mode.ENFORCE)

    def begin(*_: object) -> FleetState:
        raise InvariantViolation("a wait that ends before it begins")

    monkeypatch.setattr("heteroscale.journal.fold.begin", begin)
    report = run.tick()
    assert report.plan.actions
    assert report.sent == ()
    assert report.notices == (
        "begin: InvariantViolation: a wait that ends before it begins; nothing is sent",
    )
    assert replay(run.lines()).fault is None


def test_a_record_that_cannot_be_made_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = busy(Mode.ENFORCE)
    run.tick()
    with monkeypatch.context() as patch:
        patch.setattr("heteroscale.journal.recorder.encoded", lambda _: 1 / 0)
        assert run.tick().notices == (
            "journal: ZeroDivisionError: division by zero; this tick leaves no record",
        )
    run.tick()
    report = replay(run.lines())
    assert (report.records, report.fault) == (2, None)


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
