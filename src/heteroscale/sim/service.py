"""One service in simulated time: its requests, its engines, and what they measured.

It knows no other service: what happens here depends on its own traffic and instances alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Protocol

import numpy as np

from heteroscale.entities.service import RolePath
from heteroscale.entities.snapshot import InstanceState
from heteroscale.sim.kernel_reading import InstanceColumns
from heteroscale.sim.kernel_state import Int64Array
from heteroscale.sim.ports import SimClock
from heteroscale.sim.rows import Row
from heteroscale.sim.sampling import RoleTime, Sample, role_times, take_sample
from heteroscale.sim.scrapes import InstanceSamples, Target, Targets
from heteroscale.sim.serving import AdvanceStatus, Serving
from heteroscale.sim.subcluster import Roster
from heteroscale.workload.arrivals import ArrivalSource


class Engines(Protocol):
    """What the engines of a service tell of themselves."""

    def counted(self, engines: Int64Array) -> InstanceColumns:
        """Return what engines have counted so far, an entry each."""
        ...

    def part_busy_ps(self) -> Mapping[RolePath, float]:
        """Return leaf role → time its engines computed, of roles inside others."""
        ...

    def settle(self) -> None:
        """Let engines that are done with one another part."""
        ...


class SimService:
    """The serving plane of one service and its instances in every sub-cluster."""

    def __init__(
        self,
        *,
        name: str,
        clock: SimClock,
        serving: Serving,
        engines: Engines,
        rosters: Sequence[Roster],
        arrivals: ArrivalSource,
        occupancy: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Take `occupancy`: leaf role → accelerator → SM activity ÷ utilization."""
        self.name = name
        self.serving = serving
        self._clock = clock
        self._engines = engines
        self._rosters = tuple(rosters)
        self._arrivals = arrivals
        self._occupancy = occupancy
        #: of each sub-cluster, when its instances were last looked up
        self._changes: tuple[int, ...] | None = None
        self._states: Mapping[str, Mapping[InstanceState, int]] = {}
        #: whom a scrape asks, and their engines
        self._targets: Targets = ()
        self._asked: Int64Array = np.zeros(0, np.int64)
        #: when the last request arrived, once the source has ended; None = there may be more
        self.last_arrival_ps: int | None = None

    def serve(self, until_ps: int) -> None:
        """Let everything up to and including `until_ps` happen to its requests."""
        while self.serving.advance(until_ps) is AdvanceStatus.NEEDS_ARRIVALS:
            chunk = next(self._arrivals, None)
            if chunk is None:
                self.serving.close_arrivals()
                self.last_arrival_ps = self.serving.now_ps
            else:
                self.serving.feed(chunk)

    def sample(self) -> Sample:
        """Return every counter as of now."""
        return take_sample(self.serving, self, self._clock.now_ps)

    def instance_samples(self) -> InstanceSamples:
        """Return what every running engine would answer to a scrape now."""
        self._look()
        return InstanceSamples(
            at_ps=self._clock.now_ps,
            targets=self._targets,
            counted=self._engines.counted(self._asked),
        )

    def settle(self) -> None:
        """Let what a tick has changed take effect among its engines."""
        self._engines.settle()

    def leaf_times(self, now_ps: int) -> Mapping[RolePath, RoleTime]:
        """Return leaf role → summed wall time of its running engines, by accelerator occupancy."""
        busy_ps = self._engines.part_busy_ps()
        return {
            role: role_times(
                {
                    accelerator: sum(
                        roster.usage.up_ps(self.name, role, accelerator, now_ps)
                        for roster in self._rosters
                    )
                    for accelerator in occupancy
                },
                occupancy,
                busy_ps.get(role),
            )
            for role, occupancy in self._occupancy.items()
        }

    def gpu_ps(self) -> Mapping[str, int]:
        """Return accelerator → GPU × picoseconds asked for since the start of the run."""
        total: Counter[str] = Counter()
        for roster in self._rosters:
            total.update(roster.usage.gpu_ps(self.name, self._clock.now_ps))
        return dict(sorted(total.items()))

    def states(self) -> Mapping[str, Mapping[InstanceState, int]]:
        """Return role → state → instances now."""
        self._look()
        return self._states

    def _look(self) -> None:
        """Look up the instances anew where one came, went or changed since the last look."""
        changes = tuple([roster.changes for roster in self._rosters])
        if changes == self._changes:
            return
        self._changes = changes
        self._targets, self._asked = self._running()
        counts: dict[str, dict[InstanceState, int]] = {role: {} for role in self._occupancy}
        for row in self._rows():
            by_state = counts[row.key[2]]
            by_state[row.state] = by_state.get(row.state, 0) + 1
        self._states = counts

    def _running(self) -> tuple[Targets, Int64Array]:
        """Return who would answer to a scrape, and their engines."""
        rows = sorted((row for row in self._rows() if row.engine >= 0), key=attrgetter("uid"))
        targets = tuple(
            Target(
                uid=row.uid,
                role=row.key[2],
                ready=row.state is InstanceState.READY,
                occupancy=self._occupancy[row.key[2]][row.key[3]],
            )
            for row in rows
        )
        return targets, np.array([row.engine for row in rows], np.int64)

    def _rows(self) -> Iterator[Row]:
        return (row for roster in self._rosters for row in roster.rows() if row.key[0] == self.name)
