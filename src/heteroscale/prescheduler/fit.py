"""Whether so many steps of a request fit one domain, and in which cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heteroscale.entities.service import UNIT_SLACK, RolePath
from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.domains import NOWHERE, Domains, Floats, Ints, Level
from heteroscale.prescheduler.form import Form, Manner, Told, Way
from heteroscale.prescheduler.objective import COMPATIBLE, PRICE, SCARCE, USED, WIDER
from heteroscale.prescheduler.problem import Block, Cell, Narrow, Problem
from heteroscale.prescheduler.slots import Kept, Slots
from heteroscale.prescheduler.tally import Tally

#: cells a role's part chooses among once they hold all of it
_CHOICE = 8
#: more steps than any domain holds
_ENDLESS = 1e12


@dataclass(frozen=True, slots=True)
class Fit:
    """Steps that fit a domain, with their place in it; nothing of it is taken yet."""

    steps: int
    blocks: tuple[Block, ...]
    narrows: Mapping[RolePath, DomainPath]
    #: what the objective takes off in proportion to GPUs
    cost: float
    #: what it takes off for whole nodes and switches, as things stand
    harm: float


class Fitting:
    """Fits against one set of slots; every trial leaves them as they were."""

    def __init__(self, problem: Problem, slots: Slots, domains: Domains) -> None:
        self.cells: Sequence[Cell] = problem.cells
        self.slots = slots
        self.domains = domains

    def bounds(self, form: Form, depth: int) -> Ints:
        """Return per domain of a level how many steps fit at most."""
        level = self.domains.level(depth)
        least = np.full(len(level.paths), _ENDLESS)
        for narrow, members in form.sets:
            if narrow is None:
                np.minimum(least, self._covered(form, members, level), out=least)
                continue
            inner = self.domains.level(narrow.depth)
            best = _most(self._covered(form, members, inner), inner, level)
            np.minimum(least, best, out=least)
        if form.alone is not None:
            row, slots = form.alone
            np.minimum(least, self.slots.sums(level)[row] / slots, out=least)
        return _whole(least)

    def most(
        self,
        form: Form,
        where: tuple[int, int],
        pinned: Mapping[RolePath, DomainPath],
        limit: int,
        quota: Mapping[str, int],
        manners: Sequence[Manner],
    ) -> Fit | None:
        """Return the most steps, at most `limit`, that fit a domain; None = not even one.

        Args:
            where: (path length, index in its level) of the domain.
            pinned: `Narrow` path → where those roles live already.
        """
        trying = _Trying(self, form, where, pinned, quota, manners[: form.choices])
        manner = trying.manner(limit)
        steps, high = (limit if manner else 0), limit
        while high - steps > 1:
            middle = (steps + high) // 2
            found = trying.manner(middle)
            if found is None:
                high = middle
            else:
                steps, manner = middle, found
        return None if manner is None else trying.fit(steps, manner)

    def narrow_bound(self, form: Form, members: Iterable[int], inner: Level) -> Ints:
        """Return per domain how many steps of some of the roles fit at most."""
        return _whole(self._covered(form, members, inner))

    def _covered(self, form: Form, members: Iterable[int], level: Level) -> Floats:
        """Return per domain how many steps some of the roles have room for, each for itself."""
        sums = self.slots.sums(level)
        least = np.full(len(level.paths), _ENDLESS)
        for i in members:
            first, *others = form.ways[i]
            cover = sums[first.row] * first.steps
            for way in others:
                cover += sums[way.row] * way.steps
            np.minimum(least, cover, out=least)
        return least


def _whole(steps: Floats) -> Ints:
    steps += UNIT_SLACK
    return steps.astype(np.int64)


def _most(values: Floats, inner: Level, outer: Level) -> Floats:
    """Return per outer domain the highest value of the inner ones in it; 0 where there is none."""
    found = np.zeros(len(outer.paths))
    at = np.searchsorted(outer.starts, inner.starts, side="right") - 1
    np.maximum.at(found, at, values)
    return found


class _Trying:
    """The manners to go about a fit in one domain."""

    def __init__(
        self,
        fitting: Fitting,
        form: Form,
        where: tuple[int, int],
        pinned: Mapping[RolePath, DomainPath],
        quota: Mapping[str, int],
        manners: Sequence[Manner],
    ) -> None:
        self._fitting, self._form, self._where = fitting, form, where
        self._pinned, self._quota, self._manners = pinned, quota, manners
        level = fitting.domains.level(where[0])
        self._length = len(level.paths[where[1]])
        known = any(told is not Told.NOTHING for told in form.told)
        self._tally = Tally(form, fitting.slots, level, where[1], quota) if known else None

    def manner(self, steps: int) -> Manner | None:
        """Return the first manner in which exactly so many steps fit; None = they do not."""
        for manner in self._manners:
            # The sums are over all classes of a domain.
            told = self._form.told[manner.order] if manner.above == NOWHERE else Told.NOTHING
            if self._tally and told is not Told.NOTHING:
                if not self._tally.holds(steps, manner):
                    continue
                if told is Told.ALL:
                    return manner
            trial, fits = self._trial(steps, manner)
            trial.undo()
            if fits:
                return manner
        return None

    def fit(self, steps: int, manner: Manner) -> Fit:
        """Return where steps go that fit in a manner."""
        return self._trial(steps, manner)[0].found(self._length)

    def _trial(self, steps: int, manner: Manner) -> tuple[_Trial, bool]:
        trial = _Trial(self._fitting, self._form, steps, manner, dict(self._quota))
        return trial, trial.domain(self._where, self._pinned)


class _Trial:
    """One attempt: what it takes it takes from the slots at once, and gives back unless kept."""

    def __init__(
        self, fitting: Fitting, form: Form, steps: int, manner: Manner, quota: dict[str, int]
    ) -> None:
        self._fitting = fitting
        self._slots = fitting.slots
        self._cells = fitting.cells
        self._form = form
        self._steps = steps
        self._manner = manner
        self._quota = quota
        self._taken: list[tuple[int, int, Way, int]] = []
        self._before: dict[int, Kept] = {}
        self._narrows: dict[RolePath, DomainPath] = {}

    def domain(self, where: tuple[int, int], pinned: Mapping[RolePath, DomainPath]) -> bool:
        """Take every role's part inside a domain; False = some of it does not fit."""
        order = self._form.orders[self._manner.order]
        for narrow, members in self._form.sets:
            own = [i for i in order if i in members]
            if narrow is None:
                if not all(self._need(i, where) for i in own):
                    return False
            elif not self._narrow(narrow, own, where, pinned.get(narrow.path)):
                return False
        return True

    def found(self, length: int) -> Fit:
        """Return what was taken, and give it back."""
        form, request = self._form, self._form.request
        wider = max(0, request.depths[0] - length)
        cost = 0.0
        for cell, _, way, replicas in self._taken:
            own = self._cells[cell]
            cost += COMPATIBLE * replicas * way.stood_in
            cost += (replicas * way.size) * (
                USED
                + SCARCE * max(0, own.scarcity - form.scarcity)
                + WIDER * wider
                + PRICE * own.price
            )
        slots = self._slots
        harm = sum(slots.penalty(cell) - was for cell, (*_, was, _) in self._before.items())
        blocks: dict[tuple[int, int, int], int] = {}
        for cell, need, way, replicas in self._taken:
            key = (cell, need, way.index)
            blocks[key] = blocks.get(key, 0) + replicas
        self.undo()
        return Fit(
            steps=self._steps,
            blocks=tuple(
                Block(cell=cell, need=need, option=option, replicas=blocks[cell, need, option])
                for cell, need, option in sorted(blocks)
            ),
            narrows=self._narrows,
            cost=cost,
            harm=harm,
        )

    def undo(self) -> None:
        """Give everything back."""
        for cell, kept in self._before.items():
            self._slots.restore(cell, kept)

    def _rewind(self, length: int) -> None:
        while len(self._taken) > length:
            cell, _, way, replicas = self._taken.pop()
            self._slots.take(cell, way.place, -replicas)
            if way.option.type in self._quota:
                self._quota[way.option.type] += replicas * way.size

    def _narrow(
        self,
        narrow: Narrow,
        members: Sequence[int],
        where: tuple[int, int],
        pinned: DomainPath | None,
    ) -> bool:
        domains = self._fitting.domains
        level = domains.level(narrow.depth)
        if pinned is not None:
            place = level.place(pinned)
            candidates: Sequence[int] = () if place is None else (place,)
        else:
            candidates = self._roomy(members, level, domains.inside(narrow.depth, *where))
        for place in candidates:
            length = len(self._taken)
            if all(self._need(i, (narrow.depth, place)) for i in members):
                self._narrows[narrow.path] = level.paths[place]
                return True
            self._rewind(length)
        return False

    def _roomy(self, members: Sequence[int], level: Level, inside: range) -> list[int]:
        """Return the narrower domains that may hold the roles: least scarce, then tightest."""
        bound = self._fitting.narrow_bound(self._form, members, level)
        excess = np.zeros(len(level.paths), dtype=np.int64)
        for i in members:
            least = [level.scarcity(way.option.type) for way in self._form.ways[i]]
            np.maximum(excess, np.minimum.reduce(least), out=excess)
        holding = [place for place in inside if bound[place] >= self._steps]
        holding.sort(key=lambda place: (int(excess[place]), int(bound[place]), place))
        return holding

    def _need(self, need: int, where: tuple[int, int]) -> bool:
        """Take instances worth a role's part of the steps; False = there are not enough."""
        owed = self._form.each[need] * self._steps
        ways = self._form.ways_in(where)[need]
        reverse, share = self._manner.reverse, self._manner.share
        held = 0.0
        if share < 8 and len(ways) > 1:
            held = owed * (8 - share) / 8
        for way in reversed(ways) if reverse else ways:
            cells: Sequence[int] = self._fitting.domains.cells(*where, way.option.type)
            if self._manner.above < NOWHERE:
                most = self._form.scarcity + self._manner.above
                cells = [cell for cell in cells if self._cells[cell].scarcity <= most]
            owed = self._fill(need, way, cells, owed - held) + held
            held = 0.0
            if owed <= UNIT_SLACK:
                return True
        return False

    def _fill(self, need: int, way: Way, cells: Sequence[int], owed: float) -> float:
        """Take what is owed, or all there is, of one option; return what is owed still."""
        slots, capacity = self._slots, way.option.capacity
        accelerator = way.option.type
        wanted = -int(-(owed - UNIT_SLACK) // capacity)
        if accelerator in self._quota:
            wanted = min(wanted, self._quota[accelerator] // way.size)
        rooms: list[tuple[int, int]] = []
        total = 0
        for cell in cells:
            room = slots.room(cell, way.place)
            if room > 0:
                rooms.append((cell, room))
                total += room
                if total >= wanted and len(rooms) >= _CHOICE:
                    break
        if len(rooms) > 1:
            rooms.sort(key=lambda pair: self._rank(pair[0], pair[1], way, wanted))
        for cell, room in rooms:
            if wanted <= 0:
                break
            replicas = min(room, wanted)
            if cell not in self._before:
                self._before[cell] = slots.keep(cell)
            slots.take(cell, way.place, replicas)
            self._taken.append((cell, need, way, replicas))
            if accelerator in self._quota:
                self._quota[accelerator] -= replicas * way.size
            wanted -= replicas
            owed -= replicas * capacity
        return owed

    def _rank(self, cell: int, room: int, way: Way, wanted: int) -> tuple[int, ...]:
        own = self._cells[cell]
        if self._manner.spread:
            return ((cell * 2654435761 + self._manner.spread) % 4294967291, cell)
        return (
            max(0, own.scarcity - self._form.scarcity),
            own.idle,
            self._slots.breaks(cell, way.place),
            room < wanted,
            room,
            cell,
        )
