"""The simulator behind production's seams: clock, metrics and sub-cluster.

Each reads or changes the simulated world at the instant it stands at; nothing here moves time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from heteroscale.entities.action import Action, Outcome, OutcomeKind, ScaleAction
from heteroscale.entities.decision import Direction
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import Observation, Reading
from heteroscale.errors import ConfigError, Problem
from heteroscale.sim.signals import SignalWindow
from heteroscale.sim.subcluster import Refusal, Roster, StaleTarget
from heteroscale.workload.arrivals import PS_PER_S


class SimClock:
    """Simulated time; the run moves `now_ps`, everyone else reads."""

    def __init__(self, epoch_s: float) -> None:
        """Start the run's picoseconds at an epoch time."""
        self.epoch_s = epoch_s
        self.now_ps = 0
        #: how far it is ahead of the time it should show; a fault's, else 0
        self.ahead_ps = 0

    def now_s(self) -> float:
        """Return epoch seconds."""
        return self.epoch_s + (self.now_ps + self.ahead_ps) / PS_PER_S

    def utc_offset_s(self, timezone: str, at_s: float) -> int:
        """Return how many seconds east of UTC an IANA zone is at that instant.

        Raises:
            ConfigError: there is no such zone.
        """
        try:
            zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            rule = "must be an IANA time zone such as Asia/Shanghai"
            raise ConfigError([Problem(path="timezone", rule=rule, value=timezone)]) from error
        offset = datetime.fromtimestamp(at_s, zone).utcoffset()
        return 0 if offset is None else round(offset.total_seconds())


class SimMetrics:
    """The readings of every simulated service."""

    def __init__(self, clock: SimClock, windows: Mapping[str, SignalWindow]) -> None:
        """Take service → its scrapes."""
        self._clock = clock
        self._windows = windows

    def read(
        self,
        fleet: FleetSpec,
        now_s: float,  # noqa: ARG002 - the port's; the clock has the same instant exactly
    ) -> Mapping[str, tuple[Reading, ...]]:
        """Return service → readings as of the simulated instant."""
        return {
            service.name: self._windows[service.name].readings(self._clock.now_ps)
            for service in fleet.services
            if service.name in self._windows
        }


class SimSubcluster:
    """One simulated sub-cluster: carries actions out at once and answers each."""

    def __init__(self, name: str, clock: SimClock, roster: Roster) -> None:
        self._name = name
        self._clock = clock
        self._roster = roster
        self._seen: Observation | None = None
        self._effects: list[tuple[str, Direction]] = []

    @property
    def name(self) -> str:
        """Return the sub-cluster's name, unique in the fleet."""
        return self._name

    def observe(self) -> Observation:
        """Return what is there now; the same object while nothing visible changed."""
        instances, group_roles = self._roster.instances(), self._roster.group_roles()
        nodes, seen = self._roster.pool.nodes, self._seen
        if (
            seen is None
            or seen.instances is not instances
            or seen.group_roles is not group_roles
            or seen.nodes is not nodes
        ):
            self._seen = seen = Observation(
                subcluster=self._name,
                age_s=0.0,
                instances=instances,
                group_roles=group_roles,
                nodes=nodes,
            )
        return seen

    def apply(
        self,
        actions: Sequence[Action],
        deadline_s: float,  # noqa: ARG002 - the port's; every answer here is at once
    ) -> tuple[Outcome, ...]:
        """Carry out the batch in order; simulated sub-clusters answer before any deadline."""
        return tuple(self._carry_out(action) for action in actions)

    def take_effects(self) -> tuple[tuple[str, Direction], ...]:
        """Return (service, direction) of every change applied since the last call."""
        effects = tuple(self._effects)
        self._effects.clear()
        return effects

    def _carry_out(self, action: Action) -> Outcome:
        kind, detail = OutcomeKind.APPLIED, ""
        try:
            if isinstance(action, ScaleAction):
                effect = self._roster.scale(action, self._clock.now_ps)
            else:
                effect = self._roster.rotate(action, self._clock.now_ps)
            if effect is not Direction.HOLD:
                self._effects.append((action.service, effect))
        except StaleTarget as stale:
            kind, detail = OutcomeKind.STALE, str(stale)
        except Refusal as refusal:
            kind, detail = OutcomeKind.REFUSED, str(refusal)
        return Outcome(
            action_id=action.id,
            service=action.service,
            kind=kind,
            at_s=self._clock.now_s(),
            detail=detail,
        )
