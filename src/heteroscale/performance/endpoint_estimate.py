"""From when tokens came to the times of prefill and of decode steps, and to a table of them.

Times are a client's: they include the front end and the network, and what is written says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heteroscale.performance.endpoint_plan import Wave
from heteroscale.performance.fit import DecodePoint
from heteroscale.performance.table import Clock, LatencyTable, Source
from heteroscale.performance.table_file import MIN_POINTS

#: contexts this near each other are one column of the table
_ONE_COLUMN = 0.02
#: fewer steps in which all of a wave decode say little
LEAST_STEPS = 8.0


@dataclass(frozen=True, slots=True)
class Streamed:
    """One request as its client saw it; times are of one clock, in s."""

    sent_s: float
    #: when tokens came, and how many of the answer had come with them
    arrivals: tuple[tuple[float, float], ...]
    prompt_tokens: int
    answer_tokens: int
    #: of the prompt: what the endpoint did not compute anew
    cached_tokens: int = 0

    @property
    def ttft_s(self) -> float:
        """Return the wait for the first token."""
        return self.arrivals[0][0] - self.sent_s


def counted(
    times: Sequence[float], running: Sequence[int | None], answer_tokens: int
) -> tuple[tuple[float, float], ...]:
    """Return when tokens came and how many had come.

    Args:
        times: of the chunks that brought tokens.
        running: what each chunk said of the tokens so far; None = it did not.
        answer_tokens: of the whole answer, by the endpoint's own count: a chunk may bring several.
    """
    told = [count for count in running if count is not None]
    if len(told) == len(times):
        return tuple(zip(times, map(float, told), strict=True))
    each = answer_tokens / len(times)
    return tuple((time_s, each * place) for place, time_s in enumerate(times, start=1))


def last_first_token_s(wave: Sequence[Streamed]) -> float:
    """Return how long after the first request was sent every prompt had its first token."""
    first = min(request.sent_s for request in wave)
    return max(request.arrivals[0][0] for request in wave) - first


def decode_point(wave: Sequence[Streamed]) -> DecodePoint | None:
    """Return the step time while all of a wave decode; None = hardly ever did all.

    The time is the median over the requests of their mean gap; the context is what each held on
    average meanwhile.
    """
    since_s = max(request.arrivals[0][0] for request in wave)
    until_s = min(request.arrivals[-1][0] for request in wave)
    gaps_s: list[float] = []
    contexts: list[float] = []
    for request in wave:
        inside = [one for one in request.arrivals if since_s <= one[0] <= until_s]
        if len(inside) < 2 or inside[-1][1] - inside[0][1] < LEAST_STEPS:
            return None
        (begun_s, first), (ended_s, last) = inside[0], inside[-1]
        gaps_s.append((ended_s - begun_s) / (last - first))
        contexts.append(request.prompt_tokens + (first + last) / 2)
    return DecodePoint(
        batch=len(wave), context=statistics.fmean(contexts), ms=1000 * statistics.median(gaps_s)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """A point, its time over repeats of the wave, and how far these lie apart."""

    #: tokens of one prompt or, of a decode step, of one sequence
    tokens: float
    requests: int
    #: median
    ms: float
    #: (longest − shortest) ÷ median
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that was timed."""

    prefill: tuple[Timing, ...]
    #: several prompts at the same moment, to the first token of the last: not fitted
    batches: tuple[Timing, ...]
    decode: tuple[Timing, ...]
    #: names of points that gave no time, with the reason
    left_out: tuple[str, ...]
    #: share of the prompt tokens that the endpoint said it had cached
    cached_share: float

    @property
    def enough(self) -> bool:
        """Return whether a fit can be made of it."""
        lengths = {timing.tokens for timing in self.prefill}
        return min(len(lengths), len(self.decode)) >= MIN_POINTS


