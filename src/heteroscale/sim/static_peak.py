"""The smallest fixed fleet that attains as much as a policy did, found by search.

The comparison is over the busiest hours of the very same requests: the fleet stands from the start
and nothing scales it. Attained are requests inside both limits among those that ended (completed
or refused) in these hours, for the policy's run and the fixed fleet alike.
The search itself is `fleet_search`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from heteroscale.config.scenario import Scenario
from heteroscale.entities.service import RolePath, ServiceSpec
from heteroscale.performance.model import PerformanceModel
from heteroscale.sim.capacity import decode_capacity_rps, prefill_capacity_rps
from heteroscale.sim.course import ServiceRecord
from heteroscale.sim.fleet_search import smallest_fleet
from heteroscale.sim.result import Search
from heteroscale.sim.run import Run
from heteroscale.sim.stages import unit_shares
from heteroscale.sim.traffic import arrivals_of
from heteroscale.sim.world import build_world, serving_options, settings_of, stage_speeds
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk, ArrivalSource, in_one

#: a fixed fleet serves this long before it is compared, so that it is neither empty nor flooded
WARM_UP_S = 300.0
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticPeak:
    """What the search came to."""

    search: Search
    #: role → instances; empty when none was found
    replicas: Mapping[str, int]
    gpus: int
    #: share of the requests that ended in the compared hours; None = no fleet, or none ended
    attainment: float | None
    policy_attainment: float | None
    #: fixed fleets that were simulated
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Consecutive busy hours of the run, and their requests from the warm-up on."""

    #: intervals of the timeline that are compared: from, to (excluded)
    first: int
    last: int
    #: intervals of warm-up before them
    warm_up: int
    #: arrival times since the start of the warm-up
    requests: ArrivalChunk


class _Fleets:
    """What a pair of counts (units of prefill, units of decode) stands for."""

    def __init__(self, service: ServiceSpec) -> None:
        self._options = {leaf.path: leaf.accelerators[0] for leaf in service.group.leaves()}
        self._shares = unit_shares(service)

    def replicas(self, counts: tuple[int, int]) -> dict[RolePath, int]:
        """Return leaf role → instances."""
        return {
            role: count * share
            for count, shares in zip(counts, self._shares, strict=True)
            for role, share in shares.items()
        }

    def gpus(self, counts: tuple[int, int]) -> int:
        """Return the GPUs of a fleet."""
        return sum(
            count * self._options[role].gpus * self._options[role].nodes
            for role, count in self.replicas(counts).items()
        )

    def nodes(self, counts: tuple[int, int], accelerator: str) -> int:
        """Return how many pieces of an accelerator's nodes a fleet takes."""
        return sum(
            count * self._options[role].nodes
            for role, count in self.replicas(counts).items()
            if self._options[role].type == accelerator
        )


def find_static_peak(
    scenario: Scenario,
    model: PerformanceModel,
    policy: ServiceRecord,
    progress: Callable[[int], None] | None = None,
) -> StaticPeak:
    """Return the fewest GPUs that attain what the policy attained, or why there are none.

    Args:
        scenario: of one service.
        model: how fast its engines are.
        policy: the service's record of the policy's run of this scenario.
        progress: told how many fixed fleets have been simulated.
    """
    hours, (attained, ended) = compared_hours(scenario, policy)
    if ended == 0:
        return _nothing(Search.NOTHING_ENDED, None, 0)
    trial = _Trial(scenario, model, hours, (attained, ended), progress)
    start = needed_instances(scenario, model, hours)
    best = smallest_fleet(trial.attains, start, trial.fleets.gpus)
    if best is None:
        return _nothing(Search.NONE_ATTAINS, attained / ended, trial.runs)
    return StaticPeak(
        search=Search.FOUND,
        replicas=trial.fleets.replicas(best),
        gpus=trial.fleets.gpus(best),
        attainment=trial.attainment(best),
        policy_attainment=attained / ended,
        runs=trial.runs,
    )


