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
