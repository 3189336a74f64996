"""Who uses the nodes of an inventory file: instances, each once however many nodes it spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from heteroscale.config.inventory_sections import NodeSection, RunSection
from heteroscale.entities.fleet import NodeName
from heteroscale.entities.snapshot import Instance
from heteroscale.entities.topology import InventoryFault, InventoryFaultKind, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingNode:
    """A node that can be used, and the section it was written in."""

    #: position among the records
    record: int
    node: Node
    section: NodeSection

    @property
    def subcluster(self) -> str:
        """Return the sub-cluster it belongs to."""
        return self.node.domain[0]


@dataclass(slots=True)
class _Instance:
    """One instance as it comes together, node after node."""

    run: RunSection
    subcluster: str
    accelerator: str
    nodes: list[str] = field(default_factory=list)


#: (service, role, group, accelerator, sub-cluster, id)
_Key = tuple[str, str, str, str, str, str]


def run_faults(nodes: Sequence[StandingNode]) -> Iterator[InventoryFault]:
    """Yield what cannot be true of the use of nodes, in their order."""
    first: dict[_Key, int] = {}
    for standing in nodes:
        gpus, section = standing.node.gpus, standing.section
        used = (section.used_gpus or 0) + sum(run.gpus for run in section.runs)
        if used > gpus:
            yield InventoryFault(
                kind=InventoryFaultKind.OVERBOOKED,
                record=standing.record,
                field=("runs" if section.runs else "used_gpus",),
                rule=f"must leave at most {gpus} GPUs in use: the node counts as full",
                value=used,
            )
        for position, run in enumerate(section.runs):
            of_first = first.setdefault(_key(standing, position), run.gpus)
            if of_first != run.gpus:
                yield InventoryFault(
                    kind=InventoryFaultKind.MALFORMED,
                    record=standing.record,
                    field=("runs", str(position), "gpus"),
                    rule=f"must be {of_first} as on the instance's first node: taken as that",
                    value=run.gpus,
                )


def instances_on(nodes: Sequence[StandingNode]) -> tuple[Instance, ...]:
    """Return every instance, sorted by service, role, group, accelerator and ordinal."""
    found: dict[_Key, _Instance] = {}
    for standing in sorted(nodes, key=lambda one: one.record):
        for position, run in enumerate(standing.section.runs):
            key = _key(standing, position)
            one = found.get(key)
            if one is None:
                one = _Instance(run, standing.subcluster, standing.node.accelerator)
                found[key] = one
            one.nodes.append(standing.node.name)
    counted: Counter[tuple[str, ...]] = Counter()
    instances: list[Instance] = []
    for key in sorted(found):
        one = found[key]
        service, role, group, accelerator, subcluster, name = key
        instances.append(
            Instance(
                uid="/".join((subcluster, service, group, role, accelerator, name)),
                service=service,
                role=role,
                group=group,
                subcluster=subcluster,
                accelerator=accelerator,
                ordinal=counted[key[:-1]],
                state=one.run.state,
                since_s=0.0,
                nodes=tuple(sorted(one.nodes)),
                gpus=one.run.gpus,
            )
        )
        counted[key[:-1]] += 1
    return tuple(instances)


def others_on(nodes: Sequence[StandingNode]) -> Mapping[NodeName, int] | None:
    """Return the GPUs per node that no instance listed holds; None = no node says anything."""
    if not any(one.section.runs or one.section.used_gpus is not None for one in nodes):
        return None
    return {
        (one.subcluster, one.node.name): one.section.used_gpus
        for one in nodes
        if one.section.used_gpus
    }


def _key(standing: StandingNode, position: int) -> _Key:
    run = standing.section.runs[position]
    # An instance without an id of its own is called by its place.
    name = run.instance or f"{standing.node.name}.{position}"
    accelerator = standing.node.accelerator
    return run.service, run.role, run.group, accelerator, standing.subcluster, name
