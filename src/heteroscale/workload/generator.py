"""Synthetic traffic: seeded, vectorised, streamed. Same spec and seed, same requests.

How arrivals follow any rate:
1. The rate becomes straight pieces between knots (curve points, noise periods, edges of events).
2. The area under it up to a time is the number of requests expected by then.
3. Gamma gaps of mean 1 are summed on that axis and mapped back to time, piece by piece, exactly:
   a piece that starts at rate a with slope s has passed r requests after 2r / (a + √(a² + 2sr)) s.
4. Lengths are drawn by request; inputs are multiplied by the mix at their arrival.
Gaps, inputs, outputs and each noise have their own random stream and are drawn in blocks of fixed
size, so no caller's chunking changes a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heteroscale.errors import ConfigError, Problem
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk, ArrivalSource
from heteroscale.workload.lengths import LogNormalLengths, sample_lengths
from heteroscale.workload.rate_curve import Floats, RateCurve
from heteroscale.workload.traffic import Burst, LogNoise, RateStep, TrafficSpec, check_traffic

BLOCK_REQUESTS = 65_536
#: Straight pieces per period of a sinusoidal drift: within 0.25 % of the sine.
_DRIFT_PIECES = 48


@dataclass(frozen=True, slots=True)
class _Pieces:
    """The rate and the mix as straight pieces, struct of arrays."""

    #: n + 1 knots
    knots_s: Floats
    #: requests expected before each knot, n + 1
    passed: Floats
    #: n each: value at the left end, and change per second
    rate: Floats
    rate_slope: Floats
    mix: Floats
    mix_slope: Floats


def _stepwise(noise: LogNoise, rng: np.random.Generator, times_s: Floats, end_s: float) -> Floats:
    """Return the noise factor of the period each time lies in."""
    periods = int(end_s // noise.period_s) + 1
    shocks = rng.standard_normal(periods).tolist()
    level, levels = shocks[0], [shocks[0]]
    fresh = float(np.sqrt(1 - noise.persistence**2))
    for shock in shocks[1:]:
        level = noise.persistence * level + fresh * shock
        levels.append(level)
    factors = np.exp(noise.sd * np.asarray(levels) - noise.sd**2 / 2)
    return factors[(times_s // noise.period_s).astype(np.int64)]


def _knots_s(spec: TrafficSpec) -> Floats:
    end_s = spec.duration_s
    edges = [0.0, end_s, *(step.at_s for step in spec.steps)]
    for burst in spec.bursts:
        edges += [burst.at_s, burst.at_s + burst.duration_s]
    grids = [spec.rate.knots_s(end_s), np.asarray(edges, dtype=np.float64)]
    noises = (*spec.noise, spec.mix_noise) if spec.mix_noise else spec.noise
    grids.extend(np.arange(0.0, end_s, noise.period_s) for noise in noises)
    if spec.drift:
        grids.append(np.arange(0.0, end_s, spec.drift.period_s / _DRIFT_PIECES))
    knots = np.unique(np.concatenate(grids))
    return knots[knots <= end_s]


def _pieces(spec: TrafficSpec, rngs: list[np.random.Generator]) -> _Pieces:
    knots = _knots_s(spec)
    widths, middles = np.diff(knots), (knots[:-1] + knots[1:]) / 2
    factor = np.ones_like(middles)
    for noise, rng in zip(spec.noise, rngs[1:], strict=True):
        factor *= _stepwise(noise, rng, middles, spec.duration_s)
    for burst in spec.bursts:
        inside = (middles >= burst.at_s) & (middles < burst.at_s + burst.duration_s)
        factor[inside] *= burst.factor
    for step in spec.steps:
        factor[middles >= step.at_s] *= step.factor
    rates, mixes = spec.rate.rates_at(knots), spec.rate.mix_at(knots)
    if spec.drift:
        turn = 2 * np.pi * (knots - spec.drift.phase_s) / spec.drift.period_s
        mixes = mixes * np.exp(spec.drift.amplitude * np.sin(turn))
    left, right = rates[:-1] * factor, rates[1:] * factor
    mix_factor = np.ones_like(middles)
    if spec.mix_noise:
        mix_factor = _stepwise(spec.mix_noise, rngs[0], middles, spec.duration_s)
    mix_left, mix_right = mixes[:-1] * mix_factor, mixes[1:] * mix_factor
    expected = widths * (left + right) / 2
    # ∫ rate·mix over a piece where both are straight: request-weighted mean mix becomes 1.
    weighted = widths / 6 * (mix_left * (2 * left + right) + mix_right * (left + 2 * right))
    mean_mix = weighted.sum() / expected.sum() if expected.sum() > 0 else 1.0
    return _Pieces(
        knots_s=knots,
        passed=np.concatenate(([0.0], np.cumsum(expected))),
        rate=left,
        rate_slope=(right - left) / widths,
        mix=mix_left / mean_mix,
        mix_slope=(mix_right - mix_left) / widths / mean_mix,
    )


def _place(pieces: _Pieces, passed: Floats) -> tuple[Floats, Floats]:
    """Return (time in s, mix) at which so many requests are expected to have arrived.

    `passed` never falls and is at least 0 and below the total.
    """
    # Sorted both ways: finding each knot among the requests is cheaper than the reverse.
    first = np.searchsorted(passed, pieces.passed, side="left")
    piece = np.repeat(np.arange(len(pieces.rate)), np.diff(first))
    rest = passed - pieces.passed[piece]
    rate = pieces.rate[piece]
    root = np.sqrt(np.maximum(rate * rate + 2 * pieces.rate_slope[piece] * rest, 0.0))
    divisor = rate + root
    after_s = np.divide(2 * rest, divisor, out=np.zeros_like(rest), where=divisor > 0)
    np.minimum(after_s, np.diff(pieces.knots_s)[piece], out=after_s)
    return pieces.knots_s[piece] + after_s, pieces.mix[piece] + pieces.mix_slope[piece] * after_s


def _passed_by_chance(gap_shape: float, total: float, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield where on the axis of expected requests the real ones stand, below the total."""
    reached = 0.0
    while reached < total:
        gaps = rng.standard_gamma(gap_shape, BLOCK_REQUESTS)
        passed = reached + np.cumsum(gaps) / gap_shape
        reached = float(passed[-1])
        passed = passed[: np.searchsorted(passed, total, side="left")]
        if not len(passed):
            return
        yield passed


