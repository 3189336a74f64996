"""The most a split of a fleet into prefill and decode carries inside its SLO, by simulation.

A rate is tried with the same requests whatever it is: the same lengths in the same order, and the
same gaps between arrivals, stretched. So two rates, splits or constants differ by what they are
and not by luck. Arrivals are Poisson, lengths lognormal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.kernel_state import LOG_FINISHED, LOG_FIRST_TOKEN
from heteroscale.sim.serving import Counters, NetworkTable, Serving, ServingOptions
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk

#: requests that arrive so long before and after those that count keep the fleet as loaded as they
#: find it
_BEFORE_S, _AFTER_S = 60.0, 30.0
#: who has no answer so long after the last arrival has none in time
_PATIENCE_S = 120.0
#: longest prompt and answer of any model in the tables
_LONGEST = 131_072
#: every instance is a node of its own under one S1, with a 400 Gb/s NIC for each of eight GPUs
_NETWORK = NetworkTable(latency_ps=(10_000_000,) * 6, fs_per_byte=(2_500,) * 6)

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What arrives, and what is promised of it."""

    #: means
    input_tokens: float
    output_tokens: float
    #: sigma of the logarithm of both lengths
    spread: float
    #: share of each prompt that prefill finds cached
    cached_share: float
    slo_ttft_s: float
    slo_tbt_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How fast one instance is, and what it takes at once."""

    speed: StepCoefficients
    prefill_token_budget: int
    decode_max_batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is simulated for one figure."""

    #: that count, for each seed
    requests: int
    seeds: Sequence[int]
    #: share of the requests that must keep each of the two limits
    quantile: float
    #: relative width at which a search for a rate ends
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a split carries: the highest rate inside the SLO, and what is seen at it.

    All zero when no rate keeps the SLO.
    """

    prefill: int
    decode: int
    rate_rps: float
    #: prompt tokens computed (cached ones are not), and answer tokens given out
    prefill_tps: float
    decode_tps: float
    #: share of time in which a kernel runs
    prefill_utilization: float
    decode_utilization: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One run: shares inside each limit, rates and utilizations while the requests came."""

    inside_ttft: float
    inside_tbt: float
    prefill_tps: float
    decode_tps: float
    prefill_utilization: float
    decode_utilization: float


def pressure_test(
    engine: Engine,
    workload: Workload,
    split: tuple[int, int],
    effort: Effort,
    guess_rps: float,
) -> Point:
    """Return what (prefill, decode) instances carry.

    Args:
        guess_rps: a rate near which to look first.
    """

    def keeps(rate_rps: float) -> bool:
        seen = [_play(engine, workload, split, effort, rate_rps, seed) for seed in effort.seeds]
        needed = effort.quantile * len(seen)
        inside_ttft = sum(one.inside_ttft for one in seen)
        return inside_ttft >= needed and sum(one.inside_tbt for one in seen) >= needed

    rate_rps = highest_rate(keeps, guess_rps, effort.tolerance)
    seen = (
        [_play(engine, workload, split, effort, rate_rps, seed) for seed in effort.seeds]
        if rate_rps
        else []
    )

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else 0.0

    return Point(
        prefill=split[0],
        decode=split[1],
        rate_rps=rate_rps,
        prefill_tps=mean([one.prefill_tps for one in seen]),
        decode_tps=mean([one.decode_tps for one in seen]),
        prefill_utilization=mean([one.prefill_utilization for one in seen]),
        decode_utilization=mean([one.decode_utilization for one in seen]),
    )


def highest_rate(keeps: Callable[[float], bool], guess: float, tolerance: float) -> float:
    """Return a rate that keeps the SLO beside one, up to `tolerance` above it, that does not.

    0.0 when not even a thousandth of the guess keeps it.

    Args:
        keeps: whether a rate does; taken to be false above some rate.
        guess: where to start; > 0.
    """
    low, high = 0.0, math.inf
    rate, step = guess, 1.08
    while low == 0.0 or high == math.inf:
        if rate < guess / 1000:
            return 0.0
        if keeps(rate):
            low, rate = rate, rate * step
        else:
            high, rate = rate, rate / step
        step = min(2.0, step * step)
    while high > low * (1.0 + tolerance):
        middle = math.sqrt(low * high)
        if keeps(middle):
            low = middle
        else:
            high = middle
    return low


