"""Drives a run: the kernel between boundaries, the production control loop at its ticks.

Order at one instant: arrivals and events, start-ups that end, faults, scrape, tick, end of an
interval.
A run ends at its duration, or, without one, at the first whole interval after the last arrival;
what still runs then counts as running.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from heteroscale.entities.decision import Direction
from heteroscale.entities.service import FleetSpec
from heteroscale.loop import TickReport
from heteroscale.sim.course import Course, RunSettings, ServiceRecord
from heteroscale.sim.faults import Faults
from heteroscale.sim.world import World
from heteroscale.workload.arrivals import PS_PER_S

#: told (simulated seconds, seconds in all or None when the trace's end is not known yet)
Progress = Callable[[float, float | None], None]

#: of the random numbers of scrape times, beside the run's seed
_STREAM = 0x71E5


class Ticker(Protocol):
    """The control loop, or something that looks over its shoulder."""

    def tick(self) -> TickReport:
        """Observe, plan, record and act once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What a run leaves behind."""

    #: in the order of the scenario
    services: Mapping[str, ServiceRecord]

    @property
    def only(self) -> ServiceRecord:
        """Return the record of the one service.

        Raises:
            ValueError: there are several.
        """
        (record,) = self.services.values()
        return record


class Run:
    """One run from start to end; used once."""

    def __init__(
        self,
        settings: RunSettings,
        fleet: FleetSpec,
        world: World,
        loop: Ticker | None,
        faults: Faults | None = None,
    ) -> None:
        """Take the parts; without a loop the fleet stays as it is, without faults it is whole."""
        self._settings = settings
        self._plant = world.plant
        self._subclusters = world.subclusters
        self._loop = loop
        self._faults = faults
        self._courses = tuple(
            Course(
                settings,
                spec,
                world.plant.services[spec.name],
                world.windows[spec.name],
                world.subclusters,
            )
            for spec in fleet.services
        )
        self._now_ps = 0
        # Not the stream that decides which scrapes fail: either may be on without the other.
        self._chance = np.random.default_rng([settings.seed, _STREAM])
        self._tick_ps = _ps(settings.tick_s)
        self._scrape_ps = _ps(settings.scrape_s)
        self._interval_ps = _ps(settings.interval_s)

    def go(self, progress: Progress | None = None) -> RunRecord:
        """Run to the end and return everything it is judged by."""
        settings = self._settings
        # The metrics server's clock is not in step with ours: its scrapes fall between ticks.
        regular = self._scrape_ps // 2
        next_scrape = regular + self._jitter_ps()
        next_tick = self._tick_ps
        next_interval = self._interval_ps
        while True:
            end_ps = self._end_ps()
            now_ps = min(next_scrape, next_tick, next_interval, self._next_fault_ps())
            if end_ps is not None:
                now_ps = min(now_ps, end_ps)
            self._plant.advance(now_ps)
            self._now_ps = now_ps
            if end_ps is None:
                # The end of the trace may have come up just now.
                end_ps = self._end_ps()
            if self._faults is not None:
                self._faults.strike(now_ps)
            if now_ps == next_scrape:
                regular += self._scrape_ps
                next_scrape = regular + self._jitter_ps()
                self._scrape()
            if now_ps == next_tick:
                next_tick += self._tick_ps
                self._tick()
            if now_ps in (next_interval, end_ps):
                next_interval += self._interval_ps
                for course in self._courses:
                    course.close_interval()
                if progress is not None:
                    progress(now_ps / PS_PER_S, settings.duration_s)
            if now_ps == end_ps:
                return self._record()

    def _end_ps(self) -> int | None:
        """Return when the run ends; None = not known before the trace's end is seen."""
        if self._settings.duration_s is not None:
            return _ps(self._settings.duration_s)
        last_ps = self._plant.last_arrival_ps
        if last_ps is None:
            return None
        intervals = last_ps // self._interval_ps + 1
        return max(intervals * self._interval_ps, self._now_ps)

    def _next_fault_ps(self) -> int:
        """Return when a fault begins or ends next; without one, the next tick is soon enough."""
        due_ps = None if self._faults is None else self._faults.next_ps()
        return self._now_ps + self._tick_ps if due_ps is None else max(due_ps, self._now_ps)

    def _jitter_ps(self) -> int:
        """Return by how much the next scrape is early (negative) or late, drawn."""
        jitter_s = self._settings.jitter_s
        # As `uniform` draws it, in a tenth of the time.
        return _ps(-jitter_s + 2 * jitter_s * self._chance.random()) if jitter_s else 0

    def _scrape(self) -> None:
        if self._faults is None or not self._faults.blackout:
            for course in self._courses:
                course.scrape()

    def _tick(self) -> None:
        # At ticks alone: when a service's engines part must not depend on the others' events.
        for service in self._plant.services.values():
            service.settle()
        if self._loop is None:
            return
        report = self._loop.tick()
        directions: dict[str, list[Direction]] = {}
        for subcluster in self._subclusters:
            for name, direction in subcluster.take_effects():
                directions.setdefault(name, []).append(direction)
        for course in self._courses:
            course.watch(report, directions.get(course.name, ()), self._now_ps / PS_PER_S)

    def _record(self) -> RunRecord:
        faults = None if self._faults is None else self._faults.notes
        records = [course.record(self._now_ps, faults) for course in self._courses]
        names = [course.name for course in self._courses]
        return RunRecord(services=dict(zip(names, records, strict=True)))


def _ps(seconds: float) -> int:
    return round(seconds * PS_PER_S)
