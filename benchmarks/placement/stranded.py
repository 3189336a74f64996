"""GPUs that are wanted and there, and yet not given: the same small program for every placer.

Pool, per accelerator, the free GPUs and those of surplus instances, which no whole step of their
group needs. What a fleet without any network could serve of the waiting steps with that pool is
*wanted but stranded*; of it *avoidable* is what the exact plan does not strand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog

from heteroscale.entities.service import UNIT_SLACK
from heteroscale.prescheduler.objective import size_of
from heteroscale.prescheduler.problem import Placed, Problem, Request


def stranded_gpus(problem: Problem, solution: Sequence[Placed]) -> float:
    """Return the GPUs of waiting steps that free and surplus GPUs could serve, were all near."""
    pool = free_gpus(problem, solution)
    for placed in solution:
        pool += surplus_gpus(problem.requests[placed.request], placed)
    waiting = [request.steps for request in problem.requests]
    for placed in solution:
        waiting[placed.request] -= min(placed.steps, waiting[placed.request])
    return _served(problem, waiting, pool)


def free_gpus(problem: Problem, solution: Sequence[Placed]) -> Counter[str]:
    """Return accelerator → GPUs that a solution leaves free."""
    pool: Counter[str] = Counter()
    for cell in problem.cells:
        parts = sum(free * nodes for free, nodes in cell.partial.items())
        pool[cell.accelerator] += parts + sum(cell.whole) * cell.node_gpus
    for placed in solution:
        for block in placed.blocks:
            option = problem.requests[placed.request].needs[block.need].options[block.option]
            pool[option.type] -= block.replicas * size_of(option)
    return pool


def surplus_gpus(request: Request, placed: Placed) -> Counter[str]:
    """Return accelerator → GPUs of a group that its whole steps do not need."""
    pool: Counter[str] = Counter()
    for at, need in enumerate(request.needs):
        due = need.units * placed.steps / request.steps
        own = [block for block in placed.blocks if block.need == at]
        for block in sorted(own, key=lambda block: block.option):
            option = need.options[block.option]
            kept = min(block.replicas, max(0, int(-(-(due - UNIT_SLACK) // option.capacity))))
            due -= kept * option.capacity
            pool[option.type] += (block.replicas - kept) * size_of(option)
    return pool


def _served(problem: Problem, waiting: Sequence[int], pool: Counter[str]) -> float:
    """Return the most GPUs' worth of waiting steps that a pool without a network serves."""
    columns: list[tuple[int, int, int]] = [
        (index, at, which)
        for index, request in enumerate(problem.requests)
        for at, need in enumerate(request.needs)
        for which in range(len(need.options))
    ]
    count = len(problem.requests)
    gains = [-request.step_gpus for request in problem.requests] + [0.0] * len(columns)
    rows: list[np.ndarray] = []
    limits: list[float] = []
    for index, request in enumerate(problem.requests):
        for at, need in enumerate(request.needs):
            row = np.zeros(count + len(columns))
            row[index] = need.units / request.steps
            for place, (of, role, which) in enumerate(columns):
                if (of, role) == (index, at):
                    row[count + place] = -need.options[which].capacity
            rows.append(row)
            limits.append(0.0)
    # Also those of which the pool has nothing: without a row of its own there would be any number.
    accelerators = {
        option.type
        for request in problem.requests
        for need in request.needs
        for option in need.options
    }
    for accelerator in sorted(accelerators):
        row = np.zeros(count + len(columns))
        for place, (of, role, which) in enumerate(columns):
            option = problem.requests[of].needs[role].options[which]
            if option.type == accelerator:
                row[count + place] = size_of(option)
        rows.append(row)
        limits.append(pool[accelerator])
    bounds = [(0, steps) for steps in waiting] + [(0, None)] * len(columns)
    found = linprog(gains, A_ub=np.array(rows), b_ub=limits, bounds=bounds, method="highs")
    if not found.success:
        raise ValueError(f"the pool's program was not solved: {found.message}")
    return -float(found.fun)
