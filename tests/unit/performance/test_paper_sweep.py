"""The paper's pressure test beside ours: errors, searches, and a sweep small enough for a test."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.calibrate import paper_sweep
from benchmarks.calibrate.paper_errors import beside, errors_of, largest, mean, shortfall
from benchmarks.calibrate.paper_fit import START, loss
from benchmarks.calibrate.paper_model import (
    RANGES,
    engine,
    service_a,
    service_b,
    shipped,
    sweep_a,
)
from benchmarks.calibrate.pressure_test import (
    Effort,
    Point,
    highest_rate,
    pressure_test,
    requests_at,
)
from benchmarks.calibrate.printed import ROWS, cached_shares, nearest_linear

SMALL = Effort(requests=1_500, seeds=(3,), quantile=0.9, tolerance=0.02)
CONSTANTS = replace(START, prefill_occupancy=0.5, decode_occupancy=0.8)


def as_printed() -> list[Point]:
    """Return points that are exactly the paper's."""
    return [
        Point(
            prefill=row.prefill,
            decode=row.decode,
            rate_rps=row.decode_tps / 350,
            prefill_tps=row.prefill_tps,
            decode_tps=row.decode_tps,
            prefill_utilization=row.prefill_utilization,
            decode_utilization=row.decode_utilization,
        )
        for row in ROWS
    ]


@pytest.mark.parametrize(
    ("limit", "guess"),
    [(75.0, 75.0), (75.0, 20.0), (75.0, 500.0), (0.5, 75.0)],
    ids=["guess at the limit", "guess far below", "guess far above", "limit near nothing"],
)
def test_the_highest_rate_is_found_from_any_guess(limit: float, guess: float) -> None:
    found = highest_rate(lambda rate: rate <= limit, guess, 0.01)
    assert limit / 1.01 <= found <= limit


def test_no_rate_at_all_is_zero_not_a_guess() -> None:
    assert highest_rate(lambda rate: rate < 0, 75.0, 0.01) == 0.0


def test_another_rate_brings_the_same_requests_at_stretched_gaps() -> None:
    slow = requests_at(service_a(CONSTANTS), 10.0, 1_000, 7)
    fast = requests_at(service_a(CONSTANTS), 20.0, 1_500, 7)
    assert slow.input_tokens.tolist() == fast.input_tokens[:1_000].tolist()
    assert slow.output_tokens.tolist() == fast.output_tokens[:1_000].tolist()
    assert slow.arrival_ps[-1] == pytest.approx(2 * fast.arrival_ps[999], rel=1e-9)
    assert slow.input_tokens.mean() == pytest.approx(3000, rel=0.06)


def test_errors_are_relative_for_tokens_and_differences_for_shares() -> None:
    point = replace(
        as_printed()[2],
        prefill_tps=197_000 * 1.1,
        decode_tps=26_700 * 0.9,
        prefill_utilization=0.90,
        decode_utilization=0.90,
    )
    errors = errors_of(beside([point], [ROWS[2]]), CONSTANTS)
    assert errors.tps == pytest.approx([0.1, -0.1])
    assert errors.prefill_utilization == pytest.approx([-0.02])
    assert errors.decode_utilization == pytest.approx([-0.04])
    assert errors.prefill_sm_activity == pytest.approx([0.45 - 0.71])
    assert errors.decode_sm_activity == pytest.approx([0.72 - 0.64])


def test_mean_and_largest_look_at_both_signs() -> None:
    assert mean([0.1, -0.3]) == pytest.approx(0.2)
    assert largest([0.1, -0.3]) == 0.3


def test_the_paper_beside_itself_has_no_error_and_its_best_split_carries_most() -> None:
    points = as_printed()
    assert shortfall(points) == 0.0
    assert loss(points, ROWS, CONSTANTS, is_rank_known=True) == 0.0


def test_a_rank_counts_only_where_it_is_known() -> None:
    points = as_printed()
    points[3] = replace(points[3], rate_rps=2 * points[2].rate_rps)
    rows = [ROWS[2], ROWS[5]]
    assert shortfall(points) == 0.5
    assert loss(points, rows, CONSTANTS, is_rank_known=False) == 0.0
    assert loss(points, rows, CONSTANTS, is_rank_known=True) > 1.0


def test_no_linear_model_fits_the_printed_figures() -> None:
    assert nearest_linear(is_best_kept=False).largest_error == pytest.approx(0.097, abs=0.002)
    assert nearest_linear(is_best_kept=True).largest_error == pytest.approx(0.126, abs=0.002)
    shares = cached_shares(3000, 350)
    assert min(shares, key=shares.__getitem__) == "9P7D"
    assert (shares["9P7D"], shares["7P9D"]) == pytest.approx((0.139, 0.239), abs=0.001)


def test_shipped_constants_are_plausible() -> None:
    fits = shipped()
    assert set(fits) == {"all", "two", "two_rows"}
    for fit in fits.values():
        for name, (low, high) in RANGES.items():
            assert low <= getattr(fit, name) <= high, name


def test_each_role_ends_the_sweep_on_its_side_and_utilization_follows_prefill() -> None:
    points = sweep_a(shipped()["all"], SMALL)
    rates = [point.rate_rps for point in points]
    assert rates[0] < rates[1] < rates[2] > rates[4] > rates[5]
    prefill_busy = [point.prefill_utilization for point in points]
    assert prefill_busy[2] > prefill_busy[4] > prefill_busy[5]
    assert all(0.85 < point.decode_utilization < 1.0 for point in points)
    assert points == sweep_a(shipped()["all"], SMALL)


def test_a_limit_below_the_shortest_step_is_kept_by_no_rate() -> None:
    impossible = replace(service_b(0.4), slo_tbt_s=0.005)
    point = pressure_test(engine(shipped()["all"]), impossible, (8, 8), SMALL, 16.0)
    assert (point.rate_rps, point.prefill_tps, point.decode_utilization) == (0.0, 0.0, 0.0)


def test_the_check_prints_every_split_and_its_summary_is_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary = paper_sweep.check(replace(SMALL, requests=500, tolerance=0.05))
    printed = capsys.readouterr().out
    for row in ROWS:
        assert f"{row.prefill_tps:7,.0f}" in printed
    assert "contradict" in printed
    assert isinstance(summary["passed"], bool)
    assert set(summary["service_b"]) == {"0.4", "0.6", "0.8"}  # type: ignore[call-overload]
    assert all(math.isfinite(value) for value in summary.values() if isinstance(value, float))
