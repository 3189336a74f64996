"""One side of the comparison: the production loop scales real Dynamo processes under load.

Run inside a network of its own; writes what it found as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.dynamo.discovery import FileDiscovery
from benchmarks.dynamo.local_subcluster import ACCELERATOR, LocalDynamo, Tally
from benchmarks.dynamo.processes import Processes
from benchmarks.dynamo.traffic import Mix, Request, Spell, Traffic
from heteroscale.adapters.memory import MemoryStore
from heteroscale.adapters.prometheus import PrometheusMetrics
from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.load import load_fleet
from heteroscale.config.metrics import load_metrics
from heteroscale.entities.snapshot import InstanceState
from heteroscale.loop import ControlLoop, TickReport
from tests.integration.dynamo import DISCOVERY
from tests.integration.prometheus_server import scraping

SERVICE, BURST, CALM, LAST = "chat", "burst", "calm", "last"
#: what it begins with, and comes back to
FEWEST = {"prefill": 1, "decode": 2}
INTERVAL_S = 1.0
TTFT_SLO_S = 2.0
#: a decode step of 50 ms and more: 440 tokens take 22 s
MIX = Mix(prompt_words=900, short_tokens=40, long_tokens=440, long_every=14)
CALM_RPS, BURST_RPS = 1.5, 6.0
FIRST_S, BURST_S, CALM_S = 8.0, 28.0, 26.0
#: the last calm ends once everything is scaled in, or then
LAST_S = 150.0
#: a prompt takes a quarter of a second; steps are told in tests/integration/dynamo.py
WORDS = {
    "prefill": ("--disaggregation-mode", "prefill", "--speedup-ratio", "0.2"),
    "decode": ("--disaggregation-mode", "decode", "--speedup-ratio", "0.4"),
}
#: seconds by whose requests TTFT is told over time
_BIN_S = 4.0
_START_S = 90.0


def services() -> dict[str, object]:
    """Return the services file: every wait is short, so that much happens in minutes."""
    roles = {
        role: {
            "share": share,
            "accelerators": [{"type": ACCELERATOR, "gpus": 1}],
            "max_replicas": most,
        }
        for role, share, most in (("prefill", 1, 6), ("decode", 2, 12))
    }
    # 900 tokens a prompt: one prefill instance when it is calm, four in a burst
    target = {"signal": "offered_tps", "role": "prefill", "target": 1500.0}
    guard = {
        "stabilization_window_s": 4.0,
        "step_out": 1.0,
        "step_in": 0.5,
        "cool_down_out_s": 2.0,
        "cool_down_in_s": 3.0,
        "restore_wait_max_s": 6.0,
    }
    service = {
        "name": SERVICE,
        "priority": 50,
        "mode": "enforce",
        "slo": {"ttft_s": TTFT_SLO_S, "tbt_s": 0.5, "quantile": 0.9},
        "group": {"roles": roles},
        "policy": {"proportional": [target], "guard": guard},
        "lifecycle": {"observe_s": 3.0, "drain_timeout_s": 120.0},
    }
    # One service is always the whole fleet: the brake that fears a renamed exporter lets it go.
    fleet = {
        "interval_s": INTERVAL_S,
        "stale_s": 10.0,
        "brake": {"share": 1.0, "services": 10, "gpus_per_hour_share": 1.0},
    }
    return {"fleet": fleet, "services": [service]}


def spells(bursts: int) -> tuple[Spell, ...]:
    """Return the rate over time; it begins calm, and ends so until everything is scaled in."""
    first = Spell(name=CALM, length_s=FIRST_S, requests_per_s=CALM_RPS)
    burst = Spell(name=BURST, length_s=BURST_S, requests_per_s=BURST_RPS)
    calm = Spell(name=CALM, length_s=CALM_S, requests_per_s=CALM_RPS)
    last = Spell(name=LAST, length_s=LAST_S, requests_per_s=CALM_RPS)
    return (first, *(burst, calm) * (bursts - 1), burst, last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one side came to."""

    tally: Tally
    requests: int
    failed: int
    #: how requests failed → how many
    failures: dict[str, int]
    #: requests whose answers take 20 s or longer
    long_requests: int
    longest_s: float
    #: p90 of the time to first token, by seconds since a burst began; all bursts together
    ttft_p90_s: dict[str, float]
    calm_ttft_p90_s: float
    #: most instances of each role at once
    most: dict[str, int]


