"""The example of a shortage: who keeps what, when, and that nothing oscillates."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from heteroscale.app import assemble
from heteroscale.config.scenario import Scenario, load_scenario
from heteroscale.entities.snapshot import SUPPLY_STATES
from heteroscale.sim.result import SimulationResult

EXAMPLE = Path(__file__).parents[2] / "examples" / "scenarios" / "shortage.yaml"
#: the end of the interval in which the nodes fail, and the one before they are back
FAIL_MIN, BACK_MIN = 30, 119


def results(scenario: Scenario) -> dict[str, SimulationResult]:
    made = assemble(scenario, check=True).go()
    return {name: record.result for name, record in made.services.items()}


def supply(result: SimulationResult, minute: int) -> tuple[int, int]:
    """Return prefill and decode instances ready, starting or held at the end of a minute."""
    prefill, decode = (
        sum(result.timeline.instances[role].get(state, (0,) * minute)[minute - 1] for state in have)
        for role in ("prefill", "decode")
        for have in [[state.value for state in SUPPLY_STATES]]
    )
    return prefill, decode


def test_three_services_through_the_loss_of_a_third_of_the_nodes_and_back() -> None:
    found = results(load_scenario(EXAMPLE))
    kept = {
        minute: {name: supply(result, minute) for name, result in found.items()}
        for minute in (29, FAIL_MIN, 42, BACK_MIN, 128)
    }
    whole = {"chat": (5, 4), "code": (4, 2), "batch": (4, 2)}
    short = {"chat": (5, 4), "code": (2, 1), "batch": (2, 1)}
    assert kept == {
        29: whole,
        FAIL_MIN: {"chat": (4, 2), "code": (2, 1), "batch": (3, 2)},
        42: short,
        BACK_MIN: short,
        128: whole,
    }


def test_nothing_oscillates() -> None:
    found = results(load_scenario(EXAMPLE))
    for name, result in found.items():
        assert result.reversals == 0
        # At rest from the last start to the nodes' return, and again after it.
        for first, last in ((45, BACK_MIN), (130, 240)):
            assert len({supply(result, minute) for minute in range(first, last + 1)}) == 1
        down = [change for change in result.changes if change.direction == "in"]
        assert [change.headline.partition(":")[0] for change in down] == (
            ["gives way to chat"] if name == "batch" else []
        )


def test_without_leave_to_take_the_most_important_one_stays_short() -> None:
    scenario = load_scenario(EXAMPLE)
    held = tuple(dataclasses.replace(one, preemptible=False) for one in scenario.fleet.services)
    fleet = dataclasses.replace(scenario.fleet, services=held)
    alone = results(dataclasses.replace(scenario, fleet=fleet))
    found = results(scenario)
    assert supply(alone["chat"], BACK_MIN) == (4, 3)
    assert supply(alone["batch"], BACK_MIN) == (3, 2)
    assert (found["chat"].slo_attainment or 0.0) > (alone["chat"].slo_attainment or 1.0) + 0.3
    assert (found["batch"].slo_attainment or 0.0) > 0.99
