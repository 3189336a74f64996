"""The tree of a fleet for the terminal, and the same as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from heteroscale.config.inventory import NamedFault
from heteroscale.entities.fleet import KnownFleet
from heteroscale.entities.topology import DomainPath
from heteroscale.report.fleet_rows import DomainRow, domain_rows

#: lines that still read at a glance; beyond them the tree is folded
LONGEST_TREE = 64
#: faults that are told one by one
MOST_FAULTS = 20

_HEADINGS = ("", "subgroup", "nodes", "down", "GPUs", "in use", "free", "whole nodes", "")
#: columns that hold words, not figures
_WORDS = (0, 1, 8)


def tree_lines(fleet: KnownFleet, depth: int | None = None) -> list[str]:
    """Return the tree as aligned lines, folded below a depth.

    Args:
        depth: 0 = the fleet alone, 1 = its sub-clusters, then level by level, one beyond the
            narrowest level = every node; None = as deep as reads at a glance.
    """
    rows = domain_rows(fleet)
    shown = readable_depth(fleet, rows) if depth is None else depth
    cells: list[tuple[str, ...]] = [_HEADINGS]
    nodes = _nodes_by_domain(fleet) if shown >= len(fleet.levels) + 2 else {}
    for row in rows:
        if len(row.path) <= shown:
            cells.append(_cells(row))
        cells += nodes.get(row.path, ())
    return [*_aligned(cells), *_folded(fleet, rows, shown)]


def readable_depth(fleet: KnownFleet, rows: Sequence[DomainRow]) -> int:
    """Return the greatest depth whose tree is not too long; the sub-clusters are always shown."""
    at_depth = Counter(len(row.path) for row in rows)
    deepest = len(fleet.levels) + 2
    at_depth[deepest] = len(fleet.inventory.nodes)
    total, depth = at_depth[0] + at_depth[1], 1
    while depth < deepest and total + at_depth[depth + 1] <= LONGEST_TREE:
        depth += 1
        total += at_depth[depth]
    return depth


def fault_lines(faults: Sequence[NamedFault]) -> list[str]:
    """Return how many faults of which kind there are, and the first of them."""
    if not faults:
        return []
    kinds = Counter(fault.kind.value for fault in faults)
    counts = ", ".join(f"{kinds[kind]:,} {kind}" for kind in sorted(kinds))
    lines = [f"{len(faults):,} {'fault' if len(faults) == 1 else 'faults'}: {counts}"]
    lines += (str(fault.problem) for fault in faults[:MOST_FAULTS])
    if len(faults) > MOST_FAULTS:
        lines.append(f"… and {len(faults) - MOST_FAULTS:,} more: --json lists every one")
    return lines


def fleet_json(fleet: KnownFleet, faults: Sequence[NamedFault]) -> str:
    """Return levels, domains, nodes and faults as documented in docs/topology.md."""
    used = fleet.used_gpus()
    content = {
        "generation": fleet.inventory.generation,
        "levels": list(fleet.levels),
        "domains": [_domain_json(row) for row in domain_rows(fleet)],
        "nodes": [
            {
                "name": node.name,
                "domain": list(node.domain),
                "accelerator": node.accelerator,
                "gpus": node.gpus,
                "used_gpus": None if used is None else used.get((node.domain[0], node.name), 0),
                "healthy": node.healthy,
            }
            for node in fleet.inventory.nodes
        ],
        "faults": [fault_json(fault) for fault in faults],
    }
    rows = (f'"{key}": {_value_text(value)}' for key, value in content.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


def fault_json(fault: NamedFault) -> Mapping[str, object]:
    """Return a fault by its parts."""
    problem = fault.problem
    return {
        "kind": fault.kind.value,
        "path": problem.path,
        "rule": problem.rule,
        "value": problem.value,
        "line": problem.line,
    }


def _value_text(value: object) -> str:
    """Return JSON with a line per domain, node and fault: it can be read and compared."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(_one_line(item) for item in value) + "\n]"
    return _one_line(value)


def _one_line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _domain_json(row: DomainRow) -> Mapping[str, object]:
    return {
        "path": list(row.path),
        "level": row.level,
        "nodes": row.nodes,
        "unhealthy": row.unhealthy,
        "gpus": row.gpus,
        "used_gpus": row.used_gpus,
        "free_gpus": row.free_gpus,
        "whole_free_nodes": row.whole_free_nodes,
        "subgroup": subgroup_word(row),
    }


def subgroup_word(row: DomainRow) -> str | None:
    """Return low, medium or high; None = no RDMA subgroup is meant."""
    return None if row.scarcity is None else row.scarcity.name.lower()


def _cells(row: DomainRow) -> tuple[str, ...]:
    named = f"{row.level} {row.path[-1]}" if row.path else "fleet"
    return (
        "  " * len(row.path) + named,
        subgroup_word(row) or "",
        f"{row.nodes:,}",
        f"{row.unhealthy:,}" if row.unhealthy else "",
        f"{sum(row.gpus.values()):,}",
        _figure(row.used_gpus),
        _figure(row.free_gpus),
        _figure(row.whole_free_nodes),
        ", ".join(
            kind if len(row.gpus) == 1 else f"{gpus:,} {kind}" for kind, gpus in row.gpus.items()
        ),
    )


def _figure(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _nodes_by_domain(fleet: KnownFleet) -> Mapping[DomainPath, list[tuple[str, ...]]]:
    """Return domain → the lines of the nodes that stand in it and in none below it."""
    used = fleet.used_gpus()
    lines: dict[DomainPath, list[tuple[str, ...]]] = {}
    for node in fleet.inventory.nodes:
        taken = None if used is None else min(node.gpus, used.get((node.domain[0], node.name), 0))
        free = None if taken is None else (node.gpus - taken) * node.healthy
        cells = (
            "  " * (len(node.domain) + 1) + node.name,
            "",
            "",
            "" if node.healthy else "1",
            f"{node.gpus:,}",
            _figure(taken),
            _figure(free),
            "",
            node.accelerator,
        )
        lines.setdefault(node.domain, []).append(cells)
    return lines


def _aligned(cells: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (
            cell.ljust(width) if at in _WORDS else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(padded).rstrip()


def _folded(fleet: KnownFleet, rows: Sequence[DomainRow], shown: int) -> list[str]:
    """Return one line about what is not shown, if anything is not."""
    hidden = Counter(row.level for row in rows if len(row.path) > shown)
    deepest = len(fleet.levels) + 2
    if shown >= deepest:
        return []
    below = [f"{count:,} {level}" for level, count in hidden.items()]
    told = ", ".join((*below, f"{len(fleet.inventory.nodes):,} nodes"))
    return [f"folded: {told} (--depth {deepest} shows everything)"]
