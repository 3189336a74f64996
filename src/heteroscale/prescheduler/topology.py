"""The static tree of network domains of one inventory generation, and how scarce its parts are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.topology import DomainPath, Inventory, Node, TopologyTree
from heteroscale.errors import InvariantViolation


def build_tree(inventory: Inventory, levels: Sequence[str]) -> TopologyTree:
    """Return domain → nodes for every prefix of every node's domain path.

    Args:
        levels: names from the narrowest above a node to the widest below a sub-cluster. A node
            whose path is shorter (it lacks the narrow labels) is in no domain of those levels.
    """
    domains: dict[DomainPath, list[int]] = {}
    leaves: dict[DomainPath, list[int]] = {}
    for index, node in enumerate(inventory.nodes):
        leaves.setdefault(node.domain, []).append(index)
    for domain, indices in leaves.items():
        for depth in range(1, len(domain) + 1):
            domains.setdefault(domain[:depth], []).extend(indices)
    return TopologyTree(
        generation=inventory.generation,
        levels=tuple(levels),
        domains={domain: tuple(sorted(domains[domain])) for domain in sorted(domains)},
    )


def depth_of(levels: Sequence[str], level: str | None) -> int:
    """Return the length of a domain path at a level; None = the sub-cluster.

    Raises:
        InvariantViolation: the level is not one of the fleet's, which configuration rules out.
    """
    if level is None:
        return 1
    if level not in levels:
        raise InvariantViolation(f"topology level {level!r} is not one of {', '.join(levels)}")
    return len(levels) - levels.index(level) + 1


def cell_depth(levels: Sequence[str]) -> int:
    """Return the path length of the switches that are called S1: one level below the widest."""
    return min(3, len(levels) + 1)


def subgroups(nodes: Iterable[Node], levels: Sequence[str]) -> dict[DomainPath, Scarcity]:
    """Return the RDMA subgroup priority of every domain of the two widest levels, sorted.

    A domain of the widest level (S2) is as scarce as the scarcest below it; one below it (S1) is
    scarce by the mix of what is around it. Nodes count whether healthy or not: a subgroup is what
    was built, not what works today.

    Source: HeteroScale (arXiv:2508.19559), RDMA subgroups.
    """
    depth = cell_depth(levels)
    types: dict[DomainPath, set[str]] = {}
    # Nodes of one switch and type say the same: a large fleet has few kinds of them.
    kinds_of_node = dict.fromkeys((node.domain[:depth], node.accelerator) for node in nodes)
    for domain, accelerator in kinds_of_node:
        for length in range(2, len(domain) + 1):
            types.setdefault(domain[:length], set()).add(accelerator)
    inner = {path: kinds for path, kinds in types.items() if len(path) == depth}
    mixed = {path[:2] for path, kinds in inner.items() if len(kinds) > 1}
    return {
        path: _scarcity(kinds, types[path[:2]], mixed=path[:2] in mixed)
        for path, kinds in sorted(types.items())
    }


def _scarcity(own: Collection[str], around: Collection[str], *, mixed: bool) -> Scarcity:
    if len(around) == 1:
        return Scarcity.LOW
    if len(own) > 1 and mixed:
        return Scarcity.HIGH
    return Scarcity.MEDIUM
