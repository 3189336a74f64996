from __future__ import annotations

import dataclasses

import pytest

from heteroscale.errors import ConfigError, Problem
from heteroscale.performance.fit import DecodePoint
from heteroscale.performance.model import DecodePiece, PerformanceModel, StepCoefficients
from heteroscale.performance.models import MODELS
from heteroscale.performance.roofline import Efficiency, Roofline
from heteroscale.performance.table import Clock, Demand, TableModel
from heteroscale.performance.table_file import shipped_models, shipped_tables
from tests.unit.performance.tables import TABLE

MS = 10**9
ENGINE_COEFFICIENTS = StepCoefficients(
    prefill_base_ps=2 * MS,
    prefill_per_token_ps=50_000_000,
    prefill_per_token2_ps=1_000,
    # 3.4 ms without the host, at 50 µs a token; half of it hides.
    hidden_tokens=68,
    hidden_per_token_ps=25_000_000,
    decode_base_ps=5 * MS,
    decode_per_sequence_ps=100_000_000,
    decode_per_kv_token_ps=20_000,
    prefill_host_ps=1_600_000_000,
    decode_host_ps=1_600_000_000,
    kv_capacity_tokens=50_000,
    kv_bytes_per_token=1_000,
    prefill_occupancy=0.775,
    decode_occupancy=0.68,
)


def test_an_engine_s_times_hold_the_host_already() -> None:
    assert TABLE.coefficients(Efficiency()) == ENGINE_COEFFICIENTS


def test_the_host_is_added_to_the_times_of_kernels() -> None:
    kernels = dataclasses.replace(TABLE, clock=Clock.KERNELS)
    assert kernels.coefficients(Efficiency(sequence_s=3e-5)) == dataclasses.replace(
        ENGINE_COEFFICIENTS,
        hidden_tokens=100,
        prefill_base_ps=3_600_000_000,
        decode_base_ps=6_600_000_000,
        decode_per_sequence_ps=130_000_000,
    )


def bent(clock: Clock) -> StepCoefficients:
    """Return the step times of a table whose decode takes 1 ms more a sequence from 8 on."""
    points = tuple(
        DecodePoint(batch, context, 5 + 0.1 * batch + max(0, batch - 8) + 2e-5 * batch * context)
        for batch in (1, 4, 8, 16, 32)
        for context in (1000, 2000, 4000)
    )
    table = dataclasses.replace(TABLE, clock=clock, decode=points)
    return table.coefficients(Efficiency(sequence_s=3e-5))


def test_a_bend_begins_a_piece_with_the_same_step() -> None:
    beyond = DecodePiece(
        from_sequences=8,
        base_ps=5 * MS - 8 * MS,
        per_sequence_ps=1_100_000_000,
        per_kv_token_ps=20_000,
    )
    engine = dataclasses.replace(ENGINE_COEFFICIENTS, decode_pieces=(beyond,))
    assert bent(Clock.ENGINE) == engine
    assert [engine.decode_step_ps(n, 7_000) for n in (7, 8, 9)] == [
        5_840_000_000,
        5_940_000_000,
        7_040_000_000,
    ]
    assert bent(Clock.KERNELS).decode_pieces == (
        dataclasses.replace(beyond, base_ps=6_600_000_000 - 8 * MS, per_sequence_ps=1_130_000_000),
    )


def test_the_host_s_part_is_never_longer_than_the_base() -> None:
    slow_host = TABLE.coefficients(Efficiency(host_s=3e-3))
    assert (slow_host.prefill_host_ps, slow_host.decode_host_ps) == (2 * MS, 3 * MS)


def model(demand: Demand = Demand(), estimate: Roofline | None = None) -> PerformanceModel:
    return TableModel(
        path="model.table",
        tables={("H100", 2): TABLE},
        efficiency=Efficiency(),
        demand=demand,
        estimate=estimate,
        estimated=("H20",),
    )


def problems(model: PerformanceModel, accelerator: str, gpus: int) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        model.coefficients(accelerator, gpus)
    return list(caught.value.problems)


def test_an_instance_shape_without_a_table_is_an_error() -> None:
    assert problems(model(), "H100", 4) == [
        Problem(
            path="model.table",
            rule="must have a table for each instance; there are 2 x H100",
            value="4 x H100",
        )
    ]


def test_accelerators_without_a_source_are_estimated() -> None:
    roofline = Roofline(shape=MODELS["llama-3.1-8b"])
    mixed = model(estimate=roofline)
    assert mixed.coefficients("H20", 1) == roofline.coefficients("H20", 1)
    assert mixed.coefficients("H100", 2) == ENGINE_COEFFICIENTS
    assert "(and any count of H20, estimated)" in problems(mixed, "A100", 1)[0].rule