def compared_hours(
    scenario: Scenario, policy: ServiceRecord
) -> tuple[tuple[Hours, ...], tuple[int, int]]:
    """Return the busy hours with their requests, and what of them the policy (attained, ended)."""
    busy = busiest(policy, scenario.static_peak.busiest_hours)
    hours = tuple(_with_requests(busy, arrivals_of(scenario), scenario.timeline_interval_s))
    attained = sum(sum(policy.attained[span.first : span.last]) for span in hours)
    ended = sum(sum(policy.ended[span.first : span.last]) for span in hours)
    return hours, (attained, ended)


def _nothing(search: Search, policy_attainment: float | None, runs: int) -> StaticPeak:
    return StaticPeak(
        search=search,
        replicas={},
        gpus=0,
        attainment=None,
        policy_attainment=policy_attainment,
        runs=runs,
    )


def busiest(policy: ServiceRecord, hours: float) -> tuple[tuple[int, int], ...]:
    """Return the intervals (from, to) of the busiest hours, neighbours joined, in order.

    Hours rank by their input or output tokens, whichever is nearer to its busiest hour's, so that
    both roles' peaks are among them; of equal ones the earlier.
    """
    timeline = policy.result.timeline
    series = [timeline.series["prefill_offered_tps"], timeline.series["decode_offered_tps"]]
    length = max(1, round(_HOUR_S / timeline.interval_s))
    starts = range(0, len(series[0]), length)
    loads = [
        [sum(value or 0.0 for value in one[start : start + length]) for start in starts]
        for one in series
    ]
    rank = [
        max(of_hour / (max(of_role) or 1.0) for of_hour, of_role in zip(pair, loads, strict=True))
        for pair in zip(*loads, strict=True)
    ]
    chosen = sorted(range(len(rank)), key=lambda hour: (-rank[hour], hour))[: math.ceil(hours)]
    joined: list[tuple[int, int]] = []
    for hour in sorted(chosen):
        first, last = hour * length, min((hour + 1) * length, len(series[0]))
        if joined and joined[-1][1] == first:
            first = joined.pop()[0]
        joined.append((first, last))
    return tuple(joined)


def _with_requests(
    spans: Sequence[tuple[int, int]], arrivals: ArrivalSource, interval_s: float
) -> Iterator[Hours]:
    interval_ps = round(interval_s * PS_PER_S)
    warm_ups = [min(first, math.ceil(WARM_UP_S / interval_s)) for first, _ in spans]
    bounds = [
        ((first - warm_up) * interval_ps, last * interval_ps)
        for (first, last), warm_up in zip(spans, warm_ups, strict=True)
    ]
    parts: list[list[ArrivalChunk]] = [[] for _ in spans]
    for chunk in arrivals:
        for (start_ps, end_ps), part in zip(bounds, parts, strict=True):
            low, high = np.searchsorted(chunk.arrival_ps, (start_ps, end_ps))
            if low < high:
                requests = chunk.of(slice(low, high))
                part.append(replace(requests, arrival_ps=requests.arrival_ps - start_ps))
        if len(chunk.arrival_ps) and chunk.arrival_ps[-1] >= bounds[-1][1]:
            break
    for (first, last), warm_up, part in zip(spans, warm_ups, parts, strict=True):
        if part:
            yield Hours(first=first, last=last, warm_up=warm_up, requests=in_one(part))


