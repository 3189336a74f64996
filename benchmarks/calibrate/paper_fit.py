"""Fits the constants of service A to the paper's pressure test and writes them to their file.

A fit's loss is nearly the largest of its errors of throughput, each over the bar it is held to, so
that what is least met decides (a norm of high power, for the search to see the others too), and
utilizations with little weight. Compute, bandwidth, the time of a prefill batch and the cached
share are moved one by one, a step at a time, until no step helps; with the last two compute is
moved against them, so that a full prefill batch takes as long as before. Occupancies follow
without simulating. Three fits:

- all: the twelve throughputs, the utilizations, and that the paper's best split is best;
- two: the same of 9P7D and 12P4D only, and that 9P7D is best, for the other four to be held out;
- two_rows: the same two rows without that; what it misses shows what the rank was worth.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.calibrate.paper_errors import (
    LARGEST_TPS,
    SHORT,
    UTILIZATION,
    beside,
    errors_of,
    largest,
    shortfall,
)
from benchmarks.calibrate.paper_model import (
    FILE,
    PREFILL_TOKEN_BUDGET,
    QUANTILE,
    RANGES,
    Constants,
    engine,
    service_a,
    sweep_a,
)
from benchmarks.calibrate.pressure_test import Effort, Point
from benchmarks.calibrate.printed import ROWS, Row
from heteroscale.workload.arrivals import PS_PER_S

EFFORT = Effort(requests=30_000, seeds=(1,), quantile=QUANTILE, tolerance=0.004)
START = Constants(
    compute=0.615,
    bandwidth=0.575,
    prefill_batch_s=0.020,
    cached_share=0.181,
    prefill_occupancy=0.75,
    decode_occupancy=0.70,
)
STEPS: Mapping[str, float] = {
    "compute": 0.010,
    "bandwidth": 0.012,
    "cached_share": 0.006,
    "prefill_batch_s": 0.006,
}
#: of the norm that stands for the largest error, and the weight of utilizations beside it
_POWER, _WEIGHT = 12, 0.05


def loss(
    points: Sequence[Point], rows: Sequence[Row], constants: Constants, is_rank_known: bool
) -> float:
    """Return how far points are from some rows; 1 is about where a bar is missed."""
    errors = errors_of(beside(points, rows), constants)
    of_tps = [error / LARGEST_TPS for error in errors.tps]
    if is_rank_known:
        of_tps.append(shortfall(points) / SHORT)
    of_utilization = [
        error / bar
        for role, bar in zip(
            (errors.prefill_utilization, errors.decode_utilization), UTILIZATION, strict=True
        )
        for error in role
    ]
    return _norm(of_tps, _POWER) + _WEIGHT * _norm(of_utilization, 2)


def fitted(rows: Sequence[Row], is_rank_known: bool) -> Constants:
    """Return the constants of least loss near the start."""
    best = START
    points = sweep_a(best, EFFORT)
    least = loss(points, rows, best, is_rank_known)
    has_moved = True
    while has_moved:
        has_moved = False
        for trial in _neighbors(best):
            at_trial = sweep_a(trial, EFFORT)
            of_trial = loss(at_trial, rows, trial, is_rank_known)
            if of_trial < least:
                best, least, points, has_moved = trial, of_trial, at_trial, True
                break
    pairs = beside(points, rows)
    return dataclasses.replace(
        best,
        prefill_occupancy=_occupancy(
            [(p.prefill_utilization, r.prefill_sm_activity) for p, r in pairs]
        ),
        decode_occupancy=_occupancy(
            [(p.decode_utilization, r.decode_sm_activity) for p, r in pairs]
        ),
    )


def write() -> None:
    """Make the three fits and write them."""
    two = [row for row in ROWS if row.name in ("9P7D", "12P4D")]
    fits = {
        "all": fitted(ROWS, is_rank_known=True),
        "two": fitted(two, is_rank_known=True),
        "two_rows": fitted(two, is_rank_known=False),
    }
    content = json.loads(FILE.read_text(encoding="utf-8"))
    content["fits"] = {
        name: {key: float(f"{value:.4g}") for key, value in dataclasses.asdict(fit).items()}
        for name, fit in fits.items()
    }
    FILE.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _neighbors(constants: Constants) -> Iterable[Constants]:
    for name, step in STEPS.items():
        low, high = RANGES[name]
        for signed in (step, -step):
            value = min(high, max(low, getattr(constants, name) + signed))
            moved = dataclasses.replace(constants, **{name: round(value, 6)})
            if name != "compute":
                moved = _as_fast(moved, constants)
            if moved != constants:
                yield moved


def _as_fast(moved: Constants, before: Constants) -> Constants:
    """Return moved constants with the compute that makes a full prefill batch as long as before."""
    prompt = service_a(before).input_tokens
    tokens_before, tokens = (prompt * (1.0 - one.cached_share) for one in (before, moved))
    speed = engine(before).speed
    work_ps = tokens_before * speed.prefill_per_token_ps + prompt**2 * speed.prefill_per_token2_ps
    batch_ps = before.prefill_batch_s * PS_PER_S * tokens_before / PREFILL_TOKEN_BUDGET
    left_ps = work_ps + batch_ps - moved.prefill_batch_s * PS_PER_S * tokens / PREFILL_TOKEN_BUDGET
    compute = before.compute * (work_ps / left_ps) * (tokens / tokens_before)
    low, high = RANGES["compute"]
    return dataclasses.replace(moved, compute=round(min(high, max(low, compute)), 4))


def _occupancy(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the occupancy of least largest error of utilization × occupancy, to a thousandth."""
    trials = (thousandths / 1000 for thousandths in range(500, 1001))
    return min(trials, key=lambda one: largest([used * one - active for used, active in pairs]))


def _norm(values: Sequence[float], power: int) -> float:
    """Return a mean of absolute values that leans to the largest."""
    return float((sum(abs(value) ** power for value in values) / len(values)) ** (1 / power))
