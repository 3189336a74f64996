"""Finds the pair of counts with the fewest GPUs that meets a condition; knows no simulator.

Steps of the search:
1. A fleet with plenty of both roles that attains: what the busiest minute needs with some to
   spare, doubled a few times at most.
2. With its decode, the fewest prefill instances that attain, by bisection.
3. With that many, the fewest decode instances, by bisection.
4. Fewer decode instances may do with more prefill: each smaller count is tried with all the
   prefill that still makes a cheaper fleet, until no prefill at all makes up for it.
5. One instance less of either role, as long as that attains.

Steps 2 to 4 take it that more instances attain no less. That is nearly true and no more: more
prefill sends more at once to decode and may flood it. Step 5 catches what is missed nearby, so
the fleet attains for certain, and is the smallest but for such exceptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

#: "with capacity to spare": this many times what the load needs where it is busiest
_SPARE = 1.6
#: how often what is to spare is doubled before no fleet at all is believed to attain
_DOUBLINGS = 3


def smallest_fleet(
    attains: Callable[[tuple[int, int]], bool],
    needed: tuple[float, float],
    gpus: Callable[[tuple[int, int]], int],
) -> tuple[int, int] | None:
    """Return the (prefill, decode) counts of fewest GPUs that attain; None = none was found.

    Of fleets with equal GPUs the one with the least prefill is returned.

    Args:
        attains: whether a fleet does.
        needed: a guess of the (prefill, decode) counts that do.
        gpus: what a fleet costs.
    """
    plenty = _plentiful(attains, needed)
    if plenty is None:
        return None
    prefill = _fewest(lambda count: attains((count, plenty[1])), needed[0], plenty[0])
    decode = _fewest(lambda count: attains((prefill, count)), needed[1], plenty[1])
    best = (prefill, decode)
    most = max(prefill + 1, plenty[0])
    for fewer in range(decode - 1, 0, -1):
        more = prefill
        while gpus((more + 1, fewer)) < gpus(best):
            more += 1
        if more > prefill and attains((more, fewer)):
            best = (_bisected(partial(_with_decode, attains, fewer), prefill, more), fewer)
        elif not attains((most, fewer)):
            break
    return _descended(attains, best, gpus)


def smallest_pool(attains: Callable[[int], bool], needed: float) -> int | None:
    """Return the fewest instances of one kind that attain; None = even far too many do not.

    Takes it that more attain no less; `needed` is a guess.
    """
    for doubling in range(_DOUBLINGS + 1):
        plenty = math.ceil(needed * _SPARE * 2**doubling) + 1
        if attains(plenty):
            return _fewest(attains, needed, plenty)
    return None


def _plentiful(
    attains: Callable[[tuple[int, int]], bool], needed: tuple[float, float]
) -> tuple[int, int] | None:
    """Return a fleet with capacity to spare that attains; None = even far too much does not."""
    for doubling in range(_DOUBLINGS + 1):
        spare = _SPARE * 2**doubling
        plenty = (math.ceil(needed[0] * spare) + 1, math.ceil(needed[1] * spare) + 1)
        if attains(plenty):
            return plenty
    return None


def _descended(
    attains: Callable[[tuple[int, int]], bool],
    best: tuple[int, int],
    gpus: Callable[[tuple[int, int]], int],
) -> tuple[int, int]:
    """Return what is left when no instance more can go, the cheaper fleet first."""
    while True:
        prefill, decode = best
        fewer = [(prefill - 1, decode), (prefill, decode - 1)]
        cheaper = sorted((fleet for fleet in fewer if min(fleet) > 0), key=lambda f: (gpus(f), f))
        found = next(filter(attains, cheaper), None)
        if found is None:
            return best
        best = found


def _with_decode(attains: Callable[[tuple[int, int]], bool], decode: int, prefill: int) -> bool:
    return attains((prefill, decode))


def _fewest(attains: Callable[[int], bool], guess: float, enough: int) -> int:
    """Return the least count ≥ 1 that attains, of a condition that more never breaks.

    Args:
        attains: whether a count does.
        guess: near which to look first.
        enough: a count that does.
    """
    high = min(max(1, math.ceil(guess)), enough)
    step = max(1, high // 16)
    low = 0
    while high < enough and not attains(high):
        low, high, step = high, min(high + step, enough), 2 * step
    while low == 0 and high > 1:
        lower = max(1, high - step)
        if attains(lower):
            high, step = lower, 2 * step
        else:
            low = lower
    return _bisected(attains, low, high)


def _bisected(attains: Callable[[int], bool], low: int, high: int) -> int:
    """Return the least count that attains, between one that does not and one that does."""
    while high - low > 1:
        middle = (low + high) // 2
        if attains(middle):
            high = middle
        else:
            low = middle
    return high
