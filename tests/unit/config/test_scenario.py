from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale.config.load import parse_fleet
from heteroscale.config.model_sections import ModelSection
from heteroscale.config.scenario import (
    Scenario,
    Simulated,
    is_built_in_curve,
    load_scenario,
    parse_scenario,
    with_trace,
)
from heteroscale.config.scenario_sections import (
    MetricsSection,
    NetworkSection,
    NodesSection,
    RateCurveSection,
    ServingSection,
    StaticPeakSection,
    TraceSection,
    TrafficSection,
)
from heteroscale.errors import ConfigError
from tests.unit.config.texts import MINIMAL, MINIMAL_SCENARIO
from tests.unit.sim.small import changed

CURVE = "rate_curve: {peak_rps: 190.0, input_tokens_mean: 3000, output_tokens_mean: 350}"


def test_the_least_that_can_be_written_becomes_a_scenario() -> None:
    assert parse_scenario(MINIMAL_SCENARIO, None, Path()) == Scenario(
        name="day",
        seed=1,
        start_s=1_748_822_400.0,
        duration_s=None,
        fleet=parse_fleet(MINIMAL, None),
        simulated=(
            Simulated(
                name="chat",
                traffic=TrafficSection(
                    rate_curve=RateCurveSection(
                        peak_rps=190.0, input_tokens_mean=3000, output_tokens_mean=350
                    )
                ),
                model=ModelSection(name="moe-540b-a27b"),
                serving=ServingSection(),
                start_up_s=195.0,
                initial={"prefill": 9, "decode": 7},
            ),
        ),
        nodes=(NodesSection(accelerator="H20", nodes=16),),
        network=NetworkSection(),
        metrics=MetricsSection(),
        static_peak=StaticPeakSection(),
        timeline_interval_s=60.0,
    )


def test_the_one_service_is_at_hand() -> None:
    scenario = parse_scenario(MINIMAL_SCENARIO, None, Path())
    assert (scenario.service.name, scenario.own.name) == ("chat", "chat")


@pytest.mark.parametrize(
    ("written", "start_s"),
    [
        pytest.param("2025-06-02T00:00:00Z", 1_748_822_400.0, id="UTC"),
        pytest.param("2025-06-02T08:00:00+08:00", 1_748_822_400.0, id="with an offset"),
    ],
)
def test_the_start_is_an_instant(written: str, start_s: float) -> None:
    text = f"{MINIMAL_SCENARIO}start: {written}\n"
    assert parse_scenario(text, None, Path()).start_s == start_s


@pytest.mark.parametrize("written", ["yesterday", "2025-06-02T00:00:00", "2025-13-01T00:00:00Z"])
def test_a_start_that_is_no_instant_is_a_fault(written: str) -> None:
    with pytest.raises(ConfigError, match="must be an ISO 8601 time with a zone"):
        parse_scenario(f"{MINIMAL_SCENARIO}start: {written}\n", None, Path())


def test_paths_are_relative_to_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("x")
    (tmp_path / "day.csv").write_text("x")
    scenario = tmp_path / "day.yaml"
    scenario.write_text(MINIMAL_SCENARIO.replace(CURVE, "trace: {path: trace.csv}"))
    trace = load_scenario(scenario).own.traffic.trace
    assert trace == TraceSection(path=str(tmp_path / "trace.csv"))
    scenario.write_text(MINIMAL_SCENARIO.replace("{peak_rps", "{curve: day.csv, peak_rps"))
    curve = load_scenario(scenario).own.traffic.rate_curve
    assert curve is not None
    assert curve.curve == str(tmp_path / "day.csv")


def test_a_path_with_a_zero_byte_is_a_fault_and_no_crash() -> None:
    text = MINIMAL_SCENARIO.replace(CURVE, 'trace: {path: "a\\0b"}')
    with pytest.raises(ConfigError, match="no path has a zero byte"):
        parse_scenario(text, None, Path())


