"""What a controller says of itself to a Prometheus: what it saw, decided, would do and did.

Ticks are taken in by the loop's thread, text is asked for by any other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from threading import Lock

from heteroscale.entities.action import RotationAction, ScaleAction, group_role_key
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import GroupRole, InstanceState
from heteroscale.loop import TickReport
from heteroscale.report.exposition import Family, Histogram, Values, exposition

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: seconds; a tick of a thousand services takes less than one
_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BRAKES = frozenset({ReasonCode.BRAKE_SHARE, ReasonCode.BRAKE_GPUS, ReasonCode.BRAKE_GPUS_CAP})


class OwnMetrics:
    """Counts since the start, and what the last tick says."""

    def __init__(self, fleet: FleetSpec) -> None:
        """Have seen no tick yet."""
        self._fleet = fleet
        self._lock = Lock()
        self._ticks = 0
        self._tick_s = Histogram(
            "heteroscale_tick_duration_seconds", "How long ticks took.", _BOUNDS_S
        )
        self._decisions: Counter[Values] = Counter()
        self._reasons: Counter[Values] = Counter()
        self._actions: Counter[Values] = Counter()
        self._notices = 0
        self._resources: Mapping[str, int] = {}
        self._last: TickReport | None = None

    def take(self, report: TickReport, took_s: float) -> None:
        """Count one tick."""
        with self._lock:
            self._ticks += 1
            self._tick_s.take(took_s)
            self._notices += len(report.notices)
            for decision in report.plan.decisions:
                self._decisions[decision.service, decision.direction.name.lower()] += 1
                for reason in decision.reasons:
                    self._reasons[decision.service, reason.code] += 1
            for action, outcome in zip(report.sent, report.outcomes, strict=True):
                kind = "rotation" if isinstance(action, RotationAction) else "scale"
                self._actions[action.service, kind, action.effect, outcome.kind] += 1
            self._last = report

    def look_after(self, fleet: FleetSpec) -> None:
        """Tell of this fleet from now on."""
        self._fleet = fleet

    def count_resources(self, resources: Mapping[str, int]) -> None:
        """Tell of so many resources from now on, by why they are refused; "" = they are not."""
        self._resources = resources

    def forget(self) -> None:
        """Say no more of what the last tick saw: somebody else knows better by now."""
        with self._lock:
            self._last = None

    def text(
        self, *, leads: bool, ages_s: Mapping[str, float], contested: Iterable[str] = ()
    ) -> str:
        """Return everything in Prometheus' text format.

        Args:
            leads: whether we act now.
            ages_s: sub-cluster → seconds since what is held of it was known to be current.
            contested: services whose counts somebody else sets, too.
        """
        with self._lock:
            return "".join(
                (
                    *exposition(self._now(leads, ages_s, contested)),
                    *exposition(self._counts()),
                    *self._tick_s.lines(),
                    *(() if self._last is None else exposition(_of_tick(self._last, self._fleet))),
                )
            )

    def _now(
        self, leads: bool, ages_s: Mapping[str, float], contested: Iterable[str]
    ) -> Iterator[Family]:
        yield _gauge("leader", "Whether this controller may act.", float(leads))
        yield _gauge("interval_seconds", "Time between two ticks.", self._fleet.interval_s)
        yield _gauge("frozen", "Whether the fleet is frozen.", float(self._fleet.freeze))
        yield Family(
            name="heteroscale_subcluster_age_seconds",
            kind="gauge",
            help="Time since what is held of a sub-cluster was known to be current.",
            labels=("subcluster",),
            series={(name,): age_s for name, age_s in ages_s.items()},
        )
        help_text = "Whether somebody else sets counts of a service, too."
        yield _gauges("contested", help_text, ("service",), {(name,): 1.0 for name in contested})
        modes: Counter[Values] = Counter((spec.mode.value,) for spec in self._fleet.services)
        yield Family(
            name="heteroscale_services",
            kind="gauge",
            help="Services that are looked after.",
            labels=("mode",),
            series=modes,
        )

        yield Family(
            name="heteroscale_resources",
            kind="gauge",
            help='ScaledServices, by why they are refused; "" = they are looked after.',
            labels=("refused",),
            series={(reason,): count for reason, count in self._resources.items()},
        )

    def _counts(self) -> Iterator[Family]:
        yield _count("ticks", "Ticks.", (), {(): self._ticks})
        yield _count("notices", "What went wrong in ticks.", (), {(): self._notices})
        labels: tuple[str, ...] = ("service", "direction")
        yield _count("decisions", "Decisions.", labels, self._decisions)
        yield _count("reasons", "Reasons of decisions.", ("service", "code"), self._reasons)
        labels = ("service", "kind", "effect", "outcome")
        yield _count("actions", "Actions sent.", labels, self._actions)


def _of_tick(report: TickReport, fleet: FleetSpec) -> Iterator[Family]:
    """Yield what one tick saw and wants."""
    snapshot, plan = report.snapshot, report.plan
    yield _gauge("last_tick_timestamp_seconds", "When the last tick began.", snapshot.now_s)
    braked = sum(any(one.code in _BRAKES for one in d.reasons) for d in plan.decisions)
    yield _gauge("braked_services", "Services whose scale-in the fleet brake holds.", float(braked))
    left_out = float(len(report.excluded))
    yield _gauge("excluded_services", "Services that planning failed on.", left_out)
    unreachable = float(len(snapshot.unreachable))
    yield _gauge("unreachable_subclusters", "Sub-clusters seen too long ago.", unreachable)
    wanted: dict[Values, float] = {}
    for decision in plan.decisions:
        wanted.update(((decision.service, role), n) for role, n in decision.capacity.items())
    labels: tuple[str, ...] = ("service", "role")
    yield _gauges("wanted_capacity", "Capacity units decided on.", labels, wanted)
    counted, planned = _replicas(report)
    labels = ("service", "role", "accelerator")
    yield _gauges("replicas", "Counts as they are.", labels, counted)
    help_text = "Counts as they would be were every action of the plan sent."
    yield _gauges("would_be_replicas", help_text, labels, planned)
    drain_timeout_s = {spec.name: spec.lifecycle.drain_timeout_s for spec in fleet.services}
    overdue: Counter[Values] = Counter()
    states: Counter[Values] = Counter()
    unknown: Counter[Values] = Counter()
    ages_s: dict[Values, float] = {}
    for service, seen in snapshot.services.items():
        states.update((service, one.role, one.state.value) for one in seen.instances)
        limit_s = drain_timeout_s.get(service, math.inf)
        overdue[service,] = sum(
            one.state is InstanceState.DRAINING and snapshot.now_s - one.since_s > limit_s
            for one in seen.instances
        )
        unknown.update((service, one.cause.value) for one in seen.readings if one.cause)
        ages = [one.age_s for one in seen.readings if one.cause is None]
        if ages:
            ages_s[service,] = max(ages)
    yield _gauges("instances", "Instances.", ("service", "role", "state"), states)
    help_text = "Instances that drain for longer than their service lets them."
    yield _gauges("overdue_drains", help_text, ("service",), overdue)
    labels = ("service", "cause")
    yield _gauges("unknown_readings", "Readings without a value, by cause.", labels, unknown)
    yield _gauges("reading_age_seconds", "Age of the oldest reading.", ("service",), ages_s)


def _replicas(report: TickReport) -> tuple[Mapping[Values, float], Mapping[Values, float]]:
    """Return counts by service, role and accelerator: as they are, as the plan wants them."""
    planned = {
        (one.service, group_role_key(one.subcluster, one.group, one.role, one.accelerator)): one
        for one in report.plan.actions
        if isinstance(one, ScaleAction)
    }
    now: Counter[Values] = Counter()
    then: Counter[Values] = Counter()
    held: dict[tuple[str, str], GroupRole] = {}
    for service, seen in report.snapshot.services.items():
        for count in seen.group_roles:
            key = group_role_key(count.subcluster, count.group, count.role, count.accelerator)
            held[service, key] = count
    for key_of_count, count in held.items():
        whose = (count.service, count.role, count.accelerator)
        now[whose] += count.replicas
        action = planned.get(key_of_count)
        then[whose] += count.replicas if action is None else action.replicas
    for key_of_count, action in planned.items():
        if key_of_count not in held:
            then[action.service, action.role, action.accelerator] += action.replicas
    return now, then


def _gauge(name: str, text: str, figure: float) -> Family:
    return _gauges(name, text, (), {(): figure})


def _gauges(
    name: str, text: str, labels: tuple[str, ...], series: Mapping[Values, float]
) -> Family:
    return Family(name=f"heteroscale_{name}", kind="gauge", help=text, labels=labels, series=series)


def _count(name: str, text: str, labels: tuple[str, ...], series: Mapping[Values, float]) -> Family:
    return Family(
        name=f"heteroscale_{name}_total", kind="counter", help=text, labels=labels, series=series
    )
