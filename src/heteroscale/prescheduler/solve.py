"""Solves a placement problem: greedy in order of urgency, then repair; the same for equal input."""

from __future__ import annotations

from heteroscale.prescheduler.dice import Dice, seed_of
from heteroscale.prescheduler.problem import Placed, Problem
from heteroscale.prescheduler.repair import GREEDY, Budget, repair
from heteroscale.prescheduler.search import fill
from heteroscale.prescheduler.standing import Standing


def solve(problem: Problem, budget: Budget | None = None) -> tuple[Placed, ...]:
    """Return where the requests' steps go; what is not in it fits nowhere.

    1. order: priority, tightest first, largest instance, place in the problem
    2. greedy: each request in turn takes the best domains
    3. repair, while steps are left or somebody shares the fleet

    Args:
        budget: of the repair; None = by the size of the problem, no trials = greedy alone.
    """
    if not problem.requests or not problem.cells:
        return ()
    standing = Standing(problem)
    # 1. order
    order = sorted(range(len(standing.forms)), key=lambda index: _urgency(standing, index))
    # 2. greedy
    for index in order:
        fill(standing, standing.forms[index])
    # 3. repair
    trials = Budget.of(problem) if budget is None else budget
    if trials != GREEDY:
        repair(standing, order, trials, Dice(seed_of(problem)))
    return standing.placed()


def _urgency(standing: Standing, index: int) -> tuple[float, float, int, int]:
    form = standing.forms[index]
    request = form.request
    total = 0
    if request.new_groups:
        total = sum(int(standing.fitting.bounds(form, depth).sum()) for depth in request.depths)
    largest = max(way.size for ways in form.ways for way in ways)
    return (-request.weight, total / request.steps, -largest, index)
