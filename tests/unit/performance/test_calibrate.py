"""The bars that docs/performance.md states against other laboratories' measurements."""

from __future__ import annotations

import json

import pytest

from benchmarks.calibrate import __main__ as calibrate


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
