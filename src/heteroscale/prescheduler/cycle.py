"""The cycle of one snapshot: what can be reached is placed on, and only what is needed is built."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from heteroscale.entities.placement import PlacementPlan, PlacementRequest
from heteroscale.entities.snapshot import ServiceSnapshot, Snapshot
from heteroscale.entities.topology import Inventory
from heteroscale.prescheduler.place import NOT_STATED, place
from heteroscale.prescheduler.solve import Solver, solve
from heteroscale.prescheduler.topology import build_tree

#: Nobody asked for anything.
NO_PLACEMENT = PlacementPlan()


def place_all(
    requests: Sequence[PlacementRequest],
    snapshot: Snapshot,
    levels: Sequence[str],
    prices: Mapping[str, float] = NOT_STATED,
    solver: Solver = solve,
) -> PlacementPlan:
    """Return the placement of a tick's requests.

    Tree and ledger cost a walk over the fleet, so they are made only when somebody asks for more.
    """
    if not requests:
        return NO_PLACEMENT
    inventory = _within_reach(snapshot)
    nowhere = Inventory(generation=inventory.generation, nodes=())
    tree = build_tree(nowhere, levels)
    instances = []
    if any(request.add for request in requests):
        tree = build_tree(inventory, levels)
        instances = [
            one for name in sorted(snapshot.services) for one in snapshot.services[name].instances
        ]
    return place(requests, inventory, tree, instances, prices, solver)


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
