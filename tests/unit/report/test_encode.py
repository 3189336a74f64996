"""The JSON of a run: its keys, their order, and bytes that depend on the run alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale.report.encode import result_json, rounded
from heteroscale.sim.result import ColocatedPeak, FaultNote, PrefixHits, Search
from tests.unit.report.results import a_day, an_empty_run

DOCUMENTED = Path(__file__).resolve().parents[3] / "docs" / "result.md"

KEYS = [
    "scenario",
    "seed",
    "policy",
    "mode",
    "held_by_operator",
    "trace_notes",
    "slo",
    "requests",
    "input_tokens",
    "output_tokens",
    "slo_attainment",
    "gpu_hours",
    "gpu_hours_by_accelerator",
    "gpu_hours_static_peak",
    "gpu_hours_saved_share",
    "static_peak",
    "static_peak_search",
    "static_peak_attainment",
    "policy_attainment",
    "ttft_p50_s",
    "ttft_p99_s",
    "tbt_p50_s",
    "tbt_p99_s",
    "actions",
    "reversals",
    "out_of_ratio_share",
    "ticks",
    "ticks_not_sent",
    "changes",
    "timeline",
    "simulated_s",
    "wall_s",
]


POOL = ColocatedPeak(search=Search.FOUND, replicas=3, gpus=24, attainment=0.99)
HITS = PrefixHits(lookup_tokens=200, hit_tokens=50)


def test_keys_come_in_their_documented_order_with_wall_s_last() -> None:
    assert list(json.loads(result_json(a_day(), 1.0))) == KEYS


def test_faults_are_told_only_where_some_were_planned() -> None:
    note = FaultNote(at_s=60.0, kind="node_loss", until_s=90.0, struck=("n1", "n2"))
    found = json.loads(result_json(replace(a_day(), faults=(note,)), 1.0))
    assert [key for key in found if key != "faults"] == KEYS
    assert found["faults"] == [
        {"at_s": 60.0, "kind": "node_loss", "until_s": 90.0, "struck": ["n1", "n2"]}
    ]


def test_prefix_caches_are_told_only_where_they_were_asked() -> None:
    found = json.loads(result_json(replace(a_day(), prefix_cache=HITS), 1.0))
    assert [key for key in found if key != "prefix_cache"] == KEYS
    assert found["prefix_cache"] == {"lookup_tokens": 200, "hit_tokens": 50, "hit_rate": 0.25}


def test_a_co_located_pool_is_told_only_where_one_was_searched() -> None:
    day = replace(a_day(), colocated_peak=POOL)
    found = json.loads(result_json(day, 1.0))
    assert [key for key in found if key != "colocated_peak"] == KEYS
    assert found["colocated_peak"] == {
        "search": "found",
        "replicas": 3,
        "gpus": 24,
        "gpu_hours": 24 * day.simulated_s / 3600,
        "attainment": 0.99,
    }


def test_every_key_is_documented_in_the_same_order() -> None:
    of_one, _, _ = DOCUMENTED.read_text(encoding="utf-8").partition("## Several services")
    text, of_timeline = of_one.split("## `timeline`")
    broken = replace(a_day(), faults=(), prefix_cache=HITS, colocated_peak=POOL)
    documented = list(json.loads(result_json(broken, 1.0)))
    assert re.findall(r"^\| `([a-z0-9_]+)` \|", text, re.MULTILINE) == documented
    of_series = re.findall(r"`([a-z0-9_]+)`(?=[^|]*\|[^|]*\|$)", of_timeline, re.MULTILINE)
    assert sorted(of_series) == sorted(a_day().timeline.series)


def test_figures_are_those_of_the_run() -> None:
    result = a_day()
    found = json.loads(result_json(result, 12.34567))
    assert found["requests"] == {
        "arrived": 9_000_000,
        "completed": 8_990_000,
        "running": 4_000,
        "refused": 6_000,
    }
    assert found["gpu_hours"] == 4_321.5
    assert found["gpu_hours_saved_share"] == pytest.approx(0.391681, abs=1e-6)
    assert found["static_peak"] == {"prefill": 22, "decode": 15}
    assert found["static_peak_search"] == "found"
    assert found["static_peak_attainment"] == 0.9951
    assert found["policy_attainment"] == 0.9946
    assert found["changes"][0] == {
        "at_s": 5_400.0,
        "service": "chat-large",
        "direction": "in",
        "before": {"prefill": 9, "decode": 7},
        "after": {"prefill": 8, "decode": 6},
        "headline": result.changes[0].headline,
        "reasons": list(result.changes[0].reasons),
    }
    assert found["timeline"]["interval_s"] == 300.0
    assert list(found["timeline"]["series"]) == list(result.timeline.series)
    assert found["timeline"]["instances"]["prefill"]["ready"] == list(
        result.timeline.instances["prefill"]["ready"]
    )
    assert found["wall_s"] == 12.346


def test_what_is_unknown_is_null_and_what_is_absent_is_empty() -> None:
    found = json.loads(result_json(an_empty_run(), None))
    unknown = {name for name, value in found.items() if value is None}
    assert unknown == {
        "slo_attainment",
        "gpu_hours_static_peak",
        "gpu_hours_saved_share",
        "static_peak_attainment",
        "policy_attainment",
        "ttft_p50_s",
        "ttft_p99_s",
        "tbt_p50_s",
        "tbt_p99_s",
        "wall_s",
    }
    assert found["changes"] == []
    assert found["static_peak"] == {}
    assert found["static_peak_search"] == "not searched"
    assert found["mode"] == "enforce"
    assert found["held_by_operator"] == found["trace_notes"] == []


def test_two_runs_differ_in_the_last_line_only() -> None:
    first = result_json(a_day(), 1.0).splitlines()
    second = result_json(a_day(), 2.0).splitlines()
    assert first[:-2] == second[:-2]
    assert first[-2:] == ['  "wall_s": 1.0', "}"]


def test_the_file_of_a_day_by_the_minute_stays_small() -> None:
    assert len(result_json(a_day(intervals=1440), 1.0).encode()) < 500_000


def test_text_of_any_language_survives() -> None:
    result = replace(a_day(), scenario='día "1"\n日')
    assert json.loads(result_json(result, None))["scenario"] == 'día "1"\n日'


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_figure_json_cannot_say_is_refused(figure: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        result_json(replace(a_day(), gpu_hours=figure), None)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        pytest.param(None, "null", id="unknown stays unknown"),
        pytest.param(0.0, "0", id="zero"),
        pytest.param(26_712.345_678, "26712.3", id="six significant digits"),
        pytest.param(0.000_123_456_789, "0.000123457", id="small figures keep their digits"),
        pytest.param(1_234_567.0, "1234570", id="large figures are rounded too"),
    ],
)
def test_rounding(value: float | None, want: str) -> None:
    assert json.dumps(rounded(value)) == want
