"""Three services of different priority through a shortage, tick by tick."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from heteroscale.entities.action import Effect
from heteroscale.entities.reasons import describe
from heteroscale.entities.service import Pause
from heteroscale.prescheduler.problem import Placed, Problem
from heteroscale.prescheduler.remembering import Remembering
from heteroscale.prescheduler.solve import solve
from tests.shortage import Shortage, build_tier

GOLD = build_tier("gold", 80, essential=6)
SILVER = build_tier("silver", 50, essential=2, preemptible=True)
BRONZE = build_tier("bronze", 20, preemptible=True)
LOADS = {"gold": 6, "silver": 6, "bronze": 6}


def told(run: Shortage, service: str, *codes: str) -> list[str]:
    """Return what the last decision of a service says under these codes."""
    (decision,) = (one for one in run.plan.decisions if one.service == service)
    return [describe(reason) for reason in decision.reasons if reason.code in codes]


def short() -> Shortage:
    """Start on a full fleet of 36 nodes, all at rest, that has just lost 11 of them."""
    run = Shortage(GOLD, SILVER, BRONZE, loads=LOADS, nodes=36)
    run.pass_ticks(3)
    run.lose(11)
    return run


def test_others_give_way_in_order_until_what_is_essential_is_there() -> None:
    run = short()
    assert run.supply("decode") == {"gold": 0, "silver": 6, "bronze": 6}
    run.tick()
    assert told(run, "gold", "way_made") == [
        f"{units} of its 6 essential units of {role} are lacking: bronze (priority 20),"
        " silver (priority 50) give way"
        for role, units in (("decode", 6), ("prefill", 5))
    ]
    made = run.tick()
    leaving = {action.service for action in made.actions if action.effect is Effect.IN}
    assert leaving == {"silver", "bronze"}
    assert told(run, "silver", "gives_way") == [
        f"gives way to gold: at most 5 units of {role}, until nobody of higher priority has lacked"
        " what is essential to it for 585 s more"
        for role in ("decode", "prefill")
    ]
    assert told(run, "gold", "way_coming")
    run.pass_ticks(40)
    for role in ("prefill", "decode"):
        assert run.supply(role) == {"gold": 6, "silver": 5, "bronze": 1}


def test_nothing_oscillates_while_the_shortage_lasts_and_all_returns_after_it() -> None:
    run = short()
    run.pass_ticks(60)
    seen = run.pass_ticks(200)
    assert all(supply == {"gold": 6, "silver": 5, "bronze": 1} for supply in seen)
    run.lose(0)
    seen = run.pass_ticks(20)
    assert seen[-1] == LOADS
    # Nobody gives back on the way.
    for before, after in pairwise(seen):
        assert all(after[name] >= before[name] for name in LOADS)


def test_what_was_given_up_is_not_asked_back_before_the_limit_ends() -> None:
    run = short()
    run.pass_ticks(45)
    assert told(run, "bronze", "gives_way")
    assert not told(run, "bronze", "no_fit")
    run.pass_ticks(5)
    assert not told(run, "bronze", "gives_way")
    assert told(run, "bronze", "no_fit")
    assert run.state.services["bronze"].given_way is None


def test_nobody_gives_way_who_is_not_allowed_to_or_is_held_by_hand() -> None:
    for held in (
        replace(BRONZE, preemptible=False),
        replace(BRONZE, pause=Pause(scale_in=True)),
        replace(BRONZE, pin={"prefill": 6, "decode": 6}),
    ):
        run = Shortage(GOLD, held, loads={"gold": 6, "bronze": 6}, nodes=24)
        run.pass_ticks(3)
        run.lose(6)
        run.pass_ticks(40)
        assert run.supply("decode")["bronze"] == 6
        assert run.supply("decode")["gold"] < 6


def test_a_limit_that_the_operator_takes_back_is_lifted_at_once() -> None:
    run = short()
    run.pass_ticks(30)
    services = tuple(replace(one, preemptible=False) for one in run.fleet.services)
    run.fleet = replace(run.fleet, services=services)
    run.tick()
    assert told(run, "bronze", "way_ended")
    assert run.state.services["bronze"].given_way is None


def test_what_a_lasting_shortage_poses_again_is_not_solved_again() -> None:
    gold = replace(GOLD, essential=dict.fromkeys(("prefill", "decode"), 13))
    plans, posed = [], []
    for remember in (False, True):
        run = Shortage(gold, SILVER, BRONZE, loads={**LOADS, "gold": 13}, nodes=50)
        solved: list[Problem] = []

        def counted(problem: Problem, solved: list[Problem] = solved) -> tuple[Placed, ...]:
            solved.append(problem)
            return solve(problem)

        run.solver = Remembering(counted) if remember else counted
        run.pass_ticks(3)
        run.lose(30)
        run.pass_ticks(40)
        before = len(solved)
        plans.append([run.tick() for _ in range(5)])
        posed.append(len(solved) - before)
    assert plans[0] == plans[1]
    assert told(run, "gold", "way_none")
    assert (posed[0] > 0, posed[1]) == (True, 0)
