"""What of the GPU benchmark needs no GPU: its command line and the table it writes.

The decoder's arithmetic is checked where PyTorch happens to be installed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.decoder import Decoder
from benchmarks.gpu.time_decoder import (
    Measured,
    Timing,
    accelerator_of,
    arguments,
    observed,
    summary,
    table_of,
)
from heteroscale.performance.models import MODELS, GroupedAttention
from heteroscale.performance.table import Clock
from heteroscale.performance.table_file import parse_tables, tables_text

ROOT = Path(__file__).resolve().parents[3]
HAS_TORCH = importlib.util.find_spec("torch") is not None


def timing(ms: float, utilization: float | None = 0.98) -> Timing:
    return Timing(ms=ms, wall_ms=ms + 0.5, utilization=utilization)


MEASURED = Measured(
    prefill={tokens: timing(2 + 0.02 * tokens + 3e-7 * tokens**2) for tokens in (512, 2048, 8192)},
    decode={
        (batch, context): timing(6 + 0.02 * batch + 4e-5 * batch * context, 0.9 + batch / 1000)
        for batch, context in ((1, 1024), (32, 1024), (64, 4096))
    },
)


def test_the_command_line() -> None:
    options = arguments(["--out", "t.json", "--batches", "8,1,8", "--accelerator", "H200"])
    assert (options.out, options.batches, options.accelerator) == (Path("t.json"), (1, 8), "H200")
    with pytest.raises(SystemExit) as ended:
        arguments(["--out", "t.json", "--tokens", "0,5"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("device", "accelerator"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA L40S", "L40S"),
    ],
)
def test_devices_are_known_by_their_names(device: str, accelerator: str) -> None:
    assert accelerator_of(device) == accelerator


def test_an_unknown_device_asks_for_help() -> None:
    with pytest.raises(ValueError, match=r"'NVIDIA T4' is none of H20, .*--accelerator"):
        accelerator_of("NVIDIA T4")


def test_the_table_is_one_a_scenario_can_read() -> None:
    table = table_of(MEASURED, "H200", "torch 2.7, CUDA 12.8", "NVIDIA H200")
    text = tables_text([table], {("H200", 1): observed(MEASURED)})
    assert parse_tables(text, "t.json") == {("H200", 1): table}
    assert (table.clock, table.kv_capacity_tokens) == (Clock.KERNELS, 899_429)
    assert [(point.batch, point.context) for point in table.decode] == [
        (1, 1024),
        (32, 1024),
        (64, 4096),
    ]
    seen = json.loads(text)["tables"][0]["observed"]
    assert seen["decode_points"] == [[1, 1024], [32, 1024], [64, 4096]]
    assert seen["decode_utilization"] == [0.901, 0.932, 0.964]
    assert seen["prefill_wall_ms"][0] == pytest.approx(table.prefill[0][1] + 0.5, abs=1e-3)


def test_the_summary_says_how_wrong_fit_and_roofline_are() -> None:
    table = table_of(MEASURED, "H200", "torch 2.7, CUDA 12.8", "NVIDIA H200")
    told = summary(table, MEASURED)
    assert (told["accelerator"], told["points"]) == ("H200", 6)
    assert told["fit_prefill_max_error"] < 0.001
    assert told["fit_decode_max_error"] < 0.001
    assert 0 < told["roofline_prefill_median_error"] < 0.5
    assert 0 < told["roofline_decode_median_error"] < 0.5
    assert (told["decode_utilization_min"], told["decode_utilization_max"]) == (0.901, 0.964)


@pytest.mark.skipif(HAS_TORCH, reason="says what is missing only where it is")
def test_without_pytorch_it_says_so_and_leaves_with_2() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu.time_decoder", "--out", "t.json"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "PyTorch is not installed" in ended.stderr


def test_a_decode_step_continues_its_prefill() -> None:
    torch: Any = pytest.importorskip("torch")
    torch.manual_seed(1)
    shape = dataclasses.replace(
        MODELS["llama-3.1-8b"],
        layers=2,
        hidden=64,
        vocabulary=97,
        attention=GroupedAttention(heads=8, kv_heads=2, head_dim=16),
    )
    decoder = Decoder(torch, shape, intermediate=128, device="cpu", dtype=torch.float32)
    tokens = torch.randint(0, 97, (3, 9))
    cache = decoder.cache(3, 9)
    decoder.prefill(tokens[:, :8], decoder.rope(0, 8), cache)
    step = decoder.decode(tokens[:, 8:], decoder.rope(8, 1), cache)
    whole = decoder.prefill(tokens, decoder.rope(0, 9))
    assert step.tolist() == whole.tolist()
