"""Leaves scarce subgroups: what stands in one moves to where nothing is as scarce.

1. whole: to any place where it costs less
2. in parts: as many steps as fit in less scarce subgroups, the least scarce first, though a new
   group, a broken node or an idle switch may cost more than the objective charges for the scarce
   GPUs. The rest stays in its domain.

No step is lost, and only what was placed in this cycle is moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import RolePath
from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.form import MANNERS, Form
from heteroscale.prescheduler.search import Candidate, best, candidates
from heteroscale.prescheduler.standing import Stand, Standing

#: times that a request's stands are moved
_PASSES = 3
#: a rise below this is rounding
_RISE = 1e-6


def step_down(standing: Standing, order: Sequence[int]) -> None:
    """Move what stands in subgroups scarcer than needed, or wider than asked for, if it can.

    Args:
        order: indices of requests as they were served.
    """
    # 1. whole
    for index in order:
        passes = _PASSES
        while passes and _whole_of(standing, index):
            passes -= 1
    # 2. in parts; what leaves for the least scarce leaves room for what can only go less far
    for ceiling in Scarcity:
        for index in order:
            if standing.forms[index].scarcity <= ceiling:
                _parts_of(standing, index, ceiling)


def scarce_gpus(standing: Standing, stand: Stand) -> int:
    """Return the GPUs that a stand has in subgroups scarcer than needed, times classes above."""
    form, cells = standing.forms[stand.request], standing.problem.cells
    return sum(
        block.replicas
        * form.ways[block.need][block.option].size
        * max(0, cells[block.cell].scarcity - form.scarcity)
        for block in stand.fit.blocks
    )


def _whole_of(standing: Standing, index: int) -> bool:
    """Move each stand of a request that can; return whether any did."""
    depth = standing.forms[index].request.depths[0]
    moved = False
    for stand in list(standing.stands[index]):
        wide = stand.home is None and stand.depth < depth
        if wide or scarce_gpus(standing, stand):
            moved |= _whole(standing, stand)
    return moved


def _whole(standing: Standing, stand: Stand) -> bool:
    """Move a stand to where it costs less."""
    form = standing.forms[stand.request]
    mark, before = standing.mark(), standing.worth
    standing.lift(stand)
    among = list(candidates(standing, form))
    found = best(standing, form, stand.fit.steps, among, by_worth=True)
    if found is not None and found.fit.steps == stand.fit.steps:
        standing.put(found)
        if standing.worth > before + _RISE:
            return True
    standing.back(mark)
    return False


def _parts_of(standing: Standing, index: int, ceiling: Scarcity) -> None:
    """Move as many steps of a request as fit in subgroups no scarcer than a class."""
    cells = standing.problem.cells
    for stand in list(standing.stands[index]):
        rest: Stand | None = stand
        # Where steps of another stand have come to it, it stands as a new one.
        if stand in standing.stands[index] and any(
            cells[block.cell].scarcity > ceiling for block in stand.fit.blocks
        ):
            for one in list(_up_to(standing, stand, ceiling)):
                if rest is not None:
                    rest = _leave(standing, rest, one)


def _up_to(standing: Standing, stand: Stand, ceiling: Scarcity) -> Iterator[Candidate]:
    """Yield the other domains that may hold some steps in subgroups no scarcer than a class."""
    form, request = standing.forms[stand.request], standing.forms[stand.request].request
    above = ceiling - form.scarcity
    homes = {(len(home.domain), home.domain): at for at, home in enumerate(request.homes)}
    for depth in sorted({*request.depths, *(depth for depth, _ in homes)}, reverse=True):
        level = standing.domains.level(depth)
        bounds, excess = standing.fitting.bounds(form, depth), form.excess(level, depth)
        for place in ((bounds > 0) & (excess <= above)).nonzero()[0].tolist():
            home = homes.get((depth, level.paths[place]))
            asked_for = home is not None or depth in request.depths
            if asked_for and (depth, place) != (stand.depth, stand.place):
                yield Candidate(depth, place, home, int(bounds[place]), above)


def _leave(standing: Standing, stand: Stand, one: Candidate) -> Stand | None:
    """Move what can of a stand to another domain; return what stays of it, None = nothing does."""
    index, form = stand.request, standing.forms[stand.request]
    mark, where = standing.mark(), (one.depth, one.place)
    there = next((s for s in standing.stands[index] if (s.depth, s.place) == where), None)
    home, held = one.home, 0
    if there is not None:
        home, held = there.home, there.fit.steps
        standing.lift(there)
    standing.lift(stand)
    found = standing.fitting.most(
        form,
        where,
        _pinned(form, home),
        held + min(stand.fit.steps, one.bound),
        standing.quotas[index],
        [replace(manner, above=one.excess) for manner in MANNERS],
    )
    if found is not None and found.steps > held:
        standing.put(Stand(index, *where, home, found))
        steps = held + stand.fit.steps - found.steps
        rest = _stay(standing, stand, steps) if steps else None
        freed = scarce_gpus(standing, stand) - (scarce_gpus(standing, rest) if rest else 0)
        if freed > 0 and standing.groups[index] >= 0 and (rest or not steps):
            return rest
    standing.back(mark)
    return stand


def _stay(standing: Standing, stand: Stand, steps: int) -> Stand | None:
    """Let fewer steps stand where a stand was; None = they do not fit as it was gone about."""
    form, where = standing.forms[stand.request], (stand.depth, stand.place)
    quota, pinned = standing.quotas[stand.request], _pinned(form, stand.home)
    fit = standing.fitting.most(form, where, pinned, steps, quota, MANNERS)
    if fit is None or fit.steps < steps:
        return None
    rest = Stand(stand.request, *where, stand.home, fit)
    standing.put(rest)
    return rest


def _pinned(form: Form, home: int | None) -> Mapping[RolePath, DomainPath]:
    return {} if home is None else form.request.homes[home].narrows