def test_a_trace_on_the_command_line_takes_the_place_of_the_traffic(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("x")
    own = parse_scenario(
        MINIMAL_SCENARIO.replace(CURVE, "trace: {format: azure, speedup: 2}"), None, Path()
    )
    curve = parse_scenario(MINIMAL_SCENARIO, None, Path())
    assert with_trace(curve, None) == curve
    assert with_trace(curve, trace) == changed(
        curve, traffic=TrafficSection(trace=TraceSection(path=str(trace)))
    )
    given = with_trace(own, trace).own.traffic.trace
    assert given is not None
    assert (given.path, given.format, given.speedup) == (str(trace), "azure", 2)
    assert with_trace(with_trace(own, trace), None) == with_trace(own, trace)


def test_a_trace_in_place_of_other_traffic_brings_its_own_length(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("x")
    limited = MINIMAL_SCENARIO + "duration_s: 600\n"
    assert with_trace(parse_scenario(limited, None, Path()), trace).duration_s is None
    cut = parse_scenario(limited.replace(CURVE, "trace: {}"), None, Path())
    assert with_trace(cut, trace).duration_s == 600


def test_a_scenario_that_waits_for_a_trace_cannot_run_without_one(tmp_path: Path) -> None:
    scenario = parse_scenario(MINIMAL_SCENARIO.replace(CURVE, "trace: {}"), None, Path())
    with pytest.raises(ConfigError, match=r"traffic\.trace\.path: is required.*--trace"):
        with_trace(scenario, None)
    with pytest.raises(ConfigError, match="--trace: must be a readable file: No such file"):
        with_trace(scenario, tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("curve", "built_in"),
    [
        pytest.param("paper_day", True, id="a name"),
        pytest.param("paper_day.csv", False, id="a file here"),
        pytest.param("./paper_day", False, id="a path"),
    ],
)
def test_a_curve_is_meant_by_name_or_by_path(curve: str, built_in: bool) -> None:
    assert is_built_in_curve(curve) is built_in


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        pytest.param(
            "nodes: [{accelerator: H20, nodes: 16}]",
            "nodes: [{accelerator: H20, nodes: 8}, {accelerator: H20, nodes: 4, gpus_per_node: 16}]"
            "\nseed: x",
            "seed: must be a whole number",
            id="sixteen instances on eight small and four large nodes fit",
        ),
        pytest.param(
            "nodes: [{accelerator: H20, nodes: 16}]",
            "nodes: [{accelerator: H20, nodes: x}]",
            "nodes[0].nodes: must be a whole number",
            id="rooms are not counted while the nodes are unknown",
        ),
        pytest.param(
            "prefill: {share: 9, accelerators: [{type: H20, gpus: 8}]}",
            "prefill: {share: 9, accelerators: [{type: H20, gpus: 8, nodes: 2, within: S0}]}",
            "initial.prefill: must fit the nodes: 16 H20 nodes have room for 16 of 18 × 8 GPUs",
            id="instances of two nodes need twice the room",
        ),
        pytest.param(
            "prefill: {share: 9, accelerators: [{type: H20, gpus: 8}]}",
            "prefill: {share: 9, accelerators: [{type: H20, gpus: x}]}",
            "gpus: must be a whole number",
            id="an instance of unknown size is not placed",
        ),
        pytest.param(
            "traffic:\n  rate", "traffic: 7\nx:\n  rate", "traffic: must be a mapping", id="traffic"
        ),
        pytest.param("    roles:\n", "    rolls:\n", "group.roles: is required", id="no roles"),
        pytest.param(
            "initial: {prefill: 9, decode: 7}", "initial: 9", "initial: must be", id="initial"
        ),
        pytest.param(
            "metrics", "metrics", "metrics.window_s: must be ≥ scrape_interval_s (15)", id="window"
        ),
    ],
)
def test_what_makes_a_scenario_impossible(old: str, new: str, told: str) -> None:
    text = MINIMAL_SCENARIO.replace(old, new, 1)
    if old == "metrics":
        text += "metrics: {window_s: 10}\n"
    with pytest.raises(ConfigError) as caught:
        parse_scenario(text, None, Path())
    assert told in str(caught.value)
    assert not any(
        problem.path.startswith("initial.") for problem in caught.value.problems
    ) or told.startswith("initial.")
