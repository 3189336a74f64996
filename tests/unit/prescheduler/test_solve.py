from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption
from heteroscale.prescheduler.dice import Dice
from heteroscale.prescheduler.form import MANNERS
from heteroscale.prescheduler.objective import faults, worth
from heteroscale.prescheduler.problem import Cell, Home, Narrow, Need, Placed, Problem, Request
from heteroscale.prescheduler.repair import GREEDY, Budget, repair
from heteroscale.prescheduler.search import fill
from heteroscale.prescheduler.solve import solve
from heteroscale.prescheduler.standing import Stand, Standing

LOW, MEDIUM, HIGH = Scarcity


def cell(
    path: str,
    accelerator: str = "H20",
    *,
    whole: tuple[int, ...] = (),
    partial: Mapping[int, int] | None = None,
    scarcity: Scarcity = LOW,
    node_gpus: int = 8,
) -> Cell:
    return Cell(
        domain=tuple(path.split("/")),
        accelerator=accelerator,
        scarcity=scarcity,
        node_gpus=node_gpus,
        partial=partial or {},
        whole=whole,
    )


def way(
    accelerator: str = "H20", gpus: int = 8, *, nodes: int = 1, capacity: float = 1.0
) -> AcceleratorOption:
    within = "S0" if nodes > 1 else None
    return AcceleratorOption(
        type=accelerator, gpus=gpus, nodes=nodes, capacity=capacity, within=within
    )


def asks(
    name: str = "chat",
    steps: int = 1,
    *,
    prefill: Sequence[AcceleratorOption] = (way(),),
    decode: Sequence[AcceleratorOption] = (way(),),
    each: tuple[int, int] = (1, 1),
    weight: float = 1.0,
    depths: tuple[int, ...] = (2,),
    homes: tuple[Home, ...] = (),
    new_groups: int = 9,
    quota: Mapping[str, int] | None = None,
) -> Request:
    return Request(
        name=name,
        weight=weight,
        steps=steps,
        needs=(
            Need(role="decode", units=each[1] * steps, options=tuple(decode)),
            Need(role="prefill", units=each[0] * steps, options=tuple(prefill)),
        ),
        depths=depths,
        homes=homes,
        new_groups=new_groups,
        quota=quota or {},
    )


def solved(
    cells: Sequence[Cell], *requests: Request, budget: Budget | None = None
) -> tuple[Problem, tuple[Placed, ...]]:
    ordered = tuple(sorted(cells, key=lambda one: (one.domain, one.accelerator)))
    problem = Problem(cells=ordered, requests=requests, cell_depth=3)
    solution = solve(problem, budget)
    assert faults(problem, solution) == []
    return problem, solution


def steps(
    cells: Sequence[Cell], *requests: Request, budget: Budget | None = None
) -> dict[str, int]:
    """Return domain → steps of all requests together."""
    _, solution = solved(cells, *requests, budget=budget)
    found: dict[str, int] = {}
    for placed in solution:
        name = "/".join(placed.domain)
        found[name] = found.get(name, 0) + placed.steps
    return found


def per_request(cells: Sequence[Cell], *requests: Request) -> dict[str, int]:
    problem, solution = solved(cells, *requests)
    found = {request.name: 0 for request in problem.requests}
    for placed in solution:
        found[problem.requests[placed.request].name] += placed.steps
    return found


