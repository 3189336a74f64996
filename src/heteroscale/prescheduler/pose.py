"""States a cycle as a placement problem: nodes become cells, what services want becomes steps.

Only what keeps a service's ratio is posed: the rest belongs to particular groups and is placed
unit by unit. So is what a cell cannot tell: instances on parts of several nodes, roles three deep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import UNIT_SLACK, AcceleratorOption, RolePath
from heteroscale.entities.topology import DomainPath, Node
from heteroscale.prescheduler.growth import Growth
from heteroscale.prescheduler.ledger import Ledger
from heteroscale.prescheduler.problem import Cell, Home, Narrow, Need, Problem, Request
from heteroscale.prescheduler.topology import cell_depth, depth_of, subgroups

#: priorities so far apart are worth twice as much a GPU: some of ten steps below give way to one
_DOUBLING = 10


@dataclass(slots=True, kw_only=True)
class Ground:
    """Which nodes the cells of a problem are made of."""

    cells: list[Cell] = field(default_factory=list)
    #: per cell: indices of its healthy nodes
    nodes: list[list[int]] = field(default_factory=list)
    #: accelerator → path length of the switch under which one instance may span nodes
    spans: dict[str, int] = field(default_factory=dict)


def in_ratio(left: Mapping[RolePath, int], weights: Mapping[RolePath, int]) -> dict[RolePath, int]:
    """Return the part of what is left that has the ratio of the weights, to within a unit."""
    parts = min(left.get(role, 0) / weight for role, weight in weights.items())
    if parts <= 0:
        return {}
    return {
        role: min(left[role], -int(-(parts * weight - UNIT_SLACK) // 1))
        for role, weight in weights.items()
    }


def pose(
    asked: Sequence[tuple[Growth, Mapping[RolePath, int]]],
    ledger: Ledger,
    levels: Sequence[str],
    prices: Mapping[str, float],
) -> tuple[Problem, Ground]:
    """Return the problem, its requests in the order given, and the nodes behind its cells.

    Args:
        asked: who asks, and the leaf role → capacity units of it that have the ratio in force.
    """
    sizes = ledger.node_gpus
    requests = [_request(growth, units, levels, sizes) for growth, units in asked]
    ground = Ground(spans=_spans(requests, levels))
    depth = max(
        [cell_depth(levels)]
        + [depth for request in requests for depth in request.depths]
        + [narrow.depth for request in requests for narrow in request.narrows]
    )
    _build_cells(ground, ledger, levels, depth, prices)
    problem = Problem(
        cells=tuple(ground.cells), requests=tuple(requests), cell_depth=cell_depth(levels)
    )
    return problem, ground


def can_be_posed(growth: Growth, ledger: Ledger) -> bool:
    """Return whether cells can tell whether this service's steps fit."""
    leaves = growth.request.spec.group.leaves()
    return all(
        any(_plain(option, ledger.node_gpus) for option in leaf.accelerators) for leaf in leaves
    ) and not any(inner.scopes for inner in growth.scope.scopes)


def _request(
    growth: Growth, units: Mapping[RolePath, int], levels: Sequence[str], sizes: Mapping[str, int]
) -> Request:
    spec = growth.request.spec
    needs = [
        Need(
            role=leaf.path,
            units=units[leaf.path],
            options=tuple(o for o in leaf.accelerators if _plain(o, sizes)),
        )
        for leaf in spec.group.leaves()
    ]
    depth = depth_of(levels, spec.group.within)
    return Request(
        name=spec.name,
        weight=2.0 ** (spec.priority / _DOUBLING),
        steps=max(units.values()),
        needs=tuple(sorted(needs, key=lambda need: need.role)),
        narrows=tuple(
            Narrow(
                path=inner.path,
                depth=depth_of(levels, inner.within),
                roles=tuple(inner.roles()),
            )
            for inner in growth.scope.scopes
        ),
        depths=tuple(range(depth, max(0, depth - spec.group.allowance - 1), -1)),
        homes=tuple(
            Home(
                name=group.name,
                domain=group.domain or (group.subcluster,),
                narrows=dict(group.scopes),
            )
            for group in growth.groups
        ),
        quota={kind: max(0, gpus) for kind, gpus in growth.quota.items()},
        new_groups=0 if growth.request.awaiting else min(units.values()),
    )


def _plain(option: AcceleratorOption, sizes: Mapping[str, int]) -> bool:
    """Return whether instances of an option share nodes only as cells can count."""
    gpus = sizes.get(option.type, option.gpus)
    return option.gpus <= gpus if option.nodes == 1 else option.gpus == gpus


def _spans(requests: Sequence[Request], levels: Sequence[str]) -> dict[str, int]:
    spans: dict[str, int] = {}
    for request in requests:
        for need in request.needs:
            for option in need.options:
                if option.nodes > 1:
                    depth = depth_of(levels, option.within)
                    spans[option.type] = max(depth, spans.get(option.type, 0))
    return spans


def _build_cells(
    ground: Ground, ledger: Ledger, levels: Sequence[str], depth: int, prices: Mapping[str, float]
) -> None:
    members: dict[tuple[DomainPath, str], list[int]] = {}
    nodes, free = ledger.nodes, ledger.free
    busy: set[DomainPath] = set()
    for index, node in enumerate(nodes):
        if not node.healthy:
            continue
        domain = node.domain[:depth]
        members.setdefault((domain, node.accelerator), []).append(index)
        if free[index] < node.gpus:
            busy.add(domain)
    classes = subgroups(nodes, levels)
    s1 = cell_depth(levels)
    dearest = max(prices.values(), default=1.0)
    for domain, accelerator in sorted(members):
        own = members[domain, accelerator]
        span, whole_gpus = ground.spans.get(accelerator, 0), ledger.node_gpus[accelerator]
        partial: dict[int, int] = {}
        whole: dict[object, int] = {}
        for index in own:
            node, gpus = nodes[index], free[index]
            if gpus == whole_gpus:
                key = switch_of(node, index, span)
                whole[key] = whole.get(key, 0) + 1
            elif gpus:
                partial[gpus] = partial.get(gpus, 0) + 1
        ground.nodes.append(own)
        ground.cells.append(
            Cell(
                domain=domain,
                accelerator=accelerator,
                scarcity=classes.get(domain[:s1], Scarcity.LOW),
                node_gpus=whole_gpus,
                partial=partial,
                whole=tuple(sorted(whole.values())),
                idle=domain not in busy,
                price=prices.get(accelerator, 0.0) / dearest,
            )
        )


def switch_of(node: Node, index: int, depth: int) -> object:
    """Return what stands for the switch whose nodes one instance may span; a node may be alone."""
    return node.domain[:depth] if len(node.domain) >= depth else index
