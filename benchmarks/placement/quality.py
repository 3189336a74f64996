"""How near to the optimum: the gap to the exact plan, scarce misuse, and what is left stranded."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from benchmarks.placement.algorithm4 import place as algorithm4
from benchmarks.placement.exact import optimum, relaxed_bound
from benchmarks.placement.small_fleets import small_fleet
from benchmarks.placement.stranded import stranded_gpus
from heteroscale.prescheduler.objective import faults, size_of, taken, worth
from heteroscale.prescheduler.problem import Cell, Placed, Problem, need_of
from heteroscale.prescheduler.repair import GREEDY
from heteroscale.prescheduler.solve import solve

#: seeds below were looked at while the solver was written
FIRST_SEED = 20_000


@dataclass(frozen=True, slots=True)
class Gaps:
    """Distance to the exact plan, as shares of its worth, one a fleet."""

    #: to the exact plan that makes the same promise
    repaired: tuple[float, ...]
    greedy: tuple[float, ...]
    #: to the exact plan that promises nothing
    unbound: tuple[float, ...]
    #: fleets whose optimum places at least 40 steps
    large: int

    def told(self) -> str:
        """Return the figures in one line."""
        ours, before, unbound = self.repaired, self.greedy, self.unbound
        return (
            f"mean {statistics.mean(ours):.3%}, worst {max(ours):.2%} "
            f"(greedy {statistics.mean(before):.2%}, {max(before):.1%}; "
            f"without the promise {statistics.mean(unbound):.3%}, {max(unbound):.2%}), "
            f"{self.large} of {len(ours)} with 40 steps or more"
        )


def gaps(fleets: int, *, steep: bool) -> Gaps:
    """Return the gaps of held-out fleets, half of them packed, on which anything fits at all."""
    repaired: list[float] = []
    greedy: list[float] = []
    unbound: list[float] = []
    large = 0
    for seed in count(FIRST_SEED):
        if len(repaired) == fleets:
            break
        problem = small_fleet(seed, packed=seed % 2 == 0, steep=steep).problem
        freest = optimum(problem)
        if not freest.solution:
            continue
        promised = promise(problem)
        kept = all(_steps(freest.solution, index) >= least for index, least in promised.items())
        best = freest if kept else optimum(problem, promised)
        large += sum(placed.steps for placed in best.solution) >= 40
        for budget in (None, GREEDY):
            solution = solve(problem, budget)
            if wrong := faults(problem, solution):
                raise ValueError(f"seed {seed}: {wrong[0]}")
            found = worth(problem, solution)
            if budget is None:
                repaired.append(max(0.0, 1.0 - found / best.bound))
                unbound.append(max(0.0, 1.0 - found / freest.bound))
            else:
                greedy.append(max(0.0, 1.0 - found / best.bound))
    return Gaps(tuple(repaired), tuple(greedy), tuple(unbound), large)


def promise(problem: Problem) -> dict[int, int]:
    """Return index → steps of the request of a priority that nobody shares, if there is one.

    As many as the greedy start gives it, which serves it first on the untouched fleet: repair never
    takes them back, whatever others would gain.
    """
    top = max(request.weight for request in problem.requests)
    first = [index for index, one in enumerate(problem.requests) if one.weight == top]
    if len(first) > 1:
        return {}
    return {first[0]: _steps(solve(problem, GREEDY), first[0])}


def _steps(solution: Sequence[Placed], request: int) -> int:
    return sum(placed.steps for placed in solution if placed.request == request)


def dual_gap(problem: Problem) -> float:
    """Return the distance to a bound that no plan exceeds, as a share of it."""
    return 1.0 - worth(problem, solve(problem)) / relaxed_bound(problem)


@dataclass(frozen=True, slots=True)
class Stranded:
    """Wanted but stranded GPUs, summed over fleets, by who placed."""

    ours: float
    #: the exact plan
    exact: float
    #: the exact plan to which every GPU that is served is worth the same, whatever its priority
    evenly: float
    printed: float
    atomic: float

    def to_printed(self) -> float:
        """Return ours over that of Algorithm 4 as printed."""
        return self.ours / self.printed

    def avoidable(self, of: float) -> float:
        """Return our part that an exact plan avoids over another's; 0 = we avoid it too."""
        least = min(self.exact, self.evenly)
        return (self.ours - least) / (of - least) if self.ours > least else 0.0


