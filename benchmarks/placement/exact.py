"""The same problem and the same objective as a mixed-integer linear program, solved by HiGHS.

Exact where every size of an instance divides the next larger one and none spans more than two
nodes: whether a cell holds a set of instances is then one inequality per size, and so is the number
of whole nodes that they break. Roles that stay closer together than their group are let stand
anywhere in it: where a request has such, the worth is a bound and the solution may be none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array, vstack

from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.objective import (
    BROKEN,
    COMPATIBLE,
    OPENED,
    PRICE,
    SCARCE,
    STIRRED,
    USED,
    WIDER,
    size_of,
    stood_in,
)
from heteroscale.prescheduler.problem import Block, Placed, Problem, Request, need_of
from heteroscale.prescheduler.slots import slots_of

_INFINITE = float("inf")
#: No request has been promised any steps.
NOTHING: Mapping[int, int] = MappingProxyType({})


@dataclass(slots=True)
class _Program:
    """Variables with their costs and limits, and rows over them."""

    costs: list[float] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    rows: list[tuple[Mapping[int, float], float, float]] = field(default_factory=list)

    def variable(self, cost: float, most: int) -> int:
        """Return a whole number from 0 to `most` that costs so much each."""
        self.costs.append(cost)
        self.limits.append(most)
        return len(self.costs) - 1

    def row(self, terms: Mapping[int, float], low: float, high: float) -> None:
        """Keep a weighted sum within limits."""
        self.rows.append((terms, low, high))

    def matrix(self) -> csr_array:
        """Return the rows' weights."""
        entries = [
            (row, column, weight)
            for row, (terms, _, _) in enumerate(self.rows)
            for column, weight in terms.items()
        ]
        rows, columns, weights = zip(*entries, strict=True)
        return csr_array((weights, (rows, columns)), shape=(len(self.rows), len(self.costs)))


