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
from itertools import groupby

import numpy as np

from heteroscale.prescheduler.asks import Asks, Lead
from heteroscale.prescheduler.domains import Floats, Ints
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


class Market:
    """What is asked for at which prices."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._asks = asks = Asks(standing)
        kinds = [*standing.slots.rows]
        self._sizes = np.array([[float(size)] for _, size in kinds])
        #: rows of each accelerator's kinds, smallest first
        self._blocks = [
            slice(own[0], own[-1] + 1)
            for _, found in groupby(range(len(kinds)), lambda row: kinds[row][0])
            for own in [list(found)]
        ]
        #: by kind and zone: GPUs that instances of its size can use
        self._supply = self._free()
        forms = standing.forms
        #: per lead: worth of a step; per request: steps
        self._worth = np.array([form.step_worth for form in forms])[asks.request]
        self._steps = np.array([float(form.request.steps) for form in forms])
        # What follows is by way, then need: numpy is fast along the longer side.
        there = np.ascontiguousarray(asks.there.T)
        width = asks.zones + len(asks.wide)
        #: place of its price, instances for a unit, GPUs of one, and what else a unit costs
        self._price = np.where(there, asks.row.T * width + asks.column.T, 0)
        self._per_unit = np.where(there, 1.0 / asks.capacity.T, 0.0)
        self._size = np.ascontiguousarray(asks.size.T)
        self._plain = np.where(there, asks.plain.T, np.inf)
        #: those that are there, by need, then way, and the places of their prices
        self._own = np.arange(there.size).reshape(there.shape).T[asks.there]
        self._own_price = self._price.take(self._own)

    def _free(self) -> Floats:
        standing = self._standing
        supply = np.zeros((len(standing.slots.rows), self._asks.zones))
        for index, cell in enumerate(standing.problem.cells):
            for at, size in enumerate(standing.slots.sizes(index)):
                row = standing.slots.rows[cell.accelerator, size]
                supply[row, self._asks.zone_of[index]] += size * standing.slots.room(index, at)
        return supply

    def lead(self, target: float, order: Sequence[int]) -> Iterator[Lead]:
        """Yield where to place what next; what is worth less than its GPUs are is left out.

        Who has no steps or groups left by then is passed over. Ways to build an instance are put in
        the order of their prices in each domain.

        Args:
            target: worth of a solution that is known.
            order: indices of requests by urgency, which decides between nearly equal gains.
        """
        asks, left, groups = self._asks, self._standing.left, self._standing.groups
        prices, asked = self._clear(target)
        self._prefer(prices)
        cost = np.maximum(self._costs(prices)[1], self._worth / _CHEAP)
        most = np.minimum(asks.most, self._steps[asks.request])
        rank = self._worth / cost * (_UNASKED + (_ASKED - _UNASKED) * np.minimum(1, asked / most))
        places = np.empty(len(order), dtype=np.int64)
        places[list(order)] = np.arange(len(order))
        classes = np.ceil(np.log(rank) / math.log(_NEAR))
        found = np.lexsort((-rank, places[asks.request], -classes))
        found = found[rank[found] >= 1.0]
        for at, request in zip(found.tolist(), asks.request[found].tolist(), strict=True):
            if left[request] and (groups[request] > 0 or asks.home[at] >= 0):
                yield asks.lead(at)

    def _clear(self, target: float) -> tuple[Floats, Floats]:
        """Return the price of an instance by kind and column, and steps asked for by lead."""
        a_gpu = np.zeros_like(self._supply)
        best, prices = np.inf, self._instances(a_gpu)
        asked = np.zeros(len(self._worth))
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
        zones, wide = self._asks.zones, self._asks.wide
        prices = np.empty((len(self._sizes), zones + len(wide)))
        for block in self._blocks:
            np.cumsum(a_gpu[block], axis=0, out=prices[block, :zones])
        prices[:, :zones] *= self._sizes
        for at, (first, end) in enumerate(wide, zones):
            own = np.where(self._supply[:, first:end] > 0, prices[:, first:end], np.inf)
            prices[:, at] = own.min(axis=1)
        return prices

    def _costs(self, prices: Floats) -> tuple[Floats, Floats]:
        """Return the part each way has in its need, and the cost of a step by lead."""
        cost = prices.take(self._price) * self._per_unit + self._plain
        least = np.minimum.reduce(cost, axis=0)
        cheapest = (cost <= least + _EQUAL).astype(float)
        shares = cheapest / np.add.reduce(cheapest, axis=0)
        asks = self._asks
        return shares, np.add.reduceat(least * asks.each, asks.starts) + asks.extra

    def _demand(self, gain: Floats) -> Floats:
        """Return the steps asked for by lead: where they gain most, as many as fit there."""
        able = (gain > 0).nonzero()[0]
        order = able[_by_request(self._asks.request[able], gain[able])]
        most, requests = self._asks.most[order], self._asks.request[order]
        before = np.cumsum(most) - most
        first = np.flatnonzero(np.diff(requests, prepend=-1))
        before -= np.repeat(before[first], np.diff(first, append=len(order)))
        found = np.zeros(len(gain))
        found[order] = np.clip(self._steps[requests] - before, 0.0, most)
        return found

    def _used(self, prices: Floats, shares: Floats, steps: Floats) -> Floats:
        """Return GPUs asked for in instances of at least a kind's size, by kind and zone."""
        asks = self._asks
        gpus = shares * (asks.each * steps[asks.lead_of]) * self._per_unit * self._size
        flat = np.bincount(self._own_price, weights=gpus.take(self._own), minlength=prices.size)
        volume = flat.reshape(prices.shape)
        for at, (first, end) in enumerate(asks.wide, asks.zones):
            least = prices[:, at, None] + _EQUAL
            part = np.where(prices[:, first:end] <= least, self._supply[:, first:end], 0.0)
            total = np.maximum(part.sum(axis=1, keepdims=True), _EQUAL)
            volume[:, first:end] += volume[:, at, None] * part / total
        used = np.empty_like(self._supply)
        for block in self._blocks:
            used[block] = np.cumsum(volume[block, : asks.zones][::-1], axis=0)[::-1]
        return used

    def _prefer(self, prices: Floats) -> None:
        """Put each request's ways in the order of their prices, domain by domain."""
        asks = self._asks
        dear = prices[asks.row, asks.column] / asks.capacity + asks.plain
        order = np.argsort(dear, axis=1, kind="stable")
        usual = np.arange(order.shape[1])
        for at in np.unique(asks.lead_of[(order != usual).any(axis=1)]).tolist():
            form = self._standing.forms[asks.request[at]]
            start = asks.starts[at]
            where = int(asks.depth[at]), int(asks.place[at])
            form.dear[where] = [
                [ways[way] for way in own[: len(ways)]]
                for ways, own in zip(
                    form.ways, order[start : start + len(form.ways)].tolist(), strict=True
                )
            ]


def _by_request(requests: Ints, gain: Floats) -> Ints:
    """Return the order by request, highest gain first, then as they come."""
    order = np.argsort(-gain)
    # Equal gains may be in any order by now. Ranks are short integers, whose stable sort is fast.
    new = gain[order[1:]] != gain[order[:-1]]
    largest = max(len(order), int(requests.max(initial=0)))
    rank = np.zeros(len(order), dtype=np.min_scalar_type(largest))
    rank[order[1:]] = np.cumsum(new)
    order = np.argsort(rank, kind="stable")
    own = requests[order].astype(rank.dtype)
    found: Ints = order[np.argsort(own, kind="stable")]
    return found
