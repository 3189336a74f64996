"""Relocation: a group leaves a scarce subgroup only once others have taken its place.

growing → the old group leaves → done. What takes its place serves as soon as it is ready and
counts as supply only once the old one leaves, so the service neither grows nor shrinks on the way.
Where the load changes meanwhile, both stay and the usual scale-out and scale-in go on from there;
what is not ready in time leaves again in place of the old one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from heteroscale.entities.decision import Figures, Reason, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import UNIT_SLACK, FleetSpec, Mode, RolePath, ServiceSpec
from heteroscale.entities.snapshot import SUPPLY_STATES, Instance, InstanceState, Snapshot
from heteroscale.entities.state import Relocating, ServiceState

#: Longer than an instance takes from its node to its first request and the wait for scale-in
#: after it (placeholders); what is not ready by then waits for something that is missing.
READY_WITHIN_S = 1800.0
#: What has not begun to leave.
_STAYING = SUPPLY_STATES | {InstanceState.PENDING}

_GroupKey = tuple[str, str]


def carried_on(
    spec: ServiceSpec, state: ServiceState, snapshot: Snapshot, fleet: FleetSpec
) -> tuple[ServiceState, tuple[Reason, ...]]:
    """Return the memory with a relocation as it stands at the start of a tick, and why it ended.

    While some of it is out of reach, or what was sent is not seen yet, it stays as it is.
    """
    now_s = snapshot.now_s
    if state.relocated_until_s > now_s + fleet.defragment.rest_s:
        # A later end was set by a clock that was set back since.
        state = replace(state, relocated_until_s=now_s + fleet.defragment.rest_s)
    one = state.relocating
    if one is None:
        return state, ()
    if one.until_s > now_s + READY_WITHIN_S:
        one = replace(one, until_s=now_s + READY_WITHIN_S)
        state = replace(state, relocating=one)
    away = any(key[0] in snapshot.unreachable for key in (one.old, *one.new))
    if state.pending or away:
        return state, ()
    if spec.mode is not Mode.ENFORCE or spec.pin or state.given_way is not None:
        return ended(state, fleet, now_s), (told(ReasonCode.RELOCATION_HELD, one),)
    service = snapshot.services[spec.name]
    if not staying(service.instances, one.leaving or (one.old,)):
        code = ReasonCode.RELOCATION_CALLED_OFF if one.leaving == one.new else ReasonCode.RELOCATED
        return ended(state, fleet, now_s), (told(code, one),)
    counts = [each for each in service.group_roles if (each.subcluster, each.group) in one.new]
    if not any(each.replicas for each in counts):
        return ended(state, fleet, now_s), (told(ReasonCode.RELOCATION_LOST, one),)
    if not one.leaving and now_s >= one.until_s:
        state = replace(state, relocating=replace(one, leaving=one.new))
    return state, ()


def ended(state: ServiceState, fleet: FleetSpec, now_s: float) -> ServiceState:
    """Return the memory without a relocation: the service rests, and counts all that it has."""
    until_s = now_s + fleet.defragment.rest_s
    return replace(state, relocating=None, relocated_until_s=until_s)


def staying(instances: Iterable[Instance], groups: Collection[_GroupKey]) -> tuple[Instance, ...]:
    """Return what of some groups has not begun to leave."""
    return tuple(
        one for one in instances if one.state in _STAYING and (one.subcluster, one.group) in groups
    )


def may_take_over(
    spec: ServiceSpec,
    one: Relocating,
    snapshot: Snapshot,
    capacity: Mapping[RolePath, int],
) -> bool:
    """Return whether all of the new is ready, and the service has what it needs without the old.

    Args:
        capacity: leaf role → capacity units decided.
    """
    service, worth = snapshot.services[spec.name], spec.group.worth()
    ready = dict.fromkeys(capacity, 0.0)
    waited_for = sum(
        count.replicas
        for count in service.group_roles
        if (count.subcluster, count.group) in one.new
    )
    for each in service.instances:
        if each.state is not InstanceState.READY:
            continue
        key = (each.subcluster, each.group)
        waited_for -= key in one.new
        if key != one.old and each.role in ready:
            ready[each.role] += worth.get((each.role, each.accelerator), 0.0)
    return waited_for == 0 and all(
        ready[role] >= units - UNIT_SLACK for role, units in capacity.items()
    )


def told(code: ReasonCode, one: Relocating, **more: float | str) -> Reason:
    """Return a reason that names what leaves and what takes its place."""
    figures: Figures = {
        "group": "/".join(one.old),
        "new": ", ".join("/".join(key) for key in one.new),
        **more,
    }
    return Reason(step=Step.LIFECYCLE, code=code, figures=figures)