@dataclass(frozen=True, slots=True)
class _Group:
    """What a request may have in a domain, and the variables that describe it."""

    request: int
    domain: DomainPath
    #: index of an existing group; None = a new one
    home: int | None
    steps: int
    #: (cell, need, option) → variable
    replicas: Mapping[tuple[int, int, int], int]


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best solution that was found, and a worth that none can exceed."""

    solution: tuple[Placed, ...]
    bound: float


def optimum(
    problem: Problem, promised: Mapping[int, int] = NOTHING, limit_s: float = 30.0
) -> Optimum:
    """Return the exact solution, or what was found within the limit with what is left possible.

    Args:
        promised: index of a request → steps that it has at least.

    Raises:
        ValueError: nothing at all was found within the limit.
    """
    program, groups = _stated(problem, promised)
    lows, highs = (np.array([row[side] for row in program.rows]) for side in (1, 2))
    found = milp(
        np.array(program.costs),
        constraints=LinearConstraint(program.matrix(), lows, highs),
        integrality=np.ones(len(program.costs)),
        bounds=Bounds(0, np.array(program.limits)),
        options={"time_limit": limit_s, "mip_rel_gap": 1e-5},
    )
    if found.x is None:
        raise ValueError(f"nothing found within {limit_s:g} s: {found.message}")
    values = np.rint(found.x).astype(int)
    solution = tuple(_placed(group, values) for group in groups if values[group.steps] > 0)
    return Optimum(solution, -float(found.mip_dual_bound))


def relaxed_bound(problem: Problem) -> float:
    """Return a worth that no solution exceeds: the same program with any numbers for whole ones.

    Raises:
        ValueError: the program was not solved.
    """
    program, _ = _stated(problem, NOTHING)
    matrix = program.matrix()
    lows, highs = (np.array([row[side] for row in program.rows]) for side in (1, 2))
    upper, lower = np.isfinite(highs), np.isfinite(lows)
    found = linprog(
        np.array(program.costs),
        A_ub=vstack([matrix[upper], -matrix[lower]]),
        b_ub=np.concatenate([highs[upper], -lows[lower]]),
        bounds=np.column_stack([np.zeros(len(program.limits)), program.limits]),
        method="highs-ipm",
    )
    if not found.success:
        raise ValueError(f"the relaxed program was not solved: {found.message}")
    return -float(found.fun)


#: accelerator → indices of its cells, in one domain
_Inside = Mapping[str, list[int]]


def _stated(problem: Problem, promised: Mapping[int, int]) -> tuple[_Program, list[_Group]]:
    program = _Program()
    inside: dict[DomainPath, dict[str, list[int]]] = {}
    for index, standing in enumerate(problem.cells):
        for depth in range(1, len(standing.domain) + 1):
            own = inside.setdefault(standing.domain[:depth], {})
            own.setdefault(standing.accelerator, []).append(index)
    groups = [
        group
        for index in range(len(problem.requests))
        for group in _groups(program, problem, index, inside, promised.get(index, 0))
    ]
    uses: dict[int, list[tuple[int, int]]] = {}
    for group in groups:
        needs = problem.requests[group.request].needs
        for (cell, need, option), variable in group.replicas.items():
            size = size_of(needs[need].options[option])
            uses.setdefault(cell, []).append((variable, size))
    for index, used in uses.items():
        _hold(program, problem, index, used)
    return program, groups


def _groups(
    program: _Program,
    problem: Problem,
    index: int,
    inside: Mapping[DomainPath, _Inside],
    promised: int,
) -> Iterator[_Group]:
    """State what a request may have: whole steps in each domain, as many as promised or asked."""
    request = problem.requests[index]
    places: list[tuple[DomainPath, int | None]] = [
        (domain, None) for depth in request.depths for domain in inside if len(domain) == depth
    ]
    places += [(home.domain, at) for at, home in enumerate(request.homes)]
    opened: dict[int, float] = {}
    steps: dict[int, float] = {}
    for domain, home in places:
        count = program.variable(-request.weight * request.step_gpus, request.steps)
        if home is None:
            is_open = program.variable(OPENED, 1)
            program.row({count: 1.0, is_open: -float(request.steps)}, -_INFINITE, 0.0)
            opened[is_open] = 1.0
        wider = 0 if home is not None else request.depths[0] - len(domain)
        found = _replicas(program, problem, request, inside.get(domain, {}), count, wider)
        steps[count] = 1.0
        yield _Group(index, domain, home, count, found)
    program.row(steps, promised, request.steps)
    program.row(opened, -_INFINITE, request.new_groups)


def _replicas(
    program: _Program, problem: Problem, request: Request, inside: _Inside, count: int, wider: int
) -> dict[tuple[int, int, int], int]:
    """State the instances that cover the steps counted by a variable: (cell, need, option)."""
    need_class = need_of(request, problem.cell_depth)
    replicas: dict[tuple[int, int, int], int] = {}
    for at, need in enumerate(request.needs):
        cover: dict[int, float] = {count: -need.units / request.steps}
        for which, option in enumerate(need.options):
            for cell in inside.get(option.type, ()):
                found, size = problem.cells[cell], size_of(option)
                each = USED + SCARCE * max(0, found.scarcity - need_class)
                each += WIDER * wider + PRICE * found.price
                total = size * each + COMPATIBLE * stood_in(need, which)
                variable = program.variable(total, slots_of(found, size))
                replicas[cell, at, which] = variable
                cover[variable] = option.capacity
        program.row(cover, 0.0, _INFINITE)
    return replicas


def _hold(program: _Program, problem: Problem, index: int, used: list[tuple[int, int]]) -> None:
    """State what a cell holds, size by size, the whole nodes it breaks, and whether it wakes up."""
    cell = problem.cells[index]
    node, whole = cell.node_gpus, sum(cell.whole)
    broken = program.variable(BROKEN, whole)
    for size in sorted({size for _, size in used}):
        larger = {variable: float(each // size) for variable, each in used if each >= size}
        if size <= node:
            program.row(larger, -_INFINITE, slots_of(cell, size))
        else:
            program.row(larger, -_INFINITE, sum(count // (size // node) for count in cell.whole))
        if size < node:
            parts = {v: float(each // size) for v, each in used if size <= each < node}
            on_parts = sum(free // size * nodes for free, nodes in cell.partial.items())
            program.row({**parts, broken: -float(node // size)}, -_INFINITE, on_parts)
    wholes = {variable: float(each // node) for variable, each in used if each >= node}
    program.row({**wholes, broken: 1.0}, -_INFINITE, whole)
    if cell.idle:
        awake = program.variable(STIRRED, 1)
        most = sum(program.limits[variable] for variable, _ in used)
        program.row({**{v: 1.0 for v, _ in used}, awake: -float(most)}, -_INFINITE, 0.0)


def _placed(group: _Group, values: np.ndarray) -> Placed:
    return Placed(
        request=group.request,
        domain=group.domain,
        home=group.home,
        steps=int(values[group.steps]),
        blocks=tuple(
            Block(cell=cell, need=need, option=option, replicas=int(values[variable]))
            for (cell, need, option), variable in sorted(group.replicas.items())
            if values[variable] > 0
        ),
    )
