"""Properties of the placement problem's solver, on random small fleets.

1. a solution has no fault: capacity, whole steps, domains, accelerators, groups, quotas
2. no domain ends with one role and not the other
3. equal input gives equal output; repair never lowers the worth, but to leave scarce subgroups
4. one request alone: one more free node never places less
5. the request of strictly highest priority keeps its steps when one more node is free
6. a solver that remembers answers as one that does not, whatever was posed before
6. sums over a domain tell as much of what fits it as trying does, and no trial leaves a trace
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption
from heteroscale.prescheduler.form import MANNERS, Manner, Told
from heteroscale.prescheduler.objective import faults, worth
from heteroscale.prescheduler.problem import Cell, Need, Placed, Problem, Request
from heteroscale.prescheduler.remembering import Remembering
from heteroscale.prescheduler.repair import GREEDY, Budget
from heteroscale.prescheduler.search import fill
from heteroscale.prescheduler.solve import solve
from heteroscale.prescheduler.standing import Standing

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
    common = replace(
        problem, cells=tuple(replace(cell, scarcity=Scarcity.LOW) for cell in problem.cells)
    )
    assert worth(common, solve(common, FEW)) >= worth(common, solve(common, GREEDY)) - 1e-6


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


@SLOW
@given(
    found=cells().filter(bool),
    asked=st.tuples(requests("before"), requests("asks")),
    quota=st.none() | st.integers(0, 40),
    manner=st.builds(
        Manner,
        order=st.integers(0, 1),
        reverse=st.booleans(),
        spread=st.integers(0, 3),
        share=st.integers(0, 8),
    ),
)
def test_6_sums_tell_as_much_as_trying(
    found: tuple[Cell, ...], asked: tuple[Request, Request], quota: int | None, manner: Manner
) -> None:
    before, own = asked
    own = replace(own, quota={} if quota is None else {"H20": quota})
    standing = Standing(Problem(cells=found, requests=(before, own), cell_depth=3))
    fill(standing, standing.forms[0])
    form, fitting, quotas = standing.forms[1], standing.fitting, standing.quotas[1]
    tried = replace(form, told=[Told.NOTHING, Told.NOTHING])
    for depth in own.depths:
        bounds = fitting.bounds(form, depth).tolist()
        for place, bound in enumerate(bounds):
            for manners in (MANNERS, (manner,)):
                told, seen = (
                    fitting.most(one, (depth, place), {}, bound + 2, quotas, manners)
                    for one in (form, tried)
                )
                assert told == seen
        assert fitting.bounds(form, depth).tolist() == bounds


@SLOW
@given(
    few=st.lists(problems(), min_size=1, max_size=3),
    posed=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=6),
)
def test_6_what_is_remembered_is_what_would_be_answered(
    few: list[Problem], posed: list[tuple[int, bool]]
) -> None:
    solver = partial(solve, budget=FEW)
    remembering = Remembering(solver)
    for which, richer in posed:
        problem = few[which % len(few)]
        if richer and problem.cells:
            problem = with_one_more(problem, which % len(problem.cells))
        assert remembering(problem) == solver(problem)
