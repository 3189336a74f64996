"""The exact plan, Algorithm 4 and the count of stranded GPUs, each against what must hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.placement.algorithm4 import place
from benchmarks.placement.exact import optimum, relaxed_bound
from benchmarks.placement.quality import Stranded, promise, scarce_misuse
from benchmarks.placement.small_fleets import small_fleet
from benchmarks.placement.stranded import free_gpus, stranded_gpus, surplus_gpus
from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption
from heteroscale.prescheduler.objective import faults, worth
from heteroscale.prescheduler.problem import Block, Cell, Need, Placed, Problem, Request
from heteroscale.prescheduler.solve import solve

H20 = AcceleratorOption(type="H20", gpus=8)
SEEDS = range(4)


def two_switches() -> Problem:
    """Return three whole nodes under one switch and one under another; two steps of two nodes."""
    request = Request(
        name="chat",
        weight=1.0,
        steps=2,
        needs=(
            Need(role="decode", units=2, options=(H20,)),
            Need(role="prefill", units=2, options=(H20,)),
        ),
        depths=(2,),
        new_groups=2,
    )
    cells = tuple(
        Cell(
            domain=("main", switch, "pod"),
            accelerator="H20",
            scarcity=Scarcity.LOW,
            node_gpus=8,
            whole=(nodes,),
        )
        for switch, nodes in (("a", 3), ("b", 1))
    )
    return Problem(cells=cells, requests=(request,), cell_depth=3)


def step(cell: int, *needs: int) -> tuple[Block, ...]:
    return tuple(Block(cell=cell, need=need, option=0, replicas=1) for need in needs)


def test_a_node_of_its_own_under_each_switch_is_stranded_for_a_step_of_two() -> None:
    problem = two_switches()
    plan = solve(problem)
    assert [placed.steps for placed in plan] == [1]
    # Two nodes are free, one under each switch: side by side they would hold the second step.
    assert free_gpus(problem, plan) == {"H20": 16}
    assert stranded_gpus(problem, plan) == pytest.approx(16.0)


def test_nothing_is_stranded_where_no_gpu_is_left() -> None:
    problem = two_switches()
    more = replace(
        problem.requests[0],
        steps=3,
        needs=tuple(replace(need, units=3) for need in problem.requests[0].needs),
    )
    even = replace(
        problem, requests=(more,), cells=tuple(replace(cell, whole=(2,)) for cell in problem.cells)
    )
    plan = solve(even)
    assert free_gpus(even, plan) == {"H20": 0}
    assert stranded_gpus(even, plan) == 0.0


def test_a_decode_without_a_prefill_is_surplus() -> None:
    problem = two_switches()
    half = Placed(request=0, domain=("main", "b"), home=None, steps=0, blocks=step(1, 0))
    assert surplus_gpus(problem.requests[0], half) == {"H20": 8}
    # What nobody can use where it is counts for a fleet without a network.
    assert stranded_gpus(problem, (half,)) == pytest.approx(32.0)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_exact_plan_is_one_and_nobody_beats_it(seed: int, packed: bool) -> None:
    problem = small_fleet(seed, packed=packed, steep=True).problem
    best = optimum(problem)
    assert faults(problem, best.solution) == []
    assert worth(problem, best.solution) == pytest.approx(best.bound, abs=0.05)
    assert worth(problem, solve(problem)) <= best.bound + 1e-3
    assert relaxed_bound(problem) >= best.bound - 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_whole_steps_alone_strand_less_than_pods_one_by_one(seed: int) -> None:
    fleet = small_fleet(seed, packed=True, steep=True)
    printed, atomic = (place(fleet, atomic=atomic) for atomic in (False, True))
    for outcome in (printed, atomic):
        assert outcome.free == free_gpus(fleet.problem, outcome.solution)
        assert min(outcome.free.values()) >= 0
    for placed in atomic.solution:
        assert placed.steps > 0
    steps = [sum(placed.steps for placed in one.solution) for one in (printed, atomic)]
    assert steps[0] <= steps[1]


def test_a_scarce_switch_is_misused_while_a_common_one_has_room() -> None:
    problem = two_switches()
    scarce = replace(
        problem.cells[0], domain=("main", "c", "pod"), scarcity=Scarcity.HIGH, whole=(2,)
    )
    fleet = replace(problem, cells=(*problem.cells, scarce))
    plan = Placed(request=0, domain=("main", "c"), home=None, steps=1, blocks=step(2, 0, 1))
    assert scarce_misuse(fleet, (plan,)) == (16, 16)
    assert scarce_misuse(fleet, solve(fleet)) == (0, 16)


def test_a_switch_of_the_scarcest_class_is_misused_while_the_middle_has_room() -> None:
    problem = two_switches()
    middle, scarcest = (
        replace(problem.cells[0], domain=("main", name, "pod"), scarcity=scarcity, whole=(2,))
        for name, scarcity in (("b", Scarcity.MEDIUM), ("c", Scarcity.HIGH))
    )
    fleet = replace(problem, cells=(middle, scarcest))
    plan = Placed(request=0, domain=("main", "c"), home=None, steps=1, blocks=step(1, 0, 1))
    assert scarce_misuse(fleet, (plan,)) == (16, 16)
    assert scarce_misuse(fleet, solve(fleet)) == (0, 32)


def test_what_is_avoidable_is_counted_from_whoever_strands_least() -> None:
    found = Stranded(ours=30.0, exact=20.0, evenly=10.0, printed=110.0, atomic=60.0)
    assert (found.to_printed(), found.avoidable(found.printed)) == (30 / 110, 0.2)
    assert found.avoidable(found.atomic) == pytest.approx(0.4)
    same = replace(found, ours=10.0, atomic=10.0)
    assert same.avoidable(same.atomic) == 0.0


def test_only_a_request_whose_priority_nobody_shares_is_promised_its_steps() -> None:
    problem = two_switches()
    first, second = (replace(problem.requests[0], name=name) for name in ("a", "b"))
    assert promise(replace(problem, requests=(first, second))) == {}
    higher = replace(second, weight=2.0)
    assert promise(replace(problem, requests=(first, higher))) == {1: 1}


def test_what_is_promised_to_one_request_bounds_the_exact_plan() -> None:
    first, second = (replace(two_switches().requests[0], name=name) for name in ("a", "b"))
    problem = replace(two_switches(), requests=(first, replace(second, weight=2.0)))
    served = [
        {placed.request: placed.steps for placed in optimum(problem, promised).solution}
        for promised in ({}, {0: 1})
    ]
    assert served == [{1: 1}, {0: 1}]
