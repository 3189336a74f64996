"""How the controller does before a real API server and a real Prometheus. Ends with a line of JSON.

1,000 services of five pods each, in ten namespaces on nodes of eight GPUs, with a fake kubelet. One
process stands for all engines; a real Prometheus scrapes it. The controller runs as its operator
would run it, as a process of its own. In each tick the loads of some services rise and those of
others fall, so that one service in twenty acts: it scales out, or withdraws, drains and removes.

A reaction is counted from the first scrape with which our query answers outside tolerance until the
API server has answered the write of the last of the roles.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx

from benchmarks.cluster.controlled import Controlled, Seen, controlled
from benchmarks.cluster.fleet import (
    BUSY_TPS,
    CALM_TPS,
    Fleet,
    cluster_text,
    metrics_text,
    services_text,
    waves,
)
from benchmarks.cluster.judge import Write, reactions_s, writes_of
from benchmarks.cluster.world import fill
from heteroscale.adapters.wall_clock import WallClock
from tests.cluster.control_plane import CONTROLLERS, ControlPlane, control_plane
from tests.cluster.shipped import NAME
from tests.integration.prometheus_server import running

OWN = Path(__file__).parents[1] / "src"
#: ticks before loads begin to move, those that a load stays high, and those until as many services
#: scale in as out: nothing is counted before
WARM_UP, HIGH, FULL = 3, 4, 8
#: where in an interval the controller is asked how it is, and where loads change
_ASKED, _MOVED = 0.7, 0.45

clock = WallClock()
nap = Event()


@dataclass(slots=True)
class Engines:
    """The process that stands for the engines."""

    process: subprocess.Popen[str]
    port: int

    def load(self, services: Sequence[str], tps: float) -> None:
        """Give services another load."""
        assert self.process.stdin is not None
        print(json.dumps(dict.fromkeys(services, tps)), file=self.process.stdin, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that the controller meets."""

    fleet: Fleet
    plane: ControlPlane
    engines: Engines
    prometheus: httpx.Client
    files: Path


@dataclass(slots=True)
class Run:
    """What one controller showed."""

    ticks_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    queries: float = 0.0
    peak_mib: float = 0.0
    writes: list[Write] = field(default_factory=list)
    decisions: int = 0
    rises: int = 0
    reactions_s: list[float] = field(default_factory=list)


def say(line: str) -> None:
    """Print progress."""
    print(line, flush=True)


def until(at_s: float) -> None:
    """Wait for a moment."""
    nap.wait(max(0.0, at_s - clock.now_s()))


@contextmanager
def world(fleet: Fleet, folder: Path) -> Iterator[World]:
    """Start everything but the controller, and fill it."""
    with ExitStack() as opened:
        plane = opened.enter_context(control_plane(folder))
        client = opened.enter_context(plane.client())
        fill(plane, client, fleet, say)
        engines = opened.enter_context(_engines(fleet, plane))
        address = opened.enter_context(running(folder, _scraping(fleet, engines.port)))
        files = folder / "files"
        files.mkdir()
        for name, text in (
            ("services", services_text(fleet)),
            ("cluster", cluster_text(fleet)),
            ("metrics", metrics_text(fleet, address)),
        ):
            (files / f"{name}.yaml").write_text(text, encoding="utf-8")
        prometheus = opened.enter_context(httpx.Client(base_url=address, timeout=60.0))
        yield World(fleet=fleet, plane=plane, engines=engines, prometheus=prometheus, files=files)


@contextmanager
def _engines(fleet: Fleet, plane: ControlPlane) -> Iterator[Engines]:
    arguments = ("--services", str(fleet.services), "--targets", str(fleet.targets))
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.cluster.engines"),
            *("--kubeconfig", str(plane.kubeconfig), *arguments),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{OWN}{os.pathsep}{OWN.parent}"},
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield Engines(process, int(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait()


def _scraping(fleet: Fleet, port: int) -> str:
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {"engines": str(index), "__metrics_path__": f"/{index}"},
        }
        for index in range(fleet.targets)
    ]
    job = {"job_name": "engines", "honor_labels": True, "static_configs": targets}
    every = f"{round(1000 * fleet.scrape_s)}ms"
    scrapes = {"scrape_interval": every, "scrape_timeout": every}
    return json.dumps({"global": scrapes, "scrape_configs": [job]})


