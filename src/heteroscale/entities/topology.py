"""Nodes, inventory and the static tree of network domains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

#: A domain's names from the widest to the narrowest: (sub-cluster, S2, S1, S0); a prefix is wider.
DomainPath = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine: a leaf of the topology tree."""

    name: str
    accelerator: str
    gpus: int
    #: widest first: (sub-cluster, S2, S1, S0)
    domain: DomainPath
    healthy: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Every node known, sorted by name, with the version a plan can be checked against."""

    #: changes exactly when `nodes` does: a digest of them
    generation: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyTree:
    """Static view of one inventory generation: domain → indices of its nodes.

    Built once per generation and shared; what changes in a cycle lives in the ledger.
    """

    generation: str
    #: level names from the narrowest above a node to the widest below a sub-cluster
    levels: tuple[str, ...]
    #: every domain of every level and every sub-cluster → indices into `Inventory.nodes`, ascending
    domains: Mapping[DomainPath, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """One machine as an inventory reports it: where it stands is still in its labels."""

    name: str
    subcluster: str
    #: as reported; "" = not said
    accelerator: str
    gpus: int
    labels: Mapping[str, str]
    healthy: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchLabels:
    """Which label of a node names the switch above it, level by level."""

    #: level names from the narrowest above a node to the widest below a sub-cluster
    levels: tuple[str, ...]
    #: label key of each of these levels
    keys: tuple[str, ...]
    #: whether one name is one switch of its level in the whole sub-cluster; else under its parent
    unique_names: bool = True


class InventoryFaultKind(StrEnum):
    """What is wrong with a record."""

    DUPLICATE_NAME = "duplicate name"
    #: none, or more than any machine has
    GPU_COUNT = "GPU count"
    UNKNOWN_ACCELERATOR = "unknown accelerator"
    NO_SWITCH = "no switch"
    TWO_PARENTS = "two parents"
    #: a field that is absent or of another kind than it must be
    MALFORMED = "malformed"
    #: more is said to be in use than there is
    OVERBOOKED = "overbooked"


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryFault:
    """One fault of a record; whatever it does not concern is used all the same."""

    kind: InventoryFaultKind
    #: position among the records
    record: int
    #: field of the record, and the label's key below it
    field: tuple[str, ...]
    #: what must be, and what is made of the record as it is
    rule: str
    #: as found; None = nothing is there
    value: str | int | None = None
