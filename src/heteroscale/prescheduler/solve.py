"""Solves a placement problem: greedy in order of urgency, then repair; the same for equal input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from heteroscale.prescheduler.asks import Lead
from heteroscale.prescheduler.dice import Dice, seed_of
from heteroscale.prescheduler.problem import Placed, Problem
from heteroscale.prescheduler.repair import GREEDY, Budget, protected, repair
from heteroscale.prescheduler.search import best, fill
from heteroscale.prescheduler.shadow import Market
from heteroscale.prescheduler.standing import Standing

#: answers a problem, the same for equal input
Solver = Callable[[Problem], tuple[Placed, ...]]


def solve(problem: Problem, budget: Budget | None = None) -> tuple[Placed, ...]:
    """Return where the requests' steps go; what is not in it fits nowhere.

    1. order: priority, tightest first, largest instance, place in the problem
    2. greedy: each request in turn takes the best domains
    3. a second start where steps are left: those first that gain most for what others lose
    4. repair of the better of the two

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
    trials = Budget.of(problem) if budget is None else budget
    if trials != GREEDY:
        # 3. a second start
        if any(standing.left) and len(order) > 1 and standing.worth > 0:
            _start_again(standing, order)
        # 4. repair
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


def _start_again(standing: Standing, order: Sequence[int]) -> None:
    """Place all anew by what GPUs are worth to others, and keep the better of the two starts."""
    mark, before = standing.mark(), standing.worth
    first = protected(standing, order)
    kept = 0 if first is None else standing.left[first]
    for stands in standing.stands:
        for stand in list(stands):
            standing.lift(stand)
    market = Market(standing)
    if first is not None:
        fill(standing, standing.forms[first])
    for lead in market.lead(before, order):
        _settle(standing, lead)
    for index in order:
        fill(standing, standing.forms[index], by_worth=True)
    lost = first is not None and standing.left[first] > kept
    if lost or standing.worth <= before:
        standing.back(mark)


def _settle(standing: Standing, lead: Lead) -> None:
    index, one = lead.request, lead.candidate
    limit = min(standing.left[index], one.bound)
    stand = best(standing, standing.forms[index], limit, [one], by_worth=True)
    if stand is not None:
        standing.put(stand)
