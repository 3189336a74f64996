"""Several accelerators in one role: each is as fast as its model says, and gets its share."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from heteroscale.app import assemble
from heteroscale.config.scenario import Scenario, load_scenario
from heteroscale.entities.service import AcceleratorOption, RoleSpec
from heteroscale.loop import TickReport
from heteroscale.sim.capacity import decode_capacity_rps, prefill_capacity_rps
from heteroscale.sim.sampling import RoleIndex, Span
from heteroscale.sim.speed import performance_model
from heteroscale.sim.world import FIRST_GROUP, World
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk
from tests.diary import Diary
from tests.unit.config.texts import REPO
from tests.unit.sim.small import changed, world_of

SCENARIO = load_scenario(REPO / "examples" / "scenarios" / "mixed-accelerators.yaml")
MODEL = performance_model(SCENARIO.own.model)
INPUT, OUTPUT = 2_000, 200
#: the roofline's step limit is none of the tests' business: batches are cut by their size
NO_LIMIT_PS = 10**15


def role_of(scenario: Scenario, name: str) -> RoleSpec:
    return next(leaf for leaf in scenario.service.group.leaves() if leaf.path == name)


def preferring(role: str, accelerator: str) -> Scenario:
    """Return the scenario with one accelerator only for a role, and much of everything else."""
    roles = tuple(
        dataclasses.replace(
            leaf,
            accelerators=tuple(
                one
                for one in leaf.accelerators
                if one.type == (accelerator if leaf.path == role else "H20")
            ),
            max_replicas=100,
        )
        for leaf in SCENARIO.service.group.roles
    )
    group = dataclasses.replace(SCENARIO.service.group, roles=roles)
    service = dataclasses.replace(SCENARIO.service, group=group)
    (h20, *others) = SCENARIO.nodes
    nodes = (h20.model_copy(update={"nodes": 16}), *others)
    initial = {"prefill": 40, "decode": 40, role: 1}
    fleet = dataclasses.replace(SCENARIO.fleet, services=(service,))
    serving = SCENARIO.own.serving.model_copy(update={"admission_limit": 999_999_999})
    return changed(SCENARIO, fleet=fleet, nodes=nodes, initial=initial, serving=serving)


def flood(rate_rps: float, seconds: float) -> ArrivalChunk:
    """Return equal requests at equal distances."""
    count = int(rate_rps * seconds)
    return ArrivalChunk(
        arrival_ps=(np.arange(count) * (PS_PER_S / rate_rps)).astype(np.int64),
        input_tokens=np.full(count, INPUT, np.int32),
        output_tokens=np.full(count, OUTPUT, np.int32),
    )


def served_tps(world: World, role: RoleIndex, first_s: int, last_s: int) -> float:
    """Return what a role serves per second between two moments."""
    world.plant.advance(first_s * PS_PER_S)
    before = world.plant.services["chat"].sample()
    world.plant.advance(last_s * PS_PER_S)
    return Span(before, world.plant.services["chat"].sample()).tps(role)


@pytest.mark.parametrize("accelerator", ["H20", "L20", "H100"])
def test_a_flooded_prefill_instance_is_as_fast_as_the_model_says(accelerator: str) -> None:
    speed = MODEL.coefficients(accelerator, 1)
    budget = SCENARIO.own.serving.prefill_token_budget
    expected_rps = prefill_capacity_rps(speed, np.full(1_000, INPUT, np.int32), budget)
    world = world_of(preferring("prefill", accelerator), flood(2 * expected_rps, 200.0))
    found = served_tps(world, RoleIndex.PREFILL, 50, 150)
    assert found == pytest.approx(expected_rps * INPUT, rel=0.01)


@pytest.mark.parametrize("accelerator", ["H20", "H100"])
def test_a_flooded_decode_instance_is_as_fast_as_the_model_says(accelerator: str) -> None:
    lengths = (np.full(1_000, INPUT, np.int32), np.full(1_000, OUTPUT, np.int32))
    most = SCENARIO.own.serving.decode_max_batch
    speed = MODEL.coefficients(accelerator, 1)
    expected_rps = decode_capacity_rps(speed, *lengths, most, NO_LIMIT_PS)
    world = world_of(preferring("decode", accelerator), flood(1.5 * expected_rps, 200.0))
    found = served_tps(world, RoleIndex.DECODE, 50, 150)
    assert found == pytest.approx(expected_rps * (OUTPUT - 1), rel=0.03)


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_the_capacities_of_the_example_are_those_of_the_model(role: str) -> None:
    # Decode at the step time that the SLO leaves, prefill on the example's mean prompt.
    lengths = (np.full(1_000, INPUT, np.int32), np.full(1_000, OUTPUT, np.int32))
    serving, slo_ps = SCENARIO.own.serving, round(SCENARIO.service.slo.tbt_s * PS_PER_S)

    def capacity_rps(option: AcceleratorOption) -> float:
        speed = MODEL.coefficients(option.type, option.gpus)
        if role == "prefill":
            return prefill_capacity_rps(speed, lengths[0], serving.prefill_token_budget)
        return decode_capacity_rps(speed, *lengths, serving.decode_max_batch, slo_ps)

    options = role_of(SCENARIO, role).accelerators
    one = capacity_rps(options[0])
    for option in options:
        assert option.capacity == pytest.approx(capacity_rps(option) / one, rel=0.02)


def mixed(counts: Mapping[tuple[str, str], int], chunk: ArrivalChunk) -> World:
    """Return the example's world with more instances than its first ones."""
    world = world_of(SCENARIO, chunk)
    (roster,) = world.plant.rosters
    for (role, accelerator), replicas in counts.items():
        roster.place(("chat", FIRST_GROUP, role, accelerator), ("main",), replicas)
    return world


