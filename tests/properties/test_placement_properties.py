"""Properties of the placement problem's solver, on random small fleets.

1. a solution has no fault: capacity, whole steps, domains, accelerators, groups, quotas
2. no domain ends with one role and not the other
3. equal input gives equal output; repair never lowers the worth
4. one request alone: one more free node never places less
5. the request of strictly highest priority keeps its steps when one more node is free
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption
from heteroscale.prescheduler.objective import faults, worth
from heteroscale.prescheduler.problem import Cell, Need, Placed, Problem, Request
from heteroscale.prescheduler.repair import GREEDY, Budget
from heteroscale.prescheduler.solve import solve

TYPES = ("H20", "H800")
FEW = Budget(ejections=20, ruins=40)
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def cells(draw: st.DrawFn) -> tuple[Cell, ...]:
    found = []
    for s2 in ("a", "b"):
        for s1 in ("1", "2"):
            for accelerator in TYPES:
                if not draw(st.booleans()):
                    continue
                whole = draw(st.lists(st.integers(1, 4), max_size=2))
                partial = draw(st.dictionaries(st.integers(1, 7), st.integers(1, 2), max_size=2))
                found.append(
                    Cell(
                        domain=("east", s2, s1),
                        accelerator=accelerator,
                        scarcity=draw(st.sampled_from(Scarcity)),
                        node_gpus=8,
                        partial=partial,
                        whole=tuple(sorted(whole)),
                        idle=not partial and draw(st.booleans()),
                    )
                )
    return tuple(found)


@st.composite
def requests(draw: st.DrawFn, name: str = "chat", *, plain: bool = False) -> Request:
    def options() -> tuple[AcceleratorOption, ...]:
        types = draw(st.permutations(TYPES))
        size = draw(st.sampled_from((1, 2, 4, 8, 16) if plain else (1, 2, 3, 4, 6, 8, 16)))
        several = not plain and draw(st.booleans())
        return tuple(
            AcceleratorOption(
                type=accelerator,
                gpus=min(size, 8),
                nodes=max(1, size // 8),
                within="S0" if size > 8 else None,
                capacity=capacity,
            )
            for accelerator, capacity in zip(types, (1.0, 0.5), strict=True)
        )[: 1 + several]

    steps = draw(st.integers(1, 6))
    return Request(
        name=name,
        weight=draw(st.sampled_from((1.0, 2.0, 4.0))),
        steps=steps,
        needs=(
            Need(role="decode", units=steps * draw(st.integers(1, 3)), options=options()),
            Need(role="prefill", units=steps, options=options()),
        ),
        depths=draw(st.sampled_from(((1,), (2,), (3,), (3, 2)))),
        new_groups=steps,
    )


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    count = draw(st.integers(1, 4))
    asked = tuple(draw(requests(f"service-{n}")) for n in range(count))
    return Problem(cells=draw(cells()), requests=asked, cell_depth=3)


def steps_of(solution: tuple[Placed, ...], request: int = 0) -> int:
    return sum(placed.steps for placed in solution if placed.request == request)


@SLOW
@given(problem=problems())
def test_1_to_3_solutions(problem: Problem) -> None:
    greedy = solve(problem, GREEDY)
    solution = solve(problem, FEW)
    assert faults(problem, greedy) == faults(problem, solution) == []
    for placed in solution:
        assert {block.need for block in placed.blocks} == {0, 1}
        assert all(block.replicas > 0 for block in placed.blocks)
    assert solve(problem, FEW) == solution
    assert worth(problem, solution) >= worth(problem, greedy) - 1e-6


def with_one_more(problem: Problem, cell: int) -> Problem:
    own = problem.cells[cell]
    more = replace(own, whole=tuple(sorted((*own.whole, 1))))
    return replace(problem, cells=(*problem.cells[:cell], more, *problem.cells[cell + 1 :]))


@SLOW
@given(found=cells(), request=requests(plain=True), which=st.integers(0, 7))
def test_4_one_request_alone_never_gets_less_of_more(
    found: tuple[Cell, ...], request: Request, which: int
) -> None:
    if found:
        problem = Problem(cells=found, requests=(request,), cell_depth=3)
        more = with_one_more(problem, which % len(found))
        assert steps_of(solve(more)) >= steps_of(solve(problem))


@SLOW
@given(
    found=cells(),
    first=requests("first", plain=True),
    other=requests("other"),
    which=st.integers(0, 7),
)
def test_5_nor_does_the_request_of_highest_priority(
    found: tuple[Cell, ...], first: Request, other: Request, which: int
) -> None:
    if found:
        asked = (replace(first, weight=8.0), other)
        problem = Problem(cells=found, requests=asked, cell_depth=3)
        more = with_one_more(problem, which % len(found))
        assert steps_of(solve(more, FEW)) >= steps_of(solve(problem, FEW))
