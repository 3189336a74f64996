"""Several services on one fleet: what they share, what is each one's own, what strikes whom."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from heteroscale.app import assemble, simulate, with_policy
from heteroscale.config.fault_sections import FaultKind, FaultSection
from heteroscale.config.scenario import Scenario, parse_scenario
from heteroscale.config.scenario_sections import StaticPeakSection
from heteroscale.errors import ConfigError, InvariantViolation
from heteroscale.loop import TickReport
from heteroscale.sim.check import faults_of
from heteroscale.sim.checker import Checked
from heteroscale.sim.speed import performance_model
from heteroscale.sim.world import World, build_world
from tests.diary import Diary
from tests.unit.sim.small import TEXT, small
from tests.unit.sim.test_checker import Told

#: keys of the small scenario that belong to its service
OWN = ("service", "traffic", "model", "start_up_s", "initial")


def two(*, count: int = 32, duration_s: float = 600.0, **changes: Any) -> Scenario:
    """Return the small scenario with its service twice, the second under another name."""
    file = yaml.safe_load(TEXT)
    entry = {key: file.pop(key) for key in OWN}
    other = {**entry, "service": {**entry["service"], "name": "code", "priority": 20}}
    file["services"] = [entry, other]
    file["nodes"] = [{"accelerator": "H20", "nodes": count}]
    file["duration_s"] = duration_s
    scenario = parse_scenario(yaml.safe_dump(file), "two.yaml", Path())
    return dataclasses.replace(scenario, **changes)


def world_of_two(scenario: Scenario) -> World:
    models = {own.name: performance_model(own.model) for own in scenario.simulated}
    return build_world(scenario, models, {own.name: iter(()) for own in scenario.simulated})


def test_what_one_service_holds_is_not_there_for_the_other() -> None:
    world = world_of_two(two(count=14))
    (subcluster,) = world.subclusters
    nodes = [name for one in subcluster.observe().instances for name in one.nodes]
    assert len(nodes) == len(set(nodes)) == 14
    with pytest.raises(ConfigError, match=r"services\[1\]\.initial\.decode: must fit the nodes"):
        two(count=13)


def test_what_fits_the_nodes_may_still_fit_no_domain_beside_the_other() -> None:
    (block,) = two().nodes
    sizes = {"nodes_per_s0": 1, "s0_per_s1": 1, "s1_per_s2": 10}
    # Each S2 has room for one service: 10 nodes for 7 instances.
    two_s2 = block.model_copy(update={**sizes, "nodes": 20})
    assert world_of_two(two(nodes=(two_s2,))).subclusters
    # The other's 7 are what is left of the one S2 and the 4 of another.
    short = block.model_copy(update={**sizes, "nodes": 14})
    with pytest.raises(ConfigError, match=r"services\[1\]\.initial: must fit one S2"):
        world_of_two(two(nodes=(short,)))


def test_the_loop_sees_every_service_through_its_own_readings() -> None:
    reports: list[TickReport] = []
    run = assemble(two(), check=True, watched=lambda loop: Diary(loop, reports))
    found = {name: record.result for name, record in run.go().services.items()}
    last = reports[-1].snapshot.services
    assert set(last) == {"chat", "code"}
    assert last["chat"].readings != last["code"].readings
    assert [decision.service for decision in reports[-1].plan.decisions] == ["chat", "code"]
    for result in found.values():
        assert result.requests.arrived == (
            result.requests.completed + result.requests.running + result.requests.refused
        )
        assert {change.service for change in result.changes} <= {"chat", "code"}
    assert found["chat"].requests != found["code"].requests
    assert {change.service for change in found["code"].changes} <= {"code"}


def test_gpu_hours_are_each_services_own() -> None:
    found = simulate(two(), policy="static")
    assert {name: one.gpu_hours for name, one in found.services.items()} == {
        "chat": 7 * 8 * 600 / 3600,
        "code": 7 * 8 * 600 / 3600,
    }
    assert found.gpu_hours == 2 * 7 * 8 * 600 / 3600
    assert found.gpu_hours_static_peak is None


def test_each_service_has_a_fixed_fleet_to_compare_with() -> None:
    scenario = two(static_peak=StaticPeakSection(busiest_hours=0.1))
    found = simulate(scenario)
    fixed = [one.gpu_hours_static_peak for one in found.services.values()]
    assert found.gpu_hours_static_peak == sum(hours or 0.0 for hours in fixed)
    assert all(set(one.static_peak) == {"prefill", "decode"} for one in found.services.values())


def test_a_fault_strikes_the_service_it_names_and_else_anyone() -> None:
    named = FaultSection(at_s=100.0, kind=FaultKind.INSTANCE_LOSS, count=3, service="code")
    anyone = FaultSection(at_s=200.0, kind=FaultKind.INSTANCE_LOSS, count=10)
    record = assemble(two(faults=(named, anyone)), check=True).go()
    notes = record.services["chat"].result.faults
    assert notes is not None
    assert record.services["code"].result.faults == notes
    assert {uid.split("/")[1] for uid in notes[0].struck} == {"code"}
    assert {uid.split("/")[1] for uid in notes[1].struck} == {"chat", "code"}


def test_a_lost_node_takes_the_instances_of_every_service_on_it() -> None:
    reports: list[TickReport] = []
    loss = FaultSection(at_s=100.0, kind=FaultKind.SUBCLUSTER_LOSS, duration_s=60.0)
    scenario = two(faults=(loss,), duration_s=180.0)
    assemble(scenario, check=True, watched=lambda loop: Diary(loop, reports)).go()
    failed = {
        one.service
        for service in reports[-1].snapshot.services.values()
        for one in service.instances
        if one.state == "failed"
    }
    assert failed == {"chat", "code"}


def test_the_checker_names_the_service_that_breaks_an_invariant() -> None:
    scenario = two(duration_s=15.0)
    reports: list[TickReport] = []
    assemble(scenario, watched=lambda loop: Diary(loop, reports)).go()
    decisions = [
        dataclasses.replace(one, capacity=dict.fromkeys(one.capacity, 99))
        if one.service == "code"
        else one
        for one in reports[0].plan.decisions
    ]
    plan = dataclasses.replace(reports[0].plan, decisions=tuple(decisions))
    world = world_of_two(scenario)
    lying = dataclasses.replace(reports[0], plan=plan)
    loop = Checked(Told([lying]), scenario.fleet, world.plant, world.subclusters)
    with pytest.raises(InvariantViolation, match="code: decode decided to have 99; prefill"):
        loop.tick()


def test_a_policy_by_name_is_that_of_every_service() -> None:
    fleet = with_policy(two().fleet, "offered-tps")
    assert fleet is not None
    assert [
        [one.signal.value for one in service.policy.proportional] for service in fleet.services
    ] == [["offered_tps"], ["offered_tps"]]


def test_of_several_services_there_is_no_only_one() -> None:
    scenario = two()
    with pytest.raises(InvariantViolation, match="one service is asked for, of 2"):
        _ = scenario.service
    with pytest.raises(InvariantViolation, match="one service is asked for, of 2"):
        _ = scenario.own
    assert [one.service.name for one in scenario.alone()] == ["chat", "code"]
    assert small().alone() == (small(),)


def test_what_only_the_simulated_world_can_judge_is_told_of_every_service() -> None:
    scenario = two()
    own = [
        dataclasses.replace(one, model=one.model.model_copy(update={"name": f"no-{one.name}"}))
        for one in scenario.simulated
    ]
    found = faults_of(dataclasses.replace(scenario, simulated=tuple(own)))
    assert [problem.path for problem in found] == ["services[0].model", "services[1].model"]
