"""A request made ready for fitting: what is asked of it again and again, worked out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption, RolePath
from heteroscale.prescheduler.domains import NOWHERE, Ints, Level
from heteroscale.prescheduler.objective import PRICE, USED, size_of, stood_in
from heteroscale.prescheduler.problem import Narrow, Problem, Request, need_of
from heteroscale.prescheduler.slots import Kind, Slots


@dataclass(slots=True)
class Way:
    """One option of a need, ready for the ledger."""

    option: AcceleratorOption
    index: int
    kind: Kind
    #: of its kind: among the sizes of its accelerator, among all kinds
    place: int
    row: int
    size: int
    #: steps whose part of the role one instance covers
    steps: float
    #: GPUs of the preferred accelerator that one instance stands in for
    stood_in: float
    #: which of `Form.kinds`, then `Form.quotas`, limit it: those that an instance takes GPUs of
    limits: tuple[int, ...]


class Told(Enum):
    """What the sums over a domain tell of a fit (`tally`)."""

    NOTHING = "nothing"
    #: that steps do not fit
    AT_MOST = "at most"
    #: whether they fit
    ALL = "all"


@dataclass(slots=True)
class Form:
    """A request, with what is asked of it again and again worked out once."""

    index: int
    request: Request
    scarcity: Scarcity
    #: per need: capacity units of one step
    each: list[float]
    #: per need: its ways, preferred first
    ways: list[list[Way]]
    #: the roles that share a domain: the group's own first, then each narrower set
    sets: list[tuple[Narrow | None, list[int]]]
    #: orders in which needs are served: hardest to serve first, then largest first
    orders: list[list[int]]
    step_worth: float
    #: row of the smallest kind, and how many slots of it a step takes, where one type serves all
    alone: tuple[int, float] | None
    #: ways to go about a fit that may differ: one where every role has but one option
    choices: int
    #: per need: what the objective takes off for a preferred instance where nothing is scarce
    costs: list[float]
    #: every way's row and size once, smallest first
    kinds: list[tuple[int, int]]
    #: accelerators with a quota
    quotas: list[str]
    #: per order
    told: list[Told]
    #: (path length, index in its level) → per need: its ways, the cheapest there first
    dear: dict[tuple[int, int], list[list[Way]]] = field(default_factory=dict)
    _excess: dict[int, Ints] = field(default_factory=dict)

    def ways_in(self, where: tuple[int, int]) -> list[list[Way]]:
        """Return per need its ways in the order in which they are tried in a domain."""
        return self.dear.get(where, self.ways)

    def least_cost(self, steps: int) -> float:
        """Return what the objective takes off for so many steps at best."""
        return sum(
            cost * -(-each * steps // 1) for cost, each in zip(self.costs, self.each, strict=True)
        )

    def excess(self, level: Level, depth: int) -> Ints:
        """Return per domain how many classes scarcer than needed its least scarce part is."""
        if depth not in self._excess:
            worst = np.zeros(len(level.paths), dtype=np.int64)
            for ways in self.ways:
                least = np.full(len(level.paths), NOWHERE, dtype=np.int64)
                for way in ways:
                    np.minimum(least, level.scarcity(way.option.type), out=least)
                np.maximum(worst, least, out=worst)
            self._excess[depth] = np.maximum(worst - int(self.scarcity), 0)
        return self._excess[depth]


@dataclass(frozen=True, slots=True)
class Manner:
    """A way to go about a fit; the default is the one that keeps most for others."""

    #: index into `Form.orders`
    order: int = 0
    #: least preferred accelerators first
    reverse: bool = False
    #: cells in another order than the frugal one; 0 = frugal
    spread: int = 0
    #: eighths of a role that the first accelerator has at most
    share: int = 8
    #: most classes that a subgroup may be scarcer than needed
    above: int = NOWHERE


#: What is tried before steps are said not to fit.
MANNERS = (Manner(), Manner(order=1), Manner(reverse=True))


def form_of(problem: Problem, index: int, slots: Slots, prices: Mapping[str, float]) -> Form:
    """Return a request ready for fitting.

    Args:
        prices: accelerator → `Cell.price`; absent = not stated.
    """
    request = problem.requests[index]
    each_step = [need.units / request.steps for need in request.needs]
    kinds = sorted({(o.type, size_of(o)) for need in request.needs for o in need.options})
    quotas = sorted(request.quota)
    bounds = [*kinds, *((kind, 0) for kind in quotas)]
    ways = [
        [
            Way(
                option=option,
                index=i,
                kind=kind,
                place=slots.places[kind],
                row=slots.rows[kind],
                size=kind[1],
                steps=option.capacity / each,
                stood_in=stood_in(need, i),
                limits=_limits(kind, bounds),
            )
            for i, option in enumerate(need.options)
            for kind in [(option.type, size_of(option))]
        ]
        for need, each in zip(request.needs, each_step, strict=True)
    ]
    inner = {role: narrow for narrow in request.narrows for role in narrow.roles}
    members: dict[RolePath | None, list[int]] = {None: []}
    for narrow in request.narrows:
        members[narrow.path] = []
    for i, need in enumerate(request.needs):
        around = inner.get(need.role)
        members[None if around is None else around.path].append(i)
    numbers = range(len(ways))
    orders = [
        sorted(numbers, key=lambda i: (len(ways[i]), -ways[i][0].size, i)),
        sorted(numbers, key=lambda i: (-ways[i][0].size, -len(ways[i]), -i)),
    ]
    return Form(
        index=index,
        request=request,
        scarcity=need_of(request, problem.cell_depth),
        each=each_step,
        ways=ways,
        sets=[
            *((narrow, members[narrow.path]) for narrow in request.narrows),
            (None, members[None]),
        ],
        orders=orders,
        kinds=[(slots.rows[kind], kind[1]) for kind in kinds],
        quotas=quotas,
        told=[Told.NOTHING if request.narrows else _told(slots, ways, order) for order in orders],
        step_worth=request.weight * request.step_gpus,
        alone=_alone(ways, each_step),
        costs=[
            own[0].size
            / own[0].option.capacity
            * (USED + PRICE * prices.get(own[0].option.type, 0.0))
            for own in ways
        ],
        choices=1 if all(len(own) == 1 for own in ways) else len(MANNERS),
    )


def _alone(ways: Sequence[Sequence[Way]], each: Sequence[float]) -> tuple[int, float] | None:
    if len({way.kind[0] for own in ways for way in own}) > 1 or any(len(own) > 1 for own in ways):
        return None
    least = min((own[0] for own in ways), key=lambda way: way.size)
    taken = 0.0
    for (way, *_), units in zip(ways, each, strict=True):
        slots = way.size // least.size if way.size % least.size == 0 else 1
        taken += units / way.option.capacity * slots
    return least.row, taken


def _limits(kind: Kind, bounds: Sequence[Kind]) -> tuple[int, ...]:
    return tuple(at for at, one in enumerate(bounds) if one[0] == kind[0] and one[1] <= kind[1])


def _told(slots: Slots, ways: Sequence[Sequence[Way]], order: Sequence[int]) -> Told:
    """Return what the sums over a domain tell of needs that are served in an order."""
    told = Told.ALL
    least: dict[str, int] = {}
    for place, need in enumerate(order):
        # Twice: whichever of a need's ways comes first, one of its type may be larger.
        for way in (*ways[need], *ways[need]):
            kind, size = way.option.type, way.size
            if not slots.even(kind):
                return Told.NOTHING
            if size > least.get(kind, size):
                # In which cells the smaller ones went decides how many larger ones are left.
                told = Told.AT_MOST
                if len(ways[need]) > 1 and place + 1 < len(order):
                    return Told.NOTHING
            least[kind] = min(size, least.get(kind, size))
    return told