def test_larger_batches_than_measured_are_an_error() -> None:
    assert problems(model(Demand(prefill_tokens=4001, decode_sequences=21)), "H100", 2) == [
        Problem(
            path="serving.prefill_token_budget",
            rule="must be <= 4000, the most tokens measured of m on 2 x H100",
            value=4001,
        ),
        Problem(
            path="serving.decode_max_batch",
            rule="must be <= 20, the most sequences measured of m on 2 x H100",
            value=21,
        ),
    ]
    largest = Demand(prefill_tokens=4000, decode_sequences=20)
    assert model(largest).coefficients("H100", 2) == ENGINE_COEFFICIENTS


SHIPPED = [
    table for name in shipped_models() for table in shipped_tables(name, "model.table").values()
]


def test_what_is_shipped() -> None:
    sxm = {"A100", "H100", "H200", "B200"}
    covered: dict[tuple[str, int], set[str]] = {}
    for table in SHIPPED:
        covered.setdefault((table.model, table.gpus), set()).add(table.accelerator)
    assert covered == {
        ("llama-3.1-8b", 1): sxm | {"L40S"},
        ("qwen3-32b", 1): sxm,
        ("qwen3-32b", 2): sxm | {"L40S"},
        ("qwen3-32b", 4): sxm,
        ("llama-3.1-70b", 4): sxm,
        ("llama-3.1-70b", 8): sxm,
        ("qwen3-30b-a3b", 1): sxm,
        ("qwen3-30b-a3b", 2): sxm | {"L40S"},
    }
    assert {table.source.licence for table in SHIPPED} == {"Apache-2.0"}


@pytest.mark.parametrize(
    "table", SHIPPED, ids=lambda table: f"{table.model} {table.gpus} x {table.accelerator}"
)
def test_shipped_tables_fit_their_figures_as_docs_say(table: object) -> None:
    assert isinstance(table, type(TABLE))
    assert table.prefill_error.median <= 0.07
    assert table.prefill_error.max <= 0.15
    assert table.decode_error.median <= 0.06
    assert table.decode_error.max <= 0.14
    c = table.coefficients(Efficiency())
    for kv_tokens in (1, 10_000, table.kv_capacity_tokens):
        times_ps = [c.decode_step_ps(n, kv_tokens) for n in range(1, 600)]
        assert times_ps == sorted(times_ps)
    # KV capacity and size are those of the roofline: they come from memory, not from a clock.
    estimate = Roofline(shape=MODELS[table.model]).coefficients(table.accelerator, table.gpus)
    assert (table.kv_bytes_per_token, table.kv_capacity_tokens) == (
        estimate.kv_bytes_per_token,
        estimate.kv_capacity_tokens,
    )


def test_tables_show_what_different_accelerators_are_good_at() -> None:
    tables = {table.accelerator: table for table in SHIPPED if table.model == "llama-3.1-8b"}
    prefill = {kind: table.prefill_time_ms(4096) for kind, table in tables.items()}
    decode = {kind: table.decode_time_ms(64, 2048) for kind, table in tables.items()}
    assert prefill["H200"] == pytest.approx(prefill["H100"], rel=0.15)
    assert 0.65 < decode["H200"] / decode["H100"] < 0.9
    assert 0.8 < prefill["L40S"] / prefill["A100"] < 1.3
    assert 1.8 < decode["L40S"] / decode["A100"] < 2.6


@pytest.mark.parametrize(
    ("model", "gpus", "sequences", "context", "measured_ms"),
    [
        # The rows of test_roofline.py; sequences by Little's law.
        pytest.param("llama-3.1-8b", 1, 14 * 2.1, 671, 8.9, id="8B general"),
        pytest.param("llama-3.1-8b", 1, 7.5 * 1.9, 690, 8.1, id="8B codegen"),
        pytest.param("llama-3.1-8b", 1, 6 * 2.0, 875, 8.3, id="8B roleplay"),
        pytest.param("llama-3.1-8b", 1, 4 * 22.7, 1758, 16.6, id="8B reasoning"),
        pytest.param("llama-3.1-70b", 4, 5 * 4.5, 690, 18.3, id="70B codegen at 5/s"),
        pytest.param("llama-3.1-70b", 4, 10 * 5.0, 690, 20.4, id="70B codegen at 10/s"),
    ],
)
def test_measured_vllm_step_times_within_12_percent(
    model: str, gpus: int, sequences: float, context: float, measured_ms: float
) -> None:
    table = shipped_tables(model, "model.table")["H100", gpus]
    c = table.coefficients(Efficiency())
    got_ps = c.decode_step_ps(sequences, sequences * context)
    assert got_ps / MS == pytest.approx(measured_ms, rel=0.12)
