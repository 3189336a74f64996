"""Counters of single instances as a scraper collects them: scrapes fail, counters start again.

What is summed over a role here is what a metrics server would say, not what truly happened: an
instance that did not report is not in it, and the coverage tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from heteroscale.workload.arrivals import PS_PER_S

#: of the scraper's random numbers, beside the run's seed
_STREAM = 0x5C4A
#: a gap at the edge of the window is bridged up to so many scrape intervals, else by half of one
_BRIDGED_INTERVALS = 1.1


def scrape_chance(seed: int) -> np.random.Generator:
    """Return the random numbers that decide when scrapes come and which fail."""
    return np.random.default_rng([seed, _STREAM])


# A tuple, because there are thousands an hour of each instance.
class InstanceSample(NamedTuple):
    """What one engine says at one instant; its counters begin with the engine."""

    at_ps: int
    uid: str
    role: str
    #: in rotation
    ready: bool
    tokens: int
    busy_ps: int
    #: SM activity ÷ utilization
    occupancy: float
    kv_reserved_tokens: int
    kv_capacity_tokens: int


class _Grown(NamedTuple):
    """A sample, and what its instance's counters grew by since the first sample ever.

    That is counted once, when a sample comes: between any two it is a difference.
    """

    sample: InstanceSample
    tokens: int
    busy_ps: int


class _OfRole:
    """What the newest scrape and those before it say of a role, instance after instance."""

    def __init__(self) -> None:
        #: of those scraped twice: tokens/s, time between first and last sample, busy time of it,
        #: and that weighted with the occupancy
        self.rates_tps: list[float] = []
        self.observed_ps = 0
        self.busy_ps: list[float] = []
        self.active_ps: list[float] = []
        #: of those in rotation by their newest sample
        self.kv_reserved_tokens = 0
        self.kv_capacity_tokens = 0


class InstanceSeries:
    """The samples of every instance of one service that lie in the window."""

    def __init__(self, window_ps: int, missing_share: float, chance: np.random.Generator) -> None:
        """Take the share of scrapes that fail, each instance's on its own."""
        self._window_ps = window_ps
        self._missing_share = missing_share
        self._chance = chance
        self._series: dict[str, deque[_Grown]] = {}
        self._ready: Mapping[str, str] = {}
        self._last_ps = 0
        self._roles: dict[str, _OfRole] = {}

    def scrape(self, samples: Iterable[InstanceSample], now_ps: int) -> None:
        """Keep what was reported at one instant; samples that fail to arrive are drawn."""
        # In order of names, so that a draw does not depend on how instances are listed.
        everyone = sorted(samples, key=attrgetter("uid"))
        self._last_ps = now_ps
        self._ready = {sample.uid: sample.role for sample in everyone if sample.ready}
        missed = (self._chance.random(len(everyone)) < self._missing_share).tolist()
        for sample, lost in zip(everyone, missed, strict=True):
            if not lost:
                self._keep(sample)
        self._roles = {}
        for uid, series in sorted(self._series.items()):
            while series and series[0].sample.at_ps < now_ps - self._window_ps:
                series.popleft()
            if series:
                self._count(series)
            else:
                del self._series[uid]

    def coverage(self, role: str) -> float:
        """Return the share of a role's ready instances behind its rates; 1 when none is ready."""
        ready = [uid for uid, of_role in self._ready.items() if of_role == role]
        told = sum(len(self._series.get(uid, ())) > 1 for uid in ready)
        return told / len(ready) if ready else 1.0

    def tps(self, role: str) -> float | None:
        """Return tokens/s over a role; None when no instance was scraped twice."""
        found = self._roles.get(role)
        return sum(found.rates_tps) if found and found.rates_tps else None

    def utilization(self, role: str) -> float | None:
        """Return the mean busy share of a role's engines; None when none was scraped twice."""
        found = self._roles.get(role)
        return sum(found.busy_ps) / found.observed_ps if found and found.observed_ps else None

    def sm_activity(self, role: str) -> float | None:
        """Return the mean utilization × occupancy; None when none was scraped twice."""
        found = self._roles.get(role)
        return sum(found.active_ps) / found.observed_ps if found and found.observed_ps else None

    def kv_usage(self, role: str) -> float | None:
        """Return the reserved share of KV memory, by each instance's newest sample."""
        found = self._roles.get(role)
        if found is None or found.kv_capacity_tokens == 0:
            return None
        return min(1.0, found.kv_reserved_tokens / found.kv_capacity_tokens)

    def _keep(self, sample: InstanceSample) -> None:
        series = self._series.get(sample.uid)
        if not series:
            self._series[sample.uid] = deque([_Grown(sample, 0, 0)])
            return
        before, tokens, busy_ps = series[-1]
        tokens += growth(before.tokens, sample.tokens)
        busy_ps += growth(before.busy_ps, sample.busy_ps)
        series.append(_Grown(sample, tokens, busy_ps))

    def _count(self, series: deque[_Grown]) -> None:
        """Add what one instance's samples say to its role."""
        first, tokens_before, busy_before_ps = series[0]
        last, tokens, busy_ps = series[-1]
        role = self._roles.get(last.role)
        if role is None:
            role = self._roles[last.role] = _OfRole()
        if last.ready:
            role.kv_reserved_tokens += last.kv_reserved_tokens
            role.kv_capacity_tokens += last.kv_capacity_tokens
        if len(series) > 1:
            span_ps = last.at_ps - first.at_ps
            busy_ps -= busy_before_ps
            role.observed_ps += span_ps
            role.busy_ps.append(float(busy_ps))
            role.active_ps.append(busy_ps * last.occupancy)
            grown = tokens - tokens_before
            interval_ps = span_ps / (len(series) - 1)
            role.rates_tps.append(self._rate(first, last, grown, interval_ps) if grown else 0.0)

    def _rate(
        self, first: InstanceSample, last: InstanceSample, grown: int, interval_ps: float
    ) -> float:
        """Return one instance's tokens/s over the whole window, as Prometheus' `rate`.

        What lies between the window's edges and the samples is filled in at the same pace, as far
        as the gap is no longer than a scrape would explain, and never back beyond a count of 0.
        """
        span_ps = last.at_ps - first.at_ps
        longest_ps = _BRIDGED_INTERVALS * interval_ps
        before_ps: float = first.at_ps - (self._last_ps - self._window_ps)
        after_ps: float = self._last_ps - last.at_ps
        if before_ps >= longest_ps:
            before_ps = interval_ps / 2
        if after_ps >= longest_ps:
            after_ps = interval_ps / 2
        before_ps = min(before_ps, span_ps * first.tokens / grown)
        whole = grown * (span_ps + before_ps + after_ps) / span_ps
        return whole / (self._window_ps / PS_PER_S)


def growth(before: int, after: int) -> int:
    """Return by how much a counter grew; one that fell began anew, from 0."""
    return after - before if after >= before else after
