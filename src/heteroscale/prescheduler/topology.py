"""The static tree of network domains of one inventory generation."""

from __future__ import annotations

from collections.abc import Sequence

from heteroscale.entities.topology import DomainPath, Inventory, TopologyTree
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
