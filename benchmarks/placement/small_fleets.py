"""Small random problems whose exact optimum can be found: nodes one by one, and requests for more.

S2 switches of three S1 with six nodes each, three nodes under an S0. Steps hold prefill and decode
at five ratios, instances of 1 to 16 GPUs, on one accelerator, on two, or on either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.problem import Cell, Need, Problem, Request

ACCELERATORS = ("H20", "H800", "L20")
NODE_GPUS = 8
S1_PER_S2, NODES_PER_S1, NODES_PER_S0 = 3, 6, 3
#: (prefill, decode) instances of one step
STEPS = ((1, 1), (2, 1), (1, 2), (3, 1), (1, 3))
#: GPUs of a prefill and of a decode instance
LARGE = ((1, 2, 4, 8, 8), (1, 2, 4, 8, 8, 16))
SMALL = ((1, 1, 2), (1, 1, 2, 4))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FleetNode:
    """One node with what is free on it."""

    s1: DomainPath
    s0: int
    accelerator: str
    free: int


@dataclass(frozen=True, slots=True)
class SmallFleet:
    """A problem and the nodes behind its cells, for placers that look at single nodes."""

    problem: Problem
    nodes: tuple[FleetNode, ...]


def small_fleet(seed: int, *, packed: bool, steep: bool, demand: float | None = None) -> SmallFleet:
    """Return the fleet of a seed.

    Args:
        packed: whether what runs was placed by a sane placer, or anywhere.
        steep: whether requests weigh 1, 2, 4 or 8, or all 1.
        demand: GPUs wanted for each one that is free; None = drawn from 1.3 to 1.7.
    """
    rng = np.random.default_rng([seed, packed, steep])
    # Every other pair of seeds has small instances, and so many steps.
    sizes = SMALL if seed // 2 % 2 else LARGE
    nodes = _nodes(rng, int(rng.integers(24, 49)), packed=packed)
    there = sorted({node.accelerator for node in nodes})
    cells = _cells(nodes)
    free = sum(node.free for node in nodes)
    wanted = free * (float(rng.uniform(1.3, 1.7)) if demand is None else demand)
    count = int(rng.integers(3, 9))
    requests = [
        _request(rng, f"r{at:02d}", wanted / count, there, sizes, steep=steep)
        for at in range(count)
    ]
    requests.sort(key=lambda request: (-request.weight, request.name))
    return SmallFleet(Problem(cells=cells, requests=tuple(requests), cell_depth=3), nodes)


def _nodes(rng: np.random.Generator, count: int, *, packed: bool) -> tuple[FleetNode, ...]:
    nodes: list[FleetNode] = []
    load = float(rng.uniform(0.3, 0.6))
    s2 = 0
    while len(nodes) < count:
        s2 += 1
        kind = int(rng.integers(3))
        first = _one(rng, ACCELERATORS)
        for pod in range(S1_PER_S2):
            second = first if kind == 0 else _one(rng, ACCELERATORS)
            for place in range(NODES_PER_S1):
                accelerator = second if kind < 2 else _one(rng, ACCELERATORS)
                s1 = ("main", f"s2-{s2:02d}", f"s1-{pod}")
                free = _free(rng, load, packed=packed)
                nodes.append(FleetNode(s1, place // NODES_PER_S0, accelerator, free))
    return tuple(nodes)


def _free(rng: np.random.Generator, load: float, *, packed: bool) -> int:
    if not packed:
        return int(rng.integers(0, NODE_GPUS + 1))
    shares = np.array([load, 1.0 - load, 0.1, 0.05, 0.05])
    return int(rng.choice([0, NODE_GPUS, 4, 6, 2], p=shares / shares.sum()))


def _cells(nodes: Sequence[FleetNode]) -> tuple[Cell, ...]:
    by_cell: dict[tuple[DomainPath, str], list[FleetNode]] = {}
    for node in nodes:
        by_cell.setdefault((node.s1, node.accelerator), []).append(node)
    in_s1: dict[DomainPath, set[str]] = {}
    in_s2: dict[DomainPath, set[str]] = {}
    for s1, accelerator in by_cell:
        in_s1.setdefault(s1, set()).add(accelerator)
        in_s2.setdefault(s1[:2], set()).add(accelerator)
    busy = {node.s1 for node in nodes if node.free < NODE_GPUS}
    cells = []
    for s1, accelerator in sorted(by_cell):
        own = by_cell[s1, accelerator]
        scarcity = Scarcity.LOW if len(in_s2[s1[:2]]) == 1 else Scarcity.MEDIUM
        if len(in_s1[s1]) > 1:
            scarcity = Scarcity.HIGH
        parts = [node.free for node in own if 0 < node.free < NODE_GPUS]
        wholes = [node.s0 for node in own if node.free == NODE_GPUS]
        cells.append(
            Cell(
                domain=s1,
                accelerator=accelerator,
                scarcity=scarcity,
                node_gpus=NODE_GPUS,
                partial={free: parts.count(free) for free in sorted(set(parts))},
                whole=tuple(sorted(wholes.count(s0) for s0 in set(wholes))),
                idle=s1 not in busy,
            )
        )
    return tuple(cells)


def _request(
    rng: np.random.Generator,
    name: str,
    gpus: float,
    accelerators: Sequence[str],
    sizes: tuple[Sequence[int], Sequence[int]],
    *,
    steep: bool,
) -> Request:
    kind = int(rng.integers(3)) if len(accelerators) > 1 else 0
    prefill_gpus, decode_gpus = (_one(rng, choices) for choices in sizes)
    prefill, decode = _one(rng, STEPS)
    one, *others = (str(found) for found in rng.permutation(accelerators))
    first: tuple[AcceleratorOption, ...] = (_option(one, prefill_gpus),)
    second: tuple[AcceleratorOption, ...] = (_option(one, decode_gpus),)
    depths = (2, 2, 3, 1)
    if kind == 1:
        second = (_option(others[0], decode_gpus),)
        depths = (2, 2, 1, 3)
    elif kind == 2:
        first = (*first, _option(others[0], prefill_gpus, 0.5))
        second = (_option(others[0], decode_gpus), _option(one, decode_gpus, 0.8))
    share = float(rng.uniform(0.5, 1.5))
    steps = max(1, round(gpus * share / (prefill * prefill_gpus + decode * decode_gpus)))
    return Request(
        name=name,
        weight=float(_one(rng, (1, 2, 4, 8))) if steep else 1.0,
        steps=steps,
        needs=(
            Need(role="decode", units=decode * steps, options=second),
            Need(role="prefill", units=prefill * steps, options=first),
        ),
        depths=(_one(rng, depths),),
        new_groups=steps,
    )


def _option(accelerator: str, gpus: int, capacity: float = 1.0) -> AcceleratorOption:
    return AcceleratorOption(
        type=accelerator,
        gpus=min(gpus, NODE_GPUS),
        nodes=max(1, gpus // NODE_GPUS),
        within="S0" if gpus > NODE_GPUS else None,
        capacity=capacity,
    )


def _one(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]
