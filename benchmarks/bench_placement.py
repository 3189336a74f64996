"""Placement at the size of a large fleet, and how near it is to the best there is.

Times: from raw node records and decisions to concrete nodes, the tree rebuilt each cycle, policies
not included (`bench_plan` has them). Quality: against the exact plan on small fleets, against a
bound at half size, and against Algorithm 4 as printed and with whole steps.

    python -m benchmarks.bench_placement [--cycles 40] [--fleets 200]

The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.bench_plan import quantile
from benchmarks.placement.quality import (
    Gaps,
    Stranded,
    dual_gap,
    gaps,
    scarce_misuse,
    stranded,
)
from heteroscale.config.label_presets import LABEL_PRESETS
from heteroscale.entities.placement import PlacementPlan, PlacementRequest
from heteroscale.entities.snapshot import ServiceSnapshot
from heteroscale.entities.topology import Inventory
from heteroscale.prescheduler.inventory import take_inventory
from heteroscale.prescheduler.objective import faults
from heteroscale.prescheduler.place import place
from heteroscale.prescheduler.problem import Placed, Problem
from heteroscale.prescheduler.repair import GREEDY, Budget
from heteroscale.prescheduler.solve import Solver, solve
from heteroscale.prescheduler.topology import build_tree
from heteroscale.workload.fleet_hardware import GPUS_PER_NODE, FleetShape, Load
from heteroscale.workload.fleets import SyntheticFleet, synthetic_fleet

SWITCHES = LABEL_PRESETS["topograph"]
#: (GPUs, services)
SIZES = ((50_000, 1_000), (100_000, 2_000))
#: fleets that the bound at half size is worked out for
BOUNDED = 5
#: fleets of each load regime that stranded GPUs are counted on
STRANDED = 40


#: what was posed and answered in a cycle
Solved = list[tuple[Problem, Sequence[Placed]]]


@dataclass(frozen=True, slots=True)
class Timed:
    """Cycles of one fleet size."""

    gpus: int
    services: int
    cycles_s: tuple[float, ...]
    greedy_s: tuple[float, ...]
    #: faults of a solution that the objective's own check finds
    affinity_violations: int
    half_placed_steps: int
    #: GPUs
    misused: int
    scarce: int

    def told(self) -> str:
        """Return the figures in one line."""
        return (
            f"{self.gpus:,} GPUs, {self.services:,} services: "
            f"cycle p50 {statistics.median(self.cycles_s):.3f} s, "
            f"p99 {quantile(self.cycles_s, 0.99):.3f} s; "
            f"greedy alone {statistics.median(self.greedy_s):.3f} s, "
            f"{quantile(self.greedy_s, 0.99):.3f} s; "
            f"scarce misuse {self.misuse:.2%} of {self.scarce:,} GPUs"
        )

    @property
    def misuse(self) -> float:
        """Return misused over all scarce GPUs given."""
        return self.misused / self.scarce if self.scarce else 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=40, help="fleets timed at each size")
    parser.add_argument("--fleets", type=int, default=200, help="small fleets of each weighting")
    chosen = parser.parse_args()
    timed = [_timed(gpus, services, chosen.cycles) for gpus, services in SIZES]
    for one in timed:
        print(one.told(), flush=True)
    steep, flat = (gaps(chosen.fleets, steep=steep) for steep in (True, False))
    _say_gaps("weights 1, 2, 4, 8", steep)
    _say_gaps("flat weights", flat)
    bounds = [_half_size_gap(seed) for seed in range(BOUNDED)]
    print(
        f"to the bound at {SIZES[0][0]:,} GPUs: mean {statistics.mean(bounds):.2%}, "
        f"worst {max(bounds):.2%}",
        flush=True,
    )
    packed, scattered = (stranded(STRANDED, packed=packed) for packed in (True, False))
    for name, found in (("packed", packed), ("scattered", scattered)):
        print(
            f"stranded GPUs, {name}: ours {found.ours:,.0f}, exact {found.exact:,.0f} "
            f"({found.evenly:,.0f} without priorities), printed {found.printed:,.0f}, "
            f"atomic {found.atomic:,.0f}",
            flush=True,
        )
    print(json.dumps(_summary(timed, steep, flat, bounds, packed, scattered)))


def _fleet(gpus: int, services: int, seed: int) -> SyntheticFleet:
    """Return a fleet of which a fifth of the services asks for as much as is free."""
    shape = FleetShape(
        nodes=gpus // GPUS_PER_NODE,
        seed=seed,
        services=services,
        load=Load.PACKED if seed % 2 == 0 else Load.SCATTERED,
    )
    return synthetic_fleet(shape, SWITCHES)


def _requests(fleet: SyntheticFleet) -> list[PlacementRequest]:
    """Return what the services of a fleet ask for: decisions, before anybody looks where."""
    return [
        PlacementRequest(spec=spec, snapshot=_snapshot(fleet, spec.name), add=fleet.more[spec.name])
        for spec in fleet.services
        if spec.name in fleet.more
    ]


def _snapshot(fleet: SyntheticFleet, service: str) -> ServiceSnapshot:
    return ServiceSnapshot(
        instances=tuple(one for one in fleet.instances if one.service == service),
        group_roles=tuple(one for one in fleet.group_roles if one.service == service),
    )


def _cycle(
    fleet: SyntheticFleet, requests: Sequence[PlacementRequest], solver: Solver
) -> PlacementPlan:
    """Run what a tick runs once decisions are made."""
    nodes, _ = take_inventory(fleet.records, SWITCHES)
    inventory = Inventory(generation="", nodes=nodes)
    tree = build_tree(inventory, SWITCHES.levels)
    return place(requests, inventory, tree, fleet.instances, solver=solver)


def _solving(budget: Budget | None, kept: Solved) -> Solver:
    """Return a solver with a budget that keeps what it was asked."""

    def solved(problem: Problem) -> tuple[Placed, ...]:
        solution = solve(problem, budget)
        kept.append((problem, solution))
        return solution

    return solved


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let the collector rest, as it does during a tick of the control loop."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _timed(gpus: int, services: int, cycles: int) -> Timed:
    times: dict[bool, list[float]] = {True: [], False: []}
    wrong: list[str] = []
    misused = scarce = 0
    for seed in range(cycles):
        fleet = _fleet(gpus, services, seed)
        requests = _requests(fleet)
        for repaired in (False, True):
            solved: Solved = []
            solver = _solving(None if repaired else GREEDY, solved)
            with _uncollected():
                begin_s = time.process_time()
                _cycle(fleet, requests, solver)
                times[repaired].append(time.process_time() - begin_s)
        for problem, solution in solved:
            wrong += faults(problem, solution)
            mine, given = scarce_misuse(problem, solution)
            misused, scarce = misused + mine, scarce + given
    half = sum(fault.endswith("half a step") for fault in wrong)
    return Timed(
        gpus=gpus,
        services=services,
        cycles_s=tuple(times[True]),
        greedy_s=tuple(times[False]),
        affinity_violations=len(wrong) - half,
        half_placed_steps=half,
        misused=misused,
        scarce=scarce,
    )


def _half_size_gap(seed: int) -> float:
    fleet = _fleet(*SIZES[0], seed)
    solved: Solved = []
    _cycle(fleet, _requests(fleet), _solving(None, solved))
    return statistics.mean(dual_gap(problem) for problem, _ in solved)


def _say_gaps(name: str, found: Gaps) -> None:
    print(f"gap to the exact plan, {name}: {found.told()}", flush=True)


def _summary(
    timed: Sequence[Timed],
    steep: Gaps,
    flat: Gaps,
    bounds: Sequence[float],
    packed: Stranded,
    scattered: Stranded,
) -> dict[str, object]:
    half, whole = timed
    every = (*steep.repaired, *flat.repaired)
    regimes = (packed, scattered)
    return {
        "gpus": whole.gpus,
        "services": whole.services,
        "cycle_p50_s": round(statistics.median(whole.cycles_s), 4),
        "cycle_p99_s": round(quantile(whole.cycles_s, 0.99), 4),
        "greedy_cycle_p99_s": round(quantile(whole.greedy_s, 0.99), 4),
        "half_size_cycle_p99_s": round(quantile(half.cycles_s, 0.99), 4),
        "half_size_greedy_cycle_p99_s": round(quantile(half.greedy_s, 0.99), 4),
        "affinity_violations": whole.affinity_violations + half.affinity_violations,
        "half_placed_steps": whole.half_placed_steps + half.half_placed_steps,
        "scarce_misuse": round(max(whole.misuse, half.misuse), 5),
        "milp_gap_mean": round(statistics.mean(every), 5),
        "milp_gap_max": round(max(every), 5),
        "milp_gap_without_promise_mean": round(statistics.mean((*steep.unbound, *flat.unbound)), 5),
        "milp_gap_without_promise_max": round(max((*steep.unbound, *flat.unbound)), 5),
        "milp_gap_flat_mean": round(statistics.mean(flat.repaired), 5),
        "dual_gap_mean": round(statistics.mean(bounds), 5),
        "stranded_packed_to_printed": round(packed.to_printed(), 4),
        "stranded_scattered_to_printed": round(scattered.to_printed(), 4),
        "stranded_to_atomic": round(max(one.ours / one.atomic for one in regimes), 4),
        "avoidable_to_printed": round(max(one.avoidable(one.printed) for one in regimes), 4),
        "avoidable_to_atomic": round(max(one.avoidable(one.atomic) for one in regimes), 4),
    }


if __name__ == "__main__":
    main()
