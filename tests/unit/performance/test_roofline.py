"""Coefficients by hand, and the model against published measurements.

The measured rows and the errors stated here are those of docs/performance.md.
"""

from __future__ import annotations

import dataclasses
import math
import statistics

import pytest

from heteroscale.errors import ConfigError
from heteroscale.performance.accelerators import ACCELERATORS
from heteroscale.performance.model import PerformanceModel, StepCoefficients
from heteroscale.performance.models import MODELS, model_shape
from heteroscale.performance.roofline import Efficiency, Roofline

MS = 10**9


def prefill_ms(c: StepCoefficients, tokens: float) -> float:
    linear = c.prefill_base_ps + c.prefill_per_token_ps * tokens
    return (linear + c.prefill_per_token2_ps * tokens**2) / MS


def decode_ms(c: StepCoefficients, sequences: float, context: float) -> float:
    linear = c.decode_base_ps + c.decode_per_sequence_ps * sequences
    return (linear + c.decode_per_kv_token_ps * sequences * context) / MS


def coefficients(model: str, accelerator: str, gpus: int) -> StepCoefficients:
    roofline: PerformanceModel = Roofline(shape=MODELS[model])
    return roofline.coefficients(accelerator, gpus)


def test_coefficients_by_hand() -> None:
    # 8B on one H100: 15.0e9 FLOP a token at 0.85 of 989.4 TFLOP/s; 32 layers of 32 heads of 128;
    # 7.505 G weights read at 0.8 of 3.35 TB/s; 131,072 B of KV at 0.9 of it.
    assert coefficients("llama-3.1-8b", "H100", 1) == StepCoefficients(
        prefill_base_ps=1_600_000_000,
        prefill_per_token_ps=17_836_122,
        prefill_per_token2_ps=312,
        # 5.6 ms ÷ 17.8 µs; half of it hides.
        hidden_tokens=313,
        hidden_per_token_ps=8_918_061,
        decode_base_ps=1_600_000_000 + 5_600_495_093,
        decode_per_sequence_ps=25_000_000,
        decode_per_kv_token_ps=43_473,
        prefill_host_ps=1_600_000_000,
        decode_host_ps=1_600_000_000,
        kv_capacity_tokens=int((0.95 * 80e9 - 16.06e9) // 131_072),
        kv_bytes_per_token=131_072,
        prefill_occupancy=0.775,
        decode_occupancy=0.68,
    )


@pytest.mark.parametrize(
    ("model", "kv_bytes"),
    [
        ("llama-3.1-8b", 131_072),
        ("qwen3-32b", 262_144),
        ("llama-3.1-70b", 327_680),
        ("moe-540b-a27b", 70_272),
    ],
)
def test_kv_bytes_per_token(model: str, kv_bytes: int) -> None:
    assert MODELS[model].kv_bytes_per_token == kv_bytes


#: model, GPUs → prefill ms at PREFILL_TOKENS; decode ms at DECODE_1K; at DECODE_4K.
#: Composed from kernel tables: no host time, no time per sequence. None = a bad grid point.
KERNEL_ROWS: dict[tuple[str, int], tuple[tuple[float | None, ...], ...]] = {
    ("llama-3.1-8b", 1): (
        (9.8, 19, 38, 82, 172, 401),
        (6.0, 7.3, 9.0, 11.8, 19.4),
        (11.3, 17.1, 28.4, 58.3),
    ),
    ("llama-3.1-70b", 4): (
        (43, 77, None, 338, 608, 1270),
        (14.3, 17.0, 18.7, 22.6, 32.8),
        (20.1, 23.8, 32.7, 58.3),
    ),
    ("llama-3.1-70b", 8): (
        (37, 68, 110, 216, 473, 1180),
        (8.8, 11.3, 12.0, 15.7, 25.3),
        (13.6, 15.1, 20.8, 36.9),
    ),
}
PREFILL_TOKENS = (512, 1024, 2048, 4096, 8192, 16_384)
DECODE = ((1024, (1, 32, 64, 128, 256)), (4096, (32, 64, 128, 256)))


@pytest.mark.parametrize(("model", "gpus"), KERNEL_ROWS)
def test_h100_kernel_tables_within_20_percent_and_12_on_average(model: str, gpus: int) -> None:
    shape = MODELS[model]
    kernels_only = Efficiency(host_s=0.0, sequence_s=0.0)
    c = Roofline(shape=shape, efficiency=kernels_only).coefficients("H100", gpus)
    prefill, *decode = KERNEL_ROWS[model, gpus]
    errors = [
        prefill_ms(c, tokens) / measured - 1
        for tokens, measured in zip(PREFILL_TOKENS, prefill, strict=True)
        if measured
    ]
    for (context, batches), row in zip(DECODE, decode, strict=True):
        errors += [
            decode_ms(c, batch, context) / measured - 1
            for batch, measured in zip(batches, row, strict=True)
            if measured
        ]
    assert max(abs(error) for error in errors) <= 0.20
    assert statistics.mean(abs(error) for error in errors) <= 0.12


@pytest.mark.parametrize(
    ("model", "gpus", "sequences", "context", "measured_ms"),
    [
        # Sequences = requests/s × mean end-to-end time (Little); context = input + half the output.
        pytest.param("llama-3.1-8b", 1, 14 * 2.1, 671, 8.9, id="8B general"),
        pytest.param("llama-3.1-8b", 1, 7.5 * 1.9, 690, 8.1, id="8B codegen"),
        pytest.param("llama-3.1-8b", 1, 6 * 2.0, 875, 8.3, id="8B roleplay"),
        pytest.param("llama-3.1-8b", 1, 4 * 22.7, 1758, 16.6, id="8B reasoning"),
        pytest.param("llama-3.1-70b", 4, 5 * 4.5, 690, 18.3, id="70B codegen at 5/s"),
        pytest.param("llama-3.1-70b", 4, 10 * 5.0, 690, 20.4, id="70B codegen at 10/s"),
    ],
)
def test_measured_vllm_step_times_within_5_percent(
    model: str, gpus: int, sequences: float, context: float, measured_ms: float
) -> None:
    got_ms = decode_ms(coefficients(model, "H100", gpus), sequences, context)
    assert got_ms == pytest.approx(measured_ms, rel=0.05)


def test_the_reference_moe_carries_service_a_on_9_prefill_and_7_decode_instances() -> None:
    c = coefficients("moe-540b-a27b", "H20", 8)
    # Lognormal inputs of mean 3,000 and sigma 0.6: E[L²] = mean² · e^0.36.
    request_ps = c.prefill_per_token_ps * 3000 + c.prefill_per_token2_ps * 9e6 * math.exp(0.36)
    prefill_rps = 1e12 / request_ps
    step_ms = decode_ms(c, 128, 3175)
    decode_rps = 128 / step_ms * 1000 / 350
    assert prefill_rps == pytest.approx(8.84, abs=0.05)
    assert step_ms == pytest.approx(32.7, abs=0.1)
    assert decode_rps == pytest.approx(11.2, abs=0.1)
    rates = {p: min(p * prefill_rps, (16 - p) * decode_rps) for p in range(7, 13)}
    assert max(rates, key=lambda p: rates[p]) == 9
    assert rates[9] == pytest.approx(78.2, abs=0.5)


def test_only_fp8_hardware_computes_fp8_and_a_smaller_store_holds_less_kv() -> None:
    fast, slow = (coefficients("moe-540b-a27b", name, 8) for name in ("H100", "A100"))
    assert slow.prefill_per_token_ps / fast.prefill_per_token_ps == pytest.approx(1978.9 / 312)
    assert fast.kv_capacity_tokens == slow.kv_capacity_tokens == int(68e9 // 70_272)


def test_the_asymmetry_of_prefill_and_decode_hardware() -> None:
    l40s, a100 = (coefficients("llama-3.1-8b", name, 1) for name in ("L40S", "A100"))
    assert prefill_ms(l40s, 2048) == pytest.approx(prefill_ms(a100, 2048), rel=0.15)
    assert decode_ms(l40s, 64, 1024) > 1.8 * decode_ms(a100, 64, 1024)
    h20, h800 = (coefficients("moe-540b-a27b", name, 8) for name in ("H20", "H800"))
    assert prefill_ms(h20, 3000) > 6 * prefill_ms(h800, 3000)
    assert decode_ms(h20, 128, 3175) < 1.1 * decode_ms(h800, 128, 3175)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_more_gpus_are_never_slower_per_kv_token_and_hold_more(name: str) -> None:
    few, many = (coefficients("llama-3.1-8b", name, gpus) for gpus in (1, 2))
    assert many.decode_per_kv_token_ps < few.decode_per_kv_token_ps
    assert many.kv_capacity_tokens > few.kv_capacity_tokens
    assert dataclasses.astuple(few) == dataclasses.astuple(coefficients("llama-3.1-8b", name, 1))


@pytest.mark.parametrize(
    ("model", "accelerator", "gpus", "told"),
    [
        pytest.param(
            *("moe-540b-a27b", "L20", 8),
            "accelerator: must hold moe-540b-a27b: 540.0 GB of weights and at least one token's KV"
            " in 364.8 GB usable, got '8 x L20'",
            id="too large",
        ),
        pytest.param(
            *("llama-3.1-8b", "V100", 8),
            "accelerator: must be one of H20, L20, H800, A100, H100, H200, L40S, B200, got 'V100'",
            id="unknown accelerator",
        ),
        pytest.param(*("llama-3.1-8b", "H20", 0), "gpus: must be >= 1, got 0", id="no GPU"),
    ],
)
def test_what_cannot_be_is_told(model: str, accelerator: str, gpus: int, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        coefficients(model, accelerator, gpus)
    assert str(caught.value) == told


def test_models_by_name() -> None:
    assert model_shape("qwen3-32b").layers == 64
    with pytest.raises(ConfigError, match=r"model: must be one of llama-3.1-8b, .*, got 'gpt'"):
        model_shape("gpt")
