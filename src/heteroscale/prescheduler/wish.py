"""What a service wants of a cycle: its decision less what is there, coming, or can come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.entities.decision import Decision
from heteroscale.entities.service import UNIT_SLACK, RolePath, ServiceSpec
from heteroscale.entities.snapshot import SUPPLY_STATES, InstanceState, ServiceSnapshot

#: States of instances whose replica is neither supply nor on its way to be.
_LEAVING = frozenset({InstanceState.WITHDRAWN, InstanceState.DRAINING, InstanceState.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Capacity units by leaf role; only roles that want something are present."""

    #: wanted beyond what is there or coming: withdrawn instances answer it first
    short: Mapping[RolePath, float]
    #: to be placed, once the withdrawn are back
    add: Mapping[RolePath, int]
    #: to be taken away
    remove: Mapping[RolePath, int]


#: Most services at most times.
NO_WISH = Wish(short={}, add={}, remove={})


def wish(
    spec: ServiceSpec,
    snapshot: ServiceSnapshot,
    decision: Decision,
    supply: Mapping[RolePath, float],
    restorable: Mapping[RolePath, float],
) -> Wish:
    """Return what must change for the decision to be met.

    Args:
        supply: leaf role → capacity units ready, starting or held.
        restorable: leaf role → withdrawn units that can come back at once.
    """
    gaps = {role: wanted - supply[role] for role, wanted in decision.capacity.items()}
    if all(-1.0 + UNIT_SLACK < gap <= UNIT_SLACK for gap in gaps.values()):
        return NO_WISH
    remove = {
        role: math.floor(UNIT_SLACK - gap) for role, gap in gaps.items() if gap <= UNIT_SLACK - 1.0
    }
    coming = _coming(spec, snapshot) if any(gap > UNIT_SLACK for gap in gaps.values()) else {}
    short: dict[RolePath, float] = {}
    add: dict[RolePath, int] = {}
    for role, gap in gaps.items():
        lacking = gap - coming.get(role, 0.0)
        if lacking <= UNIT_SLACK:
            continue
        short[role] = lacking
        new = math.ceil(lacking - restorable.get(role, 0.0) - UNIT_SLACK)
        if new > 0:
            add[role] = new
    return Wish(short=short, add=add, remove=remove)


def _coming(spec: ServiceSpec, snapshot: ServiceSnapshot) -> dict[RolePath, float]:
    """Return leaf role → capacity asked for that is not supply yet, whether or not it shows.

    A replica without an instance is as much on its way as a pending instance.
    """
    worth = spec.group.worth()
    asked: dict[RolePath, float] = {}
    pending: dict[RolePath, float] = {}
    for count in snapshot.group_roles:
        units = count.replicas * worth.get((count.role, count.accelerator), 0.0)
        asked[count.role] = asked.get(count.role, 0.0) + units
    for one in snapshot.instances:
        units = worth.get((one.role, one.accelerator), 0.0)
        if one.state in SUPPLY_STATES or one.state in _LEAVING:
            asked[one.role] = asked.get(one.role, 0.0) - units
        elif one.state is InstanceState.PENDING:
            pending[one.role] = pending.get(one.role, 0.0) + units
    return {role: max(asked.get(role, 0.0), pending.get(role, 0.0)) for role in (*asked, *pending)}
