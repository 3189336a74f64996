"""What a service wants of a cycle: its decision less what is there, coming, or can come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

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
    #: to be taken away, what is pending beyond the supply included
    remove: Mapping[RolePath, int]
    #: wanted, asked for before and not up yet: waited for
    coming: Mapping[RolePath, float] = field(default_factory=dict)


#: Nothing that was sent is open.
NOTHING: Mapping[RolePath, float] = MappingProxyType({})
#: Most services at most times.
NO_WISH = Wish(short={}, add={}, remove={})


def wish(
    spec: ServiceSpec,
    snapshot: ServiceSnapshot,
    decision: Decision,
    supply: Mapping[RolePath, float],
    restorable: Mapping[RolePath, float],
    unseen: Mapping[RolePath, float] = NOTHING,
) -> Wish:
    """Return what must change for the decision to be met.

    Args:
        supply: leaf role → capacity units ready, starting or held.
        restorable: leaf role → withdrawn units that can come back at once.
        unseen: leaf role → units that are coming beyond those that show; negative = fewer.
    """
    gaps = {role: wanted - supply[role] for role, wanted in decision.capacity.items()}
    if all(-1.0 + UNIT_SLACK < gap <= UNIT_SLACK for gap in gaps.values()):
        return NO_WISH
    remove: dict[RolePath, int] = {}
    if any(gap <= UNIT_SLACK - 1.0 for gap in gaps.values()):
        # What waits for its node was asked for on top of the supply, and is the first to go.
        pending = _pending(spec, snapshot)
        remove = {
            role: math.floor(pending.get(role, 0.0) - gap + UNIT_SLACK)
            for role, gap in gaps.items()
            if gap <= UNIT_SLACK - 1.0
        }
    coming = _coming(spec, snapshot) if any(gap > UNIT_SLACK for gap in gaps.values()) else {}
    awaited: dict[RolePath, float] = {}
    short: dict[RolePath, float] = {}
    add: dict[RolePath, int] = {}
    for role, gap in gaps.items():
        expected = coming.get(role, 0.0) + unseen.get(role, 0.0)
        if gap > UNIT_SLACK and expected > UNIT_SLACK:
            awaited[role] = min(gap, expected)
        lacking = gap - expected
        if lacking <= UNIT_SLACK:
            continue
        short[role] = lacking
        new = math.ceil(lacking - restorable.get(role, 0.0) - UNIT_SLACK)
        if new > 0:
            add[role] = new
    return Wish(short=short, add=add, remove=remove, coming=awaited)


def _coming(spec: ServiceSpec, snapshot: ServiceSnapshot) -> dict[RolePath, float]:
    """Return leaf role → capacity asked for that is not supply yet, whether or not it shows.

    A replica without an instance is as much on its way as a pending instance.
    """
    worth = spec.group.worth()
    asked: dict[RolePath, float] = {}
    pending = _pending(spec, snapshot)
    for count in snapshot.group_roles:
        units = count.replicas * worth.get((count.role, count.accelerator), 0.0)
        asked[count.role] = asked.get(count.role, 0.0) + units
    for one in snapshot.instances:
        units = worth.get((one.role, one.accelerator), 0.0)
        if one.state in SUPPLY_STATES or one.state in _LEAVING:
            asked[one.role] = asked.get(one.role, 0.0) - units
    return {role: max(asked.get(role, 0.0), pending.get(role, 0.0)) for role in (*asked, *pending)}


def _pending(spec: ServiceSpec, snapshot: ServiceSnapshot) -> dict[RolePath, float]:
    """Return leaf role → capacity units that wait for their nodes."""
    worth = spec.group.worth()
    pending: dict[RolePath, float] = {}
    for one in snapshot.instances:
        if one.state is InstanceState.PENDING:
            units = worth.get((one.role, one.accelerator), 0.0)
            pending[one.role] = pending.get(one.role, 0.0) + units
    return pending
