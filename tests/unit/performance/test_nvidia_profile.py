from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heteroscale.errors import ConfigError
from heteroscale.performance.nvidia_profile import nvidia_profile
from heteroscale.performance.table import Clock, LatencyTable

LENGTHS = (1000.0, 2000.0, 4000.0)
CAPACITY = 100_000
#: batch, context
STEPS = ((1, 1000), (10, 1000), (50, 1000), (10, 4000), (20, 4000))


def ttft_ms(tokens: float) -> float:
    return 5 + 0.04 * tokens + 1e-6 * tokens * tokens


def step_ms(batch: float, context: float) -> float:
    return 6 + 0.05 * batch + 3e-5 * batch * context


def arrays(gpus: int = 2) -> dict[str, list[float]]:
    return {
        "prefill_isl": list(LENGTHS),
        "prefill_ttft": [ttft_ms(tokens) for tokens in LENGTHS],
        "prefill_thpt_per_gpu": [t / ttft_ms(t) * 1000 / gpus for t in LENGTHS],
        "x_kv_usage": [batch * context / CAPACITY for batch, context in STEPS],
        "y_context_length": [float(context) for _, context in STEPS],
        "z_itl": [step_ms(batch, context) for batch, context in STEPS],
        "z_thpt_per_gpu": [b / step_ms(b, c) * 1000 / gpus for b, c in STEPS],
        "max_kv_tokens": [float(CAPACITY)],
    }


def split(content: dict[str, list[float]]) -> tuple[dict[str, Any], dict[str, Any]]:
    prefill = {key: value for key, value in content.items() if key.startswith("prefill")}
    return prefill, {key: value for key, value in content.items() if key not in prefill}


def _save(path: Path, content: dict[str, list[float]]) -> None:
    lists: dict[str, Any] = {key: np.array(value) for key, value in content.items()}
    np.savez(path, **lists)


def as_npz(folder: Path) -> Path:
    path = folder / "all.npz"
    _save(path, arrays())
    return path


def as_json(folder: Path) -> Path:
    path = folder / "all.json"
    path.write_text(json.dumps({**arrays(), "max_kv_tokens": CAPACITY}), encoding="utf-8")
    return path


def as_profiler_folder(folder: Path) -> Path:
    for stage, content in zip(("prefill", "decode"), split(arrays()), strict=True):
        (folder / f"selected_{stage}_interpolation").mkdir()
        path = folder / f"selected_{stage}_interpolation" / "raw_data.npz"
        _save(path, content)
    return folder


def as_json_folder(folder: Path) -> Path:
    for stage, content in zip(("prefill", "decode"), split(arrays()), strict=True):
        path = folder / f"{stage}_raw_data.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def read(path: Path, gpus: int = 2) -> LatencyTable:
    return nvidia_profile(path, accelerator="H200", gpus=gpus, kv_bytes_per_token=1000)


@pytest.mark.parametrize("write", [as_npz, as_json, as_profiler_folder, as_json_folder])
def test_every_layout_gives_the_same_times(write: Any, tmp_path: Path) -> None:
    table = read(write(tmp_path))
    assert (table.accelerator, table.gpus, table.clock) == ("H200", 2, Clock.ENGINE)
    assert (table.kv_bytes_per_token, table.kv_capacity_tokens) == (1000, CAPACITY)
    assert table.prefill == tuple((tokens, ttft_ms(tokens)) for tokens in LENGTHS)
    batches = [point.batch for point in table.decode]
    assert batches == pytest.approx([batch for batch, _ in STEPS])
    assert [point.context for point in table.decode] == [context for _, context in STEPS]
    assert table.prefill_ms == pytest.approx((5.0, 0.04, 1e-6), rel=1e-6)
    fit = table.decode_fit
    assert fit.bend is None
    assert (fit.base, fit.per_sequence, fit.per_kv_token) == pytest.approx(
        (6.0, 0.05, 3e-5), rel=1e-6
    )


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        pytest.param(
            {"z_itl": None, "prefill_isl": [1, "x", 3]},
            [
                "prefill_isl: must be a list of numbers > 0 and < 1e+12, got 'x'",
                "z_itl: is required: must be a list of numbers > 0 and < 1e+06",
            ],
            id="missing and not a number, both named",
        ),
        pytest.param(
            {"prefill_ttft": [1.0, 2.0]},
            ["prefill_isl: must have one value for each point: prefill_isl 3, prefill_ttft 2, "],
            id="lists of different lengths",
        ),
        pytest.param(
            {"x_kv_usage": [0.1, 0.2, 0.3, 0.4, 40.0]},
            ["x_kv_usage: must be shares of max_kv_tokens, at most 1, got 40.0"],
            id="percent instead of shares",
        ),
        pytest.param(
            {"max_kv_tokens": [1000, 2000]},
            ["max_kv_tokens: must be one number >= 1"],
            id="two capacities",
        ),
        pytest.param(
            arrays(gpus=4),
            [
                "prefill_thpt_per_gpu: must fit gpus (2): its times and throughputs are those of 4",
                "z_thpt_per_gpu: must fit gpus (2): its times and throughputs are those of 4.0",
            ],
            id="measured on other GPUs than told",
        ),
        pytest.param(
            {key: value[:2] for key, value in arrays().items() if key.startswith("prefill")},
            ["prefill_isl: must have at least 3 points, got 2"],
            id="too few lengths",
        ),
    ],
)
def test_every_fault_is_named(changes: dict[str, Any], faults: list[str], tmp_path: Path) -> None:
    content = {**arrays(), **changes}
    path = tmp_path / "p.json"
    present = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(present), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read(path)
    found = [str(problem) for problem in caught.value.problems]
    assert len(found) == len(faults)
    for one, expected in zip(found, faults, strict=True):
        assert one.startswith(f"{path}: {expected}")


def test_a_folder_without_the_profiler_s_files(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"must hold selected_prefill_interpolation/raw_data\.npz"
    ):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no arrays", b"PK\x03\x04broken"])
def test_a_file_that_is_no_npz(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="must be an NPZ of numbers"):
        read(path)
