"""An inventory file as a fleet at rest: one faulty node never hides the others.

What is wrong with the file as a whole (it cannot be read, its levels make no sense) is a
ConfigError; what is wrong with a node is a named fault beside the fleet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from heteroscale.config.document import Document, Place, parse_document, parse_json, read_text
from heteroscale.config.faults import problems_of
from heteroscale.config.inventory_runs import StandingNode, instances_on, others_on, run_faults
from heteroscale.config.inventory_sections import InventoryFile, NodeSection
from heteroscale.config.label_presets import COUNT_LABEL, LABEL_PRESETS, PRODUCT_LABEL
from heteroscale.entities.fleet import KnownFleet
from heteroscale.entities.topology import (
    Inventory,
    InventoryFault,
    InventoryFaultKind,
    NodeRecord,
    SwitchLabels,
)
from heteroscale.errors import ConfigError, Problem
from heteroscale.journal.codec import generation_of
from heteroscale.prescheduler.inventory import take_inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFault:
    """One fault of an inventory file, with its kind, place, value and rule."""

    kind: InventoryFaultKind
    problem: Problem
    #: position of its node in the file
    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadInventory:
    """What an inventory file holds, and what is wrong with it."""

    fleet: KnownFleet
    #: in the order of the file's nodes
    faults: tuple[NamedFault, ...]


def load_inventory(path: Path) -> ReadInventory:
    """Return the fleet of an inventory file; JSON where the name ends so, else YAML.

    Raises:
        ConfigError: the file cannot be used at all.
    """
    return parse_inventory(read_text(path), str(path), is_json=path.suffix == ".json")


def parse_inventory(text: str, file: str | None, *, is_json: bool = False) -> ReadInventory:
    """Return the fleet in a text; `file` is how faults name it.

    Raises:
        ConfigError: the text cannot be used at all.
    """
    document = parse_json(text, file) if is_json else parse_document(text, file)
    faults: list[NamedFault] = []
    read, places = _sound_part(document, faults)
    switches = _switches(read, document)
    records = [_record(node, read.subcluster) for node in read.nodes]
    nodes, found = take_inventory(records, switches, _known_names(read))
    by_name = {(node.domain[0], node.name): node for node in nodes}
    standing = [
        StandingNode(record=index, node=by_name[key], section=read.nodes[index])
        for index, record in enumerate(records)
        if (key := (record.subcluster, record.name)) in by_name
    ]
    faults += (_named(one, document, places) for one in (*found, *run_faults(standing)))
    fleet = KnownFleet(
        inventory=Inventory(generation=generation_of(nodes), nodes=nodes),
        levels=switches.levels,
        instances=instances_on(standing),
        others_gpus=others_on(standing),
        prices={
            name: kind.price_per_gpu_hour
            for name, kind in read.accelerators.items()
            if kind.price_per_gpu_hour is not None
        },
    )
    return ReadInventory(fleet=fleet, faults=tuple(sorted(faults, key=_file_order)))


def _sound_part(
    document: Document, faults: list[NamedFault]
) -> tuple[InventoryFile, tuple[int, ...]]:
    """Return the file without the nodes that have faults of their own, and where the rest stood.

    Raises:
        ConfigError: something else than a node is wrong.
    """
    try:
        read = InventoryFile.model_validate(document.value)
    except ValidationError as error:
        problems = problems_of(error, document, InventoryFile)
        of_nodes = [_node_of(fault["loc"]) for fault in error.errors(include_url=False)]
    else:
        if document.problems:
            raise ConfigError(document.problems)
        return read, tuple(range(len(read.nodes)))
    if None in of_nodes or document.problems or not isinstance(document.value, dict):
        raise ConfigError([*document.problems, *problems])
    kind = InventoryFaultKind.MALFORMED
    faults += (
        NamedFault(kind=kind, problem=problem, node=node)
        for problem, node in zip(problems, of_nodes, strict=True)
        if node is not None
    )
    written = document.value["nodes"]
    faulty = set(of_nodes)
    kept = tuple(index for index in range(len(written)) if index not in faulty)
    if not kept:
        raise ConfigError(problems)
    nodes = tuple(written[index] for index in kept)
    return InventoryFile.model_validate({**document.value, "nodes": nodes}), kept


def _node_of(location: Place) -> int | None:
    """Return which node a fault is of; None = it is of none."""
    if len(location) > 1 and location[0] == "nodes" and isinstance(location[1], int):
        return location[1]
    return None


def _switches(read: InventoryFile, document: Document) -> SwitchLabels:
    """Return which labels say where nodes are.

    Raises:
        ConfigError: there is no such preset, or it is not clear which labels are meant.
    """
    if read.preset is not None and read.levels is not None:
        rule = "must not stand beside a preset: a node would have two places"
        raise ConfigError([document.problem(("levels",), rule)])
    if read.levels is not None:
        keys = tuple(read.levels.values())
        if len(set(keys)) < len(keys):
            rule = "must have a label of its own for each level"
            raise ConfigError([document.problem(("levels",), rule)])
        switches = SwitchLabels(levels=tuple(read.levels), keys=keys)
    elif (read.preset or "levels") in LABEL_PRESETS:
        switches = LABEL_PRESETS[read.preset or "levels"]
    else:
        rule = f"must be one of {', '.join(LABEL_PRESETS)}"
        raise ConfigError([document.problem(("preset",), rule, read.preset)])
    if read.unique_names is None:
        return switches
    return SwitchLabels(levels=switches.levels, keys=switches.keys, unique_names=read.unique_names)


def _known_names(read: InventoryFile) -> Mapping[str, str] | None:
    """Return every name a node may give its GPUs → the type; None = any."""
    if not read.accelerators:
        return None
    also = {name: kind for kind, one in read.accelerators.items() for name in one.names}
    return {**also, **{kind: kind for kind in read.accelerators}}


def _record(node: NodeSection, subcluster: str) -> NodeRecord:
    accelerator = node.accelerator
    gpus = node.gpus
    if gpus is None:
        count = node.labels.get(COUNT_LABEL, "")
        gpus = int(count) if count.isdecimal() and len(count) < 4 else 0
    return NodeRecord(
        name=node.name,
        subcluster=node.subcluster or subcluster,
        accelerator=node.labels.get(PRODUCT_LABEL, "") if accelerator is None else accelerator,
        gpus=gpus,
        labels=node.labels,
        healthy=node.healthy,
    )


def _named(fault: InventoryFault, document: Document, places: tuple[int, ...]) -> NamedFault:
    at = places[fault.record]
    problem = document.problem(("nodes", at, *fault.field), fault.rule, fault.value)
    return NamedFault(kind=fault.kind, problem=problem, node=at)


def _file_order(fault: NamedFault) -> tuple[int, str]:
    return fault.node, fault.problem.path
