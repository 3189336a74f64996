"""Which groups could leave a scarce subgroup to those who need it, for room that is less scarce.

Advice only: nothing is moved. A group moves whole, and its new place must be free before the old
one is given up. One class of subgroups is looked at, the scarcest from which anything can move.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from heteroscale.entities.fleet import KnownFleet
from heteroscale.entities.placement import Grant, PlacementPlan, PlacementRequest, Scarcity
from heteroscale.entities.service import UNIT_SLACK, RolePath, ServiceSpec
from heteroscale.entities.snapshot import SUPPLY_STATES, Instance
from heteroscale.entities.topology import DomainPath, Inventory
from heteroscale.prescheduler.cycle import place_all
from heteroscale.prescheduler.topology import cell_depth, subgroups
from heteroscale.prescheduler.what_if import as_snapshot

#: so many groups move at most, and so many are tried, the smallest first
MOVES_MAX, TRIED_MAX = 8, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    """One group that could stand elsewhere."""

    service: str
    group: str
    subcluster: str
    #: of the scarcest subgroup it stands in
    scarcity: Scarcity
    #: by uid
    instances: tuple[Instance, ...]
    #: (domain of that class, accelerator) → GPUs that would be free there
    freed_gpus: Mapping[tuple[DomainPath, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defragmentation:
    """Groups that could move, and where all of them together would stand."""

    moves: tuple[Relocation, ...] = ()
    grants: tuple[Grant, ...] = ()


def defragment(fleet: KnownFleet, specs: Sequence[ServiceSpec]) -> Defragmentation:
    """Return the moves that would free the scarcest subgroups that can be freed."""
    depth = cell_depth(fleet.levels)
    classes = subgroups(fleet.inventory.nodes, fleet.levels)
    places = {(node.domain[0], node.name): node.domain[:depth] for node in fleet.inventory.nodes}
    groups = [
        one
        for spec in sorted(specs, key=lambda spec: spec.name)
        if not (spec.pause.scale_in or spec.pause.scale_out)
        for one in _groups(fleet, spec, places, classes)
    ]
    by_name = {spec.name: spec for spec in specs}
    for scarcity in (Scarcity.HIGH, Scarcity.MEDIUM):
        calmer = tuple(
            node
            for node in fleet.inventory.nodes
            if classes.get(node.domain[:depth], Scarcity.LOW) < scarcity
        )
        room = Inventory(generation=fleet.inventory.generation, nodes=calmer)
        found = _movable(fleet, [one for one in groups if one.scarcity is scarcity], by_name, room)
        if found.moves:
            return found
    return Defragmentation()


def _groups(
    fleet: KnownFleet,
    spec: ServiceSpec,
    places: Mapping[tuple[str, str], DomainPath],
    classes: Mapping[DomainPath, Scarcity],
) -> list[Relocation]:
    """Return the whole groups of a service whose nodes are known, with what each would free."""
    members: dict[tuple[str, str], list[Instance]] = {}
    for one in fleet.instances:
        if one.service == spec.name:
            members.setdefault((one.subcluster, one.group), []).append(one)
    roles = {leaf.path for leaf in spec.group.leaves()}
    found = []
    for (subcluster, group), own in sorted(members.items()):
        steady = all(one.state in SUPPLY_STATES and one.nodes for one in own)
        known = all((subcluster, name) in places for one in own for name in one.nodes)
        if not (steady and known and {one.role for one in own} == roles):
            continue
        used: Counter[tuple[DomainPath, str]] = Counter()
        for one in own:
            for name in one.nodes:
                used[places[subcluster, name], one.accelerator] += one.gpus or 0
        worst = max(classes.get(domain, Scarcity.LOW) for domain, _ in used)
        found.append(
            Relocation(
                service=spec.name,
                group=group,
                subcluster=subcluster,
                scarcity=worst,
                instances=tuple(sorted(own, key=lambda one: one.uid)),
                freed_gpus={
                    where: used[where]
                    for where in sorted(used)
                    if classes.get(where[0], Scarcity.LOW) is worst
                },
            )
        )
    return found


def _movable(
    fleet: KnownFleet,
    groups: Sequence[Relocation],
    specs: Mapping[str, ServiceSpec],
    room: Inventory,
) -> Defragmentation:
    """Return as many groups as fit the room together, the smallest first."""
    order = sorted(
        groups,
        key=lambda one: (sum(one.freed_gpus.values()), one.service, one.subcluster, one.group),
    )
    chosen: list[Relocation] = []
    grants: tuple[Grant, ...] = ()
    for one in order[:TRIED_MAX]:
        plan = _placed(fleet, [*chosen, one], specs, room)
        if not plan.no_fits:
            chosen.append(one)
            grants = plan.grants
        if len(chosen) == MOVES_MAX:
            break
    return Defragmentation(moves=tuple(chosen), grants=grants)


def _placed(
    fleet: KnownFleet,
    moving: Sequence[Relocation],
    specs: Mapping[str, ServiceSpec],
    room: Inventory,
) -> PlacementPlan:
    """Return where new groups for all that moves would stand, beside everything that is there."""
    units: dict[str, dict[RolePath, float]] = {}
    for one in moving:
        worth = specs[one.service].group.worth()
        own = units.setdefault(one.service, {})
        for instance in one.instances:
            key = (instance.role, instance.accelerator)
            own[instance.role] = own.get(instance.role, 0.0) + worth.get(key, 0.0)
    snapshot = replace(as_snapshot(fleet, tuple(specs.values())), inventory=room)
    requests = [
        PlacementRequest(
            spec=specs[name],
            snapshot=snapshot.services[name],
            add={role: math.ceil(of_role - UNIT_SLACK) for role, of_role in own.items()},
            closed=tuple(
                sorted({(one.subcluster, one.group) for one in snapshot.services[name].instances})
            ),
        )
        for name, own in units.items()
    ]
    return place_all(requests, snapshot, fleet.levels, fleet.prices)