def stranded(fleets: int, *, packed: bool) -> Stranded:
    """Return what each placer strands over the same fleets."""
    sums = [0.0] * 5
    for seed in range(FIRST_SEED, FIRST_SEED + fleets):
        fleet = small_fleet(seed, packed=packed, steep=seed % 2 == 0)
        problem = fleet.problem
        alike = tuple(dataclasses.replace(request, weight=1.0) for request in problem.requests)
        exact = optimum(problem).solution
        evenly = exact
        if alike != problem.requests:
            evenly = optimum(dataclasses.replace(problem, requests=alike)).solution
        plans: tuple[Sequence[Placed], ...] = (
            solve(problem),
            exact,
            evenly,
            algorithm4(fleet, atomic=False).solution,
            algorithm4(fleet, atomic=True).solution,
        )
        for at, plan in enumerate(plans):
            sums[at] += stranded_gpus(problem, plan)
    return Stranded(*sums)


def scarce_misuse(problem: Problem, solution: Sequence[Placed]) -> tuple[int, int]:
    """Return GPUs given in subgroups scarcer than needed although less scarce ones had room.

    And all GPUs given in subgroups scarcer than needed. All those of a placement are misused when
    one unit of its request's ratio still fits, after the cycle, where nothing is as scarce as the
    scarcest of it. A part of a unit takes as many instances as the whole, so that it moves away
    frees nothing.
    """
    misused = given = 0
    left = _left(problem, solution)
    for placed in solution:
        request = problem.requests[placed.request]
        need = need_of(request, problem.cell_depth)
        scarce = [
            (problem.cells[block.cell].scarcity, block.replicas * size_of(option))
            for block in placed.blocks
            for option in [request.needs[block.need].options[block.option]]
            if problem.cells[block.cell].scarcity > need
        ]
        if not scarce:
            continue
        scarcest, gpus = max(scarce)[0], sum(gpus for _, gpus in scarce)
        given += gpus
        units = math.gcd(request.steps, *(one.units for one in request.needs))
        steps = request.steps // units
        unit = dataclasses.replace(
            request,
            steps=steps,
            needs=tuple(
                dataclasses.replace(one, units=one.units // units) for one in request.needs
            ),
            homes=(),
            new_groups=1,
        )
        cells = tuple(cell for cell in left if cell.scarcity < scarcest)
        found = solve(dataclasses.replace(problem, cells=cells, requests=(unit,)), GREEDY)
        if any(one.steps == steps for one in found):
            misused += gpus
    return misused, given


def _left(problem: Problem, solution: Sequence[Placed]) -> tuple[Cell, ...]:
    """Return the cells with what a solution leaves free in them."""
    own = [
        (block, problem.requests[placed.request].needs[block.need].options[block.option])
        for placed in solution
        for block in placed.blocks
    ]
    counts = taken(own)
    return tuple(_reduced(cell, counts.get(at, {})) for at, cell in enumerate(problem.cells))


def _reduced(cell: Cell, counts: Mapping[int, int]) -> Cell:
    """Return a cell after instances of given sizes, the largest first, each where it fits best."""
    whole, free = sorted(cell.whole), Counter(cell.partial)
    for size in sorted(counts, reverse=True):
        for _ in range(counts[size]):
            if size >= cell.node_gpus:
                spans = -(-size // cell.node_gpus)
                # A switch with an odd node first, then the one with the fewest.
                _, _, place = min(
                    (nodes % spans, nodes, at) for at, nodes in enumerate(whole) if nodes >= spans
                )
                whole[place] -= spans
                continue
            gpus = min((g for g, nodes in free.items() if nodes and g >= size), default=0)
            if not gpus:
                gpus = cell.node_gpus
                whole[whole.index(min(nodes for nodes in whole if nodes))] -= 1
                free[gpus] += 1
            free[gpus] -= 1
            free[gpus - size] += 1
    partial = {gpus: nodes for gpus, nodes in sorted(free.items()) if nodes and gpus}
    return dataclasses.replace(cell, partial=partial, whole=tuple(one for one in whole if one))
