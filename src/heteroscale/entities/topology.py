"""Nodes, inventory and the static tree of network domains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
