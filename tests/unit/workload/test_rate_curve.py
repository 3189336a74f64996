from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heteroscale.errors import ConfigError
from heteroscale.workload.rate_curve import RateCurve, constant, daily, load_curve


def test_a_curve_is_straight_between_points_and_flat_beyond() -> None:
    curve = RateCurve(times_s=(10.0, 20.0), values=(1.0, 3.0), mix=(1.0, 2.0))
    assert curve.rates_at(np.array([0.0, 10, 15, 20, 99])).tolist() == [1, 1, 2, 3, 3]
    assert curve.mix_at(np.array([15.0])).tolist() == [1.5]
    assert curve.knots_s(100.0).tolist() == [10, 20]


def test_a_periodic_curve_repeats_and_closes() -> None:
    curve = RateCurve(times_s=(10.0, 20.0), values=(1.0, 3.0), period_s=40.0)
    assert curve.rates_at(np.array([15.0, 35, 55, 50, 5])).tolist() == [2, 2, 2, 1, 1 + 2 / 6]
    assert curve.knots_s(75.0).tolist() == [10, 20, 50, 60]


def test_scaling_by_peak_and_by_mean() -> None:
    curve = RateCurve(times_s=(0.0, 50.0), values=(1.0, 3.0), period_s=100.0)
    assert curve.with_peak(30.0).values == (10.0, 30.0)
    assert curve.with_mean(4.0).values == (2.0, 6.0)
    with pytest.raises(ConfigError, match="must be periodic to have a mean"):
        constant(1.0).with_mean(2.0)


def test_daily_harmonics_peak_where_told_and_days_have_their_level() -> None:
    curve = daily(10.0, ((1, 0.5, 18.0),), (1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5))
    hours = np.arange(0, 24 * 7 * 6) / 6
    rates = curve.rates_at(hours * 3600)
    assert hours[:144][rates[:144].argmax()] == 18.0
    assert rates[:144].max() / rates[:144].min() == pytest.approx(np.exp(1.0))
    assert rates[5 * 144 + 7] / rates[7] == pytest.approx(0.5)
    assert rates.mean() == pytest.approx(10.0)


def test_the_papers_day_ships_with_its_mix() -> None:
    curve = load_curve("paper_day")
    assert (len(curve.times_s), curve.times_s[1], curve.period_s) == (144, 600.0, 86_400.0)
    assert (max(curve.values), min(curve.values)) == (0.9994, 0.0802)
    assert (min(curve.mix), max(curve.mix)) == pytest.approx((0.8278, 1.1433), abs=1e-4)


def test_a_file_with_one_rate_in_hours(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("hour,rate_rps\n0,5\n0.5,7\n\n12,9\n")
    assert load_curve(path, period_s=None) == RateCurve(
        times_s=(0.0, 1800.0, 43_200.0), values=(5.0, 7.0, 9.0)
    )


def test_a_pair_in_any_order_gives_decode_and_the_ratio(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("t_s,decode_tps,prefill_tps\n0,5,10\n60,0,4\n")
    assert load_curve(path) == RateCurve(
        times_s=(0.0, 60.0), values=(5.0, 0.0), mix=(2.0, 1.0), period_s=86_400.0
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", ["1: header: must be t_s or hour, then one rate or"], id="empty"),
        pytest.param("time,rate\n0,1", ["1: header: must be t_s or hour"], id="header"),
        pytest.param("t_s,a,b\n0,1,2", ["1: header: must be t_s or hour"], id="two rates"),
        pytest.param("t_s,rate\n0,0\n", [" curve: must have a rate above 0"], id="all zero"),
        pytest.param(
            "t_s,rate\n0,1\n0,2\n9,x\n8,nan\n7,-1\n6,1,1\n86400,1\n90,5\n",
            [
                "3: line: must be later than the line before and below the period of 86400 s",
                "4: line: must be 2 numbers >= 0, got '9,x'",
                "5: line: must be 2 numbers >= 0, got '8,nan'",
                "6: line: must be 2 numbers >= 0, got '7,-1'",
                "7: line: must be 2 numbers >= 0, got '6,1,1'",
                "8: line: must be later than the line before",
            ],
            id="every bad line",
        ),
    ],
)
def test_a_bad_curve_file(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_curve(path)
    told = [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]
    assert [t[: len(e)] for t, e in zip(told, expected, strict=True)] == expected


def test_an_absent_curve_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable text file or one of paper_day"):
        load_curve(tmp_path / "absent.csv")
