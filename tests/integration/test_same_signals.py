"""One stream of counters through the simulator's sampler and through a real Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from heteroscale.adapters.prometheus import PrometheusMetrics
from heteroscale.config.metrics import parse_metrics
from heteroscale.config.scenario import Scenario
from heteroscale.config.scenario_sections import MetricsSection
from heteroscale.entities.snapshot import Reading, Signal
from heteroscale.sim.scrapes import InstanceSamples
from heteroscale.sim.serving import histogram_edges_ps
from heteroscale.workload.arrivals import PS_PER_S
from tests.integration.prometheus_server import History, prometheus
from tests.unit.sim.small import requests, small, world_of

BEGIN_S = 1_700_000_000
SCRAPES = 20
EVERY_S = 15
FILE = """\
window_s: 60
latency_window_s: 60
servers:
  - name: main
    url: {url}
    sources: [{{dialect: ours}}]
dialects:
  ours:
    origin: pods
    rules:
      - {{signal: tps, stage: prefill, counter: tokens_total}}
      - {{signal: tps, stage: decode, counter: tokens_total}}
      - {{signal: ttft_s, stage: prefill, histogram: ttft_seconds}}
      - {{signal: tbt_s, stage: decode, histogram: tbt_seconds}}
      - {{signal: kv_usage, stage: decode, mean: kv_usage}}
"""


@dataclass
class Streams:
    """What the simulator's sampler made of each scrape, and the same scrapes as a history."""

    scenario: Scenario
    readings: list[Mapping[tuple[str, Signal], Reading]]
    history: History


def recorded() -> Streams:
    """Serve uneven load for five minutes; scrape every instance every 15 s."""
    metrics = MetricsSection(scrape_interval_s=EVERY_S, window_s=60.0, per_instance=True)
    scenario = small(metrics=metrics, initial={"prefill": 2, "decode": 2})
    chance = np.random.default_rng(5)
    arrivals = np.sort(chance.uniform(0.0, SCRAPES * EVERY_S, 2_000)).tolist()
    world = world_of(scenario, requests(arrivals))
    service, window = world.plant.services["chat"], world.windows["chat"]
    streams = Streams(scenario, [], History())
    for scrape in range(1, SCRAPES + 1):
        world.plant.advance(scrape * EVERY_S * PS_PER_S)
        sample = service.sample()
        instances = service.instance_samples()
        window.scrape(sample, instances)
        seen = window.readings(sample.at_ps)
        streams.readings.append({(one.role, one.signal): one for one in seen})
        at_s = BEGIN_S + scrape * EVERY_S
        put_instances(streams.history, instances, at_s)
        for role, name, counts in (
            ("prefill", "ttft_seconds", sample.ttft),
            ("decode", "tbt_seconds", sample.tbt),
        ):
            put_histogram(streams.history, role, name, counts, at_s)
    return streams


def whose(role: str, pod: str) -> dict[str, str]:
    return {"heteroscale_service": "chat", "heteroscale_role": role, "instance": pod}


def put_instances(history: History, samples: InstanceSamples, at_s: float) -> None:
    counted = samples.counted
    for one, tokens, reserved, capacity in zip(
        samples.targets,
        counted.tokens.tolist(),
        counted.kv_reserved_tokens.tolist(),
        counted.kv_capacity_tokens.tolist(),
        strict=True,
    ):
        labels = whose(one.role, one.uid)
        history.put("tokens_total", labels, at_s, tokens)
        if capacity:
            history.put("kv_usage", labels, at_s, reserved / capacity)


def put_histogram(history: History, role: str, name: str, counts: np.ndarray, at_s: float) -> None:
    """Write cumulative buckets from a millisecond to half a minute."""
    edges_s = histogram_edges_ps() / PS_PER_S
    cumulative = counts.cumsum()
    labels = whose(role, "gateway")
    for below, edge_s in zip(cumulative.tolist(), edges_s[1:].tolist(), strict=False):
        if 0.001 <= edge_s <= 30.0:
            history.put(f"{name}_bucket", {**labels, "le": repr(edge_s)}, at_s, below)
    history.put(f"{name}_bucket", {**labels, "le": "+Inf"}, at_s, int(cumulative[-1]))
    history.put(f"{name}_count", labels, at_s, int(cumulative[-1]))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Streams, PrometheusMetrics]]:
    streams = recorded()
    folder: Path = tmp_path_factory.mktemp("same-signals")
    with prometheus(folder, streams.history) as url:
        metrics = PrometheusMetrics(parse_metrics(FILE.format(url=url), None))
        yield streams, metrics
        metrics.close()


@pytest.mark.parametrize(
    ("role", "signal"),
    [
        ("prefill", Signal.TPS),
        ("decode", Signal.TPS),
        ("prefill", Signal.TTFT),
        ("decode", Signal.TBT),
        ("decode", Signal.KV_USAGE),
    ],
)
def test_the_sampler_and_a_real_prometheus_say_the_same_within_one_percent(
    both: tuple[Streams, PrometheusMetrics], role: str, signal: Signal
) -> None:
    streams, metrics = both
    compared = 0
    for scrape in range(5, SCRAPES + 1):
        now_s = float(BEGIN_S + scrape * EVERY_S)
        real = metrics.read(streams.scenario.fleet, now_s)["chat"]
        found = next(one for one in real if (one.role, one.signal) == (role, signal))
        sampled = streams.readings[scrape - 1][role, signal]
        assert found.value == pytest.approx(sampled.value, rel=0.01)
        compared += found.value is not None and found.value > 0
    assert compared >= 10
