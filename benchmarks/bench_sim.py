"""Speed of the simulator: kernel alone, with the production loop, over a week, beside its peers.

Speeds are per second of one core, so that whatever else the machine runs does not count (on an idle
one that is wall time: everything here is one thread); the week is wall seconds. Prints a table and
ends with one line of JSON; null = could not be measured here.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.simulators.cases import (
    CODE_FILE,
    CONV_FILE,
    DECODE,
    SPEEDUP_70RPS,
    WEEK_FILE,
    default_traces,
    held_near,
    in_chunks,
    median,
    native_trace,
    repeated,
    sped_up,
    week_scenario,
)
from benchmarks.simulators.compare import beside_replay, beside_twin, print_recorded
from heteroscale.adapters.journal_file import JournalFolder, JournalOptions
from heteroscale.app import assemble
from heteroscale.config.scenario import Scenario
from heteroscale.loop import TickReport
from heteroscale.sim.run import Ticker
from heteroscale.sim.speed import performance_model
from heteroscale.sim.world import build_world
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk, ArrivalSource
from heteroscale.workload.week import azure_week

LEAST_REQUESTS = 1_000_000
RUNS = 5
#: goals: requests/s of kernel and loop at 70 rps, seconds and MiB of the week, times the replay
GOAL_RPS, GOAL_WEEK_S, GOAL_WEEK_MIB, GOAL_RATIO = 1_000_000, 60.0, 2048.0, 100.0
JSON_KEYS = (
    "kernel_requests_per_s_native",
    "kernel_requests_per_s_70rps",
    "loop_requests_per_s_native",
    "loop_requests_per_s_70rps",
    "sim_tick_p50_s",
    "week_wall_s",
    "week_core_s",
    "week_peak_mib",
    "ratio_to_dynosim_native",
    "ratio_to_dynosim_70rps",
)


class TimedTicker:
    """A control loop that notes how long each tick takes."""

    def __init__(self, loop: Ticker) -> None:
        self._loop = loop
        self.walls_s: list[float] = []

    def tick(self) -> TickReport:
        """Tick and note the time."""
        begun_s = time.perf_counter()
        report = self._loop.tick()
        self.walls_s.append(time.perf_counter() - begun_s)
        return report


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRun:
    """One run with the production loop in it."""

    requests: int
    wall_s: float
    #: of one core
    core_s: float
    #: wall time, median
    tick_s: float
    fleet: str


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=default_traces())
    parser.add_argument("--cache", type=Path, default=Path("out/replay-venv"))
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--week-only", action="store_true", help="the week alone, in this process")
    arguments = parser.parse_args()
    if arguments.week_only:
        print(json.dumps(week(arguments.traces)))
        return
    print("speeds are per second of one core; the week is wall time")
    trace = native_trace(arguments.traces)
    figures: dict[str, float | None] = dict.fromkeys(JSON_KEYS)
    figures.update(fixed_loads(trace, arguments.runs))
    figures.update(_week_elsewhere(arguments.traces))
    figures.update(beside_replay(trace, arguments.cache, 3))
    beside_twin(sped_up(trace, SPEEDUP_70RPS))
    print_recorded()
    _print_table(figures)
    print(json.dumps(figures))


def fixed_loads(trace: ArrivalChunk, runs: int) -> dict[str, float | None]:
    """Return requests/s of kernel and loop at both rates, medians of several runs."""
    fast = sped_up(trace, SPEEDUP_70RPS)
    fast = repeated(fast, -(-LEAST_REQUESTS // len(fast.arrival_ps)))
    figures: dict[str, float | None] = {}
    ticks_s: list[float] = []
    for name, load in (("native", trace), ("70rps", fast)):
        scenario = held_near(_decode_tps(load) / DECODE)
        kernel_s(scenario, load)
        cores_s = [kernel_s(scenario, load) for _ in range(runs)]
        figures[f"kernel_requests_per_s_{name}"] = round(len(load.arrival_ps) / median(cores_s))
        looped = [with_loop(scenario, partial(in_chunks, load)) for _ in range(runs)]
        speed = looped[0].requests / median([one.core_s for one in looped])
        figures[f"loop_requests_per_s_{name}"] = round(speed)
        ticks_s += [one.tick_s for one in looped]
        print(f"{name}: {looped[0].requests:,} requests, fleet {looped[0].fleet}")
    figures["sim_tick_p50_s"] = round(median(ticks_s), 6)
    return figures


def kernel_s(scenario: Scenario, load: ArrivalChunk) -> float:
    """Return the core seconds of the serving plane alone: no loop, no scrape, no report."""
    name = scenario.service.name
    model = performance_model(scenario.own.model)
    plant = build_world(scenario, {name: model}, {name: in_chunks(load)}).plant
    begun_s = time.process_time()
    plant.advance(int(load.arrival_ps[-1]))
    return time.process_time() - begun_s


def with_loop(scenario: Scenario, arrivals: Callable[[], ArrivalSource]) -> LoopRun:
    """Run a scenario through the production loop, journal included; opening its source counts."""
    tickers: list[TimedTicker] = []

    def timed(loop: Ticker) -> Ticker:
        tickers.append(TimedTicker(loop))
        return tickers[-1]

    with tempfile.TemporaryDirectory(prefix="bench-sim-") as folder:
        begun_s, begun_core_s = time.perf_counter(), time.process_time()
        with closing(JournalFolder(Path(folder), JournalOptions(durable=False))) as journal:
            requests = {scenario.service.name: arrivals()}
            run = assemble(scenario, journal=journal, arrivals=requests, watched=timed)
            result = run.go().only.result
        wall_s, core_s = time.perf_counter() - begun_s, time.process_time() - begun_core_s
    spans = {
        role: [count for count in states.get("ready", ()) if count]
        for role, states in result.timeline.instances.items()
    }
    return LoopRun(
        requests=result.requests.arrived,
        wall_s=wall_s,
        core_s=core_s,
        tick_s=median(tickers[0].walls_s),
        fleet=", ".join(f"{min(n)}-{max(n)} {role}" for role, n in spans.items()),
    )


def week(traces: Path) -> dict[str, float | None]:
    """Return wall seconds and peak memory of the week, generation included."""
    paths = {name: traces / name for name in (WEEK_FILE, CODE_FILE, CONV_FILE)}
    missing = [str(path) for path in paths.values() if not path.exists()]
    if missing:
        print(f"the week is not run: no {', '.join(missing)}", file=sys.stderr)
        return dict.fromkeys(("week_wall_s", "week_core_s", "week_peak_mib"))
    _compile(native_trace(traces))
    arrivals = partial(
        azure_week,
        paths[WEEK_FILE],
        seed=1,
        code_trace=paths[CODE_FILE],
        conv_trace=paths[CONV_FILE],
    )
    run = with_loop(week_scenario(), arrivals)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"week: {run.requests:,} requests, fleet {run.fleet}", file=sys.stderr)
    return {
        "week_wall_s": round(run.wall_s, 2),
        "week_core_s": round(run.core_s, 2),
        "week_peak_mib": round(kib / 1024, 1),
    }


def _compile(trace: ArrivalChunk) -> None:
    """Let the kernel be compiled, or loaded, before the clock starts."""
    kernel_s(held_near(100.0), trace)


def _week_elsewhere(traces: Path) -> dict[str, float | None]:
    """Return the week's figures from a process of its own: its peak memory is nobody else's."""
    command = [sys.executable, "-m", "benchmarks.bench_sim", "--week-only", "--traces", str(traces)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def _decode_tps(load: ArrivalChunk) -> float:
    """Return decode tokens/s that a load asks for on average."""
    tokens = int(load.output_tokens.sum()) - len(load.output_tokens)
    return tokens / (float(load.arrival_ps[-1]) / PS_PER_S)


def _print_table(figures: dict[str, float | None]) -> None:
    goals = dict(_goals())
    print(f"\n{'figure':32}{'here':>14}{'goal':>14}")
    for name, value in figures.items():
        shown = "not measured" if value is None else f"{value:,g}"
        if value is not None and value >= 1e6:
            shown = f"{value:,.0f}"
        print(f"{name:32}{shown:>14}{goals.get(name, ''):>14}")


def _goals() -> Iterator[tuple[str, str]]:
    for name in ("kernel_requests_per_s_native", "kernel_requests_per_s_70rps"):
        yield name, f">= {GOAL_RPS:,}"
    yield "loop_requests_per_s_70rps", f">= {GOAL_RPS:,}"
    yield "week_wall_s", f"<= {GOAL_WEEK_S:g}"
    yield "week_peak_mib", f"< {GOAL_WEEK_MIB:g}"
    for name in ("ratio_to_dynosim_native", "ratio_to_dynosim_70rps"):
        yield name, f">= {GOAL_RATIO:g}"


if __name__ == "__main__":
    main()
