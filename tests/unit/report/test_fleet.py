"""The report of several services: a line for each, their sum, and each to be looked at."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

from heteroscale.report import encode, html
from heteroscale.report.fleet import page, result_json, summary
from heteroscale.sim.result import FaultNote, FleetResult
from tests.unit.report.results import a_day, an_empty_run
from tests.unit.report.test_html import Page

DOCUMENTED = Path(__file__).resolve().parents[3] / "docs" / "result.md"
CODE = replace(a_day(), slo_attainment=0.9, gpu_hours=1_000.0, gpu_hours_static_peak=800.0)
FLEET = FleetResult(services={"chat": a_day(), "code": CODE})
ALONE = FleetResult(services={"chat": a_day()})


def printed(fleet: FleetResult) -> list[str]:
    out = StringIO()
    Console(width=110, file=out).print(summary(fleet))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_of_one_service_everything_is_as_it_was() -> None:
    assert result_json(ALONE, 1.0) == encode.result_json(a_day(), 1.0)
    assert page(ALONE) == html.render(a_day())
    assert printed(ALONE)[1].startswith("GPU-hours saved")


def test_the_table_has_a_line_for_each_service_and_one_for_all() -> None:
    held = replace(CODE, held_by_operator=("scale-in paused",))
    assert printed(FleetResult(services={"chat": a_day(), "code": held})) == [
        "paper-day  policy proportional decode tps, seed 7, 24 h simulated  code: scale-in paused",
        "      SLO attained  GPU-hours    saved  TTFT p99  TBT p99  requests  changes",
        "chat       99.63 %      4,322   39.2 %    874 ms  41.7 ms       9 M       12",
        "code       90.00 %      1,000  -25.0 %    874 ms  41.7 ms       9 M       12",
        "all                     5,322   32.7 %                         18 M       24",
        "                      arrived       completed     running     refused",
        "requests           18,000,000      17,980,000       8,000      12,000",
        "input tokens   54,000,000,000  53,940,000,000  24,000,000  36,000,000",
        "output tokens   6,300,000,000   6,293,000,000   2,800,000   4,200,000",
    ]


def test_what_is_unknown_of_one_is_unknown_of_the_sum() -> None:
    lines = printed(FleetResult(services={"chat": a_day(), "none": an_empty_run()}))
    assert lines[3].split()[:4] == ["none", "–", "4,322", "–"]
    assert lines[4].split()[:3] == ["all", "8,643", "–"]


def test_the_json_has_the_sums_and_each_services_own_result() -> None:
    note = FaultNote(at_s=60.0, kind="node_loss", until_s=90.0, struck=("n1",))
    struck = {name: replace(one, faults=(note,)) for name, one in FLEET.services.items()}
    found = json.loads(result_json(FleetResult(services=struck), 2.0))
    whole = json.loads(encode.result_json(replace(CODE, faults=(note,)), 2.0))
    shared = {"scenario", "seed", "policy", "faults", "ticks", "simulated_s", "wall_s"}
    own = {key: value for key, value in whole.items() if key not in shared}
    assert list(found["services"]) == ["chat", "code"]
    assert found["services"]["code"] == own
    assert {key: found[key] for key in shared} == {key: whole[key] for key in shared}
    assert found["requests"] == {key: 2 * count for key, count in whole["requests"].items()}
    assert (found["gpu_hours"], found["gpu_hours_static_peak"]) == (5_321.5, 7_904.0)
    assert (found["actions"], found["reversals"]) == (24, 0)
    assert list(found)[-1] == "wall_s"
    text = DOCUMENTED.read_text(encoding="utf-8")
    several = text[text.index("## Several services") :]
    cells = re.findall(r"^\| (`.*?) \|", several, re.MULTILINE)
    assert set(found) <= {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_page_lets_one_look_at_each_service() -> None:
    text = page(FLEET)
    seen = Page(text)
    assert (seen.crossed, seen.open) == ([], [])
    services = [tag for tag, attributes in seen.elements if attributes.get("class") == "service"]
    assert services == ["details", "details"]
    ids = [attributes["id"] for _, attributes in seen.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {"figures-0", "figures-1", "plot-0-0", "plot-0-1"} <= set(ids)
    assert "2 services: 32.7 % fewer GPU-hours than the smallest fixed fleets" in text


def test_the_verdict_of_a_fleet_without_a_comparison_is_what_it_used() -> None:
    services = {"chat": a_day(), "none": an_empty_run()}
    assert "2 services used 8,643 GPU-hours." in page(FleetResult(services=services))
    worse = {"chat": CODE, "code": CODE}
    assert "2 services: 25.0 % more GPU-hours" in page(FleetResult(services=worse))


def test_names_are_no_markup() -> None:
    bad = "</script><b>"
    text = page(FleetResult(services={bad: a_day(), "code": CODE}))
    assert bad not in text
