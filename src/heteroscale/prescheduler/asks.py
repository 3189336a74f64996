"""Who may ask for what where, laid out as columns of numbers: one entry a lead, or a need of one.

A lead is a domain in which a request may have steps. What it needs is paid for in one column of
prices: its zone's (the widest switch below a sub-cluster), or its own if it has several zones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from heteroscale.prescheduler.domains import Floats, Ints, Level
from heteroscale.prescheduler.form import Form, Way
from heteroscale.prescheduler.objective import COMPATIBLE, SCARCE, USED, WIDER
from heteroscale.prescheduler.search import Candidate
from heteroscale.prescheduler.standing import Standing

#: path length of a zone
_ZONE = 2


@dataclass(frozen=True, slots=True)
class Lead:
    """A domain where steps of a request may go, and the group there."""

    request: int
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class _Places:
    """Domains of one level where a request may have steps."""

    request: int
    depth: int
    places: Ints
    bounds: Ints
    excess: Ints
    #: index into `Request.homes`; −1 = a new group
    homes: Ints


class Asks:
    """Every request's leads, in the requests' order; somebody has one."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self.zone_of = _zones(standing)
        self.zones = self.zone_of[-1] + 1
        #: by column after the zones': the zones (first, end) of a domain that has several
        self.wide = [
            (first, end) for first, end in self._spans(standing.domains.level(1)) if end > first + 1
        ]
        self._lay_leads()
        self._lay_needs()

    def lead(self, at: int) -> Lead:
        """Return one lead."""
        home = int(self.home[at])
        one = Candidate(
            depth=int(self.depth[at]),
            place=int(self.place[at]),
            home=None if home < 0 else home,
            bound=int(self.most[at]),
            excess=int(self._excess[at]),
        )
        return Lead(int(self.request[at]), one)

    def _lay_leads(self) -> None:
        forms, domains = self._standing.forms, self._standing.domains
        found = [places for form in forms for places in self._places(form)]
        lengths = [len(one.places) for one in found]
        #: per lead: its request and domain, the most steps that fit, the group (−1 = a new one)
        self.request: Ints = np.repeat([one.request for one in found], lengths)
        self.depth: Ints = np.repeat([one.depth for one in found], lengths)
        self.place: Ints = np.concatenate([one.places for one in found])
        self.most: Floats = np.concatenate([one.bounds for one in found]).astype(float)
        self.home: Ints = np.concatenate([one.homes for one in found])
        self._excess: Ints = np.concatenate([one.excess for one in found])
        preferred = np.array([form.request.depths[0] for form in forms])[self.request]
        wider = np.where(self.home < 0, preferred - self.depth, 0)
        gpus = np.array([form.request.step_gpus for form in forms])[self.request]
        #: what the objective takes off a step for where it is
        self.extra: Floats = (SCARCE * self._excess + WIDER * wider) * gpus
        self._column: Ints = np.empty(len(self.request), dtype=np.int64)
        #: path length → leads of that level
        self._level = {
            depth: np.flatnonzero(self.depth == depth) for depth in {one.depth for one in found}
        }
        for depth, own in self._level.items():
            spans = self._spans(domains.level(depth))
            columns = np.array([self._column_of(*span) for span in spans])
            self._column[own] = columns[self.place[own]]

    def _places(self, form: Form) -> Iterator[_Places]:
        """Yield where a request may be: its groups, and new ones at the levels it asks for."""
        standing, request = self._standing, form.request
        homes = {(len(home.domain), home.domain): at for at, home in enumerate(request.homes)}
        new = request.depths if request.new_groups else ()
        for depth in sorted({*new, *(depth for depth, _ in homes)}):
            level = standing.domains.level(depth)
            bounds, excess = standing.fitting.bounds(form, depth), form.excess(level, depth)
            home = np.full(len(level.paths), -1)
            for (length, domain), at in homes.items():
                place = level.place(domain) if length == depth else None
                if place is not None:
                    home[place] = at
            able = bounds > 0 if depth in new else (bounds > 0) & (home >= 0)
            own = able.nonzero()[0]
            yield _Places(form.index, depth, own, bounds[own], excess[own], home[own])

    def _spans(self, level: Level) -> list[tuple[int, int]]:
        """Return the zones (first, end) of each domain of a level."""
        return [
            (self.zone_of[start], self.zone_of[end - 1] + 1)
            for start, end in zip(level.starts, level.ends, strict=True)
        ]

    def _column_of(self, first: int, end: int) -> int:
        return first if end == first + 1 else self.zones + self.wide.index((first, end))

    def _lay_needs(self) -> None:
        """Lay out the needs; each has as many ways as that with most, and absent ones no end."""
        forms, slots, domains = self._standing.forms, self._standing.slots, self._standing.domains
        every = [ways for form in forms for ways in form.ways]
        most = max(map(len, every))
        count = np.array([len(form.ways) for form in forms])
        of_lead = count[self.request]
        #: per lead: its first need
        self.starts: Ints = np.cumsum(of_lead) - of_lead
        #: per need: its lead, and the capacity units of a step
        self.lead_of: Ints = np.repeat(np.arange(len(of_lead)), of_lead)
        before = (np.cumsum(count) - count)[self.request] - self.starts
        need = before[self.lead_of] + np.arange(len(self.lead_of))
        self.each: Floats = np.array([units for form in forms for units in form.each])[need]

        def table(value: Callable[[Way], float], absent: float) -> Floats:
            rows = [[*map(value, ways), *[absent] * (most - len(ways))] for ways in every]
            found: Floats = np.array(rows, dtype=float)[need]
            return found

        #: per need and way: its kind's row, what it covers, what the objective takes off a unit
        self.row: Ints = table(lambda way: way.row, 0).astype(np.int64)
        self.capacity = table(lambda way: way.option.capacity, 1.0)
        self.plain = table(_plain, np.inf)
        #: GPUs of an instance
        self.size = table(lambda way: way.size, 0)
        room = np.zeros_like(self.plain)
        level_of = self.depth[self.lead_of]
        for depth in self._level:
            sums, own = np.array(slots.sums(domains.level(depth))), level_of == depth
            room[own] = sums[self.row[own], self.place[self.lead_of[own], None]]
        #: whether there is one in the domain
        self.there = np.isfinite(self.plain) & (room > 0)
        self.column: Ints = self._column[self.lead_of, None]


def _zones(standing: Standing) -> list[int]:
    """Return each cell's zone."""
    cells = standing.problem.cells
    found: list[int] = []
    for index, cell in enumerate(cells):
        new = index == 0 or cell.domain[:_ZONE] != cells[index - 1].domain[:_ZONE]
        found.append((found[-1] if found else -1) + new)
    return found


def _plain(way: Way) -> float:
    """Return what the objective takes off for a unit of a role where nothing is scarce."""
    return (USED * way.size + COMPATIBLE * way.stood_in) / way.option.capacity
