"""NVIDIA's offline replay (ai-dynamo 1.6.1): installed into a folder of its own, run as a process.

It is no dependency of anything here. Its packages come from the package index on the first use.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.simulators import equal_physics as physics
from benchmarks.simulators.cases import DECODE, PREFILL
from benchmarks.simulators.equal_physics import MS, Floats, Latencies
from heteroscale.workload.arrivals import ArrivalChunk

VERSION = "1.6.1"
#: the first two bring dependencies that the replay does not need and that do not all resolve
_WITHOUT_DEPENDENCIES = (f"ai-dynamo=={VERSION}", f"ai-dynamo-runtime=={VERSION}")
_BESIDE = ("uvloop", "pydantic<=2.13.5", "packaging", "pyyaml", "msgspec")
_BLOCK_TOKENS_OF_TRACE = 512
_SCRIPT = Path(__file__).with_name("replay_in_its_venv.py")


class NotInstalled(Exception):
    """The replay could not be installed; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRun:
    """One run of the replay."""

    #: of one core, as the replay measures itself: without loading the trace and the report
    core_s: float
    #: its own report
    summary: dict[str, Any]
    #: None = requests were not recorded
    latencies: Latencies | None
    #: wait of each request for its destination's memory, ms; () = requests were not recorded
    handshake_ms: Floats


def installed(folder: Path) -> Path:
    """Return the Python of the replay's environment in a folder; made on the first use.

    Raises:
        NotInstalled: the package index cannot be reached or has no fitting package.
    """
    python = folder / "bin" / "python"
    mark = folder / f".installed-{VERSION}"
    if mark.exists():
        return python
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "--no-deps", *_WITHOUT_DEPENDENCIES],
        [*pip, *_BESIDE],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise NotInstalled(f"{' '.join(step[1:5])} …: {lines[-1]}")
    mark.touch()
    return python


class OfflineReplay:
    """The replay with our physics and one trace; leaves its files in a folder of its own."""

    def __init__(self, python: Path, trace: ArrivalChunk) -> None:
        """Write the trace and the step times as the replay reads them."""
        self._python = python
        self._folder = tempfile.TemporaryDirectory(prefix="replay-")
        folder = Path(self._folder.name)
        self._trace = folder / "trace.jsonl"
        self._profile = folder / "profile.npz"
        _write_trace(self._trace, trace)
        _write_profile(self._profile)

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()

    def run(self, speedup: float, *, each_request: bool) -> ReplayRun:
        """Play the trace once."""
        asked = {
            "trace": str(self._trace),
            "prefill": self._engine("prefill", physics.PREFILL_SEQUENCES),
            "decode": self._engine("decode", physics.DECODE_SEQUENCES),
            "prefill_instances": PREFILL,
            "decode_instances": DECODE,
            "trace_block_tokens": _BLOCK_TOKENS_OF_TRACE,
            "speedup": speedup,
            "slo_ttft_ms": physics.SLO_TTFT_MS,
            "slo_tbt_ms": physics.SLO_TBT_MS,
            "each_request": each_request,
        }
        done = subprocess.run(
            [str(self._python), str(_SCRIPT)],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "DYN_LOG": "error", "PYTHONPATH": ""},
        )
        answer = json.loads(done.stdout)
        return _read(answer["summary"], answer["requests"], min(1.0, answer["share"]))

    def _engine(self, role: str, sequences: int) -> dict[str, Any]:
        return {
            "engine": {
                "backend": "vllm",
                "worker_type": role,
                "num_gpu_blocks": physics.BLOCKS,
                "block_size": physics.BLOCK_TOKENS,
                "max_num_batched_tokens": physics.TOKEN_BUDGET,
                "max_num_seqs": sequences,
                "enable_prefix_caching": False,
                "enable_chunked_prefill": False,
                "kv_transfer_bytes_per_token": physics.KV_BYTES_PER_TOKEN,
                "kv_transfer_bandwidth": physics.GB_PER_S,
                "timing_model": {
                    "type": "external",
                    "provider": "dynamo_profile",
                    "config": {"path": str(self._profile)},
                },
            }
        }


def _read(summary: dict[str, Any], requests: list[list[float]], share: float) -> ReplayRun:
    rows = np.array(requests, dtype=np.float64).reshape(-1, 6)
    _, held_ms, reserved_ms, ttft_ms, gap_ms, _ = rows.T
    return ReplayRun(
        core_s=float(summary["wall_time_ms"]) / 1000 * share,
        summary=summary,
        latencies=Latencies(ttft_ms=ttft_ms, gap_ms=gap_ms) if len(rows) else None,
        handshake_ms=reserved_ms - held_ms,
    )


def _write_trace(path: Path, trace: ArrivalChunk) -> None:
    """Write requests in Mooncake's format, no two of which share a block."""
    first = 0
    with path.open("w", encoding="utf-8") as file:
        columns = (trace.arrival_ps, trace.input_tokens, trace.output_tokens)
        for time_ps, inputs, outputs in zip(*(one.tolist() for one in columns), strict=True):
            blocks = -(-inputs // _BLOCK_TOKENS_OF_TRACE)
            request = {
                "timestamp": time_ps / MS,
                "input_length": inputs,
                "output_length": outputs,
                "hash_ids": list(range(first, first + blocks)),
            }
            file.write(json.dumps(request) + "\n")
            first += blocks


def _write_profile(path: Path) -> None:
    """Write step times at the ends of straight lines; the replay interpolates between them."""
    tokens, kv_tokens = 32_768.0, 4e6
    step_ms = [physics.DECODE_BASE_MS, physics.DECODE_BASE_MS]
    slow_ms = [one + physics.DECODE_MS_PER_KV_TOKEN * kv_tokens for one in step_ms]
    np.savez(
        path,
        prefill_isl=np.array([0.0, tokens]),
        prefill_ttft_ms=physics.PREFILL_BASE_MS
        + physics.PREFILL_MS_PER_TOKEN * np.array([0.0, tokens]),
        decode_active_kv_tokens=np.array([0.0, kv_tokens]),
        decode_context_length=np.array([1.0, 200_000.0]),
        decode_itl=np.array([step_ms, slow_ms]),
    )
