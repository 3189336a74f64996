"""Who gives way to whom: what lower priorities would give up so that what is essential fits.

1. what is essential and lacks a place, the highest priority first
2. what could be given up for it, in whole steps, then of roles that have more than is essential
   beside an anchor that has not: the lowest priority first, of equals the one with most to give,
   then by name
3. try with the cycle itself: the fewest of these steps, in that order, that help as much as all
4. spare each giver without whose steps it would be the same, the highest priority first

What is leaving already counts as gone, so nothing is given up twice for one lack.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.placement import (
    Concession,
    Lack,
    NoFit,
    PlacementPlan,
    PlacementRequest,
)
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import UNIT_SLACK, FleetSpec, Mode, RolePath, ServiceSpec
from heteroscale.entities.snapshot import SUPPLY_STATES, InstanceState, ServiceSnapshot, Snapshot
from heteroscale.entities.state import GivenWay
from heteroscale.prescheduler.cycle import closed_groups, place_all
from heteroscale.prescheduler.solve import Solver, solve

#: Behind more services that wait for the same accelerators nothing is tried: a trial costs what
#: placing all of them does, and what is freed would be theirs first.
AHEAD_MAX = 3
#: So many givers of one are looked at again, whether they could be spared.
SPARED_MAX = 4
#: Once the cycle was asked so often in a tick, nobody else's lack is looked into: asking once more
#: costs what placing those that wait does, and a tick must end.
ASKED_MAX = 24
_COUNTED = SUPPLY_STATES | {InstanceState.PENDING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Giver:
    """A service that may give way, as it is now."""

    spec: ServiceSpec
    snapshot: ServiceSnapshot
    #: top-level role → share in force
    ratio: Mapping[RolePath, int]
    #: leaf role → most capacity units it was left already; absent = no limit
    most: Mapping[RolePath, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        spec: ServiceSpec,
        snapshot: ServiceSnapshot,
        ratio: Mapping[RolePath, int],
        way: GivenWay | None,
    ) -> Giver:
        """Return a giver with the limit it has; None = it has none."""
        most = {} if way is None else way.most
        return cls(spec=spec, snapshot=snapshot, ratio=ratio, most=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """The cycle of this tick, in which some found no place."""

    requests: Sequence[PlacementRequest]
    no_fits: Sequence[NoFit]
    #: service → leaf role → capacity units decided
    wanted: Mapping[str, Mapping[RolePath, int]]
    snapshot: Snapshot
    fleet: FleetSpec
    solver: Solver = solve

    def place(
        self, requests: Sequence[PlacementRequest], services: Mapping[str, ServiceSnapshot]
    ) -> PlacementPlan:
        """Return the cycle's answer to other requests, or with other instances there."""
        snapshot = replace(self.snapshot, services=services)
        return place_all(requests, snapshot, self.fleet.levels, self.fleet.prices, self.solver)


