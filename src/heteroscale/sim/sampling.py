"""Cumulative counters at an instant, and what two of them say about the time between.

Both the signals a policy sees and the timeline a reader sees come from here, so they agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from typing import Protocol

from heteroscale.sim.kernel_measure import quantile_of
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
    #: time in which they computed; None = what the kernel counts of the stage
    busy_ps: float | None = None


class UpTimes(Protocol):
    """Knows how long engines have been up."""

    def leaf_times(self, now_ps: int) -> Mapping[str, RoleTime]:
        """Return leaf role → its summed wall time since the start of the run."""
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
    #: leaf role → its own time, of the roles inside a nested prefill role
    parts: Mapping[str, RoleTime] = field(default_factory=dict)


def take_sample(serving: Serving, up_times: UpTimes, now_ps: int) -> Sample:
    """Return the counters of one service at the time its serving plane stands at."""
    counters = serving.counters(now_ps)
    leaves = dict(up_times.leaf_times(now_ps))
    decode = leaves.pop(counters.roles[RoleIndex.DECODE].role)
    name = counters.roles[RoleIndex.PREFILL].role
    parts = {} if name in leaves else leaves
    return Sample(
        at_ps=now_ps,
        counters=counters,
        ttft=serving.ttft_histogram(),
        tbt=serving.tbt_histogram(),
        times=(_together(parts.values()) if parts else leaves[name], decode),
        parts=parts,
    )


def _together(parts: Iterable[RoleTime]) -> RoleTime:
    """Return the time of all the roles of a stage."""
    times = tuple(parts)
    return RoleTime(
        up_ps=sum(one.up_ps for one in times),
        occupied_ps=sum(one.occupied_ps for one in times),
        busy_ps=sum(one.busy_ps or 0.0 for one in times),
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

    def utilization(self, role: RoleIndex, part: str | None = None) -> float | None:
        """Return busy time ÷ wall time of running engines; None when none ran.

        Args:
            part: a role inside the stage's own; None = all of the stage.
        """
        first, last = self._times(role, part)
        up_ps = last.up_ps - first.up_ps
        if up_ps == 0:
            return None
        if first.busy_ps is not None and last.busy_ps is not None:
            return (last.busy_ps - first.busy_ps) / up_ps
        before, after = self._first.counters.roles[role], self._last.counters.roles[role]
        return (after.busy_ps - before.busy_ps) / up_ps

    def sm_activity(self, role: RoleIndex, part: str | None = None) -> float | None:
        """Return utilization × occupancy; None when no engine ran."""
        utilization = self.utilization(role, part)
        if utilization is None:
            return None
        first, last = self._times(role, part)
        return utilization * (last.occupied_ps - first.occupied_ps) / (last.up_ps - first.up_ps)

    def _times(self, role: RoleIndex, part: str | None) -> tuple[RoleTime, RoleTime]:
        if part is None:
            return self._first.times[role], self._last.times[role]
        return self._first.parts[part], self._last.parts[part]

    def ttft_s(self, *quantiles: float) -> tuple[float | None, ...]:
        """Return quantiles of the times to first token; each None when there was none."""
        counts = self._last.ttft - self._first.ttft
        return tuple([quantile_s(counts, quantile) for quantile in quantiles])

    def tbt_s(self, *quantiles: float) -> tuple[float | None, ...]:
        """Return quantiles of the gaps between tokens; each None when there was none."""
        counts = self._last.tbt - self._first.tbt
        return tuple([quantile_s(counts, quantile) for quantile in quantiles])

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
    found_ps = quantile_of(counts, _edges(), quantile)
    return found_ps / PS_PER_S if found_ps >= 0.0 else None


@cache
def _edges() -> Int64Array:
    return histogram_edges_ps()


def role_times(
    up_ps: Mapping[str, int], occupancy: Mapping[str, float], busy_ps: float | None = None
) -> RoleTime:
    """Weigh the wall time of a role's accelerators (accelerator → ps) with their occupancy."""
    return RoleTime(
        up_ps=sum(up_ps.values()),
        occupied_ps=sum(up_ps[name] * occupancy[name] for name in sorted(up_ps)),
        busy_ps=busy_ps,
    )
