"""Where capacity would go if it were wanted of a fleet as it stands: the cycle, asked by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heteroscale.entities.decision import Decision, Direction
from heteroscale.entities.fleet import KnownFleet
from heteroscale.entities.placement import PlacementPlan, PlacementRequest
from heteroscale.entities.service import UNIT_SLACK, RolePath, ServiceSpec
from heteroscale.entities.snapshot import (
    SUPPLY_STATES,
    GroupRole,
    Instance,
    InstanceState,
    ServiceSnapshot,
    Snapshot,
)
from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.cycle import place_all
from heteroscale.prescheduler.topology import depth_of
from heteroscale.prescheduler.wish import wish

#: What is withdrawn is there and comes back first: a what-if knows no latency that forbids it.
_THERE = SUPPLY_STATES | {InstanceState.WITHDRAWN}
#: the "service" of what holds GPUs and is nobody's instance; no service can be called so
_OTHERS = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What is wanted of a fleet, and the cycle's answer."""

    #: those that want a change, by name
    requests: tuple[PlacementRequest, ...]
    plan: PlacementPlan


def what_if(
    fleet: KnownFleet,
    specs: Sequence[ServiceSpec],
    want: Mapping[str, Mapping[RolePath, int]],
) -> WhatIf:
    """Return where the wanted capacity would go and what would leave.

    Args:
        fleet: use that nobody knows counts as none.
        specs: of every service that wants something; instances of others only hold their GPUs.
        want: service → leaf role → capacity units it should have; absent = as many as it has.
    """
    snapshot = as_snapshot(fleet, specs)
    requests = [
        request
        for spec in sorted(specs, key=lambda spec: spec.name)
        if (request := _request(spec, snapshot.services.get(spec.name), want.get(spec.name, {})))
        is not None
    ]
    return WhatIf(
        requests=tuple(requests), plan=place_all(requests, snapshot, fleet.levels, fleet.prices)
    )


def as_snapshot(fleet: KnownFleet, specs: Sequence[ServiceSpec]) -> Snapshot:
    """Return a fleet at rest as a tick would see it, without any signals.

    Args:
        specs: of the services whose groups are to be known as such.
    """
    groups = _group_roles(fleet, {spec.name: spec for spec in specs})
    services: dict[str, ServiceSnapshot] = {
        name: ServiceSnapshot(instances=instances, group_roles=groups.get(name, ()))
        for name, instances in _by_service(fleet.instances).items()
    }
    return Snapshot(
        now_s=0.0,
        services={**services, _OTHERS: ServiceSnapshot(instances=_others(fleet))},
        inventory=fleet.inventory,
    )


def supplied(spec: ServiceSpec, instances: Iterable[Instance]) -> dict[RolePath, float]:
    """Return leaf role → capacity units that are there."""
    worth = spec.group.worth()
    units = {leaf.path: 0.0 for leaf in spec.group.leaves()}
    for one in instances:
        if one.state in _THERE and one.role in units:
            units[one.role] += worth.get((one.role, one.accelerator), 0.0)
    return units


def _request(
    spec: ServiceSpec, seen: ServiceSnapshot | None, want: Mapping[RolePath, int]
) -> PlacementRequest | None:
    snapshot = seen or ServiceSnapshot()
    supply = supplied(spec, snapshot.instances)
    decision = Decision(
        service=spec.name,
        direction=Direction.HOLD,
        capacity={
            role: want.get(role, math.floor(units + UNIT_SLACK)) for role, units in supply.items()
        },
        ratio={},
        reasons=(),
    )
    wanted = wish(spec, snapshot, decision, supply, restorable={})
    if not wanted.add and not wanted.remove:
        return None
    return PlacementRequest(spec=spec, snapshot=snapshot, add=wanted.add, remove=wanted.remove)


def _by_service(instances: Iterable[Instance]) -> dict[str, tuple[Instance, ...]]:
    found: dict[str, list[Instance]] = {}
    for one in instances:
        found.setdefault(one.service, []).append(one)
    return {name: tuple(found[name]) for name in sorted(found)}


def _group_roles(
    fleet: KnownFleet, specs: Mapping[str, ServiceSpec]
) -> dict[str, tuple[GroupRole, ...]]:
    """Return service → the counts that a sub-cluster would keep for its instances, sorted.

    A group's domain is the narrowest around its nodes, but no narrower than its service asks for.
    """
    places = {(node.domain[0], node.name): node.domain for node in fleet.inventory.nodes}
    counts: dict[tuple[str, str, str, str, str], int] = {}
    of_group: dict[tuple[str, str, str], DomainPath] = {}
    of_role: dict[tuple[str, str, str, str], DomainPath] = {}
    for one in fleet.instances:
        key = (one.service, one.role, one.group, one.accelerator, one.subcluster)
        counts[key] = counts.get(key, 0) + 1
        group = (one.service, one.group, one.subcluster)
        for name in one.nodes:
            place = places.get((one.subcluster, name), (one.subcluster,))
            of_group[group] = _shared(of_group.get(group), place)
            of_role[*group, one.role] = _shared(of_role.get((*group, one.role)), place)
    found: dict[str, list[GroupRole]] = {}
    for key in sorted(counts):
        service, role, name, accelerator, subcluster = key
        group = (service, name, subcluster)
        around = of_group.get(group, (subcluster,))
        spec = specs.get(service)
        depth = depth_of(fleet.levels, spec.group.within) if spec is not None else 1
        # The group as a whole decides where it lives; inside that, a role may live closer together.
        domain = of_role.get((*group, role), around) if len(around) >= depth else around
        found.setdefault(service, []).append(
            GroupRole(
                service=service,
                group=name,
                role=role,
                accelerator=accelerator,
                subcluster=subcluster,
                domain=domain if len(domain) > 1 and depth > 1 else (),
                replicas=counts[key],
            )
        )
    return {service: tuple(roles) for service, roles in found.items()}


def _shared(one: DomainPath | None, other: DomainPath) -> DomainPath:
    """Return the narrowest place around both; None = nothing is known of the first."""
    if one is None or one == other:
        return other
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same]


def _others(fleet: KnownFleet) -> tuple[Instance, ...]:
    """Return an instance of nobody for each node on which others hold GPUs."""
    accelerators = {(node.domain[0], node.name): node.accelerator for node in fleet.inventory.nodes}
    return tuple(
        Instance(
            uid=f"others/{subcluster}/{name}",
            service=_OTHERS,
            role="",
            group="",
            subcluster=subcluster,
            accelerator=accelerators[subcluster, name],
            ordinal=0,
            state=InstanceState.READY,
            since_s=0.0,
            nodes=(name,),
            gpus=gpus,
        )
        for (subcluster, name), gpus in sorted((fleet.others_gpus or {}).items())
    )
