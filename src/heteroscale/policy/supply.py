"""Counts capacity by role: what is supplied, ready, asked for. Knows instances, not signals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import RolePath, RoleSpec, ServiceSpec
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState

_READY = InstanceState.READY
_STARTING = InstanceState.STARTING
_HELD = InstanceState.HELD
_PENDING = InstanceState.PENDING
_DRAINING = InstanceState.DRAINING
_FAILED = InstanceState.FAILED
_NONE_COUNTED = dict.fromkeys(InstanceState, 0)


class Tally(NamedTuple):
    """Capacity units of one service by leaf role; every leaf role is present in every mapping."""

    #: ready + starting + held
    supply: Mapping[RolePath, float]
    #: in rotation
    ready: Mapping[RolePath, float]
    #: instances (not capacity) in rotation
    ready_replicas: Mapping[RolePath, int]
    #: asked for, not yet running anywhere
    pending: Mapping[RolePath, float]
    #: finishing its requests, no way back
    draining: Mapping[RolePath, float]
    #: of no use any more, and still in its count
    failed: Mapping[RolePath, float]
    #: (role, accelerator, replicas) of what the service does not list, sorted; it is no supply
    foreign: tuple[tuple[RolePath, str, int], ...]


def tally(spec: ServiceSpec, instances: Sequence[Instance]) -> Tally:
    """Return the capacity of the instances by leaf role.

    Instances are counted first and weighed afterwards, in the order of the spec: sums of fractions
    must not depend on the order of the instances.
    """
    counts: dict[tuple[RolePath, str], dict[InstanceState, int]] = {}
    role = accelerator = ""
    states: dict[InstanceState, int] = {}
    for instance in instances:
        # Instances come sorted, so most are of the same kind as the one before.
        if instance.role != role or instance.accelerator != accelerator:
            role, accelerator = instance.role, instance.accelerator
            states = counts.setdefault((role, accelerator), _NONE_COUNTED.copy())
        states[instance.state] += 1
    supply: dict[RolePath, float] = {}
    ready: dict[RolePath, float] = {}
    pending: dict[RolePath, float] = {}
    draining: dict[RolePath, float] = {}
    failed: dict[RolePath, float] = {}
    ready_replicas: dict[RolePath, int] = {}
    for leaf in spec.group.leaves():
        path = leaf.path
        supply[path] = ready[path] = pending[path] = draining[path] = failed[path] = 0.0
        ready_replicas[path] = 0
        for option in leaf.accelerators:
            found = counts.pop((path, option.type), None)
            if found is not None:
                capacity, in_rotation = option.capacity, found[_READY]
                supply[path] += capacity * (in_rotation + found[_STARTING] + found[_HELD])
                ready[path] += capacity * in_rotation
                pending[path] += capacity * found[_PENDING]
                draining[path] += capacity * found[_DRAINING]
                failed[path] += capacity * found[_FAILED]
                ready_replicas[path] += in_rotation
    return Tally(
        supply=supply,
        ready=ready,
        ready_replicas=ready_replicas,
        pending=pending,
        draining=draining,
        failed=failed,
        foreign=tuple(sorted((*kind, sum(found.values())) for kind, found in counts.items())),
    )


def without(
    spec: ServiceSpec,
    counted: Tally,
    instances: Sequence[Instance],
    groups: Collection[tuple[str, str]],
) -> Tally:
    """Return a count in which some groups serve, but supply nothing.

    Args:
        groups: (sub-cluster, group).
    """
    rest = tally(spec, [one for one in instances if (one.subcluster, one.group) not in groups])
    return rest._replace(
        ready=counted.ready, ready_replicas=counted.ready_replicas, foreign=counted.foreign
    )


def smallest_unit(leaf: RoleSpec) -> float:
    """Return the capacity of the smallest instance the role can lose."""
    return min(option.capacity for option in leaf.accelerators)


def to_hold(
    spec: ServiceSpec, counted: Tally, group_roles: Sequence[GroupRole]
) -> Mapping[RolePath, float]:
    """Return leaf role → capacity that "no change" means.

    The supply; but where nothing is ready, what was asked for and is not on its way out, so that
    a service that is only starting, or has lost everything, keeps its desired count. What has
    failed stays in its count until it is removed: its replacement, once asked for, takes its place
    here, or each would call for another.
    """
    if all(counted.ready.values()):
        return counted.supply
    units = _units(spec)
    asked = dict.fromkeys(units, 0.0)
    for group_role in sorted(group_roles, key=lambda one: (one.accelerator, one.replicas)):
        if group_role.role in asked:
            by_type = units[group_role.role]
            asked[group_role.role] += group_role.replicas * by_type.get(group_role.accelerator, 0.0)
    return {
        role: supply if counted.ready[role] else max(supply, _desired(counted, role, asked[role]))
        for role, supply in counted.supply.items()
    }


def _desired(counted: Tally, role: RolePath, asked: float) -> float:
    """Return the capacity of a role that serves nobody as it was before anything failed."""
    lost = counted.failed[role]
    coming = max(0.0, asked - counted.draining[role] - lost)
    return max(coming, lost)


def explain_foreign(counted: Tally) -> tuple[Reason, ...]:
    """Return one reason per role and accelerator that the service does not list."""
    if not counted.foreign:
        return ()
    return tuple(
        Reason(
            step=Step.SIGNAL,
            code=ReasonCode.FOREIGN_ACCELERATOR,
            figures={"role": role, "accelerator": accelerator, "replicas": replicas},
        )
        for role, accelerator, replicas in counted.foreign
    )


def _units(spec: ServiceSpec) -> dict[RolePath, dict[str, float]]:
    """Return leaf role → accelerator → capacity units of one instance."""
    return {
        leaf.path: {option.type: option.capacity for option in leaf.accelerators}
        for leaf in spec.group.leaves()
    }