@pytest.mark.parametrize(
    ("cells", "request_", "found"),
    [
        pytest.param([], asks(), {}, id="no nodes at all"),
        pytest.param([cell("e/a/a1", whole=(1,))], asks(), {}, id="half a step is no step"),
        pytest.param([cell("e/a/a1", whole=(2,))], asks(), {"e/a": 1}, id="a whole one"),
        pytest.param(
            [cell("e/a/a1", whole=(1,)), cell("e/a/a2", whole=(1,))],
            asks(),
            {"e/a": 1},
            id="its roles may be under two S1 of one S2",
        ),
        pytest.param(
            [cell("e/a/a1", whole=(1,)), cell("e/b/b1", whole=(1,))],
            asks(),
            {},
            id="but not under two S2",
        ),
        pytest.param(
            [cell("e/a/a1", whole=(1,)), cell("e/b/b1", whole=(1,))],
            asks(depths=(2, 1)),
            {"e": 1},
            id="unless the affinity allows the sub-cluster",
        ),
        pytest.param(
            [cell("e/a/a1", whole=(2,)), cell("e/b/b1", whole=(2,))],
            asks(steps=2, depths=(2, 1)),
            {"e/a": 1, "e/b": 1},
            id="what the affinity asks for comes first",
        ),
        pytest.param(
            [cell("e/a/a1", whole=(5,)), cell("e/b/b1", whole=(4,)), cell("e/c/c1", whole=(2,))],
            asks(),
            {"e/c": 1},
            id="the tightest domain that holds all",
        ),
        pytest.param(
            [
                cell("e/a/a1", whole=(2,), scarcity=HIGH),
                cell("e/b/b1", whole=(2,), scarcity=MEDIUM),
                cell("e/c/c1", whole=(9,)),
            ],
            asks(),
            {"e/c": 1},
            id="the least scarce however wide",
        ),
        pytest.param(
            [
                cell("e/a/a1", whole=(9,)),
                cell("e/b/b1", whole=(2,), scarcity=MEDIUM),
                cell("e/b/b2", "H800", whole=(2,), scarcity=MEDIUM),
            ],
            asks(steps=2, prefill=[way("H800"), way("H20", capacity=0.5)]),
            {"e/b": 2},
            id="two types under one S2 for who prefers two",
        ),
        pytest.param(
            [cell("e/a/a1", whole=(3,))],
            asks(prefill=[way("H800"), way("H20", capacity=0.5)]),
            {"e/a": 1},
            id="a compatible type counts by its capacity",
        ),
        pytest.param(
            [cell("e/a/a1", whole=(3, 2))],
            asks(steps=3, prefill=[way(nodes=2)], each=(1, 1)),
            {"e/a": 1},
            id="two whole nodes under one S0 and one beside",
        ),
        pytest.param(
            [cell("e/a/a1", whole=(1, 1, 1))],
            asks(prefill=[way(nodes=2)]),
            {},
            id="no two nodes under one S0",
        ),
        pytest.param(
            [cell("e/a/a1", partial={6: 2})],
            asks(steps=9, prefill=[way(gpus=3)], decode=[way(gpus=3)]),
            {"e/a": 2},
            id="three GPUs each: two nodes of six hold four",
        ),
        pytest.param(
            [cell("e/a/a1", partial={5: 1, 7: 1})],
            asks(steps=9, prefill=[way(gpus=2)], decode=[way(gpus=3)]),
            {"e/a": 2},
            id="two and three do not divide: packed anew",
        ),
        pytest.param(
            [cell("e/a/a1", whole=(9,)), cell("e/b/b1", whole=(9,))],
            asks(steps=6, new_groups=1),
            {"e/a": 4},
            id="no more groups than may be opened",
        ),
        pytest.param(
            [cell("e/a/a1", whole=(9,))],
            asks(steps=4, quota={"H20": 40}),
            {"e/a": 2},
            id="no more GPUs than the quota leaves",
        ),
        pytest.param(
            [cell("e/a/a1", whole=(9,)), cell("e/b/b1", whole=(2,))],
            asks(homes=(Home(name="g0", domain=("e", "a")), Home(name="g1", domain=("e", "z")))),
            {"e/a": 1},
            id="an existing group before a new one",
        ),
        pytest.param(
            [cell("e", whole=(9,)), cell("e/a/a1", whole=(2,))],
            asks(steps=2),
            {"e/a": 1},
            id="nodes without labels belong to no S2",
        ),
    ],
)
def test_one_request_alone(cells: Sequence[Cell], request_: Request, found: dict[str, int]) -> None:
    assert steps(cells, request_) == found


def test_an_instance_takes_what_is_partly_used_before_it_breaks_a_node() -> None:
    half = [way(gpus=4)]
    cells = [cell("e/a/a1", whole=(1,)), cell("e/a/a2", partial={4: 2})]
    problem, solution = solved(cells, asks(prefill=half, decode=half))
    assert [block.cell for block in solution[0].blocks] == [1, 1]
    assert worth(problem, solution) == pytest.approx(8 - 8 * 0.02 - 0.2)


MOE = Request(
    name="moe",
    weight=1.0,
    steps=2,
    needs=(
        Need(role="decode", units=2, options=(way(),)),
        Need(role="prefill/attention", units=2, options=(way("H800"),)),
        Need(role="prefill/ffn", units=4, options=(way(),)),
    ),
    narrows=(Narrow(path="prefill", depth=3, roles=("prefill/attention", "prefill/ffn")),),
    depths=(2,),
    new_groups=2,
)
TWO_S1 = [
    cell("e/a/a1", "H800", whole=(2,), scarcity=HIGH),
    cell("e/a/a1", whole=(2,), scarcity=HIGH),
    cell("e/a/a2", "H800", whole=(2,), scarcity=HIGH),
    cell("e/a/a2", whole=(5,), scarcity=HIGH),
]


def test_nested_roles_share_an_s1_inside_the_s2_of_their_group() -> None:
    _, solution = solved(TWO_S1, MOE)
    assert [(placed.steps, placed.narrows) for placed in solution] == [
        (2, {"prefill": ("e", "a", "a2")})
    ]


