"""Write the shipped performance tables from NVIDIA's kernel measurements (aiconfigurator-core).

That package is no dependency: nothing of HeteroScale imports it when it runs. To make the tables
again, in an environment of its own:

    python -m venv aic && aic/bin/pip install aiconfigurator-core==0.12.0
    PYTHONPATH=src:. aic/bin/python -m benchmarks.tables.from_aiconfigurator

It composes a model from measured GEMM, attention, MoE and all-reduce kernels of vLLM, in bf16, and
interpolates between measured sizes: GPU time only, no host, no queue, no sampling. Prints each
table's fit, the error of prefill batches of several prompts, and one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import logging
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heteroscale.performance.accelerators import accelerator_named
from heteroscale.performance.fit import DecodePoint
from heteroscale.performance.models import MODELS
from heteroscale.performance.roofline import Efficiency
from heteroscale.performance.table import Clock, LatencyTable, Source
from heteroscale.performance.table_file import tables_text

PACKAGE = "aiconfigurator-core"
SYSTEMS = {
    "A100": "a100_sxm",
    "H100": "h100_sxm",
    "H200": "h200_sxm",
    "L40S": "l40s",
    "B200": "b200_sxm",
}
#: the source's vLLM tables: only A100 has an older one
VLLM = {"A100": "0.14.0"}
VLLM_DEFAULT = "0.24.0"
NAMES = {
    "llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
    "qwen3-32b": "Qwen/Qwen3-32B",
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
    "qwen3-30b-a3b": "Qwen/Qwen3-30B-A3B",
}
NVLINK = ("A100", "H100", "H200", "B200")
#: model → GPUs of an instance → accelerators. L40S with 4 or more GPUs is left out: the source's
#: PCIe all-reduce makes 4 of them slower than 2.
SHAPES: dict[str, dict[int, tuple[str, ...]]] = {
    "llama-3.1-8b": {1: (*NVLINK, "L40S")},
    "qwen3-32b": {1: NVLINK, 2: (*NVLINK, "L40S"), 4: NVLINK},
    "llama-3.1-70b": {4: NVLINK, 8: NVLINK},
    "qwen3-30b-a3b": {1: NVLINK, 2: (*NVLINK, "L40S")},
}
TOKENS = (256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
#: of a MoE, fewer sequences touch only some experts, which one straight line cannot follow
BATCHES_MOE = (32, 64, 128, 256, 512)
CONTEXTS = (256, 1024, 2048, 4096, 8192, 16_384)
#: prompts × tokens that check the form of a batch
SEVERAL = ((2, 1024), (4, 1024), (8, 512), (16, 256), (2, 4096), (8, 1024))


@dataclass(frozen=True, slots=True)
class Made:
    """A table, and the errors of prefill batches of several prompts."""

    table: LatencyTable
    batch_errors: tuple[float, ...]


def main() -> None:
    """Write every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("src/heteroscale/performance/tables"))
    out: Path = parser.parse_args().out
    try:
        sdk = importlib.import_module("aiconfigurator_core.sdk")
    except ModuleNotFoundError:
        sys.exit(f"{PACKAGE} is not installed: see the docstring of this file")
    logging.disable(logging.CRITICAL)
    made = list(_made(sdk))
    for one in made:
        table = one.table
        path = out / f"{table.model}_{table.accelerator}_{table.gpus}.json"
        path.write_text(tables_text([table]), encoding="utf-8")
        prefill, decode = table.prefill_error, table.decode_error
        print(
            f"{table.model:14} {table.gpus} x {table.accelerator:5}"
            f" prefill {prefill.median:6.1%} {prefill.max:6.1%}"
            f" decode {decode.median:6.1%} {decode.max:6.1%}"
            f" several prompts {statistics.median(one.batch_errors):6.1%}"
            f" {max(one.batch_errors):6.1%}"
        )
    summary = {
        "tables": len(made),
        "prefill_median_error": statistics.median(one.table.prefill_error.median for one in made),
        "prefill_max_error": max(one.table.prefill_error.max for one in made),
        "decode_median_error": statistics.median(one.table.decode_error.median for one in made),
        "decode_max_error": max(one.table.decode_error.max for one in made),
        "batch_median_error": statistics.median(
            error for one in made for error in one.batch_errors
        ),
    }
    print(json.dumps({key: round(value, 4) for key, value in summary.items()}))


def _made(sdk: Any) -> Iterator[Made]:
    for model, by_gpus in SHAPES.items():
        for gpus, accelerators in by_gpus.items():
            for accelerator in accelerators:
                yield _table(sdk, model, accelerator, gpus)


def _table(sdk: Any, model: str, accelerator: str, gpus: int) -> Made:
    is_moe = model == "qwen3-30b-a3b"
    split = {"moe_tp_size": gpus, "moe_ep_size": 1} if is_moe else {}
    version = VLLM.get(accelerator, VLLM_DEFAULT)
    engine = sdk.EngineHandle.compile(
        NAMES[model], SYSTEMS[accelerator], "vllm", backend_version=version, tp_size=gpus, **split
    )
    shape, memory = MODELS[model], accelerator_named(accelerator).memory_bytes
    usable = gpus * memory * Efficiency().memory
    capacity = int((usable - shape.weight_bytes) // shape.kv_bytes_per_token)
    table = LatencyTable(
        model=model,
        accelerator=accelerator,
        gpus=gpus,
        parallelism=f"tp{gpus}",
        source=Source(
            name=f"{PACKAGE} (NVIDIA), vLLM {version} kernels",
            version=importlib.metadata.version(PACKAGE),
            licence="Apache-2.0",
            notes="composed of kernels measured in bf16; KV capacity: 0.95 of memory - weights",
        ),
        clock=Clock.KERNELS,
        kv_bytes_per_token=shape.kv_bytes_per_token,
        kv_capacity_tokens=capacity,
        prefill=tuple(
            (tokens, _ms(engine.predict_prefill_latency(1, tokens))) for tokens in TOKENS
        ),
        decode=tuple(
            DecodePoint(batch, context, _ms(engine.decode_step_latency(batch, context, 2)))
            for batch in (BATCHES_MOE if is_moe else BATCHES)
            for context in CONTEXTS
            # What does not fit beside the weights never runs.
            if batch * context <= capacity
        ),
    )
    base, linear, square = table.prefill_ms
    errors = tuple(
        abs(
            (base + linear * count * tokens + square * count * tokens**2)
            / engine.predict_prefill_latency(count, tokens)
            - 1.0
        )
        for count, tokens in SEVERAL
    )
    return Made(table, errors)


def _ms(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    main()
