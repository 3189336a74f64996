"""What a simulation leaves behind: totals, a timeline to plot, and the changes that were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Search(StrEnum):
    """What became of the search for a fixed fleet to compare with."""

    NOT_SEARCHED = "not searched"
    FOUND = "found"
    #: no fixed fleet attains as much, however large
    NONE_ATTAINS = "none attains as much"
    #: no request ended in the busiest hours: there is nothing to compare
    NOTHING_ENDED = "no request ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One quantity at the end of a run; arrived = completed + running + refused."""

    arrived: int
    completed: int
    running: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One applied change of a service."""

    #: seconds since the start of the run
    at_s: float
    service: str
    #: "out" or "in"
    direction: str
    #: role → instances in supply before, and asked for after
    before: Mapping[str, int]
    after: Mapping[str, int]
    #: the decision's reasons in plain words, in order
    reasons: tuple[str, ...]
    #: the one of them that asked for this change; empty = none of them alone
    headline: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultNote:
    """One fault that struck."""

    #: seconds since the start of the run
    at_s: float
    kind: str
    #: None = it does not last
    until_s: float | None
    #: instances, nodes or the sub-cluster; empty = nothing was there to strike, or it struck all
    struck: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixHits:
    """What prefix caches were worth, in input tokens of requests whose prefill has ended."""

    #: of the requests that say which blocks they begin with, more than 0
    lookup_tokens: int
    #: of those, cached and not computed
    hit_tokens: int

    @property
    def rate(self) -> float:
        """Return the share of tokens that were cached, 0 to 1."""
        return self.hit_tokens / self.lookup_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Equal intervals from the start of the run; every series has one entry per interval.

    None in a latency series = no event in that interval. Keys of `series`: arrived_rps,
    refused_rps, prefill_offered_tps, decode_offered_tps, prefill_tps, decode_tps,
    prefill_utilization, decode_utilization, prefill_sm_activity, decode_sm_activity,
    prefill_queue, decode_queue, kv_usage, ttft_p50_s, ttft_p90_s, ttft_p99_s, tbt_p50_s,
    tbt_p90_s, tbt_p99_s, slo_attainment, ratio (prefill supply ÷ decode supply), ratio_in_force
    (share ÷ share). The last interval is shorter where the run ends inside it.
    """

    interval_s: float
    #: epoch seconds at which the run starts
    start_s: float
    series: Mapping[str, tuple[float | None, ...]]
    #: role → state → instances at the end of each interval
    instances: Mapping[str, Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColocatedPeak:
    """The smallest fixed pool of co-located engines that attains what the policy attained."""

    search: Search
    #: 0 = there is none
    replicas: int = 0
    gpus: int = 0
    #: of the requests that ended in the busiest hours; None = no pool
    attainment: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """Everything a run is judged by. Field meanings: docs/result.md."""

    scenario: str
    seed: int
    policy: str
    slo_ttft_s: float
    slo_tbt_s: float
    requests: Count
    input_tokens: Count
    output_tokens: Count
    slo_attainment: float | None
    gpu_hours: float
    #: accelerator → its part of them
    gpu_hours_by_accelerator: Mapping[str, float]
    #: None when no fixed fleet was found or the search was not asked for
    gpu_hours_static_peak: float | None
    #: role → instances of that static fleet; empty when there is none
    static_peak: Mapping[str, int]
    static_peak_search: Search = Search.NOT_SEARCHED
    #: of the requests that ended in the busiest hours; None = unknown
    static_peak_attainment: float | None = None
    policy_attainment: float | None = None
    #: None = none was asked for
    colocated_peak: ColocatedPeak | None = None
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    tbt_p50_s: float | None
    tbt_p99_s: float | None
    actions: int
    reversals: int
    #: ticks in which a role's supply was outside the ratio tolerance, as a share of all ticks
    out_of_ratio_share: float
    simulated_s: float
    ticks: int
    timeline: Timeline
    changes: tuple[Change, ...]
    #: how far the service's decisions go: enforce, recommend or observe
    mode: str = "enforce"
    #: what the operator has stopped or fixed, in words
    held_by_operator: tuple[str, ...] = ()
    #: ticks whose plan held changes that the mode kept back
    ticks_not_sent: int = 0
    #: what was made of a trace beside playing it, in words
    trace_notes: tuple[str, ...] = ()
    #: in order of time; None = none were planned
    faults: tuple[FaultNote, ...] | None = None
    #: None = no prefix cache was asked for anything
    prefix_cache: PrefixHits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetResult:
    """What one run of all its services is judged by."""

    #: service → its result, in the order of the scenario; at least one
    services: Mapping[str, SimulationResult]

    @property
    def only(self) -> SimulationResult:
        """Return the result of the one service.

        Raises:
            ValueError: there are several.
        """
        (result,) = self.services.values()
        return result

    @property
    def requests(self) -> Count:
        """Return the requests of all services."""
        return _sum([result.requests for result in self.services.values()])

    @property
    def input_tokens(self) -> Count:
        """Return the prompts' tokens of all services."""
        return _sum([result.input_tokens for result in self.services.values()])

    @property
    def output_tokens(self) -> Count:
        """Return the answers' tokens of all services."""
        return _sum([result.output_tokens for result in self.services.values()])

    @property
    def gpu_hours(self) -> float:
        """Return the GPU-hours of all services."""
        return sum(result.gpu_hours for result in self.services.values())

    @property
    def gpu_hours_static_peak(self) -> float | None:
        """Return the GPU-hours of every service's fixed fleet; None = not each has one."""
        fixed = [result.gpu_hours_static_peak for result in self.services.values()]
        known = [hours for hours in fixed if hours is not None]
        return sum(known) if len(known) == len(fixed) else None


def _sum(counts: Sequence[Count]) -> Count:
    return Count(
        arrived=sum(count.arrived for count in counts),
        completed=sum(count.completed for count in counts),
        running=sum(count.running for count in counts),
        refused=sum(count.refused for count in counts),
    )
