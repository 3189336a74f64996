"""The smallest fixed fleet that attains as much as a policy did, found by search.

The comparison is over the busiest hours of the very same requests: the fleet stands from the start
and nothing scales it. Attained are requests inside both limits among those that ended (completed
or refused) in these hours, for the policy's run and the fixed fleet alike. Steps of the search,
which rests on one thing only: a fleet with more instances attains no less:
1. With decode to spare, the fewest prefill instances that attain, by bisection.
2. With that many, the fewest decode instances, by bisection. Fewer prefill instances cannot do.
3. Fewer decode instances may do with more prefill: each smaller count is tried with all the
   prefill that still makes a cheaper fleet, until no prefill at all makes up for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from heteroscale.config.scenario import Scenario
from heteroscale.entities.service import AcceleratorOption
from heteroscale.performance.model import PerformanceModel
from heteroscale.sim.capacity import decode_capacity_rps, prefill_capacity_rps
from heteroscale.sim.run import Run, RunRecord
from heteroscale.sim.traffic import arrivals_of
from heteroscale.sim.world import build_world, settings_of, stage_roles
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk, ArrivalSource

#: a fixed fleet serves this long before it is compared, so that it is neither empty nor flooded
WARM_UP_S = 300.0
#: "with capacity to spare": this many times what the load needs on average
_SPARE = 1.6
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticPeak:
    """The fleet that was found."""

    #: role → instances
    replicas: Mapping[str, int]
    gpus: int
    #: share of the requests that ended in the compared hours
    attainment: float
    policy_attainment: float
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shapes:
    """The two roles' instances."""

    roles: tuple[str, str]
    options: tuple[AcceleratorOption, AcceleratorOption]

    def gpus(self, counts: tuple[int, int]) -> int:
        """Return the GPUs of a fleet."""
        return sum(
            count * option.gpus * option.nodes
            for count, option in zip(counts, self.options, strict=True)
        )


def find_static_peak(
    scenario: Scenario,
    model: PerformanceModel,
    policy: RunRecord,
    progress: Callable[[int], None] | None = None,
) -> StaticPeak | None:
    """Return the fewest GPUs that attain what the policy attained.

    None = no request ended in the compared hours, or no fixed fleet attains as much.

    Args:
        policy: the record of the policy's run of this scenario.
        progress: told how many fixed fleets have been simulated.
    """
    busy = busiest(policy, scenario.static_peak.busiest_hours)
    hours = tuple(_with_requests(busy, arrivals_of(scenario), scenario.timeline_interval_s))
    attained = sum(sum(policy.attained[span.first : span.last]) for span in hours)
    ended = sum(sum(policy.ended[span.first : span.last]) for span in hours)
    if ended == 0:
        return None
    trial = _Trial(scenario, model, hours, (attained, ended), progress)
    start = _needed(scenario, model, hours)
    best = smallest_fleet(trial.attains, start, trial.shapes.gpus)
    if best is None:
        return None
    return StaticPeak(
        replicas=dict(zip(trial.shapes.roles, best, strict=True)),
        gpus=trial.shapes.gpus(best),
        attainment=trial.attainment(best),
        policy_attainment=attained / ended,
        runs=trial.runs,
    )


def busiest(policy: RunRecord, hours: float) -> tuple[tuple[int, int], ...]:
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
                part.append(
                    ArrivalChunk(
                        arrival_ps=chunk.arrival_ps[low:high] - start_ps,
                        input_tokens=chunk.input_tokens[low:high],
                        output_tokens=chunk.output_tokens[low:high],
                    )
                )
        if len(chunk.arrival_ps) and chunk.arrival_ps[-1] >= bounds[-1][1]:
            break
    for (first, last), warm_up, part in zip(spans, warm_ups, parts, strict=True):
        if part:
            yield Hours(first=first, last=last, warm_up=warm_up, requests=_joined(part))


def _joined(chunks: Sequence[ArrivalChunk]) -> ArrivalChunk:
    return ArrivalChunk(
        arrival_ps=np.concatenate([chunk.arrival_ps for chunk in chunks]),
        input_tokens=np.concatenate([chunk.input_tokens for chunk in chunks]),
        output_tokens=np.concatenate([chunk.output_tokens for chunk in chunks]),
    )


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
        leaves = {leaf.path: leaf for leaf in scenario.service.group.leaves()}
        prefill, decode = stage_roles(scenario.service)
        self.shapes = _Shapes(
            roles=(prefill, decode),
            options=(leaves[prefill].accelerators[0], leaves[decode].accelerators[0]),
        )
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

    def _run(self, counts: tuple[int, int], span: Hours) -> RunRecord:
        scenario = _roomy(self._scenario, self.shapes, counts)
        initial = dict(zip(self.shapes.roles, counts, strict=True))
        world = build_world(scenario, self._model, iter((span.requests,)), initial)
        duration_s = (span.last - span.first + span.warm_up) * scenario.timeline_interval_s
        settings = settings_of(scenario, "static", duration_s)
        return Run(settings, scenario.service, world.plant, world.window, None, ()).go()


