"""Which groups could leave a scarce subgroup to those who need it, for room that is less scarce.

Advice only: nothing is moved. A group moves whole, and its new place must be free before the old
one is given up. One class of subgroups is looked at, the scarcest from which anything can move.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from heteroscale.entities.fleet import KnownFleet
from heteroscale.entities.placement import Grant, PlacementRequest, Scarcity
from heteroscale.entities.service import UNIT_SLACK, RolePath, ServiceSpec
from heteroscale.entities.snapshot import SUPPLY_STATES, Instance, Snapshot
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
    ground = Ground.of(fleet.inventory, fleet.levels)
    snapshot = as_snapshot(fleet, specs)
    groups = [
        one
        for spec in sorted(specs, key=lambda spec: spec.name)
        if not (spec.pause.scale_in or spec.pause.scale_out) and spec.name in snapshot.services
        for one in whole_groups(spec, snapshot.services[spec.name].instances, ground)
    ]
    by_name = {spec.name: spec for spec in specs}
    for scarcity in (Scarcity.HIGH, Scarcity.MEDIUM):
        elsewhere = replace(snapshot, inventory=ground.calmer(scarcity))
        of_it = [one for one in groups if one.scarcity is scarcity]
        found = _movable(fleet, of_it, by_name, elsewhere)
        if found.moves:
            return found
    return Defragmentation()


@dataclass(frozen=True, slots=True)
class Ground:
    """An inventory, and how scarce the subgroup of each node is."""

    inventory: Inventory
    depth: int
    classes: Mapping[DomainPath, Scarcity]
    #: (sub-cluster, node) → the domain whose class counts
    places: Mapping[tuple[str, str], DomainPath]

    @classmethod
    def of(cls, inventory: Inventory, levels: Sequence[str]) -> Ground:
        """Return what is known of the nodes of an inventory."""
        depth = cell_depth(levels)
        return cls(
            inventory,
            depth,
            subgroups(inventory.nodes, levels),
            {
                (node.domain[0], node.name): node.domain[:depth]
                for node in inventory.nodes
                if node.domain
            },
        )

    def scarcity(self, domain: DomainPath) -> Scarcity:
        """Return the class of a domain; what no subgroup is in is not scarce."""
        return self.classes.get(domain[: self.depth], Scarcity.LOW)

    def calmer(self, scarcity: Scarcity) -> Inventory:
        """Return the nodes in less scarce subgroups."""
        nodes = (node for node in self.inventory.nodes if self.scarcity(node.domain) < scarcity)
        return Inventory(generation=self.inventory.generation, nodes=tuple(nodes))


def whole_groups(
    spec: ServiceSpec, instances: Iterable[Instance], ground: Ground
) -> list[Relocation]:
    """Return the whole groups of a service whose nodes are known, with what each would free.

    Args:
        instances: of the service.
    """
    members: dict[tuple[str, str], list[Instance]] = {}
    for one in instances:
        members.setdefault((one.subcluster, one.group), []).append(one)
    places, roles = ground.places, {leaf.path for leaf in spec.group.leaves()}
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
        worst = max(ground.scarcity(domain) for domain, _ in used)
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
                    if ground.scarcity(where[0]) is worst
                },
            )
        )
    return found


def _movable(
    fleet: KnownFleet,
    groups: Sequence[Relocation],
    specs: Mapping[str, ServiceSpec],
    elsewhere: Snapshot,
) -> Defragmentation:
    """Return as many groups as fit the room together, the smallest first."""
    order = sorted(
        groups,
        key=lambda one: (sum(one.freed_gpus.values()), one.service, one.subcluster, one.group),
    )
    chosen: list[Relocation] = []
    grants: tuple[Grant, ...] = ()
    for one in order[:TRIED_MAX]:
        requests = elsewhere_of([*chosen, one], specs, elsewhere)
        plan = place_all(requests, elsewhere, fleet.levels, fleet.prices)
        if not plan.no_fits:
            chosen.append(one)
            grants = plan.grants
        if len(chosen) == MOVES_MAX:
            break
    return Defragmentation(moves=tuple(chosen), grants=grants)


def elsewhere_of(
    moving: Sequence[Relocation], specs: Mapping[str, ServiceSpec], snapshot: Snapshot
) -> list[PlacementRequest]:
    """Return the requests for new groups for all that moves, beside everything that is there."""
    units: dict[str, dict[RolePath, float]] = {}
    for one in moving:
        worth = specs[one.service].group.worth()
        own = units.setdefault(one.service, {})
        for instance in one.instances:
            key = (instance.role, instance.accelerator)
            own[instance.role] = own.get(instance.role, 0.0) + worth.get(key, 0.0)
    return [
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