def timing(points: Sequence[tuple[float, float]], requests: int) -> Timing:
    """Return repeats of a point, (tokens, ms) each, as one."""
    times = [ms for _, ms in points]
    middle = statistics.median(times)
    return Timing(
        tokens=round(statistics.fmean(tokens for tokens, _ in points)),
        requests=requests,
        ms=round(middle, 4),
        spread=round((max(times) - min(times)) / middle, 4),
    )


def prefill_timing(wave: Wave, repeats: Sequence[Sequence[Streamed]]) -> Timing:
    """Return the time of a prefill wave from its repeats."""
    return timing(
        [
            (
                statistics.fmean(request.prompt_tokens for request in seen),
                1000 * last_first_token_s(seen),
            )
            for seen in repeats
        ],
        wave.requests,
    )


def decode_timing(wave: Wave, repeats: Sequence[Sequence[Streamed]]) -> Timing | None:
    """Return the time of a decode wave from its repeats; None = its answers hardly overlapped."""
    points = [point for seen in repeats if (point := decode_point(seen)) is not None]
    if not points:
        return None
    return timing([(point.context, point.ms) for point in points], wave.requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an endpoint does not say about the instance behind it."""

    accelerator: str
    gpus: int
    parallelism: str
    kv_bytes_per_token: int
    kv_capacity_tokens: int


def table_of(measured: Measured, model: str, shape: Shape, source: Source) -> LatencyTable:
    """Return what was timed as a table; `measured` holds enough for a fit."""
    # Prompts of one length share a row even where their words made a token more or less.
    prefill = {one.tokens: one.ms for one in measured.prefill}
    return LatencyTable(
        model=model,
        accelerator=shape.accelerator,
        gpus=shape.gpus,
        parallelism=shape.parallelism,
        source=source,
        clock=Clock.ENGINE,
        kv_bytes_per_token=shape.kv_bytes_per_token,
        kv_capacity_tokens=shape.kv_capacity_tokens,
        prefill=tuple(sorted(prefill.items())),
        decode=tuple(
            DecodePoint(one.requests, context, one.ms)
            for one, context in zip(measured.decode, columns(measured.decode), strict=True)
        ),
    )


def columns(timings: Sequence[Timing]) -> tuple[float, ...]:
    """Return the context of each point, with those that are nearly equal made equal."""
    groups: list[list[float]] = []
    for context in sorted({one.tokens for one in timings}):
        if groups and context <= groups[-1][0] * (1 + _ONE_COLUMN):
            groups[-1].append(context)
        else:
            groups.append([context])
    column = {context: round(statistics.fmean(group)) for group in groups for context in group}
    return tuple(column[one.tokens] for one in timings)


def batch_error(table: LatencyTable, batches: Sequence[Timing]) -> float | None:
    """Return how far prefill batches, which no fit saw, are from it at most; None = there are none.

    A batch of prompts takes base + per token · ΣL + per token² · ΣL². The first prompt may be on
    its own when the others come, so a second base may be paid.
    """
    base, linear, square = table.prefill_ms
    errors = []
    for one in batches:
        alone = one.requests * (linear * one.tokens + square * one.tokens**2)
        nearest = min(max(one.ms, base + alone), 2 * base + alone)
        errors.append(abs(nearest / one.ms - 1.0))
    return max(errors, default=None)


def observed(measured: Measured, table: LatencyTable) -> Mapping[str, Any]:
    """Return what was seen beside the times, in the order of the points."""
    error = batch_error(table, measured.batches)
    return {
        "prefill_spread": [one.spread for one in measured.prefill],
        "prefill_batches": [[one.requests, one.tokens, one.ms] for one in measured.batches],
        "prefill_batch_error": None if error is None else round(error, 4),
        "decode_points": [[one.requests, one.tokens] for one in measured.decode],
        "decode_spread": [one.spread for one in measured.decode],
        "left_out": list(measured.left_out),
        "cached_share": round(measured.cached_share, 4),
    }
