"""From a scenario to a world: nodes, links, models, requests, capacity, first instances."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from heteroscale.config.model_sections import (
    AttentionSection,
    EfficiencySection,
    GroupedAttentionSection,
    LatentAttentionSection,
    ModelSection,
    ModelShapeSection,
    ProfileOfSection,
    WeightTypeName,
)
from heteroscale.config.scenario import built_in_scenario, with_trace
from heteroscale.config.scenario_sections import (
    BurstSection,
    ContentionName,
    DecodeRoutingName,
    DriftSection,
    GeneratorSection,
    KvAdmissionName,
    LengthSection,
    LinkSection,
    NetworkSection,
    NodesSection,
    PrefixCacheSection,
    RoutingName,
    ServingSection,
    StepSection,
    TrafficSection,
)
from heteroscale.entities.topology import Node
from heteroscale.errors import ConfigError
from heteroscale.performance.model import DecodePiece, StepCoefficients
from heteroscale.performance.models import (
    GroupedAttention,
    LatentAttention,
    WeightType,
    model_shape,
)
from heteroscale.performance.roofline import Efficiency, Roofline
from heteroscale.performance.table_file import shipped_tables, tables_text
from heteroscale.sim.capacity import decode_capacity_rps, prefill_capacity_rps
from heteroscale.sim.hardware import network_table, nodes_by_subcluster, uplink_fs_per_byte
from heteroscale.sim.serving import KvAdmission, PrefixCache, Routing, ServingOptions
from heteroscale.sim.speed import performance_model
from heteroscale.sim.traffic import arrivals_of, planned_duration_s
from heteroscale.sim.world import serving_options
from heteroscale.workload.arrivals import PS_PER_S, ArrivalSource
from tests.unit.performance.tables import TABLE
from tests.unit.performance.test_nvidia_profile import as_npz
from tests.unit.sim.small import small, world_of


def test_nodes_are_wired_in_equal_parts_and_sorted() -> None:
    west = NodesSection(
        subcluster="west", accelerator="H20", nodes=5, nodes_per_s0=2, s0_per_s1=2, s1_per_s2=1
    )
    east = NodesSection(subcluster="east", accelerator="L20", nodes=1, gpus_per_node=4)
    built = nodes_by_subcluster([west, east])
    assert list(built) == ["east", "west"]
    assert built["east"] == (
        Node(
            name="east-1-00000",
            accelerator="L20",
            gpus=4,
            domain=("east", "s2-1-0000", "s1-1-0000", "s0-1-00000"),
        ),
    )
    assert [node.domain[1:] for node in built["west"]] == [
        ("s2-0-0000", "s1-0-0000", "s0-0-00000"),
        ("s2-0-0000", "s1-0-0000", "s0-0-00000"),
        ("s2-0-0000", "s1-0-0000", "s0-0-00001"),
        ("s2-0-0000", "s1-0-0000", "s0-0-00001"),
        ("s2-0-0001", "s1-0-0001", "s0-0-00002"),
    ]


def test_links_become_integers_of_the_kernel() -> None:
    slow = LinkSection(gb_per_s=0.5, latency_s=2.5e-3)
    table = network_table(NetworkSection(other=slow))
    assert table.fs_per_byte == (5_000, 20_000, 20_000, 25_000, 50_000, 2_000_000)
    assert table.latency_ps[0] == 5_000_000
    assert table.latency_ps[5] == 2_500_000_000


def test_a_model_by_name_with_its_own_efficiency() -> None:
    section = ModelSection(name="llama-3.1-8b", efficiency=EfficiencySection(compute=0.5))
    assert performance_model(section) == Roofline(
        shape=model_shape("llama-3.1-8b"), efficiency=Efficiency(compute=0.5)
    )
    with pytest.raises(ConfigError, match=r"must be one of .*, got 'gpt-9'"):
        performance_model(ModelSection(name="gpt-9"))
    with pytest.raises(ConfigError, match="model: must have a name, a shape, a table or a profile"):
        performance_model(ModelSection())


def test_a_model_by_its_shipped_tables() -> None:
    section = ModelSection(table="llama-3.1-8b", efficiency=EfficiencySection(host_s=0.0))
    model = performance_model(section, ServingSection())
    tables = shipped_tables("llama-3.1-8b", "model.table")
    kernels_only = Efficiency(host_s=0.0)
    assert model.coefficients("L40S", 1) == tables["L40S", 1].coefficients(kernels_only)
    estimate = Roofline(shape=model_shape("llama-3.1-8b"), efficiency=kernels_only)
    assert model.coefficients("L20", 1) == estimate.coefficients("L20", 1)
    with pytest.raises(ConfigError, match="must have a table for each instance"):
        model.coefficients("L40S", 8)
    with pytest.raises(ConfigError, match=r"decode_max_batch: must be <= 512, .*, got 600"):
        performance_model(section, ServingSection(decode_max_batch=600)).coefficients("L40S", 1)


def test_a_model_by_the_own_profile(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(tables_text([TABLE]), encoding="utf-8")
    model = performance_model(ModelSection(profile=str(path)))
    assert model.coefficients("H100", 2) == TABLE.coefficients(Efficiency())
    with pytest.raises(ConfigError, match=r"model\.profile: must have a table for each instance"):
        model.coefficients("H20", 8)


def test_nvidia_s_profile_needs_to_be_told_what_it_is_of(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.profile_of: is required with NVIDIA's profiles"):
        performance_model(ModelSection(profile=str(tmp_path)))
    told = ProfileOfSection(accelerator="H200", gpus=2, kv_bytes_per_token=1000)
    model = performance_model(ModelSection(profile=str(as_npz(tmp_path)), profile_of=told))
    assert model.coefficients("H200", 2).kv_capacity_tokens == 100_000


@pytest.mark.parametrize(
    ("section", "attention"),
    [
        pytest.param(
            AttentionSection(grouped=GroupedAttentionSection(heads=32, kv_heads=8, head_dim=128)),
            GroupedAttention(heads=32, kv_heads=8, head_dim=128),
            id="grouped",
        ),
        pytest.param(
            AttentionSection(
                latent=LatentAttentionSection(
                    heads=128, qk_dim=192, v_dim=128, latent_dim=512, rope_dim=64
                )
            ),
            LatentAttention(heads=128, qk_dim=192, v_dim=128, latent_dim=512, rope_dim=64),
            id="latent",
        ),
        pytest.param(AttentionSection(), None, id="neither"),
    ],
)
def test_a_model_by_shape(
    section: AttentionSection, attention: GroupedAttention | LatentAttention | None
) -> None:
    shape = ModelShapeSection(
        parameters_total=8e9,
        parameters_active=7e9,
        layers=32,
        hidden=4096,
        vocabulary=128_000,
        attention=section,
        weights=WeightTypeName.FP8,
    )
    if attention is None:
        with pytest.raises(ConfigError, match="exactly one of grouped, latent"):
            performance_model(ModelSection(shape=shape))
        return
    model = performance_model(ModelSection(shape=shape))
    assert isinstance(model, Roofline)
    assert model.shape.attention == attention
    assert (model.shape.layers, model.shape.weights) == (32, WeightType.FP8)


def arrivals(source: ArrivalSource) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chunks = list(source)
    return (
        np.concatenate([chunk.arrival_ps for chunk in chunks]) / PS_PER_S,
        np.concatenate([chunk.input_tokens for chunk in chunks]),
        np.concatenate([chunk.output_tokens for chunk in chunks]),
    )


def generated(**section: object) -> TrafficSection:
    return TrafficSection(generator=GeneratorSection(**section))  # type: ignore[arg-type]


ONE = LengthSection(mean_tokens=100, sigma=0.0)


def test_a_generator_of_ones_own_figures_with_bursts_and_steps() -> None:
    traffic = generated(
        rate_rps=10.0,
        input=ONE,
        output=LengthSection(mean_tokens=50, sigma=0.0),
        bursts=(BurstSection(at_s=200, duration_s=100, factor=5.0),),
        steps=(StepSection(at_s=400, factor=0.0),),
    )
    times, inputs, outputs = arrivals(arrivals_of(small(traffic=traffic, duration_s=600.0)))
    counts = np.histogram(times, bins=[0, 200, 300, 400, 600])[0]
    assert abs(counts[0] - 2000) < 200
    assert abs(counts[1] - 5000) < 350
    assert abs(counts[2] - 1000) < 150
    assert counts[3] == 0
    assert (set(inputs.tolist()), set(outputs.tolist())) == ({100}, {50})


def test_prompts_drift_and_answers_do_not() -> None:
    traffic = generated(
        rate_rps=20.0, input=ONE, output=ONE, drift=DriftSection(amplitude=0.5, period_s=600)
    )
    times, inputs, outputs = arrivals(arrivals_of(small(traffic=traffic, duration_s=600.0)))
    assert inputs[times < 300].mean() > 1.5 * inputs[times >= 300].mean()
    assert set(outputs.tolist()) == {100}


def test_a_preset_keeps_what_is_not_written_beside_it() -> None:
    traffic = generated(preset="azure2023_conv", rate_rps=30.0, output=ONE)
    times, inputs, outputs = arrivals(arrivals_of(small(traffic=traffic, duration_s=1200.0)))
    assert abs(len(times) / 1200.0 - 30.0) < 6.0
    assert inputs.max() <= 14_050
    assert set(outputs.tolist()) == {100}


def test_figures_missing_without_a_preset_are_named() -> None:
    with pytest.raises(ConfigError, match="rate_rps, input and output"):
        arrivals_of(small(traffic=generated(rate_rps=1.0)))
    with pytest.raises(ConfigError, match="must say where requests come from"):
        arrivals_of(small(traffic=TrafficSection()))


def test_how_long_a_run_is_planned(tmp_path: Path) -> None:
    day = built_in_scenario()
    assert planned_duration_s(day) == 86_400.0
    assert planned_duration_s(dataclasses.replace(day, duration_s=60.0)) == 60.0
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n5.0,100,10\n")
    assert planned_duration_s(with_trace(day, trace)) is None
    times, inputs, outputs = arrivals(arrivals_of(with_trace(day, trace)))
    assert (times.tolist(), inputs.tolist(), outputs.tolist()) == ([0.0], [100], [10])


def test_the_day_is_the_same_on_every_call() -> None:
    scenario = dataclasses.replace(built_in_scenario(), duration_s=300.0)
    first, second = arrivals(arrivals_of(scenario)), arrivals(arrivals_of(scenario))
    assert all((one == other).all() for one, other in zip(first, second, strict=True))


SPEED = StepCoefficients(
    prefill_base_ps=100,
    prefill_per_token_ps=10,
    prefill_per_token2_ps=1,
    decode_base_ps=1_000,
    decode_per_sequence_ps=10,
    decode_per_kv_token_ps=1,
    prefill_host_ps=0,
    decode_host_ps=0,
    kv_capacity_tokens=1_000_000,
    kv_bytes_per_token=1,
    prefill_occupancy=1.0,
    decode_occupancy=1.0,
)


@pytest.mark.parametrize(
    ("lengths", "budget", "time_ps"),
    [
        pytest.param([4, 4], 8, 100 + 80 + 32, id="one full batch"),
        pytest.param([4, 4], 7, 200 + 80 + 32, id="two batches"),
        pytest.param([9, 4], 8, 200 + 130 + 97, id="a longer request goes alone"),
    ],
)
def test_prefill_capacity(lengths: list[int], budget: int, time_ps: int) -> None:
    found = prefill_capacity_rps(SPEED, np.array(lengths, np.int32), budget)
    assert found == pytest.approx(len(lengths) * PS_PER_S / time_ps)


@pytest.mark.parametrize(
    ("lengths", "time_ps"),
    [
        pytest.param([4, 4], 100 + 80 + 32, id="one full batch"),
        pytest.param([4, 5], 200 + 90 + 41, id="the last token goes into another"),
        pytest.param([17, 7], 300 + 240 + 338, id="a long prompt over three, filled by the next"),
    ],
)
def test_prefill_capacity_in_chunks(lengths: list[int], time_ps: int) -> None:
    found = prefill_capacity_rps(SPEED, np.array(lengths, np.int32), 8, chunked=True)
    assert found == pytest.approx(len(lengths) * PS_PER_S / time_ps)


@pytest.mark.parametrize(
    ("chunked", "batches"),
    [
        pytest.param(False, 2, id="what is computed of both exceeds the budget"),
        pytest.param(True, 2, id="the last token goes into another"),
    ],
)
def test_prefill_capacity_of_prompts_cached_in_part(chunked: bool, batches: int) -> None:
    # Of 8 tokens 5 are cached, of 2 one, for one of them is computed.
    speed = dataclasses.replace(SPEED, prefill_per_request_ps=7)
    lengths = np.array([8, 2], np.int32)
    found = prefill_capacity_rps(speed, lengths, 3, chunked=chunked, cached_permille=699)
    time_ps = 100 * batches + 2 * 7 + 10 * (3 + 1) + (64 - 25) + (4 - 1)
    assert found == pytest.approx(2 * PS_PER_S / time_ps)


def test_a_prompt_computes_a_token_whatever_is_cached() -> None:
    found = prefill_capacity_rps(SPEED, np.array([4], np.int32), 8, cached_permille=1000)
    assert found == pytest.approx(PS_PER_S / (100 + 10 + 16 - 9))


@pytest.mark.parametrize(
    ("max_batch", "kv_tokens", "step_ps", "batch"),
    [
        pytest.param(4, 1_000_000, 10**9, 4.0, id="the batch is full"),
        pytest.param(100, 302, 10**9, 2.0, id="the memory is full"),
        pytest.param(100, 1_000_000, 1_000 + 3 * 135, 3.0, id="the step takes its limit"),
    ],
)
def test_decode_capacity(max_batch: int, kv_tokens: int, step_ps: int, batch: float) -> None:
    speed = dataclasses.replace(SPEED, kv_capacity_tokens=kv_tokens)
    found = decode_capacity_rps(
        speed, np.array([100], np.int32), np.array([51], np.int32), max_batch, step_ps
    )
    # A request holds 100 + 50 / 2 tokens on average, so a sequence costs 10 + 125 ps a step.
    assert found == pytest.approx(batch * PS_PER_S / (1_000 + 135 * batch) / 50)


@pytest.mark.parametrize(
    ("step_ps", "batch", "time_ps"),
    [
        pytest.param(1_000 + 3 * 135, 3.0, 1_405, id="before the bend"),
        pytest.param(2_700, 8.0, 2_700, id="beyond it"),
        pytest.param(10**9, 9.0, 2_900, id="at the jump of the KV, when no step may take more"),
        pytest.param(10**10, 20.0, 10**9 + 2_500, id="beyond all of them"),
    ],
)
def test_decode_capacity_where_step_times_have_pieces(
    step_ps: int, batch: float, time_ps: float
) -> None:
    pieces = (
        DecodePiece(from_sequences=4, base_ps=1_100, per_sequence_ps=75, per_kv_token_ps=1),
        # With 125 KV tokens a sequence, 9 sequences.
        DecodePiece(from_kv_tokens=1_125, base_ps=10**9, per_sequence_ps=0, per_kv_token_ps=1),
    )
    speed = dataclasses.replace(SPEED, decode_pieces=pieces)
    found = decode_capacity_rps(
        speed, np.array([100], np.int32), np.array([51], np.int32), 20, step_ps
    )
    assert found == pytest.approx(batch * PS_PER_S / time_ps / 50)


def test_answers_of_one_token_need_no_decode() -> None:
    ones = np.array([1], np.int32)
    assert decode_capacity_rps(SPEED, ones, ones, 1, 1) == float("inf")


def test_the_first_instances_share_a_domain_with_room() -> None:
    two = (
        NodesSection(subcluster="a", accelerator="H20", nodes=4),
        NodesSection(subcluster="b", accelerator="H20", nodes=8),
    )
    scenario = small(nodes=two)
    world = world_of(scenario)
    placed = {one.name: len(one.observe().instances) for one in world.subclusters}
    assert placed == {"a": 0, "b": 7}
    counts = world.subclusters[1].observe().group_roles
    assert {(one.group, one.role, one.replicas, one.domain) for one in counts} == {
        ("g0", "prefill", 4, ("b", "s2-1-0000")),
        ("g0", "decode", 3, ("b", "s2-1-0000")),
    }


def test_first_instances_that_fit_no_domain_are_named() -> None:
    nodes = (NodesSection(accelerator="H20", nodes=8, nodes_per_s0=2, s0_per_s1=1, s1_per_s2=2),)
    scenario = small(nodes=nodes)
    with pytest.raises(ConfigError, match=r"initial: must fit one S2: .* 4 prefill, 3 decode"):
        world_of(scenario)
    group = dataclasses.replace(scenario.service.group, within=None)
    service = dataclasses.replace(scenario.service, group=group)
    anywhere = dataclasses.replace(
        scenario, fleet=dataclasses.replace(scenario.fleet, services=(service,))
    )
    world_of(anywhere)


def test_uplinks_are_shared_only_when_the_scenario_says_so() -> None:
    assert uplink_fs_per_byte(NetworkSection()) is None
    shared = NetworkSection(contention=ContentionName.FAIR_SHARE)
    assert uplink_fs_per_byte(shared) == (1_250, 625, 156)


def test_a_scenario_chooses_how_engines_serve() -> None:
    chosen = ServingSection(
        routing=RoutingName.POWER_OF_TWO,
        kv_admission=KvAdmissionName.GROW,
        cached_share=0.14,
        chunked_prefill=True,
    )
    assert serving_options(small(serving=chosen)) == ServingOptions(
        routing=Routing.POWER_OF_TWO,
        kv_admission=KvAdmission.GROW,
        cached_permille=140,
        chunked_prefill=True,
        seed=3,
    )
    assert serving_options(small()) == ServingOptions(seed=3)


def test_a_scenario_gives_prefill_instances_a_cache_and_routes_by_it() -> None:
    chosen = ServingSection(
        routing=RoutingName.PREFIX_AWARE,
        decode_routing=DecodeRoutingName.TOPOLOGY_AWARE,
        prefix_cache=PrefixCacheSection(capacity_tokens=9_000, block_tokens=16),
    )
    assert serving_options(small(serving=chosen)) == ServingOptions(
        routing=Routing.PREFIX_AWARE,
        decode_routing=Routing.TOPOLOGY_AWARE,
        prefix_cache=PrefixCache(capacity_tokens=9_000, block_tokens=16),
        seed=3,
    )