def _roomy(scenario: Scenario, shapes: _Shapes, counts: tuple[int, int]) -> Scenario:
    """Return a scenario whose nodes hold the fleet: what is searched may be more than there is."""
    nodes = []
    for section in scenario.nodes:
        wanted = sum(
            count * option.nodes
            for count, option in zip(counts, shapes.options, strict=True)
            if option.type == section.accelerator
        )
        nodes.append(section.model_copy(update={"nodes": max(section.nodes, wanted)}))
    service = scenario.service
    group = replace(service.group, within=None)
    fleet = replace(scenario.fleet, services=(replace(service, group=group),))
    return replace(scenario, nodes=tuple(nodes), fleet=fleet)


def _needed(
    scenario: Scenario, model: PerformanceModel, hours: Iterable[Hours]
) -> tuple[float, float]:
    """Return how many instances of each role the busiest of the hours keeps busy on average."""
    leaves = {leaf.path: leaf.accelerators[0] for leaf in scenario.service.group.leaves()}
    prefill, decode = (leaves[role] for role in stage_roles(scenario.service))
    step_ps = round(scenario.service.slo.tbt_s * PS_PER_S)
    needs = []
    for span in hours:
        requests = span.requests
        rps = len(requests.arrival_ps) * PS_PER_S / max(1, int(requests.arrival_ps[-1]))
        prefill_rps = prefill_capacity_rps(
            model.coefficients(prefill.type, prefill.gpus * prefill.nodes),
            requests.input_tokens,
            scenario.serving.prefill_token_budget,
        )
        decode_rps = decode_capacity_rps(
            model.coefficients(decode.type, decode.gpus * decode.nodes),
            requests.input_tokens,
            requests.output_tokens,
            scenario.serving.decode_max_batch,
            step_ps,
        )
        needs.append((rps / prefill_rps, rps / max(decode_rps, 1e-9)))
    return max(need[0] for need in needs), max(need[1] for need in needs)


def smallest_fleet(
    attains: Callable[[tuple[int, int]], bool],
    needed: tuple[float, float],
    gpus: Callable[[tuple[int, int]], int],
) -> tuple[int, int] | None:
    """Return the (prefill, decode) counts of fewest GPUs that attain; None = none was found.

    Of fleets with equal GPUs the one with the least prefill is returned.
    """
    spare = math.ceil(needed[1] * _SPARE) + 1
    prefill = _fewest(lambda count: attains((count, spare)), needed[0])
    if prefill is None:
        return None
    decode = _fewest(lambda count: attains((prefill, count)), needed[1])
    if decode is None:
        return None
    best = (prefill, decode)
    plenty = max(prefill + 1, math.ceil(needed[0] * _SPARE) + 1)
    for fewer in range(decode - 1, 0, -1):
        more = prefill
        while gpus((more + 1, fewer)) < gpus(best):
            more += 1
        if more > prefill and attains((more, fewer)):
            best = (_bisected(partial(_with_decode, attains, fewer), prefill, more), fewer)
        elif not attains((plenty, fewer)):
            break
    return best


def _with_decode(attains: Callable[[tuple[int, int]], bool], decode: int, prefill: int) -> bool:
    return attains((prefill, decode))


def _fewest(attains: Callable[[int], bool], guess: float) -> int | None:
    """Return the least count ≥ 1 that attains, of a condition that more never breaks.

    None = four times the guess does not: then something else than capacity is missing.
    """
    high = max(1, math.ceil(guess))
    limit = 4 * high + 16
    step = max(1, high // 16)
    low = 0
    while not attains(high):
        low, high, step = high, high + step, 2 * step
        if high > limit:
            return None
    while low == 0 and high > 1:
        lower = max(1, high - step)
        if attains(lower):
            high, step = lower, 2 * step
        else:
            low = lower
    return _bisected(attains, low, high)


def _bisected(attains: Callable[[int], bool], low: int, high: int) -> int:
    """Return the least count that attains, between one that does not and one that does."""
    while high - low > 1:
        middle = (low + high) // 2
        if attains(middle):
            high = middle
        else:
            low = middle
    return high
