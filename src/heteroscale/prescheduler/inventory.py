"""From raw records of nodes to nodes with a place in the tree; what is wrong is named, not fatal.

1. leave out records that cannot be used: a name twice, no GPUs, an accelerator nobody knows
2. read each place off the labels, widest switch first, as far as the labels go without a gap
3. where one switch is said to stand under two others, believe what more than half of its nodes say
   and shorten the place of the rest to what is not in doubt
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter

from heteroscale.entities.topology import (
    DomainPath,
    InventoryFault,
    Node,
    NodeRecord,
    SwitchLabels,
)
from heteroscale.entities.topology import InventoryFaultKind as Kind

#: More than any machine has: a count above it is a mistake, and would hide every other.
MOST_GPUS = 1024

_node_order = attrgetter("name", "domain")


def take_inventory(
    records: Sequence[NodeRecord],
    switches: SwitchLabels,
    accelerators: Mapping[str, str] | None = None,
) -> tuple[tuple[Node, ...], tuple[InventoryFault, ...]]:
    """Return the nodes that can be used, sorted by name, and every fault in the records' order.

    The nodes do not depend on the order of the records. Places are compared and never parsed.

    Args:
        records: of every sub-cluster.
        switches: where the records say under which switches they are.
        accelerators: every name that may be reported → the type it means; None = any name is a
            type by itself.
    """
    faults: list[InventoryFault] = []
    # 1. what can be used
    usable = _usable(records, accelerators, faults)
    # 2. places as the labels say
    said = _places(records, usable, switches, faults)
    # 3. switches under two others
    places = _settled(said, switches, faults) if switches.unique_names else {}
    nodes = [
        Node(
            name=records[index].name,
            accelerator=kind,
            gpus=records[index].gpus,
            domain=places.get(said[index], said[index]),
            healthy=records[index].healthy,
        )
        for index, kind in usable.items()
    ]
    faults.sort(key=lambda fault: (fault.record, fault.field))
    return tuple(sorted(nodes, key=_node_order)), tuple(faults)


def _usable(
    records: Sequence[NodeRecord],
    accelerators: Mapping[str, str] | None,
    faults: list[InventoryFault],
) -> dict[int, str]:
    """Return position → accelerator type of the records that can be nodes."""
    names = Counter((record.subcluster, record.name) for record in records)
    unique = len(names) == len(records)
    usable: dict[int, str] = {}
    for index, record in enumerate(records):
        reported = record.accelerator
        kind = reported if accelerators is None else accelerators.get(reported, "")
        times = 1 if unique else names[record.subcluster, record.name]
        if times == 1 and 0 < record.gpus <= MOST_GPUS and kind:
            usable[index] = kind
        elif times > 1:
            rule = f"must be unique in {record.subcluster}: {times} nodes bear it, none is used"
            faults.append(_fault(Kind.DUPLICATE_NAME, index, "name", rule, record.name))
        elif not 0 < record.gpus <= MOST_GPUS:
            rule = f"must be 1 to {MOST_GPUS:,}: the node is not used"
            faults.append(_fault(Kind.GPU_COUNT, index, "gpus", rule, record.gpus))
        else:
            known = ", ".join(sorted(accelerators or ()))
            rule = f"must be one of {known}" if known else "must say what the GPUs are"
            rule += ": the node is not used"
            faults.append(
                _fault(Kind.UNKNOWN_ACCELERATOR, index, "accelerator", rule, reported or None)
            )
    return usable


def _fault(
    kind: Kind, record: int, field: str, rule: str, value: str | int | None
) -> InventoryFault:
    return InventoryFault(kind=kind, record=record, field=(field,), rule=rule, value=value)


def _places(
    records: Sequence[NodeRecord],
    usable: Mapping[int, str],
    switches: SwitchLabels,
    faults: list[InventoryFault],
) -> dict[int, DomainPath]:
    """Return position → place as the labels say; an absent or empty label ends it."""
    widest_first = switches.keys[::-1]
    shared: dict[DomainPath, DomainPath] = {}
    places: dict[int, DomainPath] = {}
    for index in usable:
        record = records[index]
        labels = record.labels
        names = [labels.get(key, "") for key in widest_first]
        if "" in names:
            names = names[: names.index("")]
            faults.append(_no_switch(index, switches, (record.subcluster, *names)))
        path = (record.subcluster, *names)
        # Nodes of one rack share one object, so what compares places later compares identities.
        places[index] = shared.setdefault(path, path)
    return places


def _no_switch(index: int, switches: SwitchLabels, path: DomainPath) -> InventoryFault:
    missing = len(switches.levels) - len(path)  # levels are narrowest first
    level, key = switches.levels[missing], switches.keys[missing]
    rule = f"must name the {level} switch: without it the node is only known to be in {_told(path)}"
    return InventoryFault(kind=Kind.NO_SWITCH, record=index, field=("labels", key), rule=rule)


def _settled(
    said: Mapping[int, DomainPath], switches: SwitchLabels, faults: list[InventoryFault]
) -> dict[DomainPath, DomainPath]:
    """Return place as said → place that is not in doubt, for those that differ."""
    nodes = Counter(said.values())
    first: dict[DomainPath, int] = {}
    settled: dict[DomainPath, DomainPath] = {}
    # The widest first: a place that was shortened there says nothing about narrower switches.
    for depth in range(2, len(switches.levels) + 1):
        level = len(switches.levels) - depth
        said_of: dict[tuple[str, str], list[DomainPath]] = {}
        for path in nodes:
            if len(path) > depth and path not in settled:
                said_of.setdefault((path[0], path[depth]), []).append(path)
        disputed: dict[tuple[str, str], Counter[DomainPath]] = {}
        for switch_of, paths in said_of.items():
            if len({path[:depth] for path in paths}) > 1:
                claim = disputed.setdefault(switch_of, Counter())
                for path in paths:
                    claim[path[:depth]] += nodes[path]
        for (_, switch), claim in sorted(disputed.items()):
            believed = _majority(claim)
            for parent in sorted(claim):
                if parent == believed:
                    continue
                kept = _common(claim) if believed is None else _common((parent, believed))
                under = (*parent, switch)
                of_it = [path for path in nodes if path[: depth + 1] == under]
                settled.update((path, kept) for path in of_it if path not in settled)
                # Seldom asked for; the first of a place is the last that is written.
                first = first or {said[index]: index for index in sorted(said, reverse=True)}
                where = min(first[path] for path in of_it)
                rule = _two_parents(switches.levels[level], switch, claim, parent, kept)
                faults.append(
                    InventoryFault(
                        kind=Kind.TWO_PARENTS,
                        record=where,
                        field=("labels", switches.keys[level + 1]),
                        rule=rule,
                        value=parent[-1],
                    )
                )
    return settled


def _majority(claim: Counter[DomainPath]) -> DomainPath | None:
    """Return what more than half of the nodes say; None = there is no such thing."""
    path, count = max(claim.items(), key=lambda item: item[1])
    return path if 2 * count > claim.total() else None


def _common(paths: Collection[DomainPath]) -> DomainPath:
    """Return the longest place that all of these, which differ, lie in."""
    # In sorted order the first and the last have the least in common.
    low, high = min(paths), max(paths)
    same = next(depth for depth, pair in enumerate(zip(low, high, strict=True)) if len({*pair}) > 1)
    return low[:same]


def _two_parents(
    level: str, switch: str, claim: Counter[DomainPath], parent: DomainPath, kept: DomainPath
) -> str:
    says = ", ".join(
        f"{count} {'node says' if count == 1 else 'nodes say'} {path[-1]}"
        for path, count in sorted(claim.items(), key=lambda item: (-item[1], item[0]))
    )
    return (
        f"must be one switch for all nodes of {level} {switch}: {says};"
        f" those of {parent[-1]} are only known to be in {_told(kept)}"
    )


def _told(path: DomainPath) -> str:
    return "/".join(path)