def requests_at(workload: Workload, rate_rps: float, count: int, seed: int) -> ArrivalChunk:
    """Return the first so many requests of a seed, at a rate."""
    gaps, inputs, outputs = (np.random.default_rng((seed, stream)) for stream in range(3))
    shift = workload.spread**2 / 2

    def lengths(draw: np.random.Generator, mean: float, least: int) -> npt.NDArray[np.int32]:
        drawn = mean * np.exp(workload.spread * draw.standard_normal(count) - shift)
        return np.clip(np.rint(drawn), least, _LONGEST).astype(np.int32)

    return ArrivalChunk(
        arrival_ps=np.cumsum((gaps.exponential(size=count) * (PS_PER_S / rate_rps)).astype(int)),
        input_tokens=lengths(inputs, workload.input_tokens, 1),
        output_tokens=lengths(outputs, workload.output_tokens, 2),
    )


def _play(
    engine: Engine,
    workload: Workload,
    split: tuple[int, int],
    effort: Effort,
    rate_rps: float,
    seed: int,
) -> _Seen:
    first = math.ceil(rate_rps * _BEFORE_S)
    end = first + effort.requests
    count = end + math.ceil(rate_rps * _AFTER_S)
    requests = requests_at(workload, rate_rps, count, seed)
    serving = _plane(engine, workload, split)
    serving.advance(0)
    serving.feed(requests)
    serving.close_arrivals()
    began_ps, ended_ps = (int(requests.arrival_ps[index]) for index in (first, end - 1))
    readings = []
    for at_ps in (began_ps, ended_ps):
        serving.advance(at_ps)
        readings.append(serving.counters(at_ps))
    serving.advance(int(requests.arrival_ps[-1]) + round(_PATIENCE_S * PS_PER_S))
    counted = slice(first, end)
    inside_ttft, inside_tbt = _inside(serving.event_log(), requests, workload)
    before, after = readings
    taken_ps = ended_ps - began_ps
    prefill_tokens, decode_tokens = (
        _tokens(after)[role] - _tokens(before)[role] for role in (0, 1)
    )
    prefill_busy, decode_busy = (
        (after.roles[role].busy_ps - before.roles[role].busy_ps) / taken_ps / split[role]
        for role in (0, 1)
    )
    return _Seen(
        inside_ttft=float(np.mean(inside_ttft[counted])),
        inside_tbt=float(np.mean(inside_tbt[counted])),
        prefill_tps=prefill_tokens * PS_PER_S / taken_ps,
        decode_tps=decode_tokens * PS_PER_S / taken_ps,
        prefill_utilization=prefill_busy,
        decode_utilization=decode_busy,
    )


def _tokens(counters: Counters) -> tuple[int, int]:
    """Return prompt tokens computed and answer tokens given out, the first of each included."""
    prefill, decode = counters.roles
    return prefill.tokens, decode.tokens + counters.first_tokens


def _plane(engine: Engine, workload: Workload, split: tuple[int, int]) -> Serving:
    serving = Serving(
        prefill_token_budget=engine.prefill_token_budget,
        decode_max_batch=engine.decode_max_batch,
        admission_limit=10**9,
        slo_ttft_ps=round(workload.slo_ttft_s * PS_PER_S),
        slo_tbt_ps=round(workload.slo_tbt_s * PS_PER_S),
        network=_NETWORK,
        options=ServingOptions(cached_permille=round(1000 * workload.cached_share)),
        log=True,
    )
    for index in range(sum(split)):
        role = "prefill" if index < split[0] else "decode"
        location = (0, 0, 0, index, index)
        serving.add_instance(role, engine.speed, group=0, location=location, in_rotation=True)
    return serving


def _inside(
    rows: Int64s, requests: ArrivalChunk, workload: Workload
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which requests kept the TTFT, and which the mean gap between their tokens.

    Who was not finished in the end kept neither.
    """
    count = len(requests.arrival_ps)
    first_ps, finish_ps = (_times(rows, kind, count) for kind in (LOG_FIRST_TOKEN, LOG_FINISHED))
    is_finished = finish_ps >= 0
    ttft_ps = first_ps - requests.arrival_ps
    gaps = requests.output_tokens.astype(np.int64) - 1
    inside_ttft = is_finished & (ttft_ps <= workload.slo_ttft_s * PS_PER_S)
    inside_tbt = is_finished & (finish_ps - first_ps <= gaps * workload.slo_tbt_s * PS_PER_S)
    return inside_ttft, inside_tbt


def _times(rows: Int64s, kind: int, count: int) -> Int64s:
    """Return when each request had an event, −1 for never."""
    times = np.full(count, -1, np.int64)
    of_kind = rows[rows[:, 1] == kind]
    times[of_kind[:, 2]] = of_kind[:, 0]
    return times
