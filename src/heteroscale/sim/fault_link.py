"""What stands between the control loop and one simulated sub-cluster, and may fail it.

Without a fault everything passes through untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from heteroscale.config.fault_sections import FaultKind, FaultSection
from heteroscale.entities.action import Action, Outcome, OutcomeKind
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import Observation, Reading
from heteroscale.errors import SubclusterUnavailable
from heteroscale.ports import MetricsSource, Subcluster

#: told (seconds from now, what happens then)
Later: TypeAlias = Callable[[float, Callable[[], None]], None]


class Link:
    """The way to one sub-cluster: whole, cut, or losing and delaying what is sent."""

    def __init__(self, inner: Subcluster, later: Later) -> None:
        """Take what is at the other end, and who delivers late."""
        self._inner = inner
        self._later = later
        #: faults that cut it off altogether
        self.cuts = 0
        #: the faults actions meet now; the newest wins
        self.faults: list[FaultSection] = []
        self._batches = 0

    @property
    def name(self) -> str:
        """Return the sub-cluster's name."""
        return self._inner.name

    def observe(self) -> Observation:
        """Return what is there now.

        Raises:
            SubclusterUnavailable: it is cut off.
        """
        self._check("observed")
        return self._inner.observe()

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        """Carry out a batch as far as the faults of the moment let it through.

        Raises:
            SubclusterUnavailable: it is cut off, or sending fails.
        """
        self._check("reached")
        self._batches += 1
        if not self.faults or self._batches % self.faults[-1].every:
            return self._inner.apply(actions, deadline_s)
        fault = self.faults[-1]
        batch = tuple(actions)

        def deliver() -> None:
            if not self.cuts:
                self._inner.apply(batch, deadline_s)

        match fault.kind:
            case FaultKind.UNSENT_ACTIONS:
                raise SubclusterUnavailable(f"{self.name}: {len(batch)} actions could not be sent")
            case FaultKind.LATE_ACTIONS:
                self._later(fault.delay_s, deliver)
            case FaultKind.REPEATED_ACTIONS:
                answer = self._inner.apply(batch, deadline_s)
                if fault.delay_s:
                    self._later(fault.delay_s, deliver)
                else:
                    deliver()
                return answer
            case FaultKind.LOST_ANSWERS:
                self._inner.apply(batch, deadline_s)
            case _:
                pass
        return tuple(_unanswered(action, deadline_s) for action in batch)

    def _check(self, what: str) -> None:
        if self.cuts:
            raise SubclusterUnavailable(f"{self.name}: cannot be {what}")


class ZeroedMetrics:
    """Metrics that read 0 everywhere while told to, as after every exporter was renamed."""

    def __init__(self, inner: MetricsSource) -> None:
        """Take the true readings."""
        self._inner = inner
        self.zeros = 0

    def read(self, fleet: FleetSpec, now_s: float) -> Mapping[str, tuple[Reading, ...]]:
        """Return the readings, or as many fresh and fully covered zeros."""
        true = self._inner.read(fleet, now_s)
        if not self.zeros:
            return true
        return {
            service: tuple(
                replace(reading, value=0.0, cause=None, age_s=0.0, coverage=1.0)
                for reading in readings
            )
            for service, readings in true.items()
        }


def _unanswered(action: Action, at_s: float) -> Outcome:
    return Outcome(
        action_id=action.id,
        service=action.service,
        kind=OutcomeKind.UNKNOWN,
        at_s=at_s,
        detail="no answer",
    )
