from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from heteroscale.prescheduler.asks import Lead
from heteroscale.prescheduler.objective import faults, worth
from heteroscale.prescheduler.problem import Cell, Home, Problem, Request
from heteroscale.prescheduler.repair import GREEDY, Budget
from heteroscale.prescheduler.search import Candidate
from heteroscale.prescheduler.shadow import Market
from heteroscale.prescheduler.solve import solve
from heteroscale.prescheduler.standing import Standing
from tests.unit.prescheduler.test_solve import asks, cell, way

H20, A100 = way("H20"), way("A100")
#: both starts, and as good as no repair
STARTS = Budget(ejections=0, ruins=1)


def problem_of(cells: Sequence[Cell], *requests: Request) -> Problem:
    return Problem(cells=tuple(cells), requests=requests, cell_depth=3)


def steps_of(problem: Problem, budget: Budget) -> dict[str, int]:
    solution = solve(problem, budget)
    assert faults(problem, solution) == []
    found: Counter[str] = Counter()
    for placed in solution:
        found[problem.requests[placed.request].name] += placed.steps
    return dict(found)


def test_who_can_do_without_a_short_accelerator_is_sent_to_the_other() -> None:
    either = (H20, A100)
    cells = [cell("m/a/p", "A100", whole=(8,)), cell("m/a/p", "H20", whole=(4,))]
    problem = problem_of(
        cells,
        asks("choosy", 2, prefill=(H20,), decode=(H20,)),
        asks("either", 2, prefill=either, decode=either),
    )
    standing = Standing(problem)

    leads = [*Market(standing).lead(4.0, [0, 1])]

    assert [lead.request for lead in leads] == [1, 0]
    assert [[one.kind[0] for one in ways] for ways in standing.forms[1].ways_in((2, 0))] == [
        ["A100", "H20"],
        ["A100", "H20"],
    ]


def test_where_nothing_is_short_everything_is_a_lead_and_preferences_stand() -> None:
    either = (H20, A100)
    cells = [cell("m/a/p", "A100", whole=(8,)), cell("m/a/p", "H20", whole=(8,))]
    standing = Standing(problem_of(cells, asks("either", 2, prefill=either, decode=either)))

    leads = [*Market(standing).lead(1.0, [0])]

    assert leads == [Lead(0, Candidate(2, 0, None, 16, 0))]
    assert [[one.kind[0] for one in ways] for ways in standing.forms[0].ways_in((2, 0))] == [
        ["H20", "A100"],
        ["H20", "A100"],
    ]


def test_of_many_equal_domains_the_first_are_asked() -> None:
    cells = [cell(f"m/{at:03}/p", whole=(2,)) for at in range(300)]
    other = asks("other", 1, new_groups=0)
    standing = Standing(problem_of(cells, other, asks("chat", 3)))

    leads = [*Market(standing).lead(1.0, [0, 1])]

    assert {lead.request for lead in leads} == {1}
    assert [lead.candidate.place for lead in leads] == [*range(300)]


def test_a_whole_sub_cluster_is_asked_in_its_cheapest_zone() -> None:
    cells = [cell(f"m/{zone}/p", whole=(4,)) for zone in "ab"]
    here, gone = (Home(name=zone, domain=("m", zone)) for zone in "az")
    problem = problem_of(
        cells,
        asks("wide", 2, depths=(1,)),
        asks("bound", 2, new_groups=0, homes=(here, gone)),
    )

    leads = Market(Standing(problem)).lead(1.0, [0, 1])

    assert {(lead.request, lead.candidate.depth, lead.candidate.home) for lead in leads} == {
        (0, 1, None),
        (1, 2, 0),
    }
    assert steps_of(problem, STARTS) == {"wide": 2, "bound": 2}


def test_one_that_keeps_many_from_theirs_waits_for_them() -> None:
    # Four H20 nodes: two steps of the first, or one step each of four that need few H20 GPUs.
    cells = [cell("m/a/p", "A100", whole=(40,)), cell("m/a/p", "H20", whole=(4,))]
    many = [asks(f"many-{at}", 1, prefill=(A100,), decode=(H20,), each=(8, 1)) for at in range(4)]
    problem = problem_of(cells, asks("first", 2, prefill=(H20,), decode=(H20,)), *many)

    assert steps_of(problem, GREEDY)["first"] == 2
    assert steps_of(problem, STARTS) == {f"many-{at}": 1 for at in range(4)}
    assert worth(problem, solve(problem, STARTS)) > worth(problem, solve(problem, GREEDY))


def test_one_of_highest_priority_does_not_wait_for_anybody() -> None:
    cells = [cell("m/a/p", "A100", whole=(40,)), cell("m/a/p", "H20", whole=(4,))]
    many = [asks(f"many-{at}", 1, prefill=(A100,), decode=(H20,), each=(8, 1)) for at in range(4)]
    first = asks("first", 2, prefill=(H20,), decode=(H20,), weight=1.01)

    assert steps_of(problem_of(cells, first, *many), STARTS) == {"first": 2}


def test_no_more_groups_are_opened_than_may_be() -> None:
    cells = [cell(f"m/{zone}/p", whole=(4,)) for zone in "abc"]
    problem = problem_of(cells, asks("chat", 9, new_groups=2), asks("search", 9))

    opened = Counter(placed.request for placed in solve(problem, STARTS))

    assert opened[0] <= 2
