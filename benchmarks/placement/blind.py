"""What placement by switches is worth to requests: one fleet, one trace, placed blind and not.

The fleet is scattered: others hold nodes that are drawn. On what is left the same service is
placed as one group anywhere, on nodes drawn among the free ones or on the first free ones, and by
the pre-scheduler in groups that each share an S2 or an S1. Then all serve the same requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.bench_kernel import LOADS, SPEED, Load, empty_plane, requests_of
from heteroscale.config.scenario_sections import ContentionName, NetworkSection
from heteroscale.entities.placement import PlacementRequest
from heteroscale.entities.policy import LifecycleSpec, PolicySpec
from heteroscale.entities.service import (
    AcceleratorOption,
    GroupSpec,
    RoleSpec,
    ServiceSpec,
    Slo,
    Stage,
)
from heteroscale.entities.snapshot import ServiceSnapshot
from heteroscale.entities.topology import Inventory, Node
from heteroscale.prescheduler.place import place
from heteroscale.prescheduler.topology import build_tree
from heteroscale.sim.hardware import network_table, uplink_fs_per_byte
from heteroscale.sim.nodes import NodePool
from heteroscale.sim.sampling import quantile_s
from heteroscale.sim.serving import ServingOptions
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk

LOAD = LOADS["paper-190rps"]
REQUESTS = 60_000
LEVELS = ("S0", "S1", "S2")
#: nodes of the fleet, and under an S0, an S1 and an S2
NODES, UNDER = 256, (2, 8, 32)
#: share of the nodes that others hold
HELD = 0.5
SEEDS = (1, 2, 3)
#: bandwidths of an S0's, an S1's and an S2's uplink, 10⁹ bytes/s: as in scenarios, and narrower
UPLINKS = ((800.0, 1600.0, 6400.0), (200.0, 200.0, 100.0), (200.0, 200.0, 30.0))
ARRIVED, FIRST_TOKEN, KV_ARRIVED, JOINED = 0, 2, 3, 4
H20 = AcceleratorOption(type="H20", gpus=8)


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one instance stands."""

    role: str
    group: int
    node: Node


@dataclass(frozen=True, slots=True)
class Figures:
    """What one placement made of the trace."""

    groups: int
    #: of the transfers, under one S1 and under one S2
    same_s1: float
    same_s2: float
    transfer_p95_s: float
    ttft_p95_s: float
    #: arrival → the decode batch that makes the second token
    joined_p95_s: float
    tbt_p99_s: float
    #: requests inside the SLO a second of the trace
    goodput_rps: float


def free_nodes(seed: int) -> list[Node]:
    """Return the nodes that others have left, in first-fit order."""
    held = set(np.random.default_rng(seed).permutation(NODES)[: round(HELD * NODES)].tolist())
    return [
        Node(
            name=f"n{index:04}",
            accelerator="H20",
            gpus=8,
            domain=("main", *(f"{at}-{index // at:03}" for at in reversed(UNDER))),
        )
        for index in range(NODES)
        if index not in held
    ]


def service(within: str | None, load: Load) -> ServiceSpec:
    """Return the service that is placed, its groups as tight as asked."""
    roles = tuple(
        RoleSpec(path=stage.value, stage=stage, share=share, accelerators=(H20,))
        for stage, share in ((Stage.PREFILL, load.prefill), (Stage.DECODE, load.decode))
    )
    return ServiceSpec(
        name="chat",
        priority=50,
        slo=Slo(ttft_s=1.0, tbt_s=0.04, quantile=0.9),
        group=GroupSpec(within=within, roles=roles),
        policy=PolicySpec(),
        lifecycle=LifecycleSpec(),
    )


def placed(nodes: Sequence[Node], within: str | None, load: Load) -> list[Seat]:
    """Return the seats of the service by the pre-scheduler, then first fit in each group's domain.

    Raises:
        ValueError: the free nodes do not hold all of it.
    """
    spec = service(within, load)
    request = PlacementRequest(
        spec=spec, snapshot=ServiceSnapshot(), add={"prefill": load.prefill, "decode": load.decode}
    )
    inventory = Inventory(generation="g", nodes=tuple(nodes))
    plan = place([request], inventory, build_tree(inventory, LEVELS), ())
    if plan.no_fits:
        raise ValueError(f"{plan.no_fits} of {len(nodes)} nodes")
    pool, seats = NodePool(nodes, LEVELS), []
    names = sorted({grant.group for grant in plan.grants})
    for grant in plan.grants:
        for _ in range(grant.replicas):
            taken = pool.take(H20, grant.domain)
            if taken is None:
                raise ValueError(f"{grant} fits no node")
            seats.append(Seat(grant.role, names.index(grant.group), pool.node(taken[0])))
    return seats


def drawn(nodes: Sequence[Node], load: Load, seed: int) -> list[Seat]:
    """Return the seats of the service on nodes drawn among the free ones, all in one group."""
    order = np.random.default_rng(1000 + seed).permutation(len(nodes)).tolist()
    roles = ["prefill"] * load.prefill + ["decode"] * load.decode
    return [Seat(role, 0, nodes[index]) for role, index in zip(roles, order, strict=False)]


