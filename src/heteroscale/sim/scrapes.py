"""Counters of single instances as a scraper collects them: scrapes fail, counters start again.

What is summed over a role here is what a metrics server would say, not what truly happened: an
instance that did not report is not in it, and the coverage tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from heteroscale.workload.arrivals import PS_PER_S

#: of the scraper's random numbers, beside the run's seed
_STREAM = 0x5C4A
#: a gap at the edge of the window is bridged up to so many scrape intervals, else by half of one
_BRIDGED_INTERVALS = 1.1


def scrape_chance(seed: int) -> np.random.Generator:
    """Return the random numbers that decide when scrapes come and which fail."""
    return np.random.default_rng([seed, _STREAM])


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSample:
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


class InstanceSeries:
    """The samples of every instance of one service that lie in the window."""

    def __init__(self, window_ps: int, missing_share: float, chance: np.random.Generator) -> None:
        """Take the share of scrapes that fail, each instance's on its own."""
        self._window_ps = window_ps
        self._missing_share = missing_share
        self._chance = chance
        self._series: dict[str, deque[InstanceSample]] = {}
        self._ready: Mapping[str, str] = {}
        self._last_ps = 0

    def scrape(self, samples: Iterable[InstanceSample], now_ps: int) -> None:
        """Keep what was reported at one instant; samples that fail to arrive are drawn."""
        # In order of names, so that a draw does not depend on how instances are listed.
        everyone = sorted(samples, key=lambda sample: sample.uid)
        self._last_ps = now_ps
        self._ready = {sample.uid: sample.role for sample in everyone if sample.ready}
        missed = (self._chance.random(len(everyone)) < self._missing_share).tolist()
        for sample, lost in zip(everyone, missed, strict=True):
            if not lost:
                self._series.setdefault(sample.uid, deque()).append(sample)
        for uid, series in tuple(self._series.items()):
            while series and series[0].at_ps < now_ps - self._window_ps:
                series.popleft()
            if not series:
                del self._series[uid]

    def coverage(self, role: str) -> float:
        """Return the share of a role's ready instances behind its rates; 1 when none is ready."""
        ready = [uid for uid, of_role in self._ready.items() if of_role == role]
        told = sum(len(self._series.get(uid, ())) > 1 for uid in ready)
        return told / len(ready) if ready else 1.0

    def tps(self, role: str) -> float | None:
        """Return tokens/s over a role; None when no instance was scraped twice."""
        series = self._rated(role)
        if not series:
            return None
        return sum(self._rate(one, lambda sample: sample.tokens) for one in series)

    def utilization(self, role: str) -> float | None:
        """Return the mean busy share of a role's engines; None when none was scraped twice."""
        return self._busy(role, lambda _sample: 1.0)

    def sm_activity(self, role: str) -> float | None:
        """Return the mean utilization × occupancy; None when none was scraped twice."""
        return self._busy(role, lambda sample: sample.occupancy)

    def kv_usage(self, role: str) -> float | None:
        """Return the reserved share of KV memory, by each instance's newest sample."""
        newest = [sample for sample in self._newest(role) if sample.ready]
        capacity = sum(sample.kv_capacity_tokens for sample in newest)
        if capacity == 0:
            return None
        return min(1.0, sum(sample.kv_reserved_tokens for sample in newest) / capacity)

    def _newest(self, role: str) -> list[InstanceSample]:
        newest = (series[-1] for _, series in sorted(self._series.items()))
        return [sample for sample in newest if sample.role == role]

    def _rated(self, role: str) -> list[Sequence[InstanceSample]]:
        return [
            tuple(series)
            for _, series in sorted(self._series.items())
            if len(series) > 1 and series[-1].role == role
        ]

    def _busy(self, role: str, weight: Callable[[InstanceSample], float]) -> float | None:
        series = self._rated(role)
        observed_ps = sum(one[-1].at_ps - one[0].at_ps for one in series)
        if not observed_ps:
            return None
        busy_ps = sum(
            increase([sample.busy_ps for sample in one]) * weight(one[-1]) for one in series
        )
        return busy_ps / observed_ps

    def _rate(
        self, series: Sequence[InstanceSample], count: Callable[[InstanceSample], int]
    ) -> float:
        """Return one instance's part of a rate over the whole window, as Prometheus' `rate`.

        What lies between the window's edges and the samples is filled in at the same pace, as far
        as the gap is no longer than a scrape would explain, and never back beyond a count of 0.
        """
        first, last = series[0], series[-1]
        span_ps = last.at_ps - first.at_ps
        grown = increase([count(sample) for sample in series])
        if grown == 0:
            return 0.0
        interval_ps = span_ps / (len(series) - 1)

        def bridged(gap_ps: float) -> float:
            return gap_ps if gap_ps < _BRIDGED_INTERVALS * interval_ps else interval_ps / 2

        before_ps = bridged(first.at_ps - (self._last_ps - self._window_ps))
        before_ps = min(before_ps, span_ps * count(first) / grown)
        after_ps = bridged(self._last_ps - last.at_ps)
        whole = grown * (span_ps + before_ps + after_ps) / span_ps
        return whole / (self._window_ps / PS_PER_S)


def increase(counts: Sequence[int]) -> int:
    """Return by how much a counter grew; one that fell began anew, from 0."""
    return sum(after - before if after >= before else after for before, after in pairwise(counts))
