"""What the control loop did to one service in a run: changes, reversals, ratio kept or not.

Bookkeeping is no change: releasing a held newcomer, draining, and removing what has drained.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from heteroscale.entities.action import Action
from heteroscale.entities.decision import Direction, Reason
from heteroscale.entities.reasons import describe
from heteroscale.entities.service import RolePath, RoleSpec, ServiceSpec
from heteroscale.entities.snapshot import SUPPLY_STATES, Instance, InstanceState
from heteroscale.loop import TickReport
from heteroscale.sim.headline import headline
from heteroscale.sim.ports import SimSubcluster
from heteroscale.sim.result import Change

#: the opposite change within this time undoes one that should not have been made
REVERSAL_S = 900.0
#: instances that a service has asked for and keeps
_ASKED = SUPPLY_STATES | {InstanceState.PENDING}


class ChangeLog:
    """Watches every tick of one service."""

    def __init__(self, spec: ServiceSpec, subclusters: Sequence[SimSubcluster]) -> None:
        self._spec = spec
        self._subclusters = tuple(subclusters)
        self._changes: list[Change] = []
        self._instances: tuple[Instance, ...] | None = None
        self._out_of_ratio = False
        self._ratio: Mapping[str, int] = {role.path: role.share for role in spec.group.roles}
        self.ticks = 0
        self.ticks_out_of_ratio = 0
        #: ticks whose plan asked for changes that the service's mode kept back
        self.ticks_not_sent = 0

    @property
    def changes(self) -> tuple[Change, ...]:
        """Every applied change so far, in order."""
        return tuple(self._changes)

    @property
    def ratio_in_force(self) -> float | None:
        """First top-level role's share ÷ the second's, as last decided."""
        shares = [self._ratio.get(role.path, 0) for role in self._spec.group.roles]
        return shares[0] / shares[1] if len(shares) > 1 and shares[1] else None

    def watch(self, report: TickReport, directions: Sequence[Direction], at_s: float) -> None:
        """Take in one tick that has just acted, and which ways it moved the service."""
        name = self._spec.name
        instances = report.snapshot.services[name].instances
        decision = next((one for one in report.plan.decisions if one.service == name), None)
        ratio = self._ratio if decision is None or not decision.ratio else decision.ratio
        if instances is not self._instances or ratio != self._ratio:
            self._instances, self._ratio = instances, ratio
            self._out_of_ratio = out_of_ratio(self._spec, ratio, instances)
        self.ticks += 1
        self.ticks_out_of_ratio += self._out_of_ratio
        self.ticks_not_sent += _of(name, report.sent) < _of(name, report.plan.actions)
        if directions:
            self._note(at_s, directions, instances, () if decision is None else decision.reasons)

    def _note(
        self,
        at_s: float,
        directions: Sequence[Direction],
        before: Sequence[Instance],
        reasons: Sequence[Reason],
    ) -> None:
        now = [one for sub in self._subclusters for one in sub.observe().instances]
        # Roles may move apart when the ratio changes: the change is what most instances do.
        direction = Direction.OUT if sum(directions) >= 0 else Direction.IN
        self._changes.append(
            Change(
                at_s=at_s,
                service=self._spec.name,
                direction="out" if direction is Direction.OUT else "in",
                before=self._asked(before),
                after=self._asked(now),
                reasons=tuple(map(describe, reasons)),
                headline=headline(direction, reasons),
            )
        )

    def _asked(self, instances: Sequence[Instance]) -> Mapping[str, int]:
        counts = {role.path: 0 for role in self._spec.group.leaves()}
        for instance in instances:
            if instance.service == self._spec.name and instance.state in _ASKED:
                counts[instance.role] += 1
        return counts


def _of(service: str, actions: Sequence[Action]) -> int:
    return sum(action.service == service for action in actions)


def reversals(changes: Sequence[Change]) -> int:
    """Return how many of one service's changes undo the one before within `REVERSAL_S`."""
    return sum(
        before.direction != after.direction and after.at_s - before.at_s <= REVERSAL_S
        for before, after in pairwise(changes)
    )


def out_of_ratio(
    spec: ServiceSpec, ratio: Mapping[str, int], instances: Sequence[Instance]
) -> bool:
    """Return whether a top-level role is further from its share than its tolerance.

    Exact shares are those of the anchor's supply; a role may be one unit or the configured band
    away, whichever is wider. A nested role has as many units as its children make complete.
    """
    worth = spec.group.worth()
    supply: defaultdict[RolePath, float] = defaultdict(float)
    for instance in instances:
        if instance.state in SUPPLY_STATES:
            supply[instance.role] += worth.get((instance.role, instance.accelerator), 0.0)
    units = {role.path: _units(role, supply) for role in spec.group.roles}
    anchor = next(
        (role.path for role in spec.group.roles if spec.policy.anchor.split("/")[0] == role.path),
        "",
    )
    if not ratio.get(anchor):
        return False
    unit = units[anchor] / ratio[anchor]
    return any(
        abs(units[path] - unit * ratio[path])
        > max(1.0, spec.policy.ratio.band * unit * ratio[path])
        for path in units
        if path in ratio
    )


def _units(role: RoleSpec, supply: Mapping[RolePath, float]) -> float:
    if role.is_leaf:
        return supply[role.path]
    return min(_units(child, supply) / child.share for child in role.roles)
