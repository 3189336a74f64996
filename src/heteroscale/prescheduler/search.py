"""The best next place for a request: domains are ranked by bounds, and the leading ones tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from heteroscale.entities.service import UNIT_SLACK
from heteroscale.prescheduler.dice import Dice
from heteroscale.prescheduler.domains import Ints
from heteroscale.prescheduler.form import MANNERS, Form, Manner
from heteroscale.prescheduler.objective import OPENED
from heteroscale.prescheduler.standing import Stand, Standing

#: domains that are tried exactly; the bound ranks them, so the best is rarely further down
LEADING = 6
#: groups of one service that are tried exactly
_HOMES = 12
_MOST = 1 << 20
_MANNERS: Sequence[Manner] = MANNERS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A domain that may hold some steps, and the group there."""

    depth: int
    place: int
    home: int | None
    bound: int
    excess: int


def candidates(standing: Standing, form: Form, leading: int = LEADING) -> Iterator[Candidate]:
    """Yield domains by class above need, all that is left, existing group, tightness, name.

    Domains of a level that the affinity only allows come after all of the level it asks for.
    """
    index, left = form.index, standing.left[form.index]
    bounds: dict[int, Ints] = {}
    homes = list(_homes(standing, form, bounds))
    taken: set[tuple[int, int | None]] = {
        (s.depth, s.place) for s in standing.stands[index] if s.home is None
    }
    for home in form.request.homes:
        depth = len(home.domain)
        taken.add((depth, standing.domains.level(depth).place(home.domain)))
    for depth in form.request.depths:
        found = [home for home in homes if home.depth == depth]
        homes = [home for home in homes if home.depth != depth]
        if standing.groups[index] > 0:
            level = standing.domains.level(depth)
            if depth not in bounds:
                bounds[depth] = standing.fitting.bounds(form, depth)
            most, excess = bounds[depth], form.excess(level, depth)
            near = _leading(most, excess, left, leading + len(taken))
            found += [
                Candidate(depth, place, None, int(most[place]), int(excess[place]))
                for place in [place for place in near if (depth, place) not in taken][:leading]
            ]
        found.sort(key=lambda one: _rank(one, left))
        yield from found[:leading]
    yield from homes


def _leading(bounds: Ints, excess: Ints, left: int, wanted: int) -> list[int]:
    """Return the domains that lead where anything fits: so many, in order."""
    able = bounds.nonzero()[0]
    most = bounds[able]
    rank = (excess[able] * _MOST + (left - np.minimum(most, left))) * _MOST
    rank += np.minimum(most, _MOST - 1)
    if len(able) > wanted:
        # Most domains never lead: they need not be sorted.
        near = rank <= np.partition(rank, wanted)[wanted]
        able, rank = able[near], rank[near]
    leading: list[int] = able[np.argsort(rank, kind="stable")[:wanted]].tolist()
    return leading


def best(
    standing: Standing,
    form: Form,
    limit: int,
    among: Sequence[Candidate],
    manners: Sequence[Manner] = MANNERS,
    *,
    by_worth: bool = False,
) -> Stand | None:
    """Return the best stand of at most `limit` steps; None = nothing fits.

    By class above need, most steps, then what the objective says; ties go to the first.

    Args:
        by_worth: by nothing but the objective.
    """
    chosen: Stand | None = None
    chosen_rank: tuple[float, ...] = ()
    for place, one in enumerate(among):
        fit = standing.fitting.most(
            form,
            (one.depth, one.place),
            {} if one.home is None else form.request.homes[one.home].narrows,
            min(limit, one.bound),
            standing.quotas[form.index],
            manners,
        )
        if fit is None:
            continue
        off = fit.cost + fit.harm + (OPENED if one.home is None else 0.0)
        rank: tuple[float, ...] = (off - fit.steps * form.step_worth,)
        if not by_worth:
            rank = (one.excess, form.request.depths[0] - one.depth, -fit.steps, off)
        if chosen is None or rank < chosen_rank:
            chosen, chosen_rank = Stand(form.index, one.depth, one.place, one.home, fit), rank
        if not fit.harm and place + 1 < len(among):
            following = among[place + 1]
            least = one.excess <= following.excess and fit.steps >= min(limit, following.bound)
            if least and fit.cost <= form.least_cost(fit.steps) + UNIT_SLACK:
                # Domains come sorted: none that follows is less scarce, holds more or costs less.
                break
    return chosen


def fill(
    standing: Standing, form: Form, dice: Dice | None = None, *, by_worth: bool = False
) -> None:
    """Place what is left of a request, domain after domain."""
    while (left := standing.left[form.index]) > 0:
        among = list(candidates(standing, form))
        limit, manners = left, _MANNERS
        if dice is not None:
            limit, manners, among = _at_random(dice, left, among)
        stand = best(standing, form, limit, among, manners, by_worth=by_worth)
        if stand is None:
            return
        standing.put(stand)


def _at_random(
    dice: Dice, left: int, among: list[Candidate]
) -> tuple[int, Sequence[Manner], list[Candidate]]:
    """Return fewer steps now and then, another way to go about it, and fewer domains to try."""
    limit = left if dice.below(4) else 1 + dice.below(left)
    manner = Manner(
        order=dice.below(2),
        reverse=dice.below(4) == 0,
        spread=dice.below(1 << 16) if dice.below(2) else 0,
        share=dice.below(9) if dice.below(2) else 8,
    )
    if among and dice.below(2):
        among = among[dice.below(min(3, len(among))) :]
    return limit, (manner, *MANNERS[:1]), among


def _homes(standing: Standing, form: Form, bounds: dict[int, Ints]) -> Iterator[Candidate]:
    """Yield the groups that may grow, those with most room first; note bounds by path length."""
    used = {stand.home for stand in standing.stands[form.index]}
    found = []
    for index, home in enumerate(form.request.homes):
        depth = len(home.domain)
        place = standing.domains.level(depth).place(home.domain)
        if place is None or index in used:
            continue
        level = standing.domains.level(depth)
        if depth not in bounds:
            bounds[depth] = standing.fitting.bounds(form, depth)
        bound = int(bounds[depth][place])
        if bound > 0:
            excess = int(form.excess(level, depth)[place])
            found.append(Candidate(depth, place, index, bound, excess))
    found.sort(key=lambda one: (-one.bound, one.home))
    yield from found[:_HOMES]


def _rank(one: Candidate, left: int) -> tuple[int, int, bool, int, int]:
    return (one.excess, left - min(one.bound, left), one.home is None, one.bound, one.place)
