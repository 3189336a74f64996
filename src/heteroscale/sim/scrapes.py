"""Counters of single instances as a scraper collects them: scrapes fail, counters start again.

What is summed over a role here is what a metrics server would say, not what truly happened: an
instance that did not report is not in it, and the coverage tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from heteroscale.sim.kernel_reading import InstanceColumns
from heteroscale.sim.kernel_scrapes import (
    K_AT,
    K_BUSY,
    K_CAPACITY,
    K_READY,
    K_RESERVED,
    K_ROWS,
    K_TOKENS,
    K_TOLD,
    R_CAPACITY,
    R_COLUMNS,
    R_COVERED,
    R_OBSERVED,
    R_READY,
    R_RESERVED,
    T_ACTIVE,
    T_BUSY,
    T_COLUMNS,
    T_TPS,
    BoolArray,
    Float64Array,
    note,
    sum_up,
)
from heteroscale.sim.kernel_state import Int64Array

#: of the scraper's random numbers, beside the run's seed
_STREAM = 0x5C4A


def scrape_chance(seed: int) -> np.random.Generator:
    """Return the random numbers that decide when scrapes come and which fail."""
    return np.random.default_rng([seed, _STREAM])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An instance whose engine runs, as far as that seldom changes."""

    uid: str
    role: str
    #: in rotation
    ready: bool
    #: SM activity ÷ utilization
    occupancy: float