@dataclass(frozen=True, slots=True, kw_only=True)
class WayMade:
    """Who gives up what from the next tick on, and what is to be said of it."""

    #: by service; of one that gave up for several, the last
    concessions: Mapping[str, Concession] = field(default_factory=dict)
    #: service that lacks something → reasons
    reasons: Mapping[str, tuple[Reason, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of what a giver could give up, on top of those before."""

    giver: Giver
    #: steps it could give up before this one
    spare: int
    #: leaf role → most units it keeps after this one
    most: Mapping[RolePath, int]


def lacks_of(
    no_fits: Iterable[NoFit],
    specs: Mapping[str, ServiceSpec],
    wanted: Mapping[str, Mapping[RolePath, int]],
) -> tuple[Lack, ...]:
    """Return what is essential and lacking, the highest priority first, then by name.

    Args:
        wanted: service → leaf role → capacity units decided, of which some fit nowhere.
    """
    lacks = []
    for no_fit in no_fits:
        spec = specs[no_fit.service]
        missing = {}
        for role, essential in spec.essential_units().items():
            absent = no_fit.missing.get(role, 0)
            units = min(absent, essential - (wanted[spec.name][role] - absent))
            if units > 0:
                missing[role] = units
        if missing and spec.mode is Mode.ENFORCE:
            lacks.append(Lack(spec=spec, missing=missing))
    return tuple(sorted(lacks, key=lambda lack: (-lack.spec.priority, lack.spec.name)))


def make_way(lacks: Sequence[Lack], givers: Sequence[Giver], cycle: Cycle) -> WayMade:
    """Return what is given up for what is lacking.

    Args:
        givers: that are allowed to, with the limits they have already.
    """
    concessions: dict[str, Concession] = {}
    reasons: dict[str, tuple[Reason, ...]] = {}
    asked = 0
    for lack in lacks:
        if asked >= ASKED_MAX:
            reasons[lack.spec.name] = _told(lack, ReasonCode.WAY_LATER)
            continue
        waiting = _waiting(lack, cycle)
        if len(waiting) > AHEAD_MAX + 1:
            reasons[lack.spec.name] = _told(lack, ReasonCode.WAY_QUEUED)
            continue
        trial = _Trial(lack, givers, waiting, cycle)
        found = _steps_for(lack, givers, trial)
        givers = [_after(giver, found) for giver in givers]
        kept = {step.giver.spec.name: step for step in found}
        for name, step in kept.items():
            concessions[name] = Concession(service=name, to=lack.spec.name, most=step.most)
        reasons[lack.spec.name] = _explained(
            lack, [step.giver.spec for step in kept.values()], trial
        )
        asked += trial.asked
    return WayMade(concessions=concessions, reasons=reasons)


def _after(giver: Giver, steps: Iterable[_Step]) -> Giver:
    own = [step.most for step in steps if step.giver is giver]
    return replace(giver, most=own[-1]) if own else giver


def _explained(lack: Lack, givers: Sequence[ServiceSpec], trial: _Trial) -> tuple[Reason, ...]:
    if givers:
        named = ", ".join(f"{spec.name} (priority {spec.priority})" for spec in givers)
        return _told(lack, ReasonCode.WAY_MADE, givers=named)
    code = ReasonCode.WAY_NONE if trial.lacking(()) else ReasonCode.WAY_COMING
    return _told(lack, code)


def _told(lack: Lack, code: ReasonCode, **more: str) -> tuple[Reason, ...]:
    essential = lack.spec.essential_units()
    return tuple(
        Reason(
            step=Step.PLACE,
            code=code,
            figures={"role": role, "missing": units, "essential": essential[role], **more},
        )
        for role, units in sorted(lack.missing.items())
    )


def _waiting(lack: Lack, cycle: Cycle) -> list[PlacementRequest]:
    """Return who takes what is freed, as far as it goes: those before it in the cycle, and itself.

    What found all of its place in this tick holds it in the next.
    """
    unplaced = {no_fit.service for no_fit in cycle.no_fits}
    order = (-lack.spec.priority, lack.spec.name)
    return [
        replace(one, remove={})
        for one in cycle.requests
        if one.spec.name in unplaced
        and one.spec.mode is Mode.ENFORCE
        and (-one.spec.priority, one.spec.name) <= order
        and lack.competes(one.spec)
    ]


class _Trial:
    """The cycle, asked what would still be lacking if some had given up more."""

    def __init__(
        self,
        lack: Lack,
        givers: Sequence[Giver],
        requests: Sequence[PlacementRequest],
        cycle: Cycle,
    ) -> None:
        self._lack, self._givers = lack, givers
        self._requests, self._cycle = requests, cycle
        self._known: dict[frozenset[str], int] = {}

    @property
    def asked(self) -> int:
        """Return how often the cycle was asked."""
        return len(self._known)

    def lacking(self, steps: Sequence[_Step]) -> int:
        """Return the essential units that would still find no place."""
        limited = [one for giver in self._givers if (one := _after(giver, steps)).most]
        gone = self._gone(limited)
        if gone not in self._known:
            self._known[gone] = self._placed_without(gone)
        return self._known[gone]

    def _placed_without(self, gone: frozenset[str]) -> int:
        services = {
            name: replace(
                seen,
                instances=tuple(
                    one
                    for one in seen.instances
                    if one.uid not in gone and one.state is not InstanceState.DRAINING
                ),
            )
            for name, seen in self._cycle.snapshot.services.items()
        }
        made = self._cycle.place(self._requests, services)
        spec = self._lack.spec
        own = [one for one in made.no_fits if one.service == spec.name]
        left = lacks_of(own, {spec.name: spec}, self._cycle.wanted)
        return sum(units for lack in left for units in lack.missing.values())

    def _gone(self, givers: Sequence[Giver]) -> frozenset[str]:
        """Return what of the givers leaves, or has left rotation, to keep no more than they may."""
        removals = []
        for giver in givers:
            has = _units(giver)
            removals.append(
                PlacementRequest(
                    spec=giver.spec,
                    snapshot=giver.snapshot,
                    remove={role: has[role] - most for role, most in giver.most.items()},
                    ratio=giver.ratio,
                    closed=closed_groups(giver.snapshot, self._cycle.snapshot.unreachable, ()),
                )
            )
        made = self._cycle.place(removals, self._cycle.snapshot.services)
        leaving = [uid for release in made.releases for uid in release.uids]
        withdrawn = [
            one.uid
            for giver in givers
            for one in giver.snapshot.instances
            if one.state is InstanceState.WITHDRAWN
        ]
        return frozenset((*leaving, *withdrawn))


def _steps_for(lack: Lack, givers: Sequence[Giver], trial: _Trial) -> list[_Step]:
    """Return the steps to be given up for one lack, in order; none where they would not help."""
    steps = [
        step
        for giver in givers
        if giver.spec.priority < lack.spec.priority and lack.competes(giver.spec)
        for step in _steps(giver)
    ]
    if not steps:
        return []
    # 2. order
    steps.sort(key=lambda step: (step.giver.spec.priority, -step.spare, step.giver.spec.name))
    # 3. the fewest that help as much as all
    least = trial.lacking(steps)
    if least >= trial.lacking(()):
        return []
    low, high = 1, len(steps)
    while low < high:
        middle = (low + high) // 2
        if trial.lacking(steps[:middle]) <= least:
            high = middle
        else:
            low = middle + 1
    # 4. spare who need not
    chosen = steps[:low]
    specs = {step.giver.spec.name: step.giver.spec for step in chosen}
    for name in sorted(specs, key=lambda name: (-specs[name].priority, name))[:SPARED_MAX]:
        others = [step for step in chosen if step.giver.spec.name != name]
        if trial.lacking(others) <= least:
            chosen = others
    return chosen


def _steps(giver: Giver) -> list[_Step]:
    """Return what a giver could give up, one unit of its anchor at a time with its partners.

    With the anchor at its floor, what the other roles have above theirs follows unit by unit.
    """
    spec, anchor = giver.spec, giver.spec.policy.anchor
    weights, floor = spec.group.weights(giver.ratio), spec.essential_units()
    has = {role: min(units, giver.most.get(role, units)) for role, units in _units(giver).items()}
    kept = {role: max(floor[role], units) for role, units in has.items()}
    ladder: list[Mapping[RolePath, int]] = []
    for units in range(has[anchor] - 1, floor[anchor] - 1, -1):
        kept = {
            role: max(floor[role], min(has[role], -(-units * weight // weights[anchor])))
            for role, weight in weights.items()
        }
        ladder.append(kept)
    above = {role: kept[role] - floor[role] for role in sorted(floor) if role != anchor}
    for _ in range(sum(above.values())):
        role = max(above, key=above.__getitem__)
        above[role] -= 1
        kept = {**kept, role: floor[role] + above[role]}
        ladder.append(kept)
    return [
        _Step(giver=giver, spare=len(ladder) - number, most=most)
        for number, most in enumerate(ladder)
    ]


def _units(giver: Giver) -> dict[RolePath, int]:
    """Return leaf role → whole capacity units that serve, start, or wait for their nodes."""
    worth = giver.spec.group.worth()
    units = dict.fromkeys((leaf.path for leaf in giver.spec.group.leaves()), 0.0)
    for one in giver.snapshot.instances:
        if one.state in _COUNTED and one.role in units:
            units[one.role] += worth.get((one.role, one.accelerator), 0.0)
    return {role: math.floor(found + UNIT_SLACK) for role, found in units.items()}
