"""Which instances leave when capacity is taken away: the highest ordinals of the fullest group."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.entities.placement import PlacementRequest
from heteroscale.entities.service import UNIT_SLACK, RoleSpec
from heteroscale.entities.snapshot import SUPPLY_STATES, Instance, InstanceState


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One instance that may leave, and what it is worth."""

    instance: Instance
    units: float


def victims(request: PlacementRequest) -> tuple[str, ...]:
    """Return the uids that leave, role by role, at most the capacity asked for.

    What is only waiting for its node leaves first: it gives up nothing. The first instance in
    rotation of a role never leaves while the others may still be starting.
    """
    chosen: list[str] = []
    for leaf in request.spec.group.leaves():
        asked = request.remove.get(leaf.path, 0)
        if asked > 0:
            chosen += _of_role(request, leaf, asked)
    return tuple(chosen)


def _of_role(request: PlacementRequest, leaf: RoleSpec, asked: float) -> list[str]:
    closed = request.closed
    own = [one for one in request.snapshot.instances if one.role == leaf.path]
    own = [one for one in own if one.group not in closed]
    chosen = sorted(one.uid for one in own if one.state is InstanceState.PENDING)
    groups, left = _candidates(leaf, own)
    while True:
        fitting = [group for group in groups if groups[group][-1].units <= asked + UNIT_SLACK]
        if not fitting:
            return chosen
        fullest = max(fitting, key=lambda group: (left[group], group))
        gone = groups[fullest].pop()
        chosen.append(gone.instance.uid)
        asked -= gone.units
        left[fullest] -= gone.units
        if not groups[fullest]:
            del groups[fullest]


def _candidates(
    leaf: RoleSpec, own: list[Instance]
) -> tuple[dict[str, list[_Candidate]], dict[str, float]]:
    """Return group → what may leave it, the first to go last, and group → units it has in all.

    A group that nothing may leave is in the second only.
    """
    worth = {option.type: option.capacity for option in leaf.accelerators}
    preference = {option.type: place for place, option in enumerate(leaf.accelerators)}
    ready = [one for one in own if one.state is InstanceState.READY]
    kept = min(ready, key=lambda one: (one.ordinal, one.group, one.uid), default=None)
    supply = [one for one in own if one.state in SUPPLY_STATES and one.accelerator in worth]
    supply.sort(key=lambda one: (one.ordinal, preference[one.accelerator], one.uid))
    groups: dict[str, list[_Candidate]] = {}
    units: dict[str, float] = {}
    for one in supply:
        units[one.group] = units.get(one.group, 0.0) + worth[one.accelerator]
        if one is not kept:
            groups.setdefault(one.group, []).append(_Candidate(one, worth[one.accelerator]))
    return groups, units