def run(python: Path, folder: Path, bursts: int, long_every: int, *, soft: bool) -> Found:
    """Return what became of the requests while the loop scaled."""
    (folder / "services.yaml").write_text(json.dumps(services()), encoding="utf-8")
    clock = WallClock()
    with Processes(python, folder, dict(WORDS)) as processes:
        lever = FileDiscovery(folder / DISCOVERY, folder / "withdrawn") if soft else None
        subcluster = LocalDynamo(processes, clock, SERVICE, FEWEST, lever)
        _until(
            lambda: all(one.state is InstanceState.READY for one in subcluster.observe().instances),
            "every first engine is in discovery",
        )
        address = processes.url.removeprefix("http://")
        with scraping(folder, address, {"heteroscale_service": SERVICE}) as prometheus:
            server = {"name": "here", "url": prometheus, "sources": [{"dialect": "dynamo"}]}
            signals = {"servers": [server], "window_s": 10, "latency_window_s": 5}
            (folder / "metrics.yaml").write_text(json.dumps(signals), encoding="utf-8")
            metrics = PrometheusMetrics(load_metrics(folder / "metrics.yaml"))
            fleet = load_fleet(folder / "services.yaml")
            loop = ControlLoop(fleet, clock, metrics, (subcluster,), MemoryStore(), None)
            mix = replace(MIX, long_every=long_every)
            traffic = Traffic(processes.url, mix, spells(bursts))
            _until(traffic.serves, "the front end answers")
            traffic.begin()
            most = _drive(loop, subcluster, traffic, clock)
            metrics.close()
        return _found(traffic, subcluster.tally, most)


def _drive(
    loop: ControlLoop, subcluster: LocalDynamo, traffic: Traffic, clock: WallClock
) -> dict[str, int]:
    """Tick until every request has ended and nothing drains.

    Returns the most instances of each role at once.
    """
    most: dict[str, int] = {}
    nap = threading.Event()
    drains = False
    while not traffic.answered() or drains:
        if traffic.spell == LAST and subcluster.counts() == FEWEST:
            traffic.end()
        report = loop.tick()
        instances = report.snapshot.services[SERVICE].instances
        drains = any(one.state is InstanceState.DRAINING for one in instances)
        counts = Counter(one.role for one in instances)
        most = {role: max(most.get(role, 0), count) for role, count in counts.items()}
        _say(report, traffic)
        nap.wait(INTERVAL_S - clock.now_s() % INTERVAL_S)
    return most


def _say(report: TickReport, traffic: Traffic) -> None:
    """Print one line of how it goes, for whoever wonders why."""
    seen = report.snapshot.services[SERVICE]
    states = Counter((one.role, one.state.value) for one in seen.instances)
    failed = sum(bool(one.failure) for one in traffic.requests)
    print(
        f"{report.snapshot.now_s:.0f} {traffic.spell or 'end'}:",
        ", ".join(f"{count} {role} {state}" for (role, state), count in sorted(states.items())),
        f"| {len(traffic.requests)} answered, {failed} failed |",
        *(f"{one.role} {one.signal} {one.value}" for one in seen.readings),
        "|",
        *(reason.code for one in report.plan.decisions for reason in one.reasons),
        *report.notices,
        *report.excluded.values(),
        *(one.detail for one in report.outcomes if one.detail),
        flush=True,
    )


def _found(traffic: Traffic, tally: Tally, most: dict[str, int]) -> Found:
    requests = traffic.requests
    failures = Counter(one.failure for one in requests if one.failure)
    long = [one for one in requests if one.tokens == MIX.long_tokens]
    return Found(
        tally=tally,
        requests=len(requests),
        failed=failures.total(),
        failures=dict(failures),
        long_requests=len(long),
        longest_s=max((one.length_s for one in long), default=0.0),
        ttft_p90_s=_over_a_burst(requests, traffic.began_s),
        calm_ttft_p90_s=_p90([one for one in requests if one.spell == CALM]),
        most=most,
    )


def _over_a_burst(requests: Sequence[Request], began_s: float) -> dict[str, float]:
    bins: dict[int, list[Request]] = {}
    for one in requests:
        within_s = (one.at_s - began_s - FIRST_S) % (BURST_S + CALM_S)
        if one.spell == BURST:
            bins.setdefault(int(within_s // _BIN_S), []).append(one)
    return {
        f"{place * _BIN_S:g}-{(place + 1) * _BIN_S:g} s": _p90(members)
        for place, members in sorted(bins.items())
    }


def _p90(requests: Sequence[Request]) -> float:
    waits_s = [one.ttft_s for one in requests if one.ttft_s is not None]
    return round(statistics.quantiles(waits_s, n=10)[-1], 3) if len(waits_s) > 1 else 0.0


def _until(holds: Callable[[], bool], what: str) -> None:
    nap = threading.Event()
    for _ in range(int(_START_S / 0.1)):
        if holds():
            return
        nap.wait(0.1)
    raise SystemExit(f"not within {_START_S:g} s: {what}")


def main() -> None:
    """Run one side as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="of Dynamo's environment")
    parser.add_argument("--folder", type=Path, required=True, help="empty, for files and logs")
    parser.add_argument("--bursts", type=int, default=6)
    parser.add_argument("--long-every", type=int, default=MIX.long_every)
    parser.add_argument("--plain", action="store_true", help="terminate without any lever")
    asked = parser.parse_args()
    found = run(asked.python, asked.folder, asked.bursts, asked.long_every, soft=not asked.plain)
    (asked.folder / "found.json").write_text(json.dumps(asdict(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
