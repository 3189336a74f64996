"""A prefill made of parts: complete units serve, half ones do not, and members come and go."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from heteroscale.app import assemble, simulate
from heteroscale.config.scenario import Scenario, load_scenario, parse_scenario
from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import InstanceState, Signal
from heteroscale.entities.topology import Node
from heteroscale.errors import ConfigError
from heteroscale.loop import TickReport
from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.rows import Row
from heteroscale.sim.serving import AdvanceStatus, Serving
from heteroscale.sim.unit_engines import UnitEngines
from heteroscale.sim.unit_speed import Parts, unit_speed
from heteroscale.workload.arrivals import ArrivalChunk
from tests.diary import Diary
from tests.unit.config.texts import REPO
from tests.unit.sim.scenarios import MS, NETWORK, speed
from tests.unit.sim.small import world_of

ATTENTION, FFN = "prefill/attention", "prefill/ffn"
PARTS = Parts(
    shares={ATTENTION: 1, FFN: 2},
    work={ATTENTION: 0.3, FFN: 0.7},
    hand_over_ps=2 * MS,
    full_batch=1_000,
)
NODE = Node(name="n0", accelerator="H20", gpus=8, domain=("c", "a", "a0", "a00"))
EXAMPLE = REPO / "examples" / "scenarios" / "moe-two-level.yaml"


# --- how fast a unit is ----------------------------------------------------------------------


def test_a_batch_takes_as_long_as_the_slower_part_and_the_hand_over() -> None:
    whole = speed()
    unit = unit_speed(PARTS, {ATTENTION: [whole], FFN: [whole, whole]})
    found = unit.coefficients
    # Two FFN instances share 70 % of the work, one attention instance has 30 %.
    assert found.prefill_per_token_ps == pytest.approx(0.35 * whole.prefill_per_token_ps, abs=1)
    assert found.prefill_per_token2_ps == pytest.approx(0.35 * whole.prefill_per_token2_ps, abs=1)
    assert found.prefill_base_ps == pytest.approx(0.35 * whole.prefill_base_ps + 2 * MS, abs=1)
    assert found.kv_capacity_tokens == whole.kv_capacity_tokens
    assert unit.busy[ATTENTION] / unit.busy[FFN] == pytest.approx(0.30 / 0.35, rel=1e-4)
    assert unit.busy[FFN] < 1.0


def test_what_is_handed_over_at_no_cost_keeps_the_slower_part_busy_all_the_time() -> None:
    free = dataclasses.replace(PARTS, hand_over_ps=0)
    unit = unit_speed(free, {ATTENTION: [speed()], FFN: [speed(), speed()]})
    assert unit.busy[FFN] == 1.0


def test_unequal_instances_of_a_part_divide_its_work_by_their_speed() -> None:
    slow, fast = speed(factor=3), speed()
    unit = unit_speed(PARTS, {ATTENTION: [fast, fast], FFN: [slow, fast]})
    expected = 0.7 / (1 / slow.prefill_per_token_ps + 1 / fast.prefill_per_token_ps)
    assert unit.coefficients.prefill_per_token_ps == pytest.approx(expected, abs=1)
    assert unit.coefficients.kv_capacity_tokens == 2 * fast.kv_capacity_tokens


def test_where_each_part_is_slower_in_something_a_batch_takes_no_less_than_either() -> None:
    short = dataclasses.replace(speed(), prefill_per_token2_ps=0)
    long = dataclasses.replace(speed(), prefill_per_token_ps=0)
    unit = unit_speed(PARTS, {ATTENTION: [long], FFN: [short, short]})
    assert unit.coefficients.prefill_per_token_ps == pytest.approx(
        0.35 * short.prefill_per_token_ps, abs=1
    )
    assert unit.coefficients.prefill_per_token2_ps == pytest.approx(
        0.3 * long.prefill_per_token2_ps, abs=1
    )
    assert max(unit.busy.values()) < 1.0


# --- members and units -----------------------------------------------------------------------


class Stand:
    """A serving plane with one decode instance, and the engines of a prefill of parts."""

    def __init__(self, parts: Parts = PARTS) -> None:
        self.serving = Serving(
            roles=("prefill", "decode"),
            prefill_token_budget=1_000,
            decode_max_batch=64,
            admission_limit=1_000_000,
            slo_ttft_ps=100_000 * MS,
            slo_tbt_ps=1_000 * MS,
            network=NETWORK,
            log=True,
        )
        roles = (ATTENTION, FFN, "decode")
        speeds = {(role, "H20"): speed(kv_capacity_tokens=10_000_000) for role in roles}
        self.engines = UnitEngines("prefill", self.serving, speeds, parts)
        self._ordinals: Counter[str] = Counter()
        self.add("decode")

    def add(self, role: str, *, routed: bool = True, group: str = "g0", worth: float = 1.0) -> int:
        ordinal = self._ordinals[role]
        self._ordinals[role] += 1
        row = Row(
            uid=f"c/moe/{group}/{role}/H20/{ordinal}",
            key=("moe", group, role, "H20"),
            ordinal=ordinal,
            shape=AcceleratorOption(type="H20", gpus=8, capacity=worth),
            domain=("c",),
            state=InstanceState.READY,
            since_ps=0,
        )
        return self.engines.start(row, NODE, routed)

    def give(self, count: int) -> None:
        """Hand over equal requests that all arrive at once, and no more ever."""
        self.serving.feed(
            ArrivalChunk(
                arrival_ps=np.full(count, self.serving.now_ps, np.int64),
                input_tokens=np.full(count, 500, np.int32),
                output_tokens=np.full(count, 5, np.int32),
            )
        )

    def advance(self, ms: int) -> None:
        until_ps = self.serving.now_ps + ms * MS
        while self.serving.advance(until_ps) is AdvanceStatus.NEEDS_ARRIVALS:
            self.serving.close_arrivals()

    @property
    def units(self) -> int:
        """Units in rotation."""
        return self.serving.counters(self.serving.now_ps).roles[0].in_rotation

    @property
    def done(self) -> int:
        return self.serving.counters(self.serving.now_ps).completed.requests


def test_half_a_unit_serves_nothing() -> None:
    stand = Stand()
    stand.add(ATTENTION)
    stand.add(FFN)
    stand.give(4)
    stand.advance(10_000)
    assert (stand.units, stand.done) == (0, 0)
    stand.add(FFN)
    stand.advance(10_000)
    assert (stand.units, stand.done) == (1, 4)


def test_units_are_made_inside_a_group_and_what_is_left_over_waits() -> None:
    stand = Stand()
    for group, role in (("g0", ATTENTION), ("g0", FFN), ("g1", FFN), ("g1", FFN)):
        stand.add(role, group=group)
    stand.advance(1)
    assert stand.units == 0
    for _ in range(4):
        stand.add(FFN)
    stand.advance(1)
    assert stand.units == 1
    stand.add(ATTENTION)
    stand.advance(1)
    assert stand.units == 2


def test_an_instance_that_is_held_is_in_no_unit() -> None:
    stand = Stand()
    held = stand.add(ATTENTION, routed=False)
    stand.add(FFN)
    stand.add(FFN)
    stand.advance(1)
    assert stand.units == 0
    stand.engines.route(held, True)
    stand.advance(1)
    assert stand.units == 1


def test_a_withdrawn_member_takes_its_unit_out_until_what_it_has_is_done() -> None:
    stand = Stand()
    attention, *others = [stand.add(role) for role in (ATTENTION, FFN, FFN)]
    stand.give(4)
    stand.advance(1)
    stand.engines.route(attention, False)
    assert [stand.engines.requests(one) for one in (attention, *others)] == [4, 4, 4]
    # Another attention instance cannot have the others before they are done.
    spare = stand.add(ATTENTION)
    stand.advance(1)
    stand.engines.settle()
    assert (stand.units, stand.engines.requests(spare)) == (0, 0)
    stand.advance(10_000)
    assert stand.done == 4
    stand.engines.settle()
    stand.advance(1)
    assert stand.units == 1
    stand.engines.stop(attention)
    assert stand.units == 1


def test_a_member_that_comes_back_in_time_brings_its_unit_back() -> None:
    stand = Stand()
    attention = stand.add(ATTENTION)
    stand.add(FFN)
    stand.add(FFN)
    stand.give(4)
    stand.advance(1)
    stand.engines.route(attention, False)
    stand.engines.route(attention, True)
    stand.advance(1)
    assert stand.units == 1


def test_a_member_that_fails_lets_its_units_requests_start_over() -> None:
    stand = Stand()
    stand.add(ATTENTION)
    first, _ = stand.add(FFN), stand.add(FFN)
    stand.give(4)
    stand.advance(1)
    stand.engines.stop(first)
    stand.advance(10_000)
    assert (stand.units, stand.done) == (0, 0)
    stand.add(FFN)
    stand.advance(10_000)
    assert (stand.units, stand.done) == (1, 4)


def test_instances_worth_more_make_a_unit_sooner_and_weigh_what_they_are_worth() -> None:
    stand = Stand()
    stand.add(ATTENTION, worth=2.0)
    stand.add(FFN, worth=3.0)
    stand.advance(1)
    assert stand.units == 1
    # The FFN makes one unit and a half, the attention two.
    assert stand.serving._state.weight[1] == 1_500


def test_members_count_what_their_units_have_done_in_equal_parts_and_keep_it() -> None:
    stand = Stand()
    members = [stand.add(role) for role in (ATTENTION, FFN, FFN)]
    stand.give(4)
    stand.advance(10_000)
    before = stand.engines.counted(np.array(members))
    assert before.tokens.tolist() == [2_000, 1_000, 1_000]
    assert before.kv_capacity_tokens.tolist() == [0, 0, 0]
    busy_ps = stand.engines.part_busy_ps()
    assert busy_ps[FFN] == pytest.approx(before.busy_ps[1:].sum(), abs=2)
    assert busy_ps[ATTENTION] / (busy_ps[FFN] / 2) == pytest.approx(0.30 / 0.35, rel=1e-4)
    stand.engines.route(members[1], False)
    stand.engines.settle()
    stand.advance(1)
    assert stand.units == 0
    after = stand.engines.counted(np.array(members))
    assert np.array_equal(np.array(after), np.array(before))
    assert stand.engines.part_busy_ps() == busy_ps


def test_a_unit_serves_as_one_instance_of_its_speed_would() -> None:
    stand = Stand()
    for role in (ATTENTION, FFN, FFN):
        stand.add(role)
    stand.give(20)
    stand.advance(100_000)
    plain = Serving(
        roles=("prefill", "decode"),
        prefill_token_budget=1_000,
        decode_max_batch=64,
        admission_limit=1_000_000,
        slo_ttft_ps=100_000 * MS,
        slo_tbt_ps=1_000 * MS,
        network=NETWORK,
        log=True,
    )
    whole = speed(kv_capacity_tokens=10_000_000)
    of_unit: StepCoefficients = unit_speed(
        PARTS, {ATTENTION: [whole], FFN: [whole, whole]}
    ).coefficients
    for role, rate in (("decode", whole), ("prefill", of_unit)):
        plain.add_instance(role, rate, group=0, location=(0, 1, 2, 3, 4), in_rotation=True)
    other = Stand.__new__(Stand)
    other.serving = plain
    other.give(20)
    other.advance(100_000)
    assert stand.serving.event_log().tolist() == plain.event_log().tolist()


# --- whole runs ------------------------------------------------------------------------------


def test_the_first_instances_share_the_domains_of_their_roles() -> None:
    world = world_of(load_scenario(EXAMPLE))
    (roster,) = world.plant.rosters
    places = {
        role: {
            roster.pool.node(row.nodes[0]).domain[:depth]
            for row in roster.rows()
            if row.key[2].startswith(role)
        }
        for role, depth in (("prefill", 3), ("", 2))
    }
    assert [len(found) for found in places.values()] == [1, 1]
    assert {len(one.domain) for one in roster.group_roles()} == {2, 3}


def test_parts_that_no_s1_has_room_for_are_refused() -> None:
    scenario = load_scenario(EXAMPLE)
    (block,) = scenario.nodes
    thin = block.model_copy(update={"nodes_per_s0": 1, "s0_per_s1": 5, "s1_per_s2": 12})
    with pytest.raises(ConfigError, match="initial: must fit one S2"):
        world_of(dataclasses.replace(scenario, nodes=(thin,)))


def test_the_example_is_served_in_whole_units_and_told_role_by_role() -> None:
    reports: list[TickReport] = []
    scenario = load_scenario(EXAMPLE)
    run = assemble(scenario, check=True, watched=lambda loop: Diary(loop, reports))
    result = run.go().only.result
    assert (result.slo_attainment or 0.0) > 0.99
    assert [change.after for change in result.changes] == [{ATTENTION: 3, FFN: 6, "decode": 6}]
    series = result.timeline.series
    assert set(series["ratio"]) == {0.5}
    last = {
        (one.role, one.signal): one.value for one in reports[-1].snapshot.services["moe"].readings
    }
    assert last[ATTENTION, Signal.TPS] == last[FFN, Signal.TPS]
    attention, ffn = last[ATTENTION, Signal.UTILIZATION], last[FFN, Signal.UTILIZATION]
    assert attention is not None
    assert ffn is not None
    assert attention / ffn == pytest.approx(0.30 / 0.35, rel=0.01)
    assert set(result.timeline.instances) == {ATTENTION, FFN, "decode"}


def test_scraped_one_by_one_the_parts_say_the_same() -> None:
    reports: list[TickReport] = []
    scenario = short()
    metrics = scenario.metrics.model_copy(update={"per_instance": True})
    scenario = dataclasses.replace(scenario, metrics=metrics)
    assemble(scenario, check=True, watched=lambda loop: Diary(loop, reports)).go()
    last = {
        (one.role, one.signal): one.value for one in reports[-1].snapshot.services["moe"].readings
    }
    assert last[FFN, Signal.TPS] == pytest.approx(last[ATTENTION, Signal.TPS], rel=1e-3)
    assert last[ATTENTION, Signal.UTILIZATION] == pytest.approx(
        (last[FFN, Signal.UTILIZATION] or 0.0) * 0.30 / 0.35, rel=0.01
    )


def test_the_fixed_fleet_of_a_prefill_of_parts_has_whole_units() -> None:
    peak = simulate(short(), static_peak=True).only.static_peak
    assert peak[FFN] == 2 * peak[ATTENTION]
    assert peak["decode"] > 0


def test_a_run_of_parts_is_the_same_every_time() -> None:
    assert assemble(short()).go() == assemble(short()).go()


def short() -> Scenario:
    """Return the example's first ten minutes."""
    file = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    file["traffic"]["generator"]["steps"] = [{"at_s": 300, "factor": 1.4}]
    return parse_scenario(yaml.safe_dump({**file, "duration_s": 600}), None, Path())
