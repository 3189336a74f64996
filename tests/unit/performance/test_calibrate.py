"""The bars that docs/calibration.md states against other laboratories' measurements."""

from __future__ import annotations

import json

import pytest

from benchmarks.calibrate import __main__ as calibrate
from benchmarks.calibrate import vllm
from benchmarks.calibrate.simplex import least
from benchmarks.calibrate.vllm_rows import FITTED, HELD_OUT


def test_table_and_roofline_stay_inside_their_bars(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        calibrate.main(["--only", "splitwise"])
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 0
    assert answer["passed"] is True
    summary = answer["splitwise"]
    assert summary["passed"] is True
    assert (summary["figures"], summary["table_left_out_figures"]) == (60, 56)
    assert summary["table_left_out_median_error"] <= 0.07
    assert summary["roofline_median_error"] <= 0.08
    assert summary["roofline_held_out_median_error"] <= 0.20


def test_co_located_serving_is_as_near_to_measured_engines_as_stated() -> None:
    summary = vllm.check()
    assert (summary["rows"], summary["missed"], summary["passed"]) == (17, [], True)
    errors = vllm.errors_of([vllm.figure_of(row, vllm.CONSTANTS) for row in HELD_OUT])
    assert errors["e2e_median"] <= 0.035
    assert errors["e2e_worst"] <= 0.11
    assert errors["tbt_median"] <= 0.04
    assert errors["tbt_worst"] <= 0.10
    assert errors["ttft_median"] <= 0.25
    assert errors["ttft_first_campaign_median"] <= 0.145


def test_nothing_is_fitted_but_the_8b_rows_and_the_constants_are_in_their_ranges() -> None:
    assert {row.shape.name for row in FITTED} == {"llama-3.1-8b"}
    assert "llama-3.1-8b" not in {row.shape.name for row in HELD_OUT}
    for name, (low, high) in vllm.RANGES.items():
        assert low <= getattr(vllm.CONSTANTS, name) <= high


def test_the_least_of_a_bowl_is_found() -> None:
    found = least(lambda at: (at[0] - 0.2) ** 2 + (at[0] + at[1] - 1.0) ** 2, [0.5, 0.5])
    assert found == pytest.approx([0.2, 0.8], abs=1e-4)