def tokens_by_accelerator(world: World, role: str) -> Mapping[str, int]:
    counted: Counter[str] = Counter()
    samples = world.plant.services["chat"].instance_samples()
    for one, tokens in zip(samples.targets, samples.counted.tokens.tolist(), strict=True):
        if one.role == role:
            counted[one.uid.split("/")[4]] += tokens
    return counted


MIX = {("prefill", "L20"): 4, ("prefill", "H100"): 1, ("decode", "H100"): 4}
#: 6 H20, 4 L20 and 1 H100
UNITS = 6 * 1.0 + 4 * 0.8 + 6.6


def shares_of(tokens: Mapping[str, int]) -> dict[str, float]:
    return {name: count / sum(tokens.values()) for name, count in sorted(tokens.items())}


def test_a_mixed_role_shares_its_work_by_capacity() -> None:
    unit_rps = prefill_capacity_rps(
        MODEL.coefficients("H20", 1),
        np.full(1_000, INPUT, np.int32),
        SCENARIO.own.serving.prefill_token_budget,
    )
    # As much as all of them can do together: nobody has nothing to do, and nobody a long queue.
    world = mixed(MIX, flood(0.95 * UNITS * unit_rps, 400.0))
    world.plant.advance(400 * PS_PER_S)
    assert shares_of(tokens_by_accelerator(world, "prefill")) == pytest.approx(
        {"H100": 6.6 / UNITS, "H20": 6.0 / UNITS, "L20": 3.2 / UNITS}, abs=0.02
    )
    decode_units = 2 * 1.0 + 4 * 0.87
    assert shares_of(tokens_by_accelerator(world, "decode")) == pytest.approx(
        {"H100": 4 * 0.87 / decode_units, "H20": 2 / decode_units}, abs=0.03
    )
    counters = world.plant.services["chat"].sample().counters
    assert counters.attained / counters.completed.requests > 0.99


def kinds_of(report: TickReport) -> Counter[tuple[str, str]]:
    return Counter(
        (one.role, one.accelerator) for one in report.snapshot.services["chat"].instances
    )


def test_the_loop_fills_the_preferred_kind_first_and_counts_the_rest_by_its_worth() -> None:
    reports: list[TickReport] = []
    run = assemble(SCENARIO, check=True, watched=lambda loop: Diary(loop, reports))
    result = run.go().only.result
    most = max((kinds_of(report) for report in reports), key=lambda kinds: kinds.total())
    assert most["prefill", "H20"] + most["decode", "H20"] == 8
    assert most["prefill", "L20"] > 0
    assert most["prefill", "H100"] + most["decode", "H100"] > 0
    last = kinds_of(reports[-1])
    supply = reports[-1].plan.decisions[0].capacity["prefill"]
    worth = last["prefill", "H20"] + 0.8 * last["prefill", "L20"] + 6.6 * last["prefill", "H100"]
    assert supply <= worth <= supply + 6.6
    assert sum(result.gpu_hours_by_accelerator.values()) == pytest.approx(result.gpu_hours)
    assert set(result.gpu_hours_by_accelerator) == {"H20", "L20", "H100"}
    assert (result.slo_attainment or 0.0) > 0.99