def _passed_exactly(
    gap_shape: float, total: float, requests: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Yield as above for exactly so many requests: each block has its share of the axis."""
    for first in range(0, requests, BLOCK_REQUESTS):
        count = min(BLOCK_REQUESTS, requests - first)
        passed = np.cumsum(rng.standard_gamma(gap_shape, count + 1))
        # One gap more than requests: the last one ends where the next block begins.
        passed *= count / max(passed[-1], np.finfo(np.float64).tiny)
        passed += first
        passed *= total / requests
        # A last gap of nothing, or a rounding up, must not reach the total.
        yield np.minimum(passed[:-1], np.nextafter(total, 0.0))


def _blocks(
    spec: TrafficSpec, pieces: _Pieces, rngs: tuple[np.random.Generator, ...]
) -> ArrivalSource:
    gap_rng, input_rng, output_rng = rngs
    total = float(pieces.passed[-1])
    blocks = (
        _passed_by_chance(spec.gap_shape, total, gap_rng)
        if spec.requests is None
        else _passed_exactly(spec.gap_shape, total, spec.requests, gap_rng)
    )
    last_ps = np.int64(0)
    for passed in blocks:
        time_s, mix = _place(pieces, passed)
        arrival_ps: npt.NDArray[np.int64] = np.rint(time_s * PS_PER_S).astype(np.int64)
        # Rounding where two pieces meet may step back by the float's last bit.
        np.maximum(np.maximum.accumulate(arrival_ps), last_ps, out=arrival_ps)
        last_ps = arrival_ps[-1]
        yield ArrivalChunk(
            arrival_ps=arrival_ps,
            input_tokens=sample_lengths(spec.input_lengths, input_rng, len(passed), mix),
            output_tokens=sample_lengths(spec.output_lengths, output_rng, len(passed)),
        )


def generate(spec: TrafficSpec, seed: int) -> ArrivalSource:
    """Return the requests of a traffic specification.

    The request count is that of one random day, not the curve's integral rounded, unless the
    specification gives one. With noise, bursts or steps a given count is spread as they say.

    Raises:
        ConfigError: at once, with every value of the specification that is out of range.
    """
    check_traffic(spec)
    streams = np.random.SeedSequence(seed).spawn(4 + len(spec.noise))
    rngs = [np.random.Generator(np.random.PCG64(stream)) for stream in streams]
    gap_rng, input_rng, output_rng, *noise_rngs = rngs
    pieces = _pieces(spec, noise_rngs)
    if spec.requests is not None and not pieces.passed[-1] > 0:
        rule = "must be above 0 somewhere in the duration to place requests"
        raise ConfigError([Problem(path="rate", rule=rule)])
    return _blocks(spec, pieces, (gap_rng, input_rng, output_rng))


def from_rate_curve(
    curve: RateCurve,
    *,
    peak_rps: float,
    input_tokens_mean: float = 3000.0,
    output_tokens_mean: float = 350.0,
    input_sigma: float = 0.6,
    output_sigma: float = 0.6,
    follow_mix: bool = True,
    gap_shape: float = 1.0,
    bursts: tuple[Burst, ...] = (),
    steps: tuple[RateStep, ...] = (),
    noise: tuple[LogNoise, ...] = (),
    duration_s: float = 86_400.0,
    seed: int = 0,
) -> ArrivalSource:
    """Return a day shaped by a measured curve: lognormal lengths of the given means.

    Args:
        peak_rps: requests/s at the curve's highest point.
        follow_mix: mean input length follows the curve's mix; its request-weighted mean is
            `input_tokens_mean` either way.
        gap_shape: gamma shape of the gaps; 1 = Poisson arrivals.
    """
    rate = curve.with_peak(peak_rps)
    if not follow_mix:
        rate = RateCurve(times_s=rate.times_s, values=rate.values, period_s=rate.period_s)
    spec = TrafficSpec(
        rate=rate,
        duration_s=duration_s,
        input_lengths=LogNormalLengths.with_mean(input_tokens_mean, input_sigma),
        output_lengths=LogNormalLengths.with_mean(output_tokens_mean, output_sigma),
        gap_shape=gap_shape,
        bursts=bursts,
        steps=steps,
        noise=noise,
    )
    return generate(spec, seed)
