"""The way to a sub-cluster, whole and broken, and metrics that read 0."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heteroscale.config.fault_sections import FaultKind, FaultSection
from heteroscale.entities.action import Outcome, OutcomeKind
from heteroscale.entities.snapshot import Reading, Signal
from heteroscale.errors import SubclusterUnavailable
from heteroscale.sim.fault_link import Link, ZeroedMetrics
from heteroscale.sim.ports import SimClock, SimMetrics, SimSubcluster
from heteroscale.sim.signals import SignalSettings, SignalWindow
from tests.unit.sim.small import small
from tests.unit.sim.test_ports import scale, subcluster

THREE = scale(3, 2, "1")


class Way:
    """A link to two instances, and what is still under way."""

    def __init__(self, *faults: FaultSection) -> None:
        self.late: list[tuple[float, Callable[[], None]]] = []
        self.inner: SimSubcluster = subcluster(SimClock(1000.0))
        self.link = Link(self.inner, lambda delay_s, then: self.late.append((delay_s, then)))
        self.link.faults += faults

    def send(self) -> tuple[Outcome, ...]:
        return self.link.apply((THREE,), 1015.0)

    def replicas(self) -> int:
        return self.inner.observe().group_roles[0].replicas


def fault(kind: FaultKind, delay_s: float = 0.0, every: int = 1) -> FaultSection:
    return FaultSection(at_s=0.0, kind=kind, duration_s=60.0, delay_s=delay_s, every=every)


UNKNOWN = Outcome(
    action_id=THREE.id, service="chat", kind=OutcomeKind.UNKNOWN, at_s=1015.0, detail="no answer"
)


def test_a_whole_way_changes_nothing() -> None:
    way = Way()
    assert way.link.name == "c"
    assert way.link.observe() is way.inner.observe()
    assert [one.kind for one in way.send()] == [OutcomeKind.APPLIED]


def test_a_cut_way_neither_shows_nor_carries() -> None:
    way = Way()
    way.link.cuts = 1
    with pytest.raises(SubclusterUnavailable, match="c: cannot be observed"):
        way.link.observe()
    with pytest.raises(SubclusterUnavailable, match="c: cannot be reached"):
        way.send()
    assert way.replicas() == 2


def test_what_cannot_be_sent_is_known_not_to_have_happened() -> None:
    way = Way(fault(FaultKind.UNSENT_ACTIONS))
    with pytest.raises(SubclusterUnavailable, match="1 actions could not be sent"):
        way.send()
    assert way.replicas() == 2


@pytest.mark.parametrize(
    ("kind", "replicas"),
    [
        pytest.param(FaultKind.LOST_ACTIONS, 2, id="the request is lost"),
        pytest.param(FaultKind.LOST_ANSWERS, 3, id="the answer is lost"),
        pytest.param(FaultKind.LATE_ACTIONS, 2, id="the request is late"),
    ],
)
def test_who_gets_no_answer_does_not_know_what_happened(kind: FaultKind, replicas: int) -> None:
    way = Way(fault(kind, delay_s=40.0))
    assert way.send() == (UNKNOWN,)
    assert way.replicas() == replicas


def test_late_actions_arrive_unless_the_way_is_cut_by_then() -> None:
    for cuts, replicas in ((0, 3), (1, 2)):
        way = Way(fault(FaultKind.LATE_ACTIONS, delay_s=40.0))
        way.send()
        ((delay_s, arrive),) = way.late
        way.link.cuts = cuts
        arrive()
        assert (delay_s, way.replicas()) == (40.0, replicas)


@pytest.mark.parametrize("delay_s", [0.0, 40.0])
def test_actions_that_arrive_twice_have_the_effect_of_once(delay_s: float) -> None:
    way = Way(fault(FaultKind.REPEATED_ACTIONS, delay_s=delay_s))
    assert [one.kind for one in way.send()] == [OutcomeKind.APPLIED]
    seen = way.inner.observe()
    for _, arrive in way.late:
        arrive()
    assert way.inner.observe() is seen
    assert (way.replicas(), len(way.late)) == (3, int(delay_s > 0))


def test_only_every_nth_batch_meets_a_fault_and_the_newest_fault_wins() -> None:
    way = Way(fault(FaultKind.UNSENT_ACTIONS), fault(FaultKind.LOST_ACTIONS, every=2))
    assert [one.kind for one in way.send()] == [OutcomeKind.APPLIED]
    assert way.send() == (UNKNOWN,)


def test_metrics_read_zero_fresh_and_fully_covered_only_while_told_to() -> None:
    scenario, clock = small(), SimClock(0.0)
    window = SignalWindow(SignalSettings(roles=("prefill", "decode"), quantile=0.9, window_s=60.0))
    metrics = ZeroedMetrics(SimMetrics(clock, {"chat": window}))
    true = metrics.read(scenario.fleet, 0.0)["chat"]
    assert {one.value for one in true} == {None}
    metrics.zeros = 1
    zeroed = metrics.read(scenario.fleet, 0.0)["chat"]
    assert [(one.signal, one.role) for one in zeroed] == [(one.signal, one.role) for one in true]
    assert zeroed[0] == Reading(signal=Signal.TPS, role="prefill", value=0.0)
