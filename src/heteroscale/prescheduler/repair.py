"""Betters a solution by taking parts of it back: a fixed number of trials, never a clock.

1. eject: for each request with steps left, those that are worth most first, lift what stands in one
   of its domains in this cycle, place it first, then what was lifted
2. ruin and recreate: lift what stands in a random corner, put it and others back at random
3. step down: move what can to where nothing is scarcer than needed (`step_down`)

A trial is kept when the worth rises and the request first in order has no fewer steps. Only what
was placed in this cycle is ever lifted, never what runs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from heteroscale.prescheduler.dice import Dice
from heteroscale.prescheduler.domains import Ints
from heteroscale.prescheduler.fit import Fitting
from heteroscale.prescheduler.problem import Problem
from heteroscale.prescheduler.search import fill
from heteroscale.prescheduler.slots import Slots
from heteroscale.prescheduler.standing import Stand, Standing
from heteroscale.prescheduler.step_down import step_down

#: a rise below this is rounding
_RISE = 1e-6
#: domains of a request that ejection is tried in
_DOMAINS = 4
#: domains of a request that ruin picks from
_CORNERS = 12
#: most stands that are lifted at once
_LIFTED = 6
#: one in so many trials is for anybody with steps left, the others by what these are worth
_BLIND = 4
#: parts into which chances are divided
_FINE = 1 << 30
#: share of a usual step's worth that a trial may lose at first; nothing towards the end
_SLACK = 0.5


@dataclass(frozen=True, slots=True)
class Budget:
    """How many trials each stage has."""

    ejections: int
    ruins: int

    @classmethod
    def of(cls, problem: Problem) -> Budget:
        """Return the budget by the size of the problem: a trial in a small one costs little."""
        others = len(problem.requests) - 1
        cells = len(problem.cells)
        ruins = max(40, min(1000, 60_000 // cells - 100))
        # Both the cost of a trial and the rest of the cycle grow with the cells.
        ejections = max(100, min(400, 90_000_000 // cells**2))
        return cls(ejections=ejections, ruins=min(ruins, 300 * others))


#: no repair at all
GREEDY = Budget(ejections=0, ruins=0)


def repair(standing: Standing, order: Sequence[int], budget: Budget, dice: Dice) -> None:
    """Better what stands within the budget.

    Args:
        order: indices of requests as they were served.
    """
    work = _Repair(standing, order, dice)
    if any(standing.left) and len(order) > 1:
        work.eject(budget.ejections)
        work.ruin(budget.ruins)
    step_down(standing, order)


def protected(standing: Standing, order: Sequence[int]) -> int | None:
    """Return who is served before all others: nobody's gain is worth a step of it; None = several.

    Args:
        order: indices of requests as they are served.
    """
    weights = [standing.forms[index].request.weight for index in order[:2]]
    return None if len(weights) == 2 and weights[0] == weights[1] else order[0]


class _Repair:
    """The stages, and what they share."""

    def __init__(self, standing: Standing, order: Sequence[int], dice: Dice) -> None:
        self._standing = standing
        self._order = order
        self._rank = {index: rank for rank, index in enumerate(order)}
        self._dice = dice
        self._first = protected(standing, order)
        # What would fit if nothing of this cycle stood.
        problem = standing.problem
        self._empty = Fitting(problem, Slots(problem), standing.domains)
        self._loss = 0.0
        self._wanted: dict[int, list[tuple[int, int]]] = {}

    def eject(self, trials: int) -> None:
        """Place steps that are left by lifting what stands in their way."""
        standing = self._standing
        for first in range(0, _CORNERS, _DOMAINS):
            short = [index for index in self._order if standing.left[index]]
            short.sort(key=lambda index: -self._lost(index))
            for index in short:
                for corner in self._domains_of(index)[first : first + _DOMAINS]:
                    if not standing.left[index]:
                        break
                    if trials <= 0:
                        return
                    trials -= 1
                    lifted = self._standing_in(corner)
                    self._try(lifted, [index, *self._by_rank(lifted)], at_random=False)

    def ruin(self, trials: int) -> None:
        """Lift random corners, and put everything back in random order."""
        standing, dice = self._standing, self._dice
        best, mark = standing.worth, standing.mark()
        steps = sum(form.request.steps for form in standing.forms)
        usual = sum(form.step_worth * form.request.steps for form in standing.forms) / steps
        for trial in range(trials):
            self._loss = usual * max(0.0, 1.0 - 1.25 * trial / trials) * _SLACK
            if standing.worth > best:
                best, mark = standing.worth, standing.mark()
            short = [index for index in self._order if standing.left[index]]
            index = self._wanting(short) if short else dice.below(len(self._order))
            corners = self._domains_of(index)
            if not corners:
                continue
            corner = corners[dice.below(len(corners))]
            lifted = self._standing_in(corner)
            if dice.below(2):
                # Steps that are spread come together only when all of them are taken back.
                requests = dict.fromkeys((*self._by_rank(lifted), index))
                lifted = [stand for one in requests for stand in standing.stands[one]]
            back = self._by_rank(lifted)
            if short and index not in back:
                back.append(index)
            if len(short) > 1 and dice.below(2):
                other = self._wanting(short)
                if other not in back:
                    back.append(other)
            if dice.below(3):
                dice.shuffle(back)
            self._try(lifted, back, at_random=True)
        if standing.worth < best:
            standing.back(mark)
        self._loss = 0.0

    def _wanting(self, short: Sequence[int]) -> int:
        """Return one of those that have steps left, the more likely the more these are worth."""
        if self._dice.below(_BLIND):
            sums = list(accumulate(map(self._lost, short)))
            return short[bisect_right(sums, sums[-1] * self._dice.below(_FINE) / _FINE)]
        return short[self._dice.below(len(short))]

    def _lost(self, index: int) -> float:
        return self._standing.left[index] * self._standing.forms[index].step_worth

    def _try(self, lifted: Iterable[Stand], back: Sequence[int], *, at_random: bool) -> None:
        standing, first = self._standing, self._first
        mark, before = standing.mark(), standing.worth
        kept = 0 if first is None else standing.left[first]
        for stand in lifted:
            standing.lift(stand)
        for place, index in enumerate(back):
            dice = self._dice if at_random else None
            had = standing.left[index]
            fill(standing, standing.forms[index], dice, by_worth=True)
            if not (place or at_random) and standing.left[index] == had:
                # Who was to gain gains nothing.
                break
        lost = first is not None and standing.left[first] > kept
        if lost or standing.worth <= before - self._loss + (0 if self._loss else _RISE):
            standing.back(mark)

    def _by_rank(self, lifted: Iterable[Stand]) -> list[int]:
        return sorted({stand.request for stand in lifted}, key=self._rank.__getitem__)

    def _domains_of(self, index: int) -> list[tuple[int, int]]:
        """Return the corners in which a request could be if nothing of this cycle stood."""
        if index not in self._wanted:
            form, standing = self._standing.forms[index], self._standing
            found: list[tuple[int, int, int]] = []
            for depth in sorted(
                {*form.request.depths, *(len(h.domain) for h in form.request.homes)}
            ):
                level = standing.domains.level(depth)
                bounds: Ints = self._empty.bounds(form, depth)
                excess = form.excess(level, depth)
                homes = {home.domain for home in form.request.homes}
                able = [
                    (int(excess[place]), -int(bounds[place]), place)
                    for place in bounds.nonzero()[0].tolist()
                    if level.paths[place] in homes
                    or (depth in form.request.depths and form.request.new_groups)
                ]
                able.sort()
                found += [(depth, place, rank) for rank, (_, _, place) in enumerate(able)]
            found.sort(key=lambda one: one[2])
            self._wanted[index] = [(depth, place) for depth, place, _ in found[:_CORNERS]]
        return self._wanted[index]

    def _standing_in(self, corner: tuple[int, int]) -> list[Stand]:
        """Return what stands in a corner, a random part of it where that is much."""
        standing, (depth, place) = self._standing, corner
        level = standing.domains.level(depth)
        start, end = level.starts[place], level.ends[place]
        if depth < 2:
            # A whole sub-cluster is no corner: one domain of the widest level below it is.
            start, end = self._part(start, end)
        found: dict[Stand, None] = {}
        for cell in range(start, end):
            found.update(standing.on.get(cell, {}))
        stands = list(found)
        while len(stands) > _LIFTED:
            stands.pop(self._dice.below(len(stands)))
        return stands

    def _part(self, start: int, end: int) -> tuple[int, int]:
        cells = self._standing.problem.cells
        path = cells[start + self._dice.below(end - start)].domain[:2]
        inside = [i for i in range(start, end) if cells[i].domain[:2] == path]
        return inside[0], inside[-1] + 1
