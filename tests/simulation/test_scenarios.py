"""Named scenarios through the production loop: invariants on every tick, outcomes in range."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from heteroscale.app import RANDOM, assemble, with_faults
from heteroscale.config.fault_sections import FaultSection
from heteroscale.config.scenario import load_scenario
from heteroscale.sim.result import SimulationResult
from tests.unit.config.texts import REPO
from tests.unit.sim.small import changed

HERE = Path(__file__).parent
EXPECTED: Sequence[Mapping[str, Any]] = yaml.safe_load((HERE / "expected.yaml").read_text("utf-8"))


def simulated(run: Mapping[str, Any]) -> SimulationResult:
    scenario = load_scenario(HERE / "scenarios" / run["scenario"])
    if "start_up_s" in run:
        scenario = changed(scenario, start_up_s=float(run["start_up_s"]))
    faults = tuple(FaultSection.model_validate(fault) for fault in run.get("faults", []))
    scenario = dataclasses.replace(scenario, faults=faults)
    policy = run.get("policy", "heteroscale")
    return assemble(scenario, policy=policy, check=True).go().only.result


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: case["name"])
def test_outcomes_stay_in_their_ranges(case: Mapping[str, Any]) -> None:
    result = simulated(case["run"])
    for count in (result.requests, result.input_tokens, result.output_tokens):
        assert count.arrived == count.completed + count.running + count.refused
    found = {figure: getattr(result, figure) for figure in case["expect"]}
    outside = {
        figure: found[figure]
        for figure, (least, most) in case["expect"].items()
        if found[figure] is None or not least <= found[figure] <= most
    }
    assert outside == {}, f"outside its range, of {found}"


def test_served_decode_tokens_mislead_when_prefill_is_the_bottleneck() -> None:
    ours = simulated({"scenario": "prefill-shift.yaml"})
    misled = simulated({"scenario": "prefill-shift.yaml", "policy": "decode-tps"})
    # While prompts grow, from the first to the second hour, every one who believes decode TPS
    # would shrink; ours only grows until latency is inside its limits again.
    growing = (3000.0, 4000.0)
    assert any(
        change.direction == "in" and growing[0] <= change.at_s <= growing[1]
        for change in misled.changes
    )
    first = [change for change in ours.changes if growing[0] <= change.at_s <= growing[1]]
    assert first
    assert {change.direction for change in first} == {"out"}
    assert ours.slo_attainment is not None
    assert misled.slo_attainment is not None
    assert ours.slo_attainment > misled.slo_attainment + 0.3


def test_actions_that_are_sent_twice_have_the_effect_of_once() -> None:
    twice = {"at_s": 0.0, "kind": "repeated_actions", "duration_s": 5400.0}
    found = simulated({"scenario": "burst.yaml", "faults": [twice]})
    assert dataclasses.replace(found, faults=None) == simulated({"scenario": "burst.yaml"})


@pytest.mark.parametrize("name", ["two-services", "moe-two-level", "mixed-accelerators"])
@pytest.mark.parametrize("seed", [1, 3])
def test_whatever_fails_no_tick_breaks_an_invariant(name: str, seed: int) -> None:
    scenario = load_scenario(REPO / "examples" / "scenarios" / f"{name}.yaml")
    broken = with_faults(dataclasses.replace(scenario, seed=seed), RANDOM)
    for record in assemble(broken, check=True).go().services.values():
        count = record.result.requests
        assert count.arrived == count.completed + count.running + count.refused
        assert (record.result.slo_attainment or 0.0) > 0.8
