"""Cumulative counters at an instant, and what two of them say about the time between.

Both the signals a policy sees and the timeline a reader sees come from here, so they agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Protocol

from heteroscale.sim.kernel_state import Int64Array
from heteroscale.sim.serving import Counters, Serving, histogram_edges_ps
from heteroscale.workload.arrivals import PS_PER_S


class RoleIndex(IntEnum):
    """Position of a role in the pair that a serving plane has."""

    PREFILL = 0
    DECODE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleTime:
    """Wall time of one role's running engines, cumulative."""

    up_ps: int
    #: up_ps weighted with each accelerator's occupancy while kernels run
    occupied_ps: float


class UpTimes(Protocol):
    """Knows how long engines have been up."""

    def role_time(self, role: str, now_ps: int) -> RoleTime:
        """Return one role's summed wall time since the start of the run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Everything counted since the start of the run, at one instant."""

    at_ps: int
    counters: Counters
    ttft: Int64Array
    tbt: Int64Array
    #: prefill, decode
    times: tuple[RoleTime, RoleTime]


def take_sample(serving: Serving, up_times: UpTimes, now_ps: int) -> Sample:
    """Return the counters of one service at the time its serving plane stands at."""
    counters = serving.counters(now_ps)
    prefill, decode = (up_times.role_time(role.role, now_ps) for role in counters.roles)
    return Sample(
        at_ps=now_ps,
        counters=counters,
        ttft=serving.ttft_histogram(),
        tbt=serving.tbt_histogram(),
        times=(prefill, decode),
    )


class Span:
    """The time between two samples of one service, the first strictly earlier."""

    def __init__(self, first: Sample, last: Sample) -> None:
        self._first = first
        self._last = last
        self.length_s = (last.at_ps - first.at_ps) / PS_PER_S

    def tps(self, role: RoleIndex) -> float:
        """Return tokens/s served by a role."""
        before, after = self._first.counters.roles[role], self._last.counters.roles[role]
        return (after.tokens - before.tokens) / self.length_s

    def arrived_rps(self) -> float:
        """Return requests/s that arrived, refused ones included."""
        before, after = self._first.counters.arrived, self._last.counters.arrived
        return (after.requests - before.requests) / self.length_s

    def arrived_input_tps(self) -> float:
        """Return input tokens/s that arrived, those of refused requests included."""
        before, after = self._first.counters.arrived, self._last.counters.arrived
        return (after.input_tokens - before.input_tokens) / self.length_s

    def arrived_decode_tps(self) -> float:
        """Return decode tokens/s the arrived requests ask for; only a simulator can know it."""
        before, after = self._first.counters.arrived, self._last.counters.arrived
        tokens = (after.output_tokens - before.output_tokens) - (after.requests - before.requests)
        return tokens / self.length_s

    def refused_rps(self) -> float:
        """Return requests/s that were refused."""
        before, after = self._first.counters.refused, self._last.counters.refused
        return (after.requests - before.requests) / self.length_s

    def mean_decode_tokens(self) -> float | None:
        """Return decode tokens per completed request; None when none completed.

        The first token is prefill's, so a request of n output tokens counts n - 1 here, like
        the served tokens of decode.
        """
        before, after = self._first.counters.completed, self._last.counters.completed
        requests = after.requests - before.requests
        if requests == 0:
            return None
        return (after.output_tokens - before.output_tokens) / requests - 1.0

    def utilization(self, role: RoleIndex) -> float | None:
        """Return busy time ÷ wall time of running engines; None when none ran."""
        up_ps = self._last.times[role].up_ps - self._first.times[role].up_ps
        if up_ps == 0:
            return None
        before, after = self._first.counters.roles[role], self._last.counters.roles[role]
        return (after.busy_ps - before.busy_ps) / up_ps

    def sm_activity(self, role: RoleIndex) -> float | None:
        """Return utilization × occupancy; None when no engine ran."""
        utilization = self.utilization(role)
        if utilization is None:
            return None
        before, after = self._first.times[role], self._last.times[role]
        return utilization * (after.occupied_ps - before.occupied_ps) / (after.up_ps - before.up_ps)

    def ttft_s(self, quantile: float) -> float | None:
        """Return a quantile of the times to first token; None when there was none."""
        return quantile_s(self._last.ttft - self._first.ttft, quantile)

    def tbt_s(self, quantile: float) -> float | None:
        """Return a quantile of the gaps between tokens; None when there was none."""
        return quantile_s(self._last.tbt - self._first.tbt, quantile)

    def attained(self) -> tuple[int, int]:
        """Return (requests inside both limits, requests that ended): completed or refused."""
        before, after = self._first.counters, self._last.counters
        ended = (after.completed.requests - before.completed.requests) + (
            after.refused.requests - before.refused.requests
        )
        return after.attained - before.attained, ended


def quantile_s(counts: Int64Array, quantile: float) -> float | None:
    """Return a quantile of a histogram in seconds, linear inside its bucket; None when empty.

    The last bucket has no upper edge: what falls there answers with its lower one.
    """
    cumulative = counts.cumsum()
    total = int(cumulative[-1])
    if total == 0:
        return None
    edges = _edges()
    rank = quantile * total
    # The first whole number not below the rank: a float would be compared with a copy of floats.
    index = int(cumulative.searchsorted(math.ceil(rank)))
    while counts[index] == 0:
        index += 1
    low = int(edges[index])
    if index + 1 >= len(edges):
        return low / PS_PER_S
    before = int(cumulative[index]) - int(counts[index])
    share = max(0.0, (rank - before) / int(counts[index]))
    return (low + (int(edges[index + 1]) - low) * share) / PS_PER_S


@cache
def _edges() -> Int64Array:
    return histogram_edges_ps()


def role_times(up_ps: Mapping[str, int], occupancy: Mapping[str, float]) -> RoleTime:
    """Weigh the wall time of a role's accelerators (accelerator → ps) with their occupancy."""
    return RoleTime(
        up_ps=sum(up_ps.values()),
        occupied_ps=sum(up_ps[name] * occupancy[name] for name in sorted(up_ps)),
    )
