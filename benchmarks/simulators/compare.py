"""Our simulator beside others: same trace, same fleet, same step times, one run.

Against NVIDIA's offline replay and against our own plain twin; figures of others as recorded.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.simulators.cases import (
    DECODE,
    PREFILL,
    SPEEDUP_70RPS,
    default_traces,
    median,
    native_trace,
    sped_up,
)
from benchmarks.simulators.equal_physics import (
    DECODE_SEQUENCES,
    OPTIONS,
    SPEED,
    TOKEN_BUDGET,
    Latencies,
    as_decode_makes_all,
    gap_percentiles_ms,
    latencies,
    network,
    played,
)
from benchmarks.simulators.offline_replay import NotInstalled, OfflineReplay, installed
from benchmarks.simulators.recorded import OTHERS
from heteroscale.workload.arrivals import ArrivalChunk
from tests.unit.sim.twin import Twin

#: rates: name → factor on the trace's own
RATES = {"native": 1.0, "70rps": SPEEDUP_70RPS}
OUR_RUNS = 15
TWIN_REQUESTS = 1_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One simulator at one rate."""

    requests_per_s: float
    figures: dict[str, float]
    goodput: int
    #: the same without any handshake
    alone: Latencies


def our_side(trace: ArrivalChunk, handshake_ms: float) -> Side:
    """Return our speed and figures on a trace as it is played to the replay.

    Args:
        handshake_ms: the replay's, on average: our transfers take so much longer.
    """
    ours = as_decode_makes_all(trace)
    played(ours, log=False)
    core_s = median([played(ours, log=False, latency_ms=handshake_ms)[1] for _ in range(OUR_RUNS)])
    serving, _ = played(ours, log=True, latency_ms=handshake_ms)
    found = latencies(ours, serving)
    return Side(
        requests_per_s=len(trace.arrival_ps) / core_s,
        figures={**found.percentiles(), **gap_percentiles_ms(ours, serving)},
        goodput=found.goodput(),
        alone=latencies(ours, played(ours, log=True)[0]),
    )


def replay_side(replay: OfflineReplay, speedup: float, runs: int) -> tuple[Side, float]:
    """Return the replay's speed and figures, and the mean of its handshake in ms."""
    cores_s = [replay.run(speedup, each_request=False).core_s for _ in range(runs)]
    told = replay.run(speedup, each_request=True)
    found = told.latencies
    assert found is not None
    gaps = {"gap_p50_ms": "median_itl_ms", "gap_p99_ms": "p99_itl_ms"}
    side = Side(
        requests_per_s=len(found.ttft_ms) / median(cores_s),
        figures={
            **found.percentiles(),
            **{name: float(told.summary[theirs]) for name, theirs in gaps.items()},
        },
        goodput=int(told.summary["goodput_completed_requests"]),
        alone=Latencies(ttft_ms=found.ttft_ms - told.handshake_ms, gap_ms=found.gap_ms),
    )
    return side, float(told.handshake_ms.mean())


def beside_replay(trace: ArrivalChunk, cache: Path, runs: int) -> dict[str, float | None]:
    """Print both sides at both rates and return the ratios by core seconds.

    None = the replay could not be installed.
    """
    try:
        python = installed(cache)
    except NotInstalled as reason:
        print(f"NVIDIA's offline replay could not be installed: {reason}")
        return {f"ratio_to_dynosim_{name}": None for name in RATES}
    replay = OfflineReplay(python, trace)
    ratios: dict[str, float | None] = {}
    try:
        for name, speedup in RATES.items():
            theirs, handshake_ms = replay_side(replay, speedup, runs)
            ours = our_side(sped_up(trace, speedup), handshake_ms)
            ratio = ours.requests_per_s / theirs.requests_per_s
            _print_rate(name, ours, theirs, handshake_ms)
            ratios[f"ratio_to_dynosim_{name}"] = round(ratio, 1)
    finally:
        replay.close()
    return ratios


