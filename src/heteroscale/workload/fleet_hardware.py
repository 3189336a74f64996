"""Synthetic hardware: nodes with the labels a real cluster would have. Same shape, same nodes.

Every S2 switch is of one kind: one GPU type, several types by S1, or several inside each S1. The
kinds are dealt out in exact numbers and only their order is drawn, so a small fleet has them all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from heteroscale.entities.topology import NodeRecord, SwitchLabels
from heteroscale.errors import ConfigError, Problem

#: GPU types and the share of S2 switches that have each first
ACCELERATOR_SHARES = {"H20": 0.45, "H800": 0.3, "L20": 0.15, "A100": 0.1}
GPUS_PER_NODE = 8
#: Large S2 switches have so many nodes; small fleets still have three of them a sub-cluster.
_S2_NODES = 128


class Load(StrEnum):
    """How what runs already was placed."""

    #: each instance where it leaves the least behind
    PACKED = "packed"
    #: anywhere
    SCATTERED = "scattered"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetShape:
    """What a synthetic fleet is like. Shares are 0 to 1."""

    nodes: int = 30
    seed: int = 1
    #: None = one for each 20 nodes, at most 8
    subclusters: int | None = None
    #: of S2 switches with several GPU types, each S1 of one
    medium_share: float = 0.2
    #: of S2 switches with several types in each S1
    high_share: float = 0.1
    #: of nodes
    unhealthy_share: float = 0.01
    load: Load = Load.PACKED
    #: of the GPUs of healthy nodes
    used_share: float = 0.7
    #: None = one for each 6 nodes, at least 3
    services: int | None = None
    #: of services that want more than they have
    asking_share: float = 0.2
    #: GPUs that are wanted for each one that is free
    demand: float = 1.0

    def __post_init__(self) -> None:
        """Hold a shape to what can be built."""
        limits = {
            "nodes": (self.nodes, 1, 100_000),
            "subclusters": (self.subclusters or 1, 1, min(64, max(1, self.nodes))),
            "services": (self.services or 1, 1, 100_000),
            "demand": (self.demand, 0.0, 100.0),
        }
        shares = ("medium_share", "high_share", "unhealthy_share", "used_share", "asking_share")
        limits |= {name: (getattr(self, name), 0.0, 1.0) for name in shares}
        problems = [
            Problem(path=name, rule=f"must be {low:g} to {high:g}", value=value)
            for name, (value, low, high) in limits.items()
            if not low <= value <= high
        ]
        if self.medium_share + self.high_share > 1.0:
            rule = "must leave medium_share + high_share at most 1"
            problems.append(Problem(path="high_share", rule=rule, value=self.high_share))
        if problems:
            raise ConfigError(problems)

    @property
    def subcluster_count(self) -> int:
        """Sub-clusters there are."""
        return self.subclusters or min(8, 1 + self.nodes // 20)

    @property
    def service_count(self) -> int:
        """Services there are."""
        return self.services or max(3, self.nodes // 6)


def drawn(rng: np.random.Generator) -> Iterator[float]:
    """Yield numbers from 0 to 1; drawn in blocks, which is much cheaper than one by one."""
    while True:
        yield from rng.random(4096).tolist()


class _Kind(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


def node_records(
    shape: FleetShape, switches: SwitchLabels, rng: np.random.Generator
) -> tuple[NodeRecord, ...]:
    """Return the nodes of a fleet, sub-cluster by sub-cluster and rack by rack.

    Args:
        switches: which labels to write; three levels.
    """
    halls = _halls(shape)
    kinds = _kinds(shape, len(halls), rng)
    firsts = rng.choice(
        list(ACCELERATOR_SHARES), size=len(halls), p=list(ACCELERATOR_SHARES.values())
    ).tolist()
    seconds = [rng.permutation([t for t in ACCELERATOR_SHARES if t != f]).tolist() for f in firsts]
    healthy = _healthy(shape, rng)
    records: list[NodeRecord] = []
    for hall, (subcluster, size) in enumerate(halls):
        racks, pods = _widths(size)
        for at in range(size):
            rack, pod = at // racks, at // (racks * pods)
            accelerator = _accelerator(kinds[hall], (firsts[hall], *seconds[hall]), at, racks, pod)
            index = len(records)
            names = (
                f"leaf-{hall:03d}-{rack:03d}",
                f"spine-{hall:03d}-{pod:02d}",
                f"core-{hall:03d}",
            )
            records.append(
                NodeRecord(
                    name=f"node-{index:05d}",
                    subcluster=subcluster,
                    accelerator=accelerator,
                    gpus=GPUS_PER_NODE,
                    labels=_labels(f"node-{index:05d}", subcluster, accelerator)
                    | dict(zip(switches.keys, names, strict=True)),
                    healthy=healthy[index],
                )
            )
    return tuple(records)


def _halls(shape: FleetShape) -> list[tuple[str, int]]:
    """Return (sub-cluster, nodes) of every S2 switch."""
    count = shape.subcluster_count
    halls: list[tuple[str, int]] = []
    for place in range(count):
        nodes = shape.nodes // count + (place < shape.nodes % count)
        switches = max(math.ceil(nodes / _S2_NODES), min(3, nodes))
        halls += (
            (f"sc-{place}", nodes // switches + (at < nodes % switches)) for at in range(switches)
        )
    return halls


def _widths(nodes: int) -> tuple[int, int]:
    """Return nodes to an S0 and S0 to an S1."""
    return (4, 4) if nodes >= 32 else (2, 2)


def _kinds(shape: FleetShape, halls: int, rng: np.random.Generator) -> list[str]:
    """Return the kind of each S2 switch; where there are three, each kind that may be is."""
    high = max(round(shape.high_share * halls), min(1, math.ceil(shape.high_share), halls // 3))
    medium = max(
        round(shape.medium_share * halls), min(1, math.ceil(shape.medium_share), halls // 3)
    )
    dealt = [_Kind.HIGH] * high + [_Kind.MEDIUM] * medium
    dealt += [_Kind.LOW] * (halls - len(dealt))
    return [str(kind) for kind in rng.permutation(dealt[:halls]).tolist()]


def _accelerator(kind: str, types: tuple[str, ...], at: int, racks: int, pod: int) -> str:
    if kind == _Kind.MEDIUM:
        return types[pod % 2]
    # two types beside each other in an S1: rack by rack, where it has several racks
    return types[(at // racks) % 2] if kind == _Kind.HIGH else types[0]


def _healthy(shape: FleetShape, rng: np.random.Generator) -> list[bool]:
    healthy = [True] * shape.nodes
    failed = round(shape.unhealthy_share * shape.nodes)
    for index in rng.choice(shape.nodes, size=failed, replace=False).tolist():
        healthy[index] = False
    return healthy


def _labels(name: str, subcluster: str, accelerator: str) -> dict[str, str]:
    """Return what a node carries beside its switches: eight labels as clusters have them."""
    return {
        "kubernetes.io/hostname": name,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/region": "synthetic",
        "topology.kubernetes.io/zone": subcluster,
        "nvidia.com/gpu.product": accelerator,
        "nvidia.com/gpu.count": str(GPUS_PER_NODE),
        "node.kubernetes.io/instance-type": f"{GPUS_PER_NODE}x{accelerator}",
    }