def test_an_s1_that_holds_only_one_of_the_nested_roles_costs_no_quota() -> None:
    decode, attention, ffn = MOE.needs
    needs = (decode, replace(attention, options=(way(),)), ffn)
    request = replace(MOE, needs=needs, quota={"H20": 4 * 8})
    _, solution = solved([cell("e/a/a1", whole=(2,)), cell("e/a/a2", whole=(5,))], request)
    assert [(placed.steps, placed.narrows) for placed in solution] == [
        (1, {"prefill": ("e", "a", "a2")})
    ]


def test_nested_roles_that_fit_under_no_single_s1_fit_nowhere() -> None:
    apart = [TWO_S1[0], cell("e/a/a2", whole=(9,), scarcity=HIGH)]
    assert steps(apart, MOE) == {}


@pytest.mark.parametrize(
    ("s1", "found"),
    [
        pytest.param("a1", {"e/a": 1}, id="where they live is room for one step"),
        pytest.param("z", {}, id="where they live no node is healthy"),
    ],
)
def test_nested_roles_of_an_existing_group_stay_where_they_are(
    s1: str, found: dict[str, int]
) -> None:
    home = Home(name="g0", domain=("e", "a"), narrows={"prefill": ("e", "a", s1)})
    assert steps(TWO_S1, replace(MOE, homes=(home,), new_groups=0)) == found


def test_priority_goes_first_and_the_tightest_within_it() -> None:
    cells = [cell("e/a/a1", whole=(4,))]
    requests = (asks("urgent", 1, weight=8.0), asks("other", 2))
    assert per_request(cells, *requests) == {"urgent": 1, "other": 1}


def test_repair_makes_room_by_moving_what_came_first() -> None:
    # First come takes the tightest domain, which is the only one that the other may have.
    here = Home(name="g0", domain=("e", "a"))
    cells = [cell("e/a/a1", whole=(2,)), cell("e/b/b1", whole=(3,))]
    requests = (asks("free", 1, weight=2.0), asks("bound", 1, homes=(here,), new_groups=0))
    assert steps(cells, *requests, budget=GREEDY) == {"e/a": 1}
    assert per_request(cells, *requests) == {"free": 1, "bound": 1}
    assert steps(cells, *requests, budget=Budget(ejections=0, ruins=50)) == {"e/a": 1, "e/b": 1}


def test_the_request_of_highest_priority_never_loses_to_many_others() -> None:
    # Two of 8 GPUs are worth more to four small requests, but the first keeps its step.
    small = [way(gpus=1)]
    cells = [cell("e/a/a1", whole=(2,))]
    others = tuple(asks(f"small-{n}", 4, prefill=small, decode=small, weight=1.9) for n in range(2))
    first = asks("first", 1, weight=2.0, each=(1, 1))
    assert per_request(cells, first, *others)["first"] == 1


def test_trials_may_be_too_few_for_all() -> None:
    cells = [cell("e/a/a1", whole=(3,)), cell("e/b/b1", whole=(3,))]
    requests = tuple(asks(f"r{n}", 2) for n in range(4))
    assert sum(steps(cells, *requests, budget=Budget(ejections=1, ruins=0)).values()) == 2


def test_more_stands_in_a_corner_than_are_lifted_at_once() -> None:
    small = [way(gpus=1)]
    cells = [cell("e/a/a1", whole=(4,)), cell("f/b/b1", whole=(1,))]
    requests = tuple(
        asks(f"r{n}", 2, prefill=small, decode=small, depths=(1 + n % 2,)) for n in range(12)
    )
    assert sum(steps(cells, *requests).values()) == 20


def test_what_fits_in_no_fleet_is_left_out() -> None:
    cells = [cell("e/a/a1", whole=(2,))]
    assert per_request(cells, asks("b"), asks("other", prefill=[way("B200")])) == {
        "b": 1,
        "other": 0,
    }


def test_a_stand_steps_down_when_a_less_scarce_domain_is_free_again() -> None:
    cells = (cell("e/a/a1", whole=(2,)), cell("e/b/b1", whole=(2,), scarcity=HIGH))
    standing = Standing(Problem(cells=cells, requests=(asks(),), cell_depth=3))
    scarce = standing.fitting.most(standing.forms[0], (2, 1), {}, 1, {}, MANNERS)
    assert scarce is not None
    standing.put(Stand(0, 2, 1, None, scarce))
    repair(standing, [0], Budget(ejections=9, ruins=9), Dice(1))
    assert [placed.domain for placed in standing.placed()] == [("e", "a")]