def served(seats: Sequence[Seat], trace: ArrivalChunk, links: NetworkSection) -> Figures:
    """Return what the trace was served with."""
    options = ServingOptions(uplink_fs_per_byte=uplink_fs_per_byte(links))
    serving = empty_plane(network_table(links), options, log=True)
    speed = replace(SPEED, prefill_per_token_ps=LOAD.prefill_per_token_ps)
    places = [tuple(int(part.rpartition("-")[2]) for part in s.node.domain[1:]) for s in seats]
    for seat, (s2, s1, s0) in zip(seats, places, strict=True):
        location = (0, s2, s1, s0, int(seat.node.name[1:]))
        serving.add_instance(
            seat.role, speed, group=seat.group, location=location, in_rotation=True
        )
    serving.feed(trace)
    serving.close_arrivals()
    end_ps = int(trace.arrival_ps[-1])
    serving.advance(end_ps + 600 * PS_PER_S)
    log = serving.event_log()
    at_ps, by = (
        np.zeros((6, len(trace.arrival_ps)), np.int64),
        np.zeros((6, len(trace.arrival_ps)), int),
    )
    for kind in (FIRST_TOKEN, KV_ARRIVED, JOINED):
        rows = log[log[:, 1] == kind]
        at_ps[kind, rows[:, 2]], by[kind, rows[:, 2]] = rows[:, 0], rows[:, 3]
    moved = at_ps[JOINED] > 0
    ends = [np.array(places)[by[kind][moved]] for kind in (FIRST_TOKEN, KV_ARRIVED)]
    return Figures(
        groups=len({seat.group for seat in seats}),
        same_s1=float((ends[0][:, 1] == ends[1][:, 1]).mean()),
        same_s2=float((ends[0][:, 0] == ends[1][:, 0]).mean()),
        transfer_p95_s=_p95_s((at_ps[KV_ARRIVED] - at_ps[FIRST_TOKEN])[moved]),
        ttft_p95_s=_p95_s((at_ps[FIRST_TOKEN] - trace.arrival_ps)[moved]),
        joined_p95_s=_p95_s((at_ps[JOINED] - trace.arrival_ps)[moved]),
        tbt_p99_s=quantile_s(serving.tbt_histogram(), 0.99) or 0.0,
        goodput_rps=serving.counters(serving.now_ps).attained / (end_ps / PS_PER_S),
    )


def _p95_s(times_ps: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    return float(np.quantile(times_ps, 0.95)) / PS_PER_S


def compared(seed: int, trace: ArrivalChunk, links: NetworkSection) -> dict[str, Figures]:
    """Return each way of placing the service on one fleet, by name."""
    nodes = free_nodes(seed)
    ways = {
        "blind, drawn nodes": drawn(nodes, LOAD, seed),
        "blind, first nodes": placed(nodes, None, LOAD),
        "within S2": placed(nodes, "S2", LOAD),
        "within S1": placed(nodes, "S1", LOAD),
    }
    return {name: served(seats, trace, links) for name, seats in ways.items()}


def network(uplinks: tuple[float, float, float]) -> NetworkSection:
    """Return a scenario's network with uplinks of so many 10⁹ bytes/s, shared by transfers."""
    s0, s1, s2 = uplinks
    section = NetworkSection(contention=ContentionName.FAIR_SHARE)
    shared = section.uplinks.model_copy(update={"S0": s0, "S1": s1, "S2": s2})
    return section.model_copy(update={"uplinks": shared})


def main() -> None:
    """Print a table for each network: medians over the fleets."""
    trace = requests_of(LOAD, REQUESTS)
    heads = (
        "placement",
        "groups",
        "same S1, S2",
        "KV p95, ms",
        "TTFT p95, ms",
        "joined p95, ms",
        "TBT p99, ms",
        "goodput, requests/s",
    )
    for uplinks in UPLINKS:
        found = [compared(seed, trace, network(uplinks)) for seed in SEEDS]
        print(f"\nuplinks of {', '.join(f'{one:g}' for one in uplinks)} GB/s\n")
        print(f"| {' | '.join(heads)} |")
        print(f"|{' --- |' * len(heads)}")
        for way in found[0]:
            print(row(way, [each[way] for each in found]))


def row(name: str, own: Sequence[Figures]) -> str:
    """Return one line of the table: the median of each figure."""
    middle = {
        field: float(np.median([getattr(one, field) for one in own]))
        for field in Figures.__dataclass_fields__
    }
    near = f"{100 * middle['same_s1']:.0f} %, {100 * middle['same_s2']:.0f} %"
    times = [
        f"{1000 * middle[f]:.1f}"
        for f in ("transfer_p95_s", "ttft_p95_s", "joined_p95_s", "tbt_p99_s")
    ]
    cells = [name, f"{middle['groups']:.0f}", near, *times, f"{middle['goodput_rps']:.1f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
