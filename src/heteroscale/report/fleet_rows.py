"""A fleet at rest, domain by domain: what it has, what is in use, how scarce it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from heteroscale.entities.fleet import KnownFleet
from heteroscale.entities.placement import Scarcity
from heteroscale.entities.topology import DomainPath, Node
from heteroscale.prescheduler.topology import build_tree, subgroups

SUBCLUSTER_LEVEL = "sub-cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainRow:
    """One domain: the fleet (empty path), a sub-cluster, or a switch."""

    path: DomainPath
    #: "fleet", "sub-cluster" or a topology level
    level: str
    nodes: int
    unhealthy: int
    #: accelerator → GPUs, those of unhealthy nodes too; sorted
    gpus: Mapping[str, int]
    #: GPUs in use, at most what a node has; None = unknown
    used_gpus: int | None
    #: GPUs of healthy nodes that nobody uses; None = unknown
    free_gpus: int | None
    #: healthy nodes with nothing on them; None = unknown
    whole_free_nodes: int | None
    #: RDMA subgroup priority; None = not one of the two widest levels of switches
    scarcity: Scarcity | None


def domain_rows(fleet: KnownFleet) -> tuple[DomainRow, ...]:
    """Return a row for the fleet and for each domain, every domain after the one around it."""
    nodes = fleet.inventory.nodes
    used = _used_by_index(fleet)
    scarcity = subgroups(nodes, fleet.levels)
    tree = build_tree(fleet.inventory, fleet.levels)
    rows = [_row((), "fleet", range(len(nodes)), nodes, used, None)]
    for path, indices in tree.domains.items():
        level = level_of(path, fleet.levels)
        rows.append(_row(path, level, indices, nodes, used, scarcity.get(path)))
    return tuple(rows)


def level_of(path: DomainPath, levels: tuple[str, ...]) -> str:
    """Return the name of the level a domain is of."""
    return SUBCLUSTER_LEVEL if len(path) == 1 else levels[len(levels) + 1 - len(path)]


def _used_by_index(fleet: KnownFleet) -> list[int] | None:
    used = fleet.used_gpus()
    if used is None:
        return None
    return [
        min(node.gpus, used.get((node.domain[0], node.name), 0)) for node in fleet.inventory.nodes
    ]


def _row(
    path: DomainPath,
    level: str,
    indices: Iterable[int],
    nodes: tuple[Node, ...],
    used: list[int] | None,
    scarcity: Scarcity | None,
) -> DomainRow:
    gpus: Counter[str] = Counter()
    count = unhealthy = in_use = free = whole = 0
    for index in indices:
        node = nodes[index]
        count += 1
        gpus[node.accelerator] += node.gpus
        taken = used[index] if used is not None else 0
        in_use += taken
        if node.healthy:
            free += node.gpus - taken
            whole += not taken
        else:
            unhealthy += 1
    return DomainRow(
        path=path,
        level=level,
        nodes=count,
        unhealthy=unhealthy,
        gpus=dict(sorted(gpus.items())),
        used_gpus=None if used is None else in_use,
        free_gpus=None if used is None else free,
        whole_free_nodes=None if used is None else whole,
        scarcity=scarcity,
    )
