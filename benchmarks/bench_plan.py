"""How long a tick takes and how much evidence a day leaves. Ends with one line of JSON.

(a) 1,000 services of nine 8-GPU instances each, 72,000 GPUs in use on 108,000: the whole
    `ControlLoop.tick()` over in-memory adapters, journal written to a real folder as in
    production. Loads wander; in each tick one service in twenty jumps.
(b) 1 service inside the simulator: every tick of the built-in day, journal included.
(c) bytes on disk of (a), scaled to a day of 15 s ticks; segments are closed on the way.

Making the readings of a tick is the metrics source's work: it is not timed in (a), and is in (b).
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from heteroscale.adapters.journal_file import JournalFolder, JournalOptions
from heteroscale.adapters.memory import MemoryClock, MemoryMetrics, MemoryStore, MemorySubcluster
from heteroscale.app import simulate
from heteroscale.config.scenario import built_in_scenario
from heteroscale.entities.policy import (
    FeedbackSpec,
    LifecycleSpec,
    PolicySpec,
    ProportionalSpec,
    ScheduleSpec,
)
from heteroscale.entities.service import (
    AcceleratorOption,
    FleetSpec,
    GroupSpec,
    RoleSpec,
    ServiceSpec,
    Slo,
    Stage,
)
from heteroscale.entities.snapshot import Reading, Signal
from heteroscale.entities.topology import Node
from heteroscale.journal.recorder import Recorder
from heteroscale.loop import ControlLoop, TickReport

START_S = 1_700_000_000.0
INTERVAL_S = 15.0
TICKS_PER_DAY = 86_400 / INTERVAL_S
TARGET_TPS = 1_000.0
#: one service in this many jumps in each tick
CHANGING = 20
#: tokens read per token written, and the share of time either role is busy
INPUT_PER_OUTPUT = 8.57


@dataclass(frozen=True, slots=True)
class Size:
    """A fleet to measure."""

    services: int
    prefill: int
    decode: int


@dataclass(slots=True)
class Run:
    """What one run showed."""

    #: seconds of each timed tick
    ticks_s: list[float]
    journal_bytes: int
    ticks: int


def fleet(size: Size) -> FleetSpec:
    """Return services that use every part of the policy that costs time."""
    accelerators = (AcceleratorOption(type="H20", gpus=8),)
    roles = (
        RoleSpec(path="prefill", stage=Stage.PREFILL, share=5, accelerators=accelerators),
        RoleSpec(path="decode", stage=Stage.DECODE, share=4, accelerators=accelerators),
    )
    night = ScheduleSpec(
        name="night",
        timezone="Asia/Shanghai",
        days=(1, 2, 3, 4, 5, 6, 7),
        start_s=79_200,
        end_s=21_600,
        replicas={"decode": 2},
    )
    policy = PolicySpec(
        proportional=(ProportionalSpec(signal=Signal.TPS, role="decode", target=TARGET_TPS),),
        feedback=(FeedbackSpec(signal=Signal.TTFT), FeedbackSpec(signal=Signal.TBT)),
        schedules=(night,),
    )
    return FleetSpec(
        services=tuple(
            ServiceSpec(
                name=f"service-{index:04d}",
                priority=index % 101,
                slo=Slo(ttft_s=1.0, tbt_s=0.04, quantile=0.9),
                group=GroupSpec(within="S2", roles=roles),
                policy=policy,
                lifecycle=LifecycleSpec(),
            )
            for index in range(size.services)
        ),
        interval_s=INTERVAL_S,
    )


def nodes(size: Size) -> tuple[Node, ...]:
    """Return half as many nodes again as the fleet starts with, 64 to an S2 switch."""
    count = 3 * size.services * (size.prefill + size.decode) // 2 + 64
    return tuple(
        Node(
            name=f"node-{index:06d}",
            accelerator="H20",
            gpus=8,
            domain=(
                "alpha",
                f"s2-{index // 64:04d}",
                f"s1-{index // 16:05d}",
                f"s0-{index // 4:05d}",
            ),
        )
        for index in range(count)
    )


def seen(load_tps: float, size: Size, chance: random.Random) -> tuple[Reading, ...]:
    """Return every signal of one service as an exporter would: full floats, ages that differ."""
    supply = size.decode * TARGET_TPS
    busy = min(1.0, load_tps / supply)
    age_s = chance.uniform(0.0, 15.0)
    input_tps = load_tps * INPUT_PER_OUTPUT
    figures = (
        (Signal.TPS, "prefill", input_tps),
        (Signal.OFFERED_TPS, "prefill", input_tps * chance.uniform(0.98, 1.02)),
        (Signal.UTILIZATION, "prefill", busy * 0.9),
        (Signal.SM_ACTIVITY, "prefill", busy * 0.6),
        (Signal.QUEUE_LENGTH, "prefill", float(chance.randrange(3))),
        (Signal.KV_USAGE, "prefill", busy * 0.2),
        (Signal.TTFT, "prefill", 0.5 + busy * 0.3 * chance.random()),
        (Signal.TPS, "decode", load_tps),
        (Signal.OFFERED_TPS, "decode", load_tps * chance.uniform(0.98, 1.02)),
        (Signal.UTILIZATION, "decode", 0.9 + 0.1 * busy),
        (Signal.SM_ACTIVITY, "decode", 0.3 + 0.1 * busy),
        (Signal.QUEUE_LENGTH, "decode", 0.0),
        (Signal.KV_USAGE, "decode", busy * 0.7),
        (Signal.TBT, "decode", 0.033 + 0.001 * chance.random()),
    )
    return tuple(
        Reading(signal=signal, role=role, value=value, age_s=age_s)
        for signal, role, value in figures
    )


def loads(size: Size, chance: random.Random) -> Iterator[list[float]]:
    """Yield each tick's decode tokens/s per service: a little noise, and now and then a jump."""
    level = [size.decode * TARGET_TPS * chance.uniform(0.93, 1.02) for _ in range(size.services)]
    while True:
        for index in range(size.services):
            if chance.randrange(CHANGING) == 0:
                level[index] = size.decode * TARGET_TPS * chance.uniform(0.8, 1.25)
        yield [one * chance.uniform(0.98, 1.02) for one in level]


