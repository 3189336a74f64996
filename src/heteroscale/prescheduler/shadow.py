"""What free GPUs are worth to those who would go without: where a shortage leads a second start.

Steps are taken as divisible and the free GPUs of one zone (the widest switch below a sub-cluster)
as one, but for the sizes of their slots. Each GPU has a price there; each request asks for steps
where they gain most, and prices move until no more is asked for than there is (Lagrange's dual of
the placement problem, by subgradients with Polyak's step). A step that gains much for what its GPUs
would be worth to others is then placed before one that gains little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from heteroscale.prescheduler.domains import Floats
from heteroscale.prescheduler.form import Form, Way
from heteroscale.prescheduler.objective import COMPATIBLE, SCARCE, USED, WIDER
from heteroscale.prescheduler.search import Candidate
from heteroscale.prescheduler.slots import Kind
from heteroscale.prescheduler.standing import Standing

#: moves of the prices; what requests ask for is averaged over the later half of them
_MOVES = 100
#: part of Polyak's step at first, and what is left of it after moves that bettered nothing
_STEP, _SHRINK, _PATIENCE = 0.3, 0.7, 8
#: part of the last direction that is kept: prices swing less
_INERTIA = 0.7
#: of a lead that nobody asked for at the last prices, and of one that was asked for throughout
_UNASKED, _ASKED = 0.5, 1.5
#: most a step's worth may be to its cost
_CHEAP = 1000.0
#: gains for their cost whose quotient is below this are nearly equal
_NEAR = 1.2
#: two costs that are this near are one
_EQUAL = 1e-9
#: path length of a zone
_ZONE = 2


@dataclass(frozen=True, slots=True)
class Lead:
    """A domain where steps of a request may go, and the group there."""

    request: int
    candidate: Candidate


class Market:
    """Who may ask for what where, and at which prices."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._kinds: list[Kind] = sorted(standing.slots.places)
        self._of_kind = {kind: at for at, kind in enumerate(self._kinds)}
        self._sizes = np.array([[float(size)] for _, size in self._kinds])
        #: rows of each accelerator's kinds, smallest first
        self._blocks = [
            slice(own[0], own[-1] + 1)
            for _, found in groupby(range(len(self._kinds)), lambda at: self._kinds[at][0])
            for own in [list(found)]
        ]
        self._zone_cells()
        self.leads: list[Lead] = []
        self._ask()

    def _zone_cells(self) -> None:
        """Note each cell's zone, and the GPUs that instances of each size can use in each zone."""
        standing, cells = self._standing, self._standing.problem.cells
        zone_of: list[int] = []
        for index, cell in enumerate(cells):
            new = index == 0 or cell.domain[:_ZONE] != cells[index - 1].domain[:_ZONE]
            zone_of.append((zone_of[-1] if zone_of else -1) + new)
        self._zone_of = zone_of
        self._zones = zone_of[-1] + 1
        supply = np.zeros((len(self._kinds), self._zones))
        for index, cell in enumerate(cells):
            for at, size in enumerate(standing.slots.sizes(index)):
                row = self._of_kind[cell.accelerator, size]
                supply[row, zone_of[index]] += size * standing.slots.room(index, at)
        self._supply = supply

    def _ask(self) -> None:
        """Lay out who may ask where: for each lead its needs, for each need its ways there."""
        standing = self._standing
        request: list[int] = []
        bound: list[int] = []
        extra: list[float] = []
        lead_starts: list[int] = []
        need_starts: list[int] = []
        each: list[float] = []
        rows: list[tuple[int, int, float, float]] = []
        self._wide: dict[tuple[int, int], int] = {}
        for form in standing.forms:
            for lead in self._leads(form):
                one = lead.candidate
                request.append(form.index)
                bound.append(one.bound)
                wider = 0 if one.home is not None else form.request.depths[0] - one.depth
                extra.append((SCARCE * one.excess + WIDER * wider) * form.request.step_gpus)
                lead_starts.append(len(need_starts))
                column = self._column(one)
                level = standing.domains.level(one.depth)
                for ways, units in zip(form.ways, form.each, strict=True):
                    need_starts.append(len(rows))
                    each.append(units)
                    rows += [
                        (column, self._of_kind[way.kind], 1.0 / way.option.capacity, _plain(way))
                        for way in ways
                        if standing.slots.sums(way.kind, level)[one.place] > 0
                    ]
                self.leads.append(lead)
        self._request = np.array(request, dtype=np.int64)
        self._bound = np.array(bound, dtype=float)
        self._extra = np.array(extra)
        self._lead_starts = np.array(lead_starts, dtype=np.int64)
        self._need_starts = np.array(need_starts, dtype=np.int64)
        self._each = np.array(each)
        columns, kinds, per_unit, plain = zip(*rows, strict=True)
        self._column_of = np.array(columns, dtype=np.int64)
        self._kind_of = np.array(kinds, dtype=np.int64)
        self._per_unit, self._plain = np.array(per_unit), np.array(plain)
        self._need_of = np.repeat(np.arange(len(need_starts)), np.diff([*need_starts, len(rows)]))
        self._lead_of = np.repeat(
            np.arange(len(request)), np.diff([*lead_starts, len(need_starts)])
        )
        self._worth = np.array([form.step_worth for form in standing.forms])[self._request]
        self._steps = np.array([float(form.request.steps) for form in standing.forms])

    def _leads(self, form: Form) -> Iterator[Lead]:
        """Yield where a request may be: its groups, and new ones at the level it asks for."""
        standing, request = self._standing, form.request
        homes = {(len(home.domain), home.domain): at for at, home in enumerate(request.homes)}
        new = request.depths if request.new_groups else ()
        depths = {*new, *(depth for depth, _ in homes)}
        for depth in sorted(depths):
            level = standing.domains.level(depth)
            bounds, excess = standing.fitting.bounds(form, depth), form.excess(level, depth)
            for place in bounds.nonzero()[0].tolist():
                home = homes.get((depth, level.paths[place]))
                if home is not None or depth in new:
                    one = Candidate(depth, place, home, int(bounds[place]), int(excess[place]))
                    yield Lead(form.index, one)

    def _column(self, one: Candidate) -> int:
        """Return the zone of a domain, or a column of its own where it has several."""
        level = self._standing.domains.level(one.depth)
        first = self._zone_of[level.starts[one.place]]
        end = self._zone_of[level.ends[one.place] - 1] + 1
        if end == first + 1:
            return first
        return self._zones + self._wide.setdefault((first, end), len(self._wide))

    def lead(self, target: float, order: Sequence[int]) -> list[Lead]:
        """Return where to place what first; what is worth less than its GPUs are is left out.

        Ways to build an instance are put in the order of their prices in each domain.

        Args:
            target: worth of a solution that is known.
            order: indices of requests by urgency, which decides between nearly equal gains.
        """
        prices, asked = self._clear(target)
        self._prefer(prices)
        cost = np.maximum(self._costs(prices)[1], self._worth / _CHEAP)
        most = np.minimum(self._bound, self._steps[self._request])
        rank = self._worth / cost * (_UNASKED + (_ASKED - _UNASKED) * np.minimum(1, asked / most))
        places = np.empty(len(order), dtype=np.int64)
        places[list(order)] = np.arange(len(order))
        classes = np.ceil(np.log(rank) / math.log(_NEAR))
        found = np.lexsort((-rank, places[self._request], -classes))
        return [self.leads[at] for at in found.tolist() if rank[at] >= 1.0]

    def _clear(self, target: float) -> tuple[Floats, Floats]:
        """Return the price of an instance by kind and column, and steps asked for by lead."""
        a_gpu = np.zeros_like(self._supply)
        best, prices = np.inf, self._instances(a_gpu)
        asked = np.zeros(len(self.leads))
        trend = np.zeros_like(a_gpu)
        step, since = _STEP, 0
        per_gpu = 1.0 / np.maximum(self._supply, 1.0)
        for move in range(_MOVES):
            now = self._instances(a_gpu)
            shares, cost = self._costs(now)
            steps = self._demand(self._worth - cost)
            excess = self._used(now, shares, steps) - self._supply
            gain = float(np.cumsum(steps * (self._worth - cost))[-1])
            bound = gain + float(np.cumsum(a_gpu * self._supply)[-1])
            since += 1
            if bound < best:
                since = 0 if bound < best * (1 - 1e-4) else since
                best, prices = bound, now
            if since >= _PATIENCE:
                step, since = step * _SHRINK, 0
            if 2 * move >= _MOVES:
                asked += steps * (2 / _MOVES)
            excess[(a_gpu <= 0) & (excess < 0)] = 0.0
            trend = excess if not move else _INERTIA * trend + (1 - _INERTIA) * excess
            length = float(np.cumsum(trend * trend * per_gpu)[-1])
            if length <= 0:
                # Nothing is short: no price keeps anybody away.
                return prices, steps
            far = step * max(bound - target, 1e-3 * bound) / length
            a_gpu = np.maximum(a_gpu + far * trend * per_gpu, 0.0)
        return prices, asked

    def _instances(self, a_gpu: Floats) -> Floats:
        """Return the price of an instance by kind and column; of a wide domain the least in it."""
        prices = np.empty((len(self._kinds), self._zones + len(self._wide)))
        for block in self._blocks:
            np.cumsum(a_gpu[block], axis=0, out=prices[block, : self._zones])
        prices *= self._sizes
        for (first, end), at in self._wide.items():
            own = np.where(self._supply[:, first:end] > 0, prices[:, first:end], np.inf)
            prices[:, self._zones + at] = own.min(axis=1)
        return prices

    def _costs(self, prices: Floats) -> tuple[Floats, Floats]:
        """Return the part each way has in its need, and the cost of a step by lead."""
        cost = prices[self._kind_of, self._column_of] * self._per_unit + self._plain
        least = np.minimum.reduceat(cost, self._need_starts)
        cheapest = (cost <= least[self._need_of] + _EQUAL).astype(float)
        shares = cheapest / np.add.reduceat(cheapest, self._need_starts)[self._need_of]
        return shares, np.add.reduceat(least * self._each, self._lead_starts) + self._extra

    def _demand(self, gain: Floats) -> Floats:
        """Return the steps asked for by lead: where they gain most, as many as fit there."""
        order = np.lexsort((-gain, self._request))
        able = np.where(gain > 0, self._bound, 0.0)[order]
        before = np.cumsum(able) - able
        requests = self._request[order]
        first = np.searchsorted(requests, requests, side="left")
        found = np.empty(len(order))
        found[order] = np.clip(self._steps[requests] - (before - before[first]), 0.0, able)
        return found

    def _used(self, prices: Floats, shares: Floats, steps: Floats) -> Floats:
        """Return GPUs asked for in instances of at least a kind's size, by kind and zone."""
        units = (self._each * steps[self._lead_of])[self._need_of]
        gpus = shares * units * self._per_unit * self._sizes[self._kind_of, 0]
        columns = prices.shape[1]
        flat = np.bincount(
            self._kind_of * columns + self._column_of, weights=gpus, minlength=prices.size
        )
        volume = flat.reshape(prices.shape)
        for (first, end), at in self._wide.items():
            least = prices[:, self._zones + at, None] + _EQUAL
            part = np.where(prices[:, first:end] <= least, self._supply[:, first:end], 0.0)
            total = np.maximum(part.sum(axis=1, keepdims=True), _EQUAL)
            volume[:, first:end] += volume[:, self._zones + at, None] * part / total
        used = np.empty_like(self._supply)
        for block in self._blocks:
            used[block] = np.cumsum(volume[block, : self._zones][::-1], axis=0)[::-1]
        return used

    def _prefer(self, prices: Floats) -> None:
        """Put each request's ways in the order of their prices, domain by domain."""
        for lead in self.leads:
            form, one = self._standing.forms[lead.request], lead.candidate
            if form.choices > 1:
                own = prices[:, self._column(one)].tolist()
                form.dear[one.depth, one.place] = [
                    sorted(ways, key=lambda way: self._dear(own, way)) for ways in form.ways
                ]

    def _dear(self, prices: list[float], way: Way) -> tuple[float, int]:
        return (
            prices[self._of_kind[way.kind]] / way.option.capacity + _plain(way),
            way.index,
        )


def _plain(way: Way) -> float:
    """Return what the objective takes off for a unit of a role where nothing is scarce."""
    return (USED * way.size + COMPATIBLE * way.stood_in) / way.option.capacity
