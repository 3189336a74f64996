"""The cycle of one snapshot: what can be reached is placed on, and only what is needed is built."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from heteroscale.entities.placement import PlacementPlan, PlacementRequest
from heteroscale.entities.snapshot import ServiceSnapshot, Snapshot
from heteroscale.entities.topology import Inventory
from heteroscale.prescheduler.place import place
from heteroscale.prescheduler.topology import build_tree

#: Nobody asked for anything.
NO_PLACEMENT = PlacementPlan()


def place_all(
    requests: Sequence[PlacementRequest], snapshot: Snapshot, levels: Sequence[str]
) -> PlacementPlan:
    """Return the placement of a tick's requests.

    Tree and ledger cost a walk over the fleet, so they are made only when somebody asks for more.
    """
    if not requests:
        return NO_PLACEMENT
    inventory = Inventory(generation=snapshot.inventory.generation, nodes=())
    instances = []
    if any(request.add for request in requests):
        inventory = _within_reach(snapshot)
        instances = [
            one for name in sorted(snapshot.services) for one in snapshot.services[name].instances
        ]
    return place(requests, inventory, build_tree(inventory, levels), instances)


def closed_groups(
    service: ServiceSnapshot, unreachable: Sequence[str], awaited: Collection[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """Return (sub-cluster, group) of a service's groups that stay as they are, sorted.

    Args:
        unreachable: sub-clusters that cannot be observed.
        awaited: groups with a count that was changed and is not seen yet.
    """
    away = {
        (count.subcluster, count.group)
        for count in service.group_roles
        if count.subcluster in unreachable
    }
    return tuple(sorted(away.union(awaited)))


def _within_reach(snapshot: Snapshot) -> Inventory:
    if not snapshot.unreachable:
        return snapshot.inventory
    return Inventory(
        generation=snapshot.inventory.generation,
        nodes=tuple(
            node
            for node in snapshot.inventory.nodes
            if not node.domain or node.domain[0] not in snapshot.unreachable
        ),
    )