#: in order of uid, so that a draw does not depend on how instances are listed
Targets = tuple[Target, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSamples:
    """What every running engine says at one instant; its counters begin with the engine."""

    at_ps: int
    #: the same object while nothing in it changed
    targets: Targets
    #: an entry per target
    counted: InstanceColumns


class _OfRole(NamedTuple):
    """What the samples in the window say of a role."""

    #: of its instances that were scraped twice: tokens/s, time between first and last sample, busy
    #: time of it, and that weighted with the occupancy
    tps: float
    observed_ps: int
    busy_ps: float
    active_ps: float
    #: of those in rotation by their newest sample
    kv_reserved_tokens: int
    kv_capacity_tokens: int
    #: of those in rotation by now: all, and those scraped twice
    ready: int
    covered: int


class InstanceSeries:
    """The samples of every instance of one service that lie in the window."""

    def __init__(self, window_ps: int, missing_share: float, chance: np.random.Generator) -> None:
        """Take the share of scrapes that fail, each instance's on its own."""
        self._window_ps = window_ps
        self._missing_share = missing_share
        self._chance = chance
        self._columns = _Columns(known=(), targets=())
        #: times of the scrapes in the window; the first is one in which nobody was asked
        self._times_ps: deque[int] = deque([0])
        self._kept: Int64Array = np.zeros((1, K_ROWS, 0), np.int64)
        self._roles: Mapping[str, _OfRole] = {}

    def scrape(self, samples: InstanceSamples) -> None:
        """Keep what was reported at one instant; samples that fail to arrive are drawn."""
        if samples.targets is not self._columns.targets:
            self._take(samples.targets)
        self._keep(samples)
        self._roles = self._summed_up()

    def coverage(self, role: str) -> float:
        """Return the share of a role's ready instances behind its rates; 1 when none is ready."""
        found = self._roles.get(role)
        return found.covered / found.ready if found and found.ready else 1.0

    def tps(self, role: str) -> float | None:
        """Return tokens/s over a role; None when no instance was scraped twice."""
        found = self._roles.get(role)
        return found.tps if found and found.observed_ps else None

    def utilization(self, role: str) -> float | None:
        """Return the mean busy share of a role's engines; None when none was scraped twice."""
        found = self._roles.get(role)
        return found.busy_ps / found.observed_ps if found and found.observed_ps else None

    def sm_activity(self, role: str) -> float | None:
        """Return the mean utilization × occupancy; None when none was scraped twice."""
        found = self._roles.get(role)
        return found.active_ps / found.observed_ps if found and found.observed_ps else None

    def kv_usage(self, role: str) -> float | None:
        """Return the reserved share of KV memory, by each instance's newest sample."""
        found = self._roles.get(role)
        if found is None or found.kv_capacity_tokens == 0:
            return None
        return min(1.0, found.kv_reserved_tokens / found.kv_capacity_tokens)

    def _take(self, targets: Targets) -> None:
        """Give a column to every target, and leave theirs to all who have samples."""
        before = self._columns.known
        reported = np.flatnonzero(self._kept[:, K_TOLD].any(axis=0)).tolist()
        known = {before[column].uid: before[column] for column in reported}
        known |= {one.uid: one for one in targets}
        columns = _Columns(known=tuple(known[uid] for uid in sorted(known)), targets=targets)
        kept = np.zeros((*self._kept.shape[:2], len(columns.known)), np.int64)
        for column, one in enumerate(before):
            if one.uid in known:
                kept[:, :, columns.of[one.uid]] = self._kept[:, :, column]
        self._columns, self._kept = columns, kept

    def _keep(self, samples: InstanceSamples) -> None:
        """Add a scrape to those in the window, and drop what is older."""
        columns, counted = self._columns, samples.counted
        old = 0
        while self._times_ps and self._times_ps[0] < samples.at_ps - self._window_ps:
            self._times_ps.popleft()
            old += 1
        self._times_ps.append(samples.at_ps)
        self._kept = np.concatenate((self._kept[old:], self._kept[-1:]))
        said = columns.said
        said[K_AT] = samples.at_ps
        said[K_TOKENS] = counted.tokens
        said[K_BUSY] = counted.busy_ps
        said[K_RESERVED] = counted.kv_reserved_tokens
        said[K_CAPACITY] = counted.kv_capacity_tokens
        told = self._chance.random(len(columns.asked)) >= self._missing_share
        note(self._kept, columns.asked, told, said)

    def _summed_up(self) -> Mapping[str, _OfRole]:
        """Return what the samples in the window say, role by role."""
        columns = self._columns
        sums = np.empty((len(columns.roles), R_COLUMNS), np.int64)
        times = np.empty((len(columns.roles), T_COLUMNS))
        sum_up(
            self._kept,
            self._times_ps[-1],
            self._window_ps,
            columns.role_of,
            columns.ready,
            columns.occupancy,
            sums,
            times,
        )
        return {
            role: _OfRole(
                tps=of_times[T_TPS],
                observed_ps=counts[R_OBSERVED],
                busy_ps=of_times[T_BUSY],
                active_ps=of_times[T_ACTIVE],
                kv_reserved_tokens=counts[R_RESERVED],
                kv_capacity_tokens=counts[R_CAPACITY],
                ready=counts[R_READY],
                covered=counts[R_COVERED],
            )
            for role, counts, of_times in zip(
                columns.roles, sums.tolist(), times.tolist(), strict=True
            )
        }


class _Columns:
    """Whose samples stand where, for as long as the same instances are asked."""

    def __init__(self, known: Targets, targets: Targets) -> None:
        """Take everyone who has a column, and who of them is asked, both in order of uid."""
        self.known = known
        self.targets = targets
        self.of = {one.uid: column for column, one in enumerate(known)}
        self.asked: Int64Array = np.array([self.of[one.uid] for one in targets], np.int64)
        ready = {one.uid for one in targets if one.ready}
        self.ready: BoolArray = np.array([one.uid in ready for one in known], np.bool_)
        self.occupancy: Float64Array = np.array([one.occupancy for one in known], np.float64)
        names = sorted({one.role for one in known})
        self.role_of: Int64Array = np.array([names.index(one.role) for one in known], np.int64)
        self.roles = tuple(names)
        #: room for what the targets say; what they are stays
        self.said: Int64Array = np.zeros((K_ROWS, len(targets)), np.int64)
        self.said[K_READY] = [one.ready for one in targets]