def _print_rate(name: str, ours: Side, theirs: Side, handshake_ms: float) -> None:
    ratio = ours.requests_per_s / theirs.requests_per_s
    print(f"\n{name}: {PREFILL}P+{DECODE}D, equal physics{'':14}ours      replay   difference")
    print(
        f"  {'requests/s':34}{ours.requests_per_s:12,.0f}{theirs.requests_per_s:12,.0f}"
        f"{ratio:11,.0f} ×"
    )
    for figure, value in ours.figures.items():
        _print_row(figure, value, theirs.figures[figure])
    _print_row("goodput, requests", ours.goodput, theirs.goodput)
    print(f"  without the handshake, on average {handshake_ms:.2f} ms")
    without = theirs.alone.percentiles()
    for figure, value in ours.alone.percentiles().items():
        _print_row(figure, value, without[figure])
    _print_row("goodput, requests", ours.alone.goodput(), theirs.alone.goodput())


def _print_row(name: str, ours: float, theirs: float) -> None:
    ours_shown, theirs_shown = (
        f"{value:,}" if isinstance(value, int) else f"{value:,.3f}" for value in (ours, theirs)
    )
    print(f"  {name:34}{ours_shown:>12}{theirs_shown:>12}{100 * (ours / theirs - 1):11.2f} %")


def beside_twin(trace: ArrivalChunk) -> None:
    """Print our speed beside the twin's on a slice, and that their events are equal."""
    part = trace.of(slice(TWIN_REQUESTS))
    serving, _ = played(part, log=True)
    core_s = median([played(part, log=False)[1] for _ in range(OUR_RUNS)])
    twin = Twin(
        prefill_token_budget=TOKEN_BUDGET,
        decode_max_batch=DECODE_SEQUENCES,
        admission_limit=1_000_000,
        slo_ttft_ps=1,
        slo_tbt_ps=1,
        network=network(),
        options=OPTIONS,
    )
    for index in range(PREFILL + DECODE):
        role = "prefill" if index < PREFILL else "decode"
        twin.set_rotation(
            twin.add_instance(role, SPEED, group=0, location=(0, 0, 0, 0, index)), True
        )
    columns = (part.arrival_ps, part.input_tokens, part.output_tokens)
    begun_s = time.process_time()
    twin.advance(0)
    twin.feed(list(zip(*(one.tolist() for one in columns), strict=True)))
    twin.advance(serving.now_ps)
    twin_s = time.process_time() - begun_s
    equal = np.array_equal(np.array(twin.log), serving.event_log())
    print(f"\nplain twin, first {TWIN_REQUESTS:,} requests at 70/s, every event equal: {equal}")
    _print_speed("kernel", TWIN_REQUESTS / core_s)
    _print_speed("twin", TWIN_REQUESTS / twin_s)
    print(f"  ratio {twin_s / core_s:,.0f} ×")


def _print_speed(name: str, requests_per_s: float) -> None:
    print(f"  {name:10}{requests_per_s:12,.0f} requests/s")


def print_recorded() -> None:
    """Print what others did, as recorded."""
    print("\nrecorded, requests/s at native rate and at 70 (each with its own cost model)")
    for one in OTHERS:
        native, fast = (
            "not run" if rate is None else f"{rate:,g}" for rate in (one.native_rps, one.at_70_rps)
        )
        print(f"  {one.name:34}{native:>9}{fast:>9}  {one.version}; {one.remark}".rstrip("; "))


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=default_traces())
    parser.add_argument("--cache", type=Path, default=Path("out/replay-venv"))
    parser.add_argument("--runs", type=int, default=3, help="of the replay, at each rate")
    arguments = parser.parse_args()
    trace = native_trace(arguments.traces)
    ratios = beside_replay(trace, arguments.cache, arguments.runs)
    beside_twin(sped_up(trace, SPEEDUP_70RPS))
    print_recorded()
    print(ratios)


if __name__ == "__main__":
    main()
