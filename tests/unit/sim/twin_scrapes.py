"""What scrapes of single instances come to, sample by sample: slow, and plain to see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from heteroscale.sim.kernel_reading import InstanceColumns
from heteroscale.sim.scrapes import InstanceSamples, Target
from heteroscale.workload.arrivals import PS_PER_S


class Said(NamedTuple):
    """What one engine says at one instant."""

    uid: str
    role: str
    ready: bool
    tokens: int
    busy_ps: int
    occupancy: float
    kv_reserved_tokens: int
    kv_capacity_tokens: int


def samples_of(said: Iterable[Said], at_ps: int) -> InstanceSamples:
    """Return it as a service tells it."""
    everyone = sorted(said, key=attrgetter("uid"))
    return InstanceSamples(
        at_ps=at_ps,
        targets=tuple(
            Target(uid=one.uid, role=one.role, ready=one.ready, occupancy=one.occupancy)
            for one in everyone
        ),
        counted=InstanceColumns(
            tokens=np.array([one.tokens for one in everyone], np.int64),
            busy_ps=np.array([one.busy_ps for one in everyone], np.int64),
            kv_reserved_tokens=np.array([one.kv_reserved_tokens for one in everyone], np.int64),
            kv_capacity_tokens=np.array([one.kv_capacity_tokens for one in everyone], np.int64),
        ),
    )


class PlainSeries:
    """Every sample there ever was, gone through anew for each figure."""

    def __init__(self, window_ps: int, missing_share: float, chance: np.random.Generator) -> None:
        self._window_ps = window_ps
        self._missing_share = missing_share
        self._chance = chance
        self._now_ps = 0
        self._there: dict[str, Said] = {}
        self._samples: defaultdict[str, list[tuple[int, Said]]] = defaultdict(list)

    def scrape(self, said: Iterable[Said], now_ps: int) -> None:
        self._now_ps = now_ps
        self._there = {one.uid: one for one in said}
        draws = self._chance.random(len(self._there))
        for uid, draw in zip(sorted(self._there), draws, strict=True):
            if draw >= self._missing_share:
                self._samples[uid].append((now_ps, self._there[uid]))

    def coverage(self, role: str) -> float:
        ready = [one.uid for one in self._there.values() if one.ready and one.role == role]
        return sum(uid in self._twice(role) for uid in ready) / len(ready) if ready else 1.0

    def tps(self, role: str) -> float | None:
        rates = [self._rate(one) for one in self._twice(role).values()]
        return sum(rates) if rates else None

    def utilization(self, role: str) -> float | None:
        found = self._twice(role).values()
        busy = sum(float(grown([said.busy_ps for _, said in one])) for one in found)
        return busy / self._span_ps(role) if found else None

    def sm_activity(self, role: str) -> float | None:
        found = self._twice(role).values()
        busy = sum(grown([said.busy_ps for _, said in one]) * one[-1][1].occupancy for one in found)
        return busy / self._span_ps(role) if found else None

    def kv_usage(self, role: str) -> float | None:
        newest = [one[-1][1] for one in self._of(role).values() if one[-1][1].ready]
        capacity = sum(one.kv_capacity_tokens for one in newest)
        return sum(one.kv_reserved_tokens for one in newest) / capacity if capacity else None

    def _of(self, role: str) -> dict[str, list[tuple[int, Said]]]:
        """Return uid → its samples in the window, of who has any."""
        begin_ps = self._now_ps - self._window_ps
        found = {
            uid: [(at_ps, said) for at_ps, said in samples if at_ps >= begin_ps]
            for uid, samples in sorted(self._samples.items())
        }
        return {uid: one for uid, one in found.items() if one and one[-1][1].role == role}

    def _twice(self, role: str) -> dict[str, list[tuple[int, Said]]]:
        return {uid: one for uid, one in self._of(role).items() if len(one) > 1}

    def _span_ps(self, role: str) -> int:
        return sum(one[-1][0] - one[0][0] for one in self._twice(role).values())

    def _rate(self, samples: list[tuple[int, Said]]) -> float:
        tokens = grown([said.tokens for _, said in samples])
        if not tokens:
            return 0.0
        (first_ps, first), (last_ps, _) = samples[0], samples[-1]
        span_ps = last_ps - first_ps
        interval_ps = span_ps / (len(samples) - 1)
        before_ps: float = first_ps - (self._now_ps - self._window_ps)
        after_ps: float = self._now_ps - last_ps
        if before_ps >= 1.1 * interval_ps:
            before_ps = interval_ps / 2
        if after_ps >= 1.1 * interval_ps:
            after_ps = interval_ps / 2
        before_ps = min(before_ps, span_ps * first.tokens / tokens)
        return tokens * (span_ps + before_ps + after_ps) / span_ps / (self._window_ps / PS_PER_S)


def grown(counts: list[int]) -> int:
    """Return by how much a counter grew; where it fell it began anew, from 0."""
    return sum(now - before if now >= before else now for before, now in pairwise(counts))
