"""The paper's pressure test of service A beside ours, and service B by the same constants.

Prints each split with its errors, what was held out, and why no model of this kind comes nearer:
the printed figures contradict one another. What is assumed and fitted: `paper_model.py`; how:
`paper_fit.py`; read with docs/calibration.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.calibrate.paper_errors import (
    HELD_OUT_LARGEST,
    HELD_OUT_MEAN,
    LARGEST_TPS,
    MEAN_TPS,
    SHORT,
    SM_ACTIVITY,
    UTILIZATION,
    Errors,
    beside,
    errors_of,
    largest,
    mean,
    shortfall,
)
from benchmarks.calibrate.paper_model import (
    ACCELERATOR,
    DECODE_MAX_BATCH,
    GPUS,
    MODEL,
    PREFILL_TOKEN_BUDGET,
    QUANTILE,
    SPREAD,
    Constants,
    service_a,
    shipped,
    sweep_a,
    sweep_b,
)
from benchmarks.calibrate.pressure_test import Effort, Point
from benchmarks.calibrate.printed import ROWS, cached_shares, nearest_linear

EFFORT = Effort(requests=30_000, seeds=(1, 2), quantile=QUANTILE, tolerance=0.003)
#: of service B: spreads of lengths, the middle one service A's
SPREADS_B = (0.4, 0.6, 0.8)
HELD_OUT = tuple(row for row in ROWS if row.name not in ("9P7D", "12P4D"))


def check(effort: Effort = EFFORT) -> Mapping[str, object]:
    """Print the comparison and return its errors."""
    fits = shipped()
    _print_assumed(fits, effort)
    fit = fits["all"]
    points = sweep_a(fit, effort)
    errors = errors_of(beside(points, ROWS), fit)
    _print_points(points, fit)
    _print_errors(errors, shortfall(points))
    held_out = {name: _held_out(fits[name], effort) for name in ("two", "two_rows")}
    _print_held_out(held_out)
    _print_contradiction()
    of_b = {spread: sweep_b(fit, spread, effort) for spread in SPREADS_B}
    for spread, of_spread in of_b.items():
        _print_service_b(spread, of_spread)
    bars = _bars(errors, shortfall(points), held_out["two"])
    for name, (value, bar) in bars.items():
        print(f"  {'met   ' if value <= bar else 'MISSED'} {name}: {value:.3f}, bar {bar:g}")
    return {
        **{name: round(value, 4) for name, (value, _) in bars.items()},
        "two_rows_held_out_largest_error": round(largest(held_out["two_rows"]), 4),
        "linear_largest_error": round(nearest_linear(is_best_kept=False).largest_error, 4),
        "linear_best_kept_largest_error": round(nearest_linear(is_best_kept=True).largest_error, 4),
        "service_b": {str(spread): _as_summary(of_spread) for spread, of_spread in of_b.items()},
        "passed": all(value <= bar for value, bar in bars.values()),
    }


def _bars(
    errors: Errors, short: float, held_out: Sequence[float]
) -> Mapping[str, tuple[float, float]]:
    """Return name → value and its bar."""
    return {
        "tps_mean_error": (mean(errors.tps), MEAN_TPS),
        "tps_largest_error": (largest(errors.tps), LARGEST_TPS),
        "best_split_shortfall": (short, SHORT),
        "held_out_mean_error": (mean(held_out), HELD_OUT_MEAN),
        "held_out_largest_error": (largest(held_out), HELD_OUT_LARGEST),
        "prefill_utilization_largest": (largest(errors.prefill_utilization), UTILIZATION[0]),
        "decode_utilization_largest": (largest(errors.decode_utilization), UTILIZATION[1]),
        "prefill_sm_activity_largest": (largest(errors.prefill_sm_activity), SM_ACTIVITY[0]),
        "decode_sm_activity_largest": (largest(errors.decode_sm_activity), SM_ACTIVITY[1]),
    }


def _held_out(constants: Constants, effort: Effort) -> Sequence[float]:
    return errors_of(beside(sweep_a(constants, effort), HELD_OUT), constants).tps


def _as_summary(points: Sequence[Point]) -> Mapping[str, object]:
    best = max(points, key=lambda point: point.rate_rps)
    return {
        "best": _name(best),
        "rates_rps": {_name(point): round(point.rate_rps, 2) for point in points},
        "prefill_tps": {_name(point): round(point.prefill_tps) for point in points},
        "decode_tps": {_name(point): round(point.decode_tps) for point in points},
    }


def _name(point: Point) -> str:
    return f"{point.prefill}P{point.decode}D"


def _print_assumed(fits: Mapping[str, Constants], effort: Effort) -> None:
    workload = service_a(fits["all"])
    print(
        f"service A: {workload.input_tokens:g} tokens in, {workload.output_tokens:g} out, both "
        f"lognormal with sigma {SPREAD}; TTFT ≤ {workload.slo_ttft_s:g} s and mean gap ≤ "
        f"{workload.slo_tbt_s:g} s for {effort.quantile:.0%} of the requests each; Poisson, "
        f"{effort.requests:,} requests a point for each of {len(effort.seeds)} seeds"
    )
    print(
        f"assumed: {MODEL} (fp8) on {GPUS} x {ACCELERATOR}, decode batches ≤ {DECODE_MAX_BATCH}, "
        f"prefill batches ≤ {PREFILL_TOKEN_BUDGET} tokens"
    )
    for name, fit in fits.items():
        print(
            f"fitted ({name}): compute {fit.compute:.3f}, bandwidth {fit.bandwidth:.3f}, prefill "
            f"batch {fit.prefill_batch_s * 1e3:.1f} ms, cached {fit.cached_share:.3f}, occupancy "
            f"prefill {fit.prefill_occupancy:.3f}, decode {fit.decode_occupancy:.3f}"
        )


def _print_points(points: Sequence[Point], fit: Constants) -> None:
    print(
        "split    rate   prefill TPS (paper, error)      decode TPS (paper, error)    in %: ",
        end="",
    )
    print("prefill, decode utilization; prefill, decode SM activity (paper)")
    for point, row in zip(points, ROWS, strict=True):
        shares = (
            (point.prefill_utilization, row.prefill_utilization),
            (point.decode_utilization, row.decode_utilization),
            (point.prefill_utilization * fit.prefill_occupancy, row.prefill_sm_activity),
            (point.decode_utilization * fit.decode_occupancy, row.decode_sm_activity),
        )
        print(
            f"{row.name:6} {point.rate_rps:6.1f}   {_compared(point.prefill_tps, row.prefill_tps)}"
            f"   {_compared(point.decode_tps, row.decode_tps)}   "
            + "  ".join(f"{ours:.0%} ({paper:.0%})".replace("%", "") for ours, paper in shares)
        )


def _compared(ours: float, paper: float) -> str:
    return f"{ours:9,.0f} ({paper:7,.0f}, {ours / paper - 1.0:+6.1%})"


def _print_errors(errors: Errors, short: float) -> None:
    print(
        f"throughputs: mean error {mean(errors.tps):.1%}, largest {largest(errors.tps):.1%}; "
        f"9P7D carries {short:.1%} less than the best split"
    )


def _print_held_out(held_out: Mapping[str, Sequence[float]]) -> None:
    what = {
        "two": "9P7D and 12P4D, and that 9P7D is best",
        "two_rows": "9P7D and 12P4D alone",
    }
    for name, errors in held_out.items():
        figures = ", ".join(
            f"{row.name} {prefill:+.1%} {decode:+.1%}"
            for row, prefill, decode in zip(HELD_OUT, errors[::2], errors[1::2], strict=True)
        )
        print(
            f"fitted to {what[name]}; held out (prefill, decode): {figures}: "
            f"mean {mean(errors):.1%}, largest {largest(errors):.1%}"
        )


def _print_contradiction() -> None:
    free, kept = (nearest_linear(is_best_kept) for is_best_kept in (False, True))
    print(
        "the printed figures contradict one another: no min(c·P, d·D) comes nearer than "
        f"{free.largest_error:.1%} at its worst, or {kept.largest_error:.1%} with 9P7D best;"
    )
    shares = cached_shares(3000, 350)
    print("  one workload would need a cached share of " + _listed(shares, "{:.1%}"))
    print(
        "  decode tokens/s of one decode instance: "
        + _listed({row.name: row.decode_tps / row.decode for row in ROWS}, "{:,.0f}")
    )
    print(
        "  requests/s by decode tokens: "
        + _listed({row.name: row.decode_tps / 350 for row in ROWS}, "{:.1f}")
        + ": three splits print one rate, as if something common to all had ended the test"
    )


def _listed(values: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items())


def _print_service_b(spread: float, points: Sequence[Point]) -> None:
    best = max(points, key=lambda point: point.rate_rps)
    figures = ", ".join(
        f"{_name(point)} {point.prefill_tps:,.0f} {point.decode_tps:,.0f}" for point in points
    )
    worst = min(point.rate_rps for point in points)
    lost = 1.0 - worst / best.rate_rps if best.rate_rps else 0.0
    print(
        f"service B, sigma {spread}: best {_name(best)} ({best.rate_rps:.1f} requests/s), a wrong "
        f"split costs up to {lost:.0%}; prefill, decode TPS: {figures}"
    )
