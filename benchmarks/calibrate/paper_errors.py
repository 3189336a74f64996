"""How far points of our pressure test are from the paper's rows, and the bars they are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.calibrate.paper_model import Constants
from benchmarks.calibrate.pressure_test import Point
from benchmarks.calibrate.printed import BEST, Row

#: bars of a fit: mean and largest error of throughputs, points of utilization and of SM activity
#: by role, and what the best split may carry less than another
MEAN_TPS, LARGEST_TPS, SHORT = 0.07, 0.13, 0.03
UTILIZATION = (0.12, 0.06)
SM_ACTIVITY = (0.10, 0.05)
#: bars of splits that were not fitted: mean and largest error of throughputs
HELD_OUT_MEAN, HELD_OUT_LARGEST = 0.09, 0.14


@dataclass(frozen=True, slots=True)
class Errors:
    """How far points are from printed rows: relative for throughputs, differences for shares."""

    tps: Sequence[float]
    prefill_utilization: Sequence[float]
    decode_utilization: Sequence[float]
    prefill_sm_activity: Sequence[float]
    decode_sm_activity: Sequence[float]


def errors_of(pairs: Sequence[tuple[Point, Row]], constants: Constants) -> Errors:
    """Return the errors of points beside their rows; throughputs of prefill and decode in turn."""
    return Errors(
        tps=[
            error
            for point, row in pairs
            for error in (
                point.prefill_tps / row.prefill_tps - 1.0,
                point.decode_tps / row.decode_tps - 1.0,
            )
        ],
        prefill_utilization=[p.prefill_utilization - r.prefill_utilization for p, r in pairs],
        decode_utilization=[p.decode_utilization - r.decode_utilization for p, r in pairs],
        prefill_sm_activity=[
            p.prefill_utilization * constants.prefill_occupancy - r.prefill_sm_activity
            for p, r in pairs
        ],
        decode_sm_activity=[
            p.decode_utilization * constants.decode_occupancy - r.decode_sm_activity
            for p, r in pairs
        ],
    )


def shortfall(points: Sequence[Point]) -> float:
    """Return by what share the paper's best split carries less than the best of these."""
    most = max(point.rate_rps for point in points)
    of_best = next(point.rate_rps for point in points if (point.prefill, point.decode) == BEST)
    return 1.0 - of_best / most if most else 1.0


def beside(points: Sequence[Point], rows: Sequence[Row]) -> list[tuple[Point, Row]]:
    """Return rows with the points of their splits."""
    by_split = {(point.prefill, point.decode): point for point in points}
    return [(by_split[row.prefill, row.decode], row) for row in rows]


def largest(values: Sequence[float]) -> float:
    """Return the largest absolute value."""
    return max(abs(value) for value in values)


def mean(values: Sequence[float]) -> float:
    """Return the mean absolute value."""
    return sum(abs(value) for value in values) / len(values)
