"""Runs NVIDIA's offline replay once; started by the replay's own Python, never imported.

Reads one JSON object from standard input, writes one to standard output.
"""

from __future__ import annotations

import json
import sys
import time

from dynamo._core import run_mocker_trace_replay  # type: ignore[import-not-found]

#: of a request's record: what latencies are made of
FIELDS = (
    "arrival_time_ms",
    "source_held_ms",
    "destination_reserved_ms",
    "ttft_ms",
    "itl_ms",
    "input_length",
)


def main() -> None:
    """Play the trace as asked and answer with the report."""
    asked = json.load(sys.stdin)
    begun_s, begun_core_s = time.perf_counter(), time.process_time()
    report = run_mocker_trace_replay(
        [asked["trace"]],
        prefill_engine_args=asked["prefill"],
        decode_engine_args=asked["decode"],
        num_prefill_workers=asked["prefill_instances"],
        num_decode_workers=asked["decode_instances"],
        trace_block_size=asked["trace_block_tokens"],
        arrival_speedup_ratio=asked["speedup"],
        sla_ttft_ms=asked["slo_ttft_ms"],
        sla_itl_ms=asked["slo_tbt_ms"],
        capture_per_request=asked["each_request"],
    )
    wall_s, core_s = time.perf_counter() - begun_s, time.process_time() - begun_core_s
    requests = report.per_request if asked["each_request"] else []
    answer = {
        "summary": report.summary,
        #: of the time, in which this process had a core
        "share": core_s / wall_s,
        "requests": [[one[field] for field in FIELDS] for one in requests],
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
