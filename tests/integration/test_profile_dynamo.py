"""`heteroscale profile` against a real Dynamo front end recovers what its mocker was told.

`make test-integration` installs Dynamo into a folder of its own; without it this is skipped.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from heteroscale.performance.table import LatencyTable
from heteroscale.performance.table_file import load_tables
from tests.integration.dynamo import (
    DECODE_BASE_MS,
    DECODE_MS_PER_KV_TOKEN,
    KV_BYTES_PER_TOKEN,
    KV_TOKENS,
    MODEL,
    PREFILL_BASE_MS,
    PREFILL_MS_PER_TOKEN,
    running,
)

pytestmark = pytest.mark.slow

GRID = (
    *("--prompts", "256,1024,4096", "--depths", "2", "--batches", "1,4,12"),
    *("--contexts", "512,3000", "--repeats", "3", "--steps", "32", "--max-seconds", "120"),
)
#: a wait for the first token has the front end and the network in it, and splits a prompt into
#: tokens: at most so much beside the engine's time, on a machine that is not idle
FRONT_END_MS, FRONT_END_SHARE = 60.0, 0.15
#: a machine with more to do than cores lets the mocker wake up late
BUSY_SHARE = 0.12


def profiled(python: Path, folder: Path, instances: Sequence[Sequence[str]]) -> LatencyTable:
    """Return the profile of an endpoint, as the command line measures and writes it."""
    (folder / "dynamo").mkdir()
    out = folder / "profile.json"
    with running(python, folder / "dynamo", instances) as dynamo:
        words = [
            *("profile", "--endpoint", dynamo.url, "--out", str(out), *GRID),
            *("--accelerator", "H100", "--gpus", "8"),
            *("--kv-bytes-per-token", str(KV_BYTES_PER_TOKEN)),
            *("--kv-capacity-tokens", str(KV_TOKENS)),
        ]
        command = [sys.executable, "-c", "from heteroscale.cli import main; main()", *words]
        done = subprocess.run(
            [*dynamo.network.prefix, *command], capture_output=True, text=True, check=False
        )
    print(done.stderr, done.stdout, sep="\n")
    assert done.returncode == 0
    (table,) = load_tables(out).values()
    assert table.model == MODEL
    return table


def check_decode(table: LatencyTable) -> None:
    """Fail where a decode step is faster than told, or slower than a busy machine explains."""
    for batch, context in ((1, 512), (4, 3000), (12, 512), (12, 3000)):
        told_ms = DECODE_BASE_MS + DECODE_MS_PER_KV_TOKEN * batch * context
        found_ms = table.decode_time_ms(batch, context)
        print(f"decode {batch} x {context}: told {told_ms:.3f} ms, found {found_ms:.3f} ms")
        assert 0.98 * told_ms <= found_ms <= (1 + BUSY_SHARE) * told_ms


def check_prefill(table: LatencyTable, *, times: float = 1.0, beside_ms: float = 0.0) -> None:
    """Fail where prefill is faster than told, or slower than the front end explains."""
    for tokens in (256, 1024, 4096):
        told_ms = times * (PREFILL_BASE_MS + PREFILL_MS_PER_TOKEN * tokens)
        found_ms = table.prefill_time_ms(tokens)
        print(f"prefill {tokens}: told {told_ms:.2f} ms, found {found_ms:.2f} ms")
        longest_ms = told_ms * (1 + FRONT_END_SHARE) + FRONT_END_MS + beside_ms
        assert 0.98 * told_ms <= found_ms <= longest_ms


def test_one_instance_of_both_stages(dynamo_python: Path, tmp_path: Path) -> None:
    table = profiled(dynamo_python, tmp_path, [()])
    check_decode(table)
    check_prefill(table)


def test_prefill_at_half_the_speed_and_decode_on_instances_of_their_own(
    dynamo_python: Path, tmp_path: Path
) -> None:
    prefill = ("--disaggregation-mode", "prefill", "--speedup-ratio", "0.5")
    decode = ("--disaggregation-mode", "decode")
    table = profiled(dynamo_python, tmp_path, [prefill, decode])
    check_decode(table)
    # The first token comes after the transfer of 512 MiB of KV and a decode step.
    check_prefill(table, times=2.0, beside_ms=30.0)