def measured(size: Size, ticks: int, warm_up: int, folder: Path, options: JournalOptions) -> Run:
    """Tick a fleet over in-memory adapters and return how long each tick took."""
    spec, chance, clock = fleet(size), random.Random(1), MemoryClock(START_S)
    subcluster = MemorySubcluster("alpha", clock, nodes=nodes(size), start_s=180.0)
    fill(subcluster, spec, size)
    metrics = MemoryMetrics()
    sink = JournalFolder(folder, options, resume=False)
    loop = ControlLoop(spec, clock, metrics, (subcluster,), MemoryStore(), Recorder(sink))
    ticks_s: list[float] = []
    changing = loads(size, chance)
    for tick in range(warm_up + ticks):
        metrics.readings = read(spec, next(changing), size, chance)
        began_s = time.perf_counter()
        loop.tick()
        if tick >= warm_up:
            ticks_s.append(time.perf_counter() - began_s)
        clock.advance(INTERVAL_S)
    sink.close()
    written = sum(path.stat().st_size for path in folder.iterdir())
    return Run(ticks_s=ticks_s, journal_bytes=written, ticks=warm_up + ticks)


def simulated(folder: Path) -> Run:
    """Run the built-in day and return how long each of its ticks took."""
    sink = JournalFolder(folder, JournalOptions(durable=False, segments=None))
    with timed_ticks() as ticks_s:
        simulate(built_in_scenario(), journal=sink, static_peak=False)
    sink.close()
    written = sum(path.stat().st_size for path in folder.iterdir())
    return Run(ticks_s=ticks_s, journal_bytes=written, ticks=len(ticks_s))


@contextmanager
def timed_ticks() -> Iterator[list[float]]:
    """Yield the seconds of every tick that any loop makes inside the block."""
    ticks_s: list[float] = []
    tick = ControlLoop.tick

    def timed(self: ControlLoop) -> TickReport:
        began_s = time.perf_counter()
        report = tick(self)
        ticks_s.append(time.perf_counter() - began_s)
        return report

    ControlLoop.tick = timed  # type: ignore[method-assign]
    try:
        yield ticks_s
    finally:
        ControlLoop.tick = tick  # type: ignore[method-assign]


def read(
    spec: FleetSpec, levels: list[float], size: Size, chance: random.Random
) -> Mapping[str, tuple[Reading, ...]]:
    """Return one tick's readings of every service."""
    return {
        one.name: seen(level, size, chance)
        for one, level in zip(spec.services, levels, strict=True)
    }


def fill(subcluster: MemorySubcluster, spec: FleetSpec, size: Size) -> None:
    """Put the first instances on nodes, one after the other."""
    free = iter(nodes(size))
    for one in spec.services:
        for role, replicas in (("prefill", size.prefill), ("decode", size.decode)):
            subcluster.place(
                one.name, f"{one.name}-0", role, "H20", replicas, domain=("alpha",), on=free
            )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--services", type=int, default=1_000)
    arguments.add_argument("--ticks", type=int, default=240)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        size = Size(services=given.services, prefill=5, decode=4)
        # small segments, so that several are closed and opened on the way
        options = JournalOptions(segment_bytes=8 * 2**20, segments=None)
        fleet_run = measured(size, given.ticks, 5, Path(scratch, "fleet"), options)
        print_run(f"{given.services} services", fleet_run)
        gc.collect()
        one_run = simulated(Path(scratch, "one"))
        print_run("1 service in the simulator", one_run)
    print(
        json.dumps(
            {
                "services": given.services,
                "plan_tick_p50_s": round(quantile(fleet_run.ticks_s, 0.5), 6),
                "plan_tick_p99_s": round(quantile(fleet_run.ticks_s, 0.99), 6),
                "sim_tick_p50_s": round(quantile(one_run.ticks_s, 0.5), 9),
                "journal_bytes_per_day": round(
                    fleet_run.journal_bytes / fleet_run.ticks * TICKS_PER_DAY
                ),
            }
        )
    )


def print_run(name: str, run: Run) -> None:
    """Print one run for a reader."""
    p50_s, p99_s = quantile(run.ticks_s, 0.5), quantile(run.ticks_s, 0.99)
    print(
        f"{name}: {len(run.ticks_s)} ticks, p50 {p50_s * 1e3:.3f} ms, p99 {p99_s * 1e3:.3f} ms,"
        f" {run.journal_bytes / run.ticks / 1e3:.1f} kB of journal a tick"
    )


if __name__ == "__main__":
    main()
