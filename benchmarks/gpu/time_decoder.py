"""Time prefill and decode of a Llama-3.1-8B-shaped decoder on this machine's GPU.

Random weights, bf16, grouped-query attention, CUDA graphs for decode, NVML utilization at every
point. Writes a performance table that `model: {profile: ...}` reads. PyTorch 2.5 or newer with CUDA
is needed and is no dependency of HeteroScale:

    python -m venv gpu && gpu/bin/pip install torch numpy
    PYTHONPATH=src:. gpu/bin/python -m benchmarks.gpu.time_decoder --out my-table.json

Ends with one line of JSON. Exit code 2: PyTorch or CUDA is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.decoder import Decoder
from benchmarks.gpu.nvml import Nvml, Watch
from heteroscale.performance.accelerators import ACCELERATORS
from heteroscale.performance.fit import DecodePoint
from heteroscale.performance.models import MODELS, ModelShape
from heteroscale.performance.roofline import Efficiency, Roofline
from heteroscale.performance.table import Clock, LatencyTable, Source
from heteroscale.performance.table_file import tables_text

MODEL = "llama-3.1-8b"
#: inner width of Llama-3.1-8B's feed-forward part
INTERMEDIATE = 14_336
TOKENS = (256, 512, 1024, 2048, 4096, 8192, 16_384)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (256, 1024, 4096, 16_384)
#: of free memory, what KV may take beside activations and graphs
_KV_SHARE = 0.85
_WARM_UPS = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What was seen at one point."""

    #: GPU time of a step
    ms: float
    #: wall time of a step when the host waits for each answer, as an engine does
    wall_ms: float
    #: NVML's share of time with a kernel running while it does; None = too short to tell
    utilization: float | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that was timed."""

    #: prompt tokens → timing
    prefill: dict[int, Timing]
    #: (batch, context) → timing
    decode: dict[tuple[int, int], Timing]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="table to write")
    parser.add_argument("--accelerator", choices=list(ACCELERATORS), help="default: by its name")
    parser.add_argument("--tokens", type=_counts, default=TOKENS, help="prompts, comma-separated")
    parser.add_argument("--batches", type=_counts, default=BATCHES)
    parser.add_argument("--contexts", type=_counts, default=CONTEXTS)
    parser.add_argument("--seconds", type=float, default=1.5, help="at each point, at least")
    return parser.parse_args(given)


def _counts(text: str) -> tuple[int, ...]:
    counts = sorted({int(part) for part in text.split(",")})
    if counts[0] < 1:
        raise argparse.ArgumentTypeError("must be whole numbers >= 1")
    return tuple(counts)


def main() -> None:
    """Time every point and write the table."""
    options = arguments()
    try:
        torch: Any = importlib.import_module("torch")
    except ModuleNotFoundError:
        _missing("PyTorch is not installed: pip install torch (2.5 or newer, with CUDA)")
    if not torch.cuda.is_available():
        _missing("PyTorch sees no CUDA device: a GPU and its driver are needed")
    device = torch.cuda.get_device_properties(0)
    try:
        accelerator = options.accelerator or accelerator_of(device.name)
    except ValueError as error:
        _missing(str(error))
    try:
        nvml = Nvml(f"GPU-{device.uuid}")
    except OSError as error:
        _missing(f"NVIDIA's management library cannot be used: {error}")
    with torch.inference_mode():
        bench = _Bench(torch, MODELS[MODEL], nvml, options.seconds)
        measured = Measured(
            prefill={tokens: bench.prefill(tokens) for tokens in options.tokens},
            decode={
                (batch, context): bench.decode(batch, context)
                for batch in options.batches
                for context in options.contexts
                if bench.fits(batch, context)
            },
        )
    version = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    table = table_of(measured, accelerator, version, device.name)
    text = tables_text([table], {(accelerator, 1): observed(measured)})
    options.out.write_text(text, encoding="utf-8")
    print(json.dumps(summary(table, measured)))


def _missing(what: str) -> Any:
    print(what, file=sys.stderr)
    raise SystemExit(2)


def accelerator_of(name: str) -> str:
    """Return our name of a device, e.g. "NVIDIA A100-SXM4-80GB" → A100.

    Raises:
        ValueError: no accelerator of the table is named in it.
    """
    words = name.replace("-", " ").split()
    for accelerator in ACCELERATORS:
        if accelerator in words:
            return accelerator
    known = ", ".join(ACCELERATORS)
    raise ValueError(f"{name!r} is none of {known}: say which it is like with --accelerator")


class _Bench:
    """Times one decoder on the first GPU."""

    def __init__(self, torch: Any, shape: ModelShape, nvml: Nvml, seconds: float) -> None:
        self._torch = torch
        self._nvml = nvml
        self._seconds = seconds
        self._decoder = Decoder(
            torch, shape, intermediate=INTERMEDIATE, device="cuda", dtype=torch.bfloat16
        )

    def fits(self, batch: int, context: int) -> bool:
        """Return whether the KV of a decode batch fits beside the weights."""
        self._torch.cuda.empty_cache()
        free, _ = self._torch.cuda.mem_get_info()
        kv_bytes: int = batch * context * self._decoder.shape.kv_bytes_per_token
        return kv_bytes <= _KV_SHARE * float(free)

    def prefill(self, tokens: int) -> Timing:
        """Return the times of one prompt, without a graph: lengths vary in serving."""
        prompt = self._tokens(1, tokens)
        rope = self._decoder.rope(0, tokens)
        return self._timed(lambda: self._decoder.prefill(prompt, rope))

    def decode(self, batch: int, context: int) -> Timing:
        """Return the times of one decode step, replayed from a CUDA graph."""
        torch = self._torch
        cache = self._decoder.cache(batch, context)
        tokens, rope = self._tokens(batch, 1), self._decoder.rope(context - 1, 1)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                self._decoder.decode(tokens, rope, cache)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._decoder.decode(tokens, rope, cache)
        return self._timed(graph.replay)

    def _tokens(self, batch: int, length: int) -> Any:
        size = (batch, length)
        return self._torch.randint(0, self._decoder.shape.vocabulary, size, device="cuda")

    def _timed(self, step: Callable[[], object]) -> Timing:
        """Return a step's GPU time back to back, then its wall time with the host waiting."""
        cuda = self._torch.cuda
        for _ in range(_WARM_UPS):
            step()
        cuda.synchronize()
        started = time.perf_counter()
        step()
        cuda.synchronize()
        repeats = max(5, int(self._seconds / 2 / (time.perf_counter() - started)))
        begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            step()
        end.record()
        cuda.synchronize()
        walls: list[float] = []
        with Watch(self._nvml) as watch:
            until = time.perf_counter() + self._seconds
            while time.perf_counter() < until or len(walls) < _WARM_UPS:
                started = time.perf_counter()
                step()
                cuda.synchronize()
                walls.append(time.perf_counter() - started)
        return Timing(
            ms=begin.elapsed_time(end) / repeats,
            wall_ms=statistics.median(walls) * 1000,
            utilization=watch.utilization,
        )