class _Trial:
    """Simulates fixed fleets over the busy hours, each at most once."""

    def __init__(
        self,
        scenario: Scenario,
        model: PerformanceModel,
        hours: Sequence[Hours],
        wanted: tuple[int, int],
        progress: Callable[[int], None] | None,
    ) -> None:
        self.fleets = _Fleets(scenario.service)
        self.runs = 0
        self._scenario = scenario
        self._model = model
        self._hours = tuple(hours)
        self._wanted = wanted
        self._progress = progress
        self._known: dict[tuple[int, int], tuple[int, int]] = {}

    def attains(self, counts: tuple[int, int]) -> bool:
        """Return whether a fleet attains at least as much as the policy did."""
        attained, ended = self._ended(counts)
        # As whole numbers: no rounding decides which fleet is the smallest.
        return attained * self._wanted[1] >= self._wanted[0] * ended

    def attainment(self, counts: tuple[int, int]) -> float:
        """Return a fleet's share of attained requests."""
        attained, ended = self._ended(counts)
        return attained / ended if ended else 0.0

    def _ended(self, counts: tuple[int, int]) -> tuple[int, int]:
        if counts not in self._known:
            records = [(self._run(counts, span), span.warm_up) for span in self._hours]
            self._known[counts] = (
                sum(sum(record.attained[warm_up:]) for record, warm_up in records),
                sum(sum(record.ended[warm_up:]) for record, warm_up in records),
            )
            self.runs += 1
            if self._progress is not None:
                self._progress(self.runs)
        return self._known[counts]

    def _run(self, counts: tuple[int, int], span: Hours) -> ServiceRecord:
        scenario = _roomy(self._scenario, self.fleets, counts)
        name = scenario.service.name
        world = build_world(scenario, {name: self._model}, {name: iter((span.requests,))})
        duration_s = (span.last - span.first + span.warm_up) * scenario.timeline_interval_s
        settings = settings_of(scenario, "static", duration_s)
        return Run(settings, scenario.fleet, world, None).go().only


def _roomy(scenario: Scenario, fleets: _Fleets, counts: tuple[int, int]) -> Scenario:
    """Return a scenario that begins with the fleet: it may be more than the nodes there are."""
    nodes = tuple(
        section.model_copy(
            update={"nodes": max(section.nodes, fleets.nodes(counts, section.accelerator))}
        )
        for section in scenario.nodes
    )
    service = scenario.service
    roles = tuple(replace(role, within=None) for role in service.group.roles)
    group = replace(service.group, within=None, roles=roles)
    fleet = replace(scenario.fleet, services=(replace(service, group=group),))
    own = replace(scenario.own, initial=fleets.replicas(counts))
    return replace(scenario, nodes=nodes, fleet=fleet, simulated=(own,))


def needed_instances(
    scenario: Scenario, model: PerformanceModel, hours: Iterable[Hours]
) -> tuple[float, float]:
    """Return how many units of each stage are kept busy where its load is highest.

    The load is that of one interval of the timeline: an average over hours hides a burst.
    """
    prefill, decode = stage_speeds(scenario, model)
    options = serving_options(scenario)
    interval_s = scenario.timeline_interval_s
    needs = []
    for span in hours:
        of_prefill = _busiest_interval(span.requests, span.requests.input_tokens, interval_s)
        prefill_rps = prefill_capacity_rps(
            prefill,
            of_prefill.input_tokens,
            scenario.own.serving.prefill_token_budget,
            chunked=options.chunked_prefill,
            cached_permille=options.cached_permille,
        )
        of_decode = _busiest_interval(span.requests, span.requests.output_tokens, interval_s)
        decode_rps = decode_capacity_rps(
            decode,
            of_decode.input_tokens,
            of_decode.output_tokens,
            scenario.own.serving.decode_max_batch,
            round(scenario.service.slo.tbt_s * PS_PER_S),
        )
        needs.append(
            (
                len(of_prefill.arrival_ps) / interval_s / prefill_rps,
                len(of_decode.arrival_ps) / interval_s / max(decode_rps, 1e-9),
            )
        )
    return max(need[0] for need in needs), max(need[1] for need in needs)


def _busiest_interval(
    requests: ArrivalChunk, tokens: npt.NDArray[np.int32], interval_s: float
) -> ArrivalChunk:
    """Return the requests of the interval with the most tokens; of equal ones the earliest."""
    intervals = requests.arrival_ps // round(interval_s * PS_PER_S)
    busiest_one = int(np.argmax(np.bincount(intervals, weights=tokens)))
    low, high = np.searchsorted(intervals, (busiest_one, busiest_one + 1))
    return requests.of(slice(low, high))
