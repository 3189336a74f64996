"""From measured times to the coefficients of a step: cleaned, then fitted, in plain arithmetic.

Sums are exact (`math.fsum`) and there is no linear-algebra library underneath, so that every
machine finds the same coefficients to the last bit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

#: passes over both axes until a grid stays as it is; a handful is enough for measured ones
_PASSES = 200
#: relative change below which a grid counts as unchanged
_STILL = 1e-12
#: a bend is looked for in at least so many decode points, where without one they are this far off
#: (root mean square), and kept where the squared errors fall to this share or less
_BEND_POINTS = 12
_BEND_FROM = 0.01
_BEND_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FitError:
    """How far fitted times are from measured ones: |fitted ÷ measured − 1|."""

    median: float
    max: float


@dataclass(frozen=True, slots=True)
class DecodePoint:
    """One measured decode step."""

    #: sequences in the step
    batch: float
    #: KV tokens of each
    context: float
    ms: float


@dataclass(frozen=True, slots=True)
class DecodeFit:
    """Times of decode steps, ms: straight lines in sequences and KV tokens, with one bend or none.

    A step never takes less time with more sequences or KV tokens: nothing here is below zero.
    """

    base: float
    per_sequence: float
    per_kv_token: float
    #: each sequence beyond so many takes so much instead; None = there is no bend
    bend: int | None = None
    per_sequence_beyond: float = 0.0

    def step_ms(self, batch: float, context: float) -> float:
        """Return the time of one step, of sequences with so many KV tokens each."""
        factors = _factors(batch, context, self.bend)
        parts = (self.base, self.per_sequence, self.per_kv_token, self.per_sequence_beyond)
        return sum(factor * part for factor, part in zip(factors, parts, strict=False))


def monotone(values: Sequence[float]) -> tuple[float, ...]:
    """Return the closest sequence that never falls (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        total, count = value, 1
        while pools and pools[-1][0] * count > total * pools[-1][1]:
            before, size = pools.pop()
            total, count = total + before, count + size
        pools.append((total, count))
    return tuple(total / count for total, count in pools for _ in range(count))


def monotone_decode(points: Sequence[DecodePoint]) -> tuple[DecodePoint, ...]:
    """Return points whose times never fall with batch (same context) or context (same batch).

    The order of the points is kept. Both axes are cleaned in turn until neither changes anything.
    """
    lines = [*_lines(points, by_batch=True), *_lines(points, by_batch=False)]
    times = [point.ms for point in points]
    for _ in range(_PASSES):
        before = list(times)
        for line in lines:
            for place, ms in zip(line, monotone([times[place] for place in line]), strict=True):
                times[place] = ms
        if all(abs(new - old) <= _STILL * old for new, old in zip(times, before, strict=True)):
            break
    return tuple(
        DecodePoint(point.batch, point.context, ms) for point, ms in zip(points, times, strict=True)
    )


def _lines(points: Sequence[DecodePoint], *, by_batch: bool) -> list[list[int]]:
    """Return the places of points that differ in one coordinate only, in its order."""
    lines: dict[float, list[int]] = {}
    for place, point in enumerate(points):
        lines.setdefault(point.context if by_batch else point.batch, []).append(place)
    for line in lines.values():
        line.sort(key=lambda place: (points[place].batch, points[place].context, place))
    return list(lines.values())


def non_negative_fit(rows: Sequence[Sequence[float]], values: Sequence[float]) -> tuple[float, ...]:
    """Return coefficients ≥ 0 that minimize the squared relative errors of rows · coefficients.

    With few unknowns every choice of those that are not zero can be tried: the best of them whose
    coefficients are all positive is the minimum, without iterating.

    Args:
        rows: one row of factors for each value.
        values: positive.
    """
    weighted = [[factor / value for factor in row] for row, value in zip(rows, values, strict=True)]
    width = len(rows[0])
    best = (float(len(rows)), (0.0,) * width)
    for size in range(1, width + 1):
        for chosen in combinations(range(width), size):
            solved = _least_squares([[row[column] for column in chosen] for row in weighted])
            if solved is None or min(solved) < 0:
                continue
            full = [0.0] * width
            for column, coefficient in zip(chosen, solved, strict=True):
                full[column] = coefficient
            error = math.fsum(
                (math.fsum(f * c for f, c in zip(row, full, strict=True)) - 1.0) ** 2
                for row in weighted
            )
            if error < best[0]:
                best = (error, tuple(full))
    return best[1]


def decode_fit(points: Sequence[DecodePoint]) -> DecodeFit:
    """Return the coefficients ≥ 0 with the least squared relative errors.

    A bend is put at the measured batch where it helps most, and only if it clearly does.
    """
    straight = _fitted(points, None)
    wanted = _squares(points, straight) * _BEND_SHARE
    if len(points) < _BEND_POINTS or _squares(points, straight) < len(points) * _BEND_FROM**2:
        return straight
    batches = sorted({math.floor(point.batch) for point in points} - {0})
    bent = [_fitted(points, bend) for bend in batches[1:-1]]
    best = min(bent, key=lambda fit: _squares(points, fit), default=straight)
    return best if _squares(points, best) <= wanted else straight


def _fitted(points: Sequence[DecodePoint], bend: int | None) -> DecodeFit:
    rows = [_factors(point.batch, point.context, bend) for point in points]
    base, sequence, kv_token, *beyond = non_negative_fit(rows, [point.ms for point in points])
    return DecodeFit(base, sequence, kv_token, bend, *beyond)


def _factors(batch: float, context: float, bend: int | None) -> tuple[float, ...]:
    """Return what a step's coefficients are multiplied with."""
    if bend is None:
        return (1.0, batch, batch * context)
    return (1.0, min(batch, bend), batch * context, max(0.0, batch - bend))


def _squares(points: Sequence[DecodePoint], fit: DecodeFit) -> float:
    return math.fsum((fit.step_ms(p.batch, p.context) / p.ms - 1.0) ** 2 for p in points)


def _least_squares(rows: Sequence[Sequence[float]]) -> list[float] | None:
    """Return the solution of rows · x ≈ 1; None = the columns depend on each other."""
    width = len(rows[0])
    # Columns of one size keep the normal equations well conditioned.
    scales = [max(abs(row[column]) for row in rows) or 1.0 for column in range(width)]
    scaled = [[f / scale for f, scale in zip(row, scales, strict=True)] for row in rows]
    system = [
        [
            *(math.fsum(row[i] * row[j] for row in scaled) for j in range(width)),
            math.fsum(row[i] for row in scaled),
        ]
        for i in range(width)
    ]
    for i in range(width):
        pivot = max(range(i, width), key=lambda row: abs(system[row][i]))
        system[i], system[pivot] = system[pivot], system[i]
        if abs(system[i][i]) < 1e-12 * len(rows):
            return None
        for row in range(i + 1, width):
            factor = system[row][i] / system[i][i]
            system[row] = [a - factor * b for a, b in zip(system[row], system[i], strict=True)]
    solution = [0.0] * width
    for i in reversed(range(width)):
        known = math.fsum(system[i][j] * solution[j] for j in range(i + 1, width))
        solution[i] = (system[i][width] - known) / system[i][i]
    return [x / scale for x, scale in zip(solution, scales, strict=True)]


def fit_error(fitted: Sequence[float], measured: Sequence[float]) -> FitError:
    """Return how far fitted times are from measured ones."""
    errors = [abs(f / m - 1.0) for f, m in zip(fitted, measured, strict=True)]
    return FitError(median=statistics.median(errors), max=max(errors))