def table_of(measured: Measured, accelerator: str, version: str, device: str) -> LatencyTable:
    """Return what was timed as a table of one GPU."""
    shape = MODELS[MODEL]
    memory = Roofline(shape=shape).coefficients(accelerator, 1)
    return LatencyTable(
        model=MODEL,
        accelerator=accelerator,
        gpus=1,
        parallelism="tp1",
        source=Source(
            name="benchmarks/gpu/time_decoder.py",
            version=version,
            licence="own",
            notes=f"{device}; random weights, bf16; KV capacity: 0.95 of memory - weights",
        ),
        clock=Clock.KERNELS,
        kv_bytes_per_token=shape.kv_bytes_per_token,
        kv_capacity_tokens=memory.kv_capacity_tokens,
        prefill=tuple(
            (tokens, round(timing.ms, 4)) for tokens, timing in sorted(measured.prefill.items())
        ),
        decode=tuple(
            DecodePoint(batch, context, round(timing.ms, 4))
            for (batch, context), timing in sorted(measured.decode.items())
        ),
    )


def observed(measured: Measured) -> dict[str, Any]:
    """Return what was seen beside GPU time, point by point in the table's order."""
    prefill = [timing for _, timing in sorted(measured.prefill.items())]
    decode = sorted(measured.decode.items())
    return {
        "prefill_wall_ms": [round(timing.wall_ms, 4) for timing in prefill],
        "prefill_utilization": [timing.utilization for timing in prefill],
        "decode_points": [list(point) for point, _ in decode],
        "decode_wall_ms": [round(timing.wall_ms, 4) for _, timing in decode],
        "decode_utilization": [timing.utilization for _, timing in decode],
    }


def summary(table: LatencyTable, measured: Measured) -> dict[str, Any]:
    """Return the errors of fit and roofline, and how much utilization says of the batch."""
    kernels_only = Efficiency(host_s=0.0, sequence_s=0.0)
    roofline = Roofline(shape=MODELS[MODEL], efficiency=kernels_only)
    c = roofline.coefficients(table.accelerator, table.gpus)
    prefill = [
        (c.prefill_base_ps + c.prefill_per_token_ps * t + c.prefill_per_token2_ps * t * t)
        / 1e9
        / ms
        for t, ms in table.prefill
    ]
    decode = [
        c.decode_step_ps(point.batch, point.batch * point.context) / 1e9 / point.ms
        for point in table.decode
    ]
    shares = [one.utilization for one in measured.decode.values() if one.utilization is not None]
    return {
        "accelerator": table.accelerator,
        "points": len(table.prefill) + len(table.decode),
        "fit_prefill_max_error": round(table.prefill_error.max, 4),
        "fit_decode_max_error": round(table.decode_error.max, 4),
        "roofline_prefill_median_error": _median_error(prefill),
        "roofline_decode_median_error": _median_error(decode),
        "decode_utilization_min": min(shares, default=None),
        "decode_utilization_max": max(shares, default=None),
    }


def _median_error(ratios: Sequence[float]) -> float:
    return round(statistics.median(abs(ratio - 1.0) for ratio in ratios), 4)


if __name__ == "__main__":
    main()