def test_a_domain_whose_bound_promised_too_much_is_compared_with_the_next() -> None:
    prefill = [way(), way("H800")]
    cells = [
        cell("e/a/a1", whole=(2,)),
        cell("e/b/b1", whole=(2,), scarcity=MEDIUM),
        cell("e/c/c1", whole=(2,)),
    ]
    found = steps(cells, asks(steps=2, prefill=prefill), budget=GREEDY)
    assert found == {"e/a": 1, "e/c": 1}


def test_more_domains_than_are_looked_at() -> None:
    cells = [cell(f"e/s{n:02d}/a1", whole=(2,)) for n in range(30)]
    assert sum(steps(cells, asks(steps=25, new_groups=30)).values()) == 25


def test_a_sub_cluster_of_many_switches() -> None:
    cells = [cell("e", whole=(1,)), *(cell(f"e/s{n:02d}/a1", whole=(1,)) for n in range(30))]
    first = asks("first", 2, depths=(1,), weight=2.0)
    assert per_request(cells, first, asks("second", 1)) == {"first": 2, "second": 0}


def test_mixed_types_are_split_so_that_more_fit() -> None:
    either = [way("H800"), way("H20", capacity=0.8)]
    cells = [
        cell(f"e/a/{s1}", accelerator, whole=(2,), partial={4: 1}, scarcity=MEDIUM)
        for s1, accelerator in (("a1", "H20"), ("a2", "H20"), ("a3", "H800"), ("a4", "H800"))
    ]
    small = [way("H20", 4), way("H800", 4)]
    requests = (
        asks("either", 2, prefill=either, decode=either),
        asks("fast", 1, prefill=[way("H800")], decode=[way("H800", 4)]),
        asks("slow", 2, prefill=either),
        asks("small", 5, prefill=small, decode=small),
    )
    problem, greedy = solved(cells, *requests, budget=GREEDY)
    assert worth(problem, solve(problem)) > worth(problem, greedy) + 8.0


def standing_with(cells: Sequence[Cell], *requests: Request) -> Standing:
    """Let every request take its first group's domain, or any."""
    standing = Standing(Problem(cells=tuple(cells), requests=requests, cell_depth=3))
    for form in standing.forms:
        fill(standing, form)
    return standing


def group_in(zone: str) -> Home:
    return Home(name=f"in-{zone}", domain=("e", zone))


def test_one_ejection_is_enough_where_all_fits_after_it() -> None:
    cells = [cell(f"e/{zone}/p", whole=(2,)) for zone in "abc"]
    standing = standing_with(
        cells,
        asks("moves", homes=(group_in("a"), group_in("c")), new_groups=0),
        asks("stays", homes=(group_in("b"),), new_groups=0),
        asks("waits", homes=(group_in("a"), group_in("b")), new_groups=0),
    )
    assert standing.left == [0, 0, 1]

    repair(standing, [0, 1, 2], Budget(ejections=9, ruins=0), Dice(1))

    assert standing.left == [0, 0, 0]


def test_an_ejection_that_frees_too_little_is_taken_back() -> None:
    small = [way(gpus=4)]
    cells = [cell("e/a/p", whole=(8,))]
    many = [asks(f"one-{n}", prefill=small, decode=small) for n in range(8)]
    large = asks("large", prefill=[way(gpus=8)], decode=[way(gpus=8)], each=(7, 1))
    standing = standing_with(cells, *many, large)
    before = standing.worth

    repair(standing, list(range(9)), Budget(ejections=9, ruins=0), Dice(1))

    assert (standing.left, standing.worth) == ([0] * 8 + [1], before)


@pytest.mark.parametrize("seed", range(12))
def test_ruins_never_end_below_where_they_began(seed: int) -> None:
    small = [way(gpus=2)]
    cells = [cell(f"e/{zone}/p", whole=(3,)) for zone in "ab"]
    standing = standing_with(
        cells, *(asks(f"r{n}", 2 + n, prefill=small, decode=[way(gpus=4)]) for n in range(5))
    )
    before = standing.worth

    repair(standing, list(range(5)), Budget(ejections=0, ruins=3), Dice(seed))

    assert standing.worth >= before


def test_a_part_of_a_stand_steps_aside_where_not_all_of_it_fits() -> None:
    cells = (
        cell("e/a/p", whole=(4,)),
        cell("e/b/p", whole=(8,), scarcity=HIGH),
    )
    standing = Standing(Problem(cells=cells, requests=(asks(steps=4),), cell_depth=3))
    scarce = standing.fitting.most(standing.forms[0], (2, 1), {}, 4, {}, MANNERS)
    assert scarce is not None
    standing.put(Stand(0, 2, 1, None, scarce))

    repair(standing, [0], Budget(ejections=0, ruins=0), Dice(1))

    found = {"/".join(one.domain): one.steps for one in standing.placed()}
    assert found == {"e/a": 2, "e/b": 2}