def measured(world: World, source: Path, rising: Iterator[tuple[str, ...]], ticks: int) -> Run:
    """Run the controller of a source folder for so many ticks under loads that move."""
    run, interval_s = Run(), world.fleet.interval_s
    user, state = CONTROLLERS[0], world.files.parent / f"state-{clock.now_s():.0f}"
    kubeconfig = world.plane.kubeconfig_of(user, user, NAME)
    rises: dict[str, float] = {}
    high: list[tuple[str, ...]] = []
    with controlled(source, world.files, kubeconfig, state) as controller:
        before = _warm(controller, interval_s)
        began_s, asked = clock.now_s(), _asked(world.prometheus)
        say(" tick  seconds  CPU s  MiB  load")
        for moved in range(FULL + ticks):
            tick_s = interval_s * (clock.now_s() // interval_s)
            until(tick_s + _MOVED * interval_s)
            high.append(next(rising))
            world.engines.load(high[-1], BUSY_TPS)
            rises.update(dict.fromkeys(high[-1], clock.now_s()))
            if len(high) > HIGH:
                world.engines.load(high.pop(0), CALM_TPS)
            until(tick_s + (1.0 + _ASKED) * interval_s)
            seen = controller.seen()
            if moved < FULL:
                began_s, asked = clock.now_s(), _asked(world.prometheus)
            else:
                _count(run, before, seen)
            said = f"{seen.ticks_s - before.ticks_s:7.3f}  {seen.cpu_s - before.cpu_s:5.2f}"
            say(f"{seen.ticks:5d}  {said}  {seen.peak_mib:3.0f}  {os.getloadavg()[0]:4.1f}")
            before = seen
        run.queries = (_asked(world.prometheus) - asked) / len(run.ticks_s)
        for services in high:
            world.engines.load(services, CALM_TPS)
    run.peak_mib = before.peak_mib
    run.writes = writes_of(world.plane.audit, user, began_s)
    run.decisions = len({(one.service, one.at_s // interval_s) for one in run.writes})
    last_s = clock.now_s() - 8 * world.fleet.scrape_s
    settled = {name: at_s for name, at_s in rises.items() if began_s <= at_s < last_s}
    run.rises = len(settled)
    run.reactions_s = reactions_s(world.prometheus, world.fleet, settled, run.writes)
    return run


def _warm(controller: Controlled, interval_s: float) -> Seen:
    """Wait until the controller has ticked some times."""
    while not controller.answers():
        nap.wait(0.5)
    while controller.seen().ticks < WARM_UP:
        nap.wait(interval_s / 5.0)
    until(interval_s * (clock.now_s() // interval_s + 1.0 + _ASKED))
    return controller.seen()


def _count(run: Run, before: Seen, seen: Seen) -> None:
    """Take in the ticks that ended since the last look; of several at once the mean."""
    ticks = seen.ticks - before.ticks
    if not ticks:
        return
    run.ticks_s += [(seen.ticks_s - before.ticks_s) / ticks] * ticks
    run.cpu_s += [(seen.cpu_s - before.cpu_s) / ticks] * ticks


def _asked(prometheus: httpx.Client) -> float:
    """Return the queries that Prometheus was ever asked."""
    name = "prometheus_http_requests_total"
    lines = prometheus.get("/metrics").text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(name) and 'handler="/api/v1/query"' in line
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value that `share` of all do not exceed, to the millisecond; None = no value."""
    ordered = sorted(values)
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


def figures(fleet: Fleet, run: Run) -> Mapping[str, float | None]:
    """Return what the last line says."""
    return {
        "services": fleet.services,
        "pods": fleet.pods,
        "tick_p50_s": quantile(run.ticks_s, 0.5),
        "tick_p99_s": quantile(run.ticks_s, 0.99),
        "queries_per_tick": round(run.queries, 2),
        "api_writes_per_decision": round(len(run.writes) / max(1, run.decisions), 2),
        "reaction_p50_s": quantile(run.reactions_s, 0.5),
        "reaction_p99_s": quantile(run.reactions_s, 0.99),
        "interval_s": fleet.interval_s,
        "peak_mib": round(run.peak_mib),
        "cpu_s_per_tick": round(statistics.fmean(run.cpu_s), 3),
        "acting_share": round(run.decisions / len(run.ticks_s) / fleet.services, 4),
    }


def show(name: str, fleet: Fleet, run: Run) -> None:
    """Print one run for a reader."""
    print(f"{name}: {len(run.ticks_s)} ticks of {fleet.interval_s:g} s")
    for key, figure in figures(fleet, run).items():
        print(f"  {key:24} {'none' if figure is None else format(figure, 'g')}")
    print(f"  {'reactions':24} {len(run.reactions_s)} of {run.rises} rises")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--services", type=int, default=1_000)
    arguments.add_argument("--ticks", type=int, default=40)
    arguments.add_argument("--interval", type=float, default=15.0, metavar="SECONDS")
    arguments.add_argument("--scrape", type=float, default=15.0, metavar="SECONDS")
    arguments.add_argument("--acting", type=float, default=0.05, metavar="SHARE")
    arguments.add_argument("--by-pod", action="store_true", help="join by namespace and pod")
    arguments.add_argument(
        "--against", type=Path, metavar="SRC", help="measure the package of this folder before"
    )
    given = arguments.parse_args()
    fleet = Fleet(
        services=given.services,
        interval_s=given.interval,
        scrape_s=given.scrape,
        targets=8,
        by_pod=given.by_pod,
    )
    sources: list[tuple[str, Path]] = [("this one", OWN)]
    if given.against is not None:
        sources.insert(0, ("the other", given.against))
    with tempfile.TemporaryDirectory() as scratch, world(fleet, Path(scratch)) as around:
        until(clock.now_s() + 5 * fleet.scrape_s)
        rising = waves(fleet, given.acting)
        for name, source in sources:
            run = measured(around, source, rising, given.ticks)
            show(name, fleet, run)
    print(json.dumps(figures(fleet, run)))


if __name__ == "__main__":
    main()
