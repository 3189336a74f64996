"""Integer shares: how one unit of a group divides over its roles, at every level of nesting.

Knows shares and rounding only; what may move, and how fast, is decided in `coordinate.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from heteroscale.entities.policy import ScheduleSpec
from heteroscale.entities.service import UNIT_SLACK, GroupSpec, RolePath, RoleSpec


def round_up(units: float) -> int:
    """Return the fewest whole units that hold as much."""
    return math.ceil(units - UNIT_SLACK)


def round_down(units: float) -> int:
    """Return the whole units contained."""
    return math.floor(units + UNIT_SLACK)


def in_whole_units(instances: float, step: int) -> int:
    """Return the fewest instances of a role that hold as many and belong to whole units.

    Args:
        instances: wanted of it, in capacity units.
        step: instances of it in one unit.
    """
    return step * round_up(instances / step)


def families(group: GroupSpec, anchor: RolePath) -> tuple[Mapping[RolePath, int], ...]:
    """Return the leaf roles that are only worth something together, each → its step.

    Those of one nested role are a family, of which one unit is the least that serves; so their
    counts are multiples of their steps. The anchor's number comes from its own signals, so it and
    what stands beside it in one nested role are each a family of their own, in steps of 1.
    """
    found: list[Mapping[RolePath, int]] = []
    for role in group.roles:
        steps = {role.path: 1}
        if role.roles:
            steps = {}
            role.weigh(1, steps)
        if anchor in steps:
            found.extend({path: 1} for path in steps)
        else:
            found.append(steps)
    return tuple(found)


def slack(exact: float, band: float) -> float:
    """Return how far a role may be from its exact share: one instance or the band, if wider.

    Counts are integers, so one instance is in tolerance whatever the band.
    """
    return max(1.0, exact * band) + UNIT_SLACK


def configured(group: GroupSpec) -> dict[RolePath, int]:
    """Return top-level role → configured share."""
    return {role.path: role.share for role in group.roles}


def units_of(role: RoleSpec, replicas: Mapping[RolePath, int]) -> int:
    """Return whole units of a role: of a nested one, what its scarcest child completes."""
    if role.is_leaf:
        return replicas.get(role.path, 0)
    return min(units_of(child, replicas) // child.share for child in role.roles)


def of_schedule(group: GroupSpec, schedule: ScheduleSpec) -> Mapping[RolePath, int] | None:
    """Return the ratio a schedule sets, explicitly or by its counts; None when it sets none.

    Counts set one only when they name every role; 12 and 8 are the ratio 3 to 2.
    """
    if schedule.ratio:
        return {role.path: schedule.ratio.get(role.path, role.share) for role in group.roles}
    units = {role.path: units_of(role, schedule.replicas) for role in group.roles}
    divisor = math.gcd(*units.values())
    if min(units.values()) < 1:
        return None
    return {path: count // divisor for path, count in units.items()}


def in_parts(shares: Mapping[RolePath, float], parts: int) -> dict[RolePath, int]:
    """Return the shares as integers that sum to `parts` (largest remainder), none of them 0.

    Args:
        shares: role → any non-negative weight, not all 0; `parts` is at least their number.
        parts: what the shares are counted in.
    """
    total = sum(shares.values())
    exact = {role: share * parts / total for role, share in shares.items()}
    whole = {role: max(1, math.floor(value)) for role, value in exact.items()}
    while (missing := parts - sum(whole.values())) != 0:
        if missing > 0:
            role = min(whole, key=lambda path: (whole[path] - exact[path], path))
            whole[role] += 1
        else:
            spare = [path for path in whole if whole[path] > 1]
            role = max(spare, key=lambda path: (whole[path] - exact[path], path))
            whole[role] -= 1
    return whole
