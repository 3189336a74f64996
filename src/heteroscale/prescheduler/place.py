"""One cycle of placement: requests by priority, in steps that are placed whole.

1. order: those that will be acted on first, by priority, then name; build the ledger
2. choose what leaves; its GPUs return only with the next cycle's inventory
3. what belongs to particular groups, to restore their ratio, goes there unit by unit
4. all that has its service's ratio is solved together: existing and new groups in every domain
5. what is left is tried unit by unit: existing groups, then new ones in the first domain that
   holds one of every role, completed where it is not of every role
6. count the causes of what fits nowhere

A request with units of step 3 waits for all of higher priority to be placed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from heteroscale.entities.placement import (
    Grant,
    NoFit,
    PlacementPlan,
    PlacementRequest,
    Release,
    Scarcity,
)
from heteroscale.entities.service import Mode
from heteroscale.entities.snapshot import Instance
from heteroscale.entities.topology import DomainPath, Inventory, TopologyTree
from heteroscale.prescheduler.causes import causes_of
from heteroscale.prescheduler.groups import existing_groups, imbalance, scope_of
from heteroscale.prescheduler.growth import Growth, completable, granted, grow, open_whole
from heteroscale.prescheduler.ledger import Ledger, Shapes
from heteroscale.prescheduler.objective import size_of
from heteroscale.prescheduler.pose import can_be_posed, in_ratio
from heteroscale.prescheduler.solve import Solver, solve
from heteroscale.prescheduler.together import place_together
from heteroscale.prescheduler.topology import cell_depth, subgroups
from heteroscale.prescheduler.victims import victims

#: No accelerator has a price.
NOT_STATED: Mapping[str, float] = MappingProxyType({})


def place(
    requests: Sequence[PlacementRequest],
    inventory: Inventory,
    tree: TopologyTree,
    instances: Sequence[Instance],
    prices: Mapping[str, float] = NOT_STATED,
    solver: Solver = solve,
) -> PlacementPlan:
    """Return where the requested capacity goes, what leaves, and what fits nowhere.

    Args:
        inventory: nodes that may be used in this cycle, in any order.
        instances: of every service, also of those that ask for nothing: they hold GPUs.
        prices: accelerator → price of a GPU for an hour; absent = not stated.
        solver: of what is placed in whole steps.
    """
    # 1. order
    ordered = sorted(requests, key=_request_order)
    # 2. what leaves
    shrinking = [request for request in ordered if any(n > 0 for n in request.remove.values())]
    scarcity = _scarcity_of(shrinking, inventory, tree.levels)
    releases = [
        Release(service=request.spec.name, uids=uids)
        for request in shrinking
        if (uids := victims(request, scarcity))
    ]
    # 1. ledger, only when somebody needs it
    growing = [request for request in ordered if any(n > 0 for n in request.add.values())]
    grants: list[Grant] = []
    no_fits: list[NoFit] = []
    if growing:
        ledger = Ledger.of(inventory, tree, instances, _shapes(ordered))
        for batch in _batches([_growth(request, tree.levels) for request in growing], ledger):
            _place_batch(batch, ledger, tree.levels, prices, solver, no_fits)
            for growth in batch:
                grants += granted(growth, prices)
    return PlacementPlan(
        grants=tuple(sorted(grants, key=grant_order)),
        releases=tuple(sorted(releases, key=lambda release: release.service)),
        no_fits=tuple(sorted(no_fits, key=lambda no_fit: no_fit.service)),
    )


def _scarcity_of(
    requests: Sequence[PlacementRequest], inventory: Inventory, levels: Sequence[str]
) -> dict[tuple[str, str], Scarcity]:
    """Return (sub-cluster, node) → the class of its subgroup, of nodes that these services use."""
    used = {
        (one.subcluster, name)
        for request in requests
        for one in request.snapshot.instances
        for name in one.nodes
    }
    if not used:
        return {}
    classes, depth = subgroups(inventory.nodes, levels), cell_depth(levels)
    return {
        key: classes.get(node.domain[:depth], Scarcity.LOW)
        for node in inventory.nodes
        if node.domain and (key := (node.domain[0], node.name)) in used
    }


def _growth(request: PlacementRequest, levels: Sequence[str]) -> Growth:
    return Growth(
        request=request,
        scope=scope_of(request.spec.group),
        weights=request.spec.group.weights(request.ratio),
        left={role: units for role, units in sorted(request.add.items()) if units > 0},
        quota=_quota_left(request),
        groups=existing_groups(request, levels),
    )


def _quota_left(request: PlacementRequest) -> dict[str, int]:
    left = dict(request.spec.quota)
    for count in request.snapshot.group_roles:
        option = request.spec.option(count.role, count.accelerator)
        if option is not None and count.accelerator in left:
            left[count.accelerator] -= count.replicas * size_of(option)
    return left


def _batches(growths: Sequence[Growth], ledger: Ledger) -> Iterator[list[Growth]]:
    """Yield requests that are placed together, in order.

    A batch ends before a class of priority in which somebody asks for more than whole steps.
    """
    batch: list[Growth] = []
    for growth in growths:
        if batch and _class(batch[-1]) != _class(growth):
            own = [one for one in growths if _class(one) == _class(growth)]
            acting = _class(batch[-1])[0] == _class(growth)[0]
            if not acting or any(_odd(one, ledger) for one in own):
                yield batch
                batch = []
        batch.append(growth)
    yield batch


def _class(growth: Growth) -> tuple[bool, int]:
    return _request_order(growth.request)[:2]


def _odd(growth: Growth, ledger: Ledger) -> dict[str, int]:
    """Return what is left beyond whole steps in the ratio in force."""
    if not can_be_posed(growth, ledger):
        return dict(growth.left)
    whole = in_ratio(growth.left, growth.weights)
    return {
        role: units - whole.get(role, 0)
        for role, units in growth.left.items()
        if units > whole.get(role, 0)
    }


def _place_batch(
    batch: Sequence[Growth],
    ledger: Ledger,
    levels: Sequence[str],
    prices: Mapping[str, float],
    solver: Solver,
    no_fits: list[NoFit],
) -> None:
    """Place what the services of a batch ask for, and append what fits nowhere."""
    # 3. what belongs to particular groups
    for growth in batch:
        if odd := _odd(growth, ledger):
            _restore_ratio(growth, odd, ledger)
            if not can_be_posed(growth, ledger):
                _place_rest(growth, ledger)
    # 4. together
    exhausted = place_together(batch, ledger, levels, prices, solver)
    # 5. what is left
    may_open = [
        done or _place_rest(growth, ledger) for growth, done in zip(batch, exhausted, strict=True)
    ]
    # 6. causes; of what is not seen yet some may hold the rest
    for growth, anywhere in zip(batch, may_open, strict=True):
        request, left = growth.request, growth.left
        if left and not request.awaiting:
            causes = causes_of(growth, ledger, levels, may_open=anywhere)
            no_fits.append(NoFit(service=request.spec.name, missing=left, causes=causes))


def _restore_ratio(growth: Growth, odd: dict[str, int], ledger: Ledger) -> None:
    """Place what is beyond the ratio where a group's own ratio asks for it, the worst first."""
    kept = {role: units - odd.get(role, 0) for role, units in growth.left.items()}
    growth.left = odd
    groups = sorted(growth.groups, key=lambda one: -round(imbalance(one.units, growth.weights), 6))
    for group in groups:
        grow(growth, group, ledger, balanced=True)
    left = {role: growth.left.get(role, 0) + units for role, units in kept.items()}
    growth.left = {role: units for role, units in left.items() if units > 0}


def _place_rest(growth: Growth, ledger: Ledger) -> bool:
    """Place what is left unit by unit; return whether a new group was possible too."""
    for balanced in (True, False):
        for group in growth.groups:
            grow(growth, group, ledger, balanced=balanced)
    may_open = False
    if not growth.request.awaiting:
        while growth.left and (may_open := completable(growth)) and open_whole(growth, ledger):
            pass
    return may_open


def _shapes(requests: Sequence[PlacementRequest]) -> Shapes:
    return {
        (request.spec.name, leaf.path, option.type): option
        for request in requests
        for leaf in request.spec.group.leaves()
        for option in leaf.accelerators
    }


def _request_order(request: PlacementRequest) -> tuple[bool, int, str]:
    spec = request.spec
    return (spec.mode is not Mode.ENFORCE, -spec.priority, spec.name)


def grant_order(grant: Grant) -> tuple[str, str, str, str, str, DomainPath]:
    """Return where a grant stands among those of a plan."""
    return (
        grant.service,
        grant.group,
        grant.role,
        grant.accelerator,
        grant.subcluster,
        grant.domain,
    )
