"""What every metrics source promises. A new one is one line in SOURCES.

Each gives a fleet of two services of which it knows the first: `known` is read, `unheard` is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from heteroscale.adapters.memory import MemoryMetrics
from heteroscale.adapters.prometheus import PrometheusMetrics
from heteroscale.config.metrics import parse_metrics
from heteroscale.entities.service import FleetSpec
from heteroscale.errors import MetricsUnavailable
from heteroscale.ports import MetricsSource
from tests.contracts.sim import sim_metrics
from tests.integration.prometheus_server import History, prometheus
from tests.unit.journal.fleets import START_S, fleet, readings, service


@dataclass(frozen=True, kw_only=True)
class Source:
    """A metrics source with a fleet it knows half of, at an instant it can answer for."""

    metrics: MetricsSource
    fleet: FleetSpec
    known: str
    unheard: str
    now_s: float
    #: makes every later read fail; None = this source cannot fail
    fail: Callable[[], None] | None = None


def memory() -> Source:
    metrics = MemoryMetrics({"chat": readings(2000.0), "stranger": readings(1.0)})

    def fail() -> None:
        metrics.down = True

    return Source(
        metrics=metrics,
        fleet=fleet(service("chat"), service("code")),
        known="chat",
        unheard="code",
        now_s=START_S,
        fail=fail,
    )


def simulated() -> Source:
    metrics, both, now_s = sim_metrics()
    return Source(metrics=metrics, fleet=both, known="chat", unheard="code", now_s=now_s)


SOURCES: dict[str, Callable[[], Source]] = {
    "memory": memory,
    "sim": simulated,
}


@pytest.fixture(params=[*sorted(SOURCES), "prometheus"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    if request.param in SOURCES:
        yield SOURCES[request.param]()
        return
    with ExitStack() as server:
        url = server.enter_context(prometheus(tmp_path, decode_tokens("chat")))
        metrics = PrometheusMetrics(parse_metrics(PROMETHEUS.format(url=url), None))
        yield Source(
            metrics=metrics,
            fleet=fleet(service("chat"), service("code")),
            known="chat",
            unheard="code",
            now_s=START_S + 60.0,
            fail=server.close,
        )
        metrics.close()


PROMETHEUS = """\
servers:
  - name: main
    url: {url}
    sources: [{{dialect: vllm}}]
"""


def decode_tokens(name: str) -> History:
    history = History()
    labels = {"heteroscale_service": name, "heteroscale_role": "decode", "instance": "d-0"}
    for second in range(0, 61, 15):
        history.put("vllm:generation_tokens_total", labels, START_S + second, 100 * second)
    return history


def test_only_services_of_the_fleet_are_read_and_an_unheard_one_is_absent_or_unknown(
    source: Source,
) -> None:
    seen = source.metrics.read(source.fleet, source.now_s)
    assert set(seen) <= {source.known, source.unheard}
    assert any(one.value is not None for one in seen[source.known])
    assert all(one.value is None for one in seen.get(source.unheard, ()))


def test_a_reading_has_a_value_or_a_cause_and_floats_for_figures(source: Source) -> None:
    for one in source.metrics.read(source.fleet, source.now_s)[source.known]:
        assert (one.value is None) == (one.cause is not None)
        assert one.value is None or (isinstance(one.value, float) and math.isfinite(one.value))
        assert isinstance(one.age_s, float)
        assert one.age_s >= 0.0
        assert isinstance(one.coverage, float)
        assert 0.0 <= one.coverage <= 1.0


def test_a_signal_of_a_role_and_accelerator_is_read_once(source: Source) -> None:
    seen = source.metrics.read(source.fleet, source.now_s)[source.known]
    keys = [(one.signal, one.role, one.accelerator) for one in seen]
    assert len(keys) == len(set(keys))


def test_reading_twice_gives_the_same_in_the_same_order(source: Source) -> None:
    first = source.metrics.read(source.fleet, source.now_s)
    assert source.metrics.read(source.fleet, source.now_s) == first


def test_nothing_at_all_raises(source: Source) -> None:
    if source.fail is None:
        pytest.skip("this source cannot fail")
    source.fail()
    with pytest.raises(MetricsUnavailable):
        source.metrics.read(source.fleet, source.now_s)
