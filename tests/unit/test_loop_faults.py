"""What may fail around the loop, and how little of it then stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from heteroscale import planner
from heteroscale.adapters.memory import (
    MemoryClock,
    MemoryJournal,
    MemoryMetrics,
    MemoryStore,
    MemorySubcluster,
)
from heteroscale.entities.action import Action, Outcome, OutcomeKind
from heteroscale.entities.plan import Plan
from heteroscale.entities.policy import ScheduleSpec
from heteroscale.entities.service import FleetSpec, Mode
from heteroscale.entities.snapshot import Observation, Snapshot
from heteroscale.entities.state import FleetState
from heteroscale.errors import InvariantViolation
from heteroscale.journal.recorder import Recorder
from heteroscale.journal.replay import Line, replay
from heteroscale.loop import ControlLoop
from heteroscale.prescheduler.solve import Solver
from tests.unit.journal.fleets import (
    BUSY_TPS,
    INTERVAL_S,
    START_S,
    Answering,
    busy,
    fleet,
    nodes,
    readings,
    service,
    world,
)


def test_failing_metrics_leave_every_reading_missing_and_nothing_is_done() -> None:
    run = busy(Mode.ENFORCE)
    run.metrics.down = True
    report = run.tick()
    assert report.snapshot.services["chat"].readings == ()
    assert report.sent == ()
    assert report.notices == (
        "metrics: MetricsUnavailable: the metrics source is switched off; every reading is missing",
    )


class Hindered(MemorySubcluster):
    """A sub-cluster where something stands in the way."""

    def observe(self) -> Observation:
        return replace(super().observe(), notices=("chat: somebody else sets its counts",))


def test_what_a_sub_cluster_finds_in_the_way_is_a_notice_of_the_tick_and_in_the_journal() -> None:
    clock, journal = MemoryClock(START_S), MemoryJournal()
    place = Hindered("alpha", clock, nodes=nodes("alpha", 4))
    specs = fleet(service("chat"))
    loop = ControlLoop(specs, clock, MemoryMetrics({}), (place,), MemoryStore(), Recorder(journal))
    notice = "sub-cluster alpha: chat: somebody else sets its counts"
    assert loop.tick().notices == (notice,)
    assert notice.encode() in journal.lines[0]


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


def test_an_age_that_cannot_be_is_as_bad_as_an_old_one() -> None:
    run = busy(Mode.OBSERVE)
    run.subclusters["alpha"].age_s = -1.0
    assert run.tick().snapshot.unreachable == ("alpha",)


def test_a_silent_sub_cluster_is_not_younger_for_a_clock_that_was_set_back() -> None:
    run = busy(Mode.OBSERVE)
    run.tick()
    run.clock.advance(-60.0)
    run.subclusters["alpha"].down = True
    assert [run.tick().snapshot.unreachable for _ in range(9)] == [("alpha",)] * 9
    run.subclusters["alpha"].down = False
    assert run.tick().snapshot.unreachable == ()


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


class Slow(MemorySubcluster):
    """A sub-cluster that takes longer than a tick to carry out anything."""

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        answers = super().apply(actions, deadline_s)
        self._clock.advance(20.0)
        return answers


def test_a_slow_sub_cluster_takes_no_time_from_the_next_one() -> None:
    run = busy(Mode.ENFORCE, Mode.ENFORCE)
    slow = Slow("alpha", run.clock, nodes=nodes("alpha", 64))
    other = MemorySubcluster("beta", run.clock, nodes=nodes("beta", 64))
    for name, place in (("chat", slow), ("code", other)):
        on = iter(nodes(place.name, 64))
        for role in ("prefill", "decode"):
            place.place(name, f"{name}-0", role, "H20", 2, on=on)
    specs = fleet(service("chat"), service("code"))
    loop = ControlLoop(specs, run.clock, run.metrics, (slow, other), MemoryStore(), None)
    report = loop.tick()
    assert {one.subcluster for one in report.sent} == {"alpha", "beta"}
    assert {one.kind for one in report.outcomes} == {OutcomeKind.APPLIED}


class WholeSeconds(MemoryClock):
    """A clock that knows no fractions, and says so."""

    def now_s(self) -> float:
        return int(super().now_s())


def test_a_clock_of_whole_seconds_leaves_a_journal_that_can_be_replayed() -> None:
    run = busy(Mode.ENFORCE)
    clock = WholeSeconds(START_S)
    place = MemorySubcluster("alpha", clock, nodes=nodes("alpha", 64))
    for role in ("prefill", "decode"):
        place.place("chat", "chat-alpha", role, "H20", 2)
    journal = MemoryJournal()
    loop = ControlLoop(
        fleet(service("chat")), clock, run.metrics, (place,), MemoryStore(), Recorder(journal)
    )
    assert loop.tick().sent
    for _ in range(5):
        clock.advance(INTERVAL_S)
        loop.tick()
    report = replay(Line(text=text, where="memory") for text in journal.lines)
    assert (report.records, report.fault) == (6, None)


class Mute(Answering):
    """A sub-cluster that carries out everything and answers with nothing at all."""

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        super().apply(actions, deadline_s)
        return None  # type: ignore[return-value]


def test_an_answer_that_is_none_is_unknown() -> None:
    run = busy(Mode.ENFORCE)
    clock = MemoryClock(START_S)
    place = Mute([], clock)
    for role in ("prefill", "decode"):
        place.place("chat", "chat-alpha", role, "H20", 2)
    loop = ControlLoop(fleet(service("chat")), clock, run.metrics, (place,), MemoryStore(), None)
    assert {one.kind for one in loop.tick().outcomes} == {OutcomeKind.UNKNOWN}


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


Planner = Callable[[FleetState, Snapshot, FleetSpec, Solver], tuple[Plan, FleetState]]


def failing(name: str, sound: Planner) -> Planner:
    """Return a planner that breaks on one service."""

    def plan(
        state: FleetState, snapshot: Snapshot, spec: FleetSpec, solver: Solver
    ) -> tuple[Plan, FleetState]:
        if any(one.name == name for one in spec.services):
            raise InvariantViolation(f"{name}: 3 of 2 nodes are free")
        return sound(state, snapshot, spec, solver)

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

    def plan(
        state: FleetState, snapshot: Snapshot, spec: FleetSpec, solver: Solver
    ) -> tuple[Plan, FleetState]:
        if len(spec.services) == 2:
            raise InvariantViolation("together they do not fit")
        return planner.plan(state, snapshot, spec, solver)

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


def test_specs_that_cannot_be_written_down_leave_those_before_in_force() -> None:
    run = busy(Mode.OBSERVE)
    run.loop.reload(replace(fleet(service("code")), stale_s=math.nan))
    report = run.tick()
    assert [one.service for one in report.plan.decisions] == ["chat"]
    (notice,) = report.notices
    assert notice.startswith("specs: ValidationError: ")
    assert notice.endswith("; those before stay in force")
    assert run.tick().notices == ()
    assert replay(run.lines()).fault is None


def test_a_zone_that_does_not_exist_holds_its_schedule_and_stops_nobody_else() -> None:
    lost, night = (
        ScheduleSpec(name=zone, timezone=zone, days=(1,), start_s=0, end_s=3600, ratio={})
        for zone in ("Mars/Base", "Asia/Shanghai")
    )
    odd = service("chat")
    odd = replace(odd, policy=replace(odd.policy, schedules=(lost, night)))
    run = world(fleet(odd, service("code")))
    run.metrics.readings = {name: readings(BUSY_TPS) for name in ("chat", "code")}
    report = run.tick()
    assert report.snapshot.utc_offsets_s == {"Asia/Shanghai": 8 * 3600}
    rule = "must be an IANA time zone such as Asia/Shanghai, got 'Mars/Base'"
    assert report.notices == (
        f"time zone Mars/Base: ConfigError: timezone: {rule}; its schedules hold",
    )
    assert "code" in {one.service for one in report.sent}
    assert replay(run.lines()).fault is None
