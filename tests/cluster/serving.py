"""Services that serve what load a test says, with every signal of both roles, on one address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import httpx

from heteroscale.adapters.wall_clock import WallClock
from tests.cluster.scraped import scraped

#: of a metrics file: what `Serving` tells, read by rules of its own
METRICS = """\
servers:
  - {{name: main, url: "{url}", timeout_s: 3, sources: [{{dialect: ours}}]}}
window_s: 5
latency_window_s: 5
dialects:
  ours:
    origin: pods
    rules:
      - {{signal: tps, stage: prefill, counter: tokens_total}}
      - {{signal: tps, stage: decode, counter: tokens_total}}
      - {{signal: ttft_s, stage: prefill, histogram: ttft_seconds}}
      - {{signal: tbt_s, stage: decode, histogram: tbt_seconds}}
      - {{signal: queue_length, stage: prefill, gauge: waiting}}
      - {{signal: queue_length, stage: decode, gauge: waiting}}
      - {{signal: kv_usage, stage: decode, mean: kv_usage}}
"""
ROLES = ("prefill", "decode")
#: engines of each role that report, whatever number there is: more than any test scales to
_ENGINES = 8
_LATENCY = {"prefill": "ttft_seconds", "decode": "tbt_seconds"}
#: every request is far below every test's SLO
_FAST_S = 0.01


@dataclass
class _Service:
    tps: float = 0.0
    made: float = 0.0
    at_s: float = field(default_factory=WallClock().now_s)
    #: scrapes are told again and again what was so at `at_s`
    frozen: bool = False


class Serving:
    """What services serve, as counters that grow with time."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = {name: _Service() for name in services}
        self._clock = WallClock()
        self._lock = Lock()
        self.address = ""

    def load(self, service: str, tps: float) -> None:
        """Serve so many tokens/s in each role from now on."""
        with self._lock:
            self._count(self._services[service])
            self._services[service].tps = tps

    def freeze(self, service: str, *, frozen: bool) -> None:
        """Count no further, and say since when; or go on."""
        with self._lock:
            one = self._services[service]
            if frozen != one.frozen:
                self._count(one)
                one.frozen, one.at_s = frozen, self._clock.now_s()

    def text(self) -> str:
        """Return what is told to a scrape now."""
        with self._lock:
            return "".join(
                line for name, one in self._services.items() for line in self._told(name, one)
            )

    def _told(self, name: str, service: _Service) -> Iterator[str]:
        self._count(service)
        made = service.made / _ENGINES
        when = f" {service.at_s * 1000.0:.0f}" if service.frozen else ""
        for role in ROLES:
            for engine in range(_ENGINES):
                whose = f'heteroscale_service="{name}",heteroscale_role="{role}"'
                labels = f'{whose},instance="{name}-{role}-{engine}"'
                latency = _LATENCY[role]
                yield f"tokens_total{{{labels}}} {made:.2f}{when}\n"
                yield f"waiting{{{labels}}} 0{when}\n"
                yield f"kv_usage{{{labels}}} 0.2{when}\n"
                for bound in (_FAST_S, "+Inf"):
                    yield f'{latency}_bucket{{{labels},le="{bound}"}} {made:.2f}\n'
                yield f"{latency}_sum{{{labels}}} {made * _FAST_S:.4f}{when}\n"
                yield f"{latency}_count{{{labels}}} {made:.2f}{when}\n"

    def _count(self, service: _Service) -> None:
        now_s = self._clock.now_s()
        if not service.frozen:
            service.made += service.tps * (now_s - service.at_s)
            service.at_s = now_s


def served_tps(prometheus: str, service: str = "chat") -> float:
    """Return what Prometheus makes of it, decode only; 0 = nothing yet."""
    query = (
        f'sum(rate(tokens_total{{heteroscale_service="{service}",heteroscale_role="decode"}}[5s]))'
    )
    reply = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}).json()
    return sum(float(one["value"][1]) for one in reply["data"]["result"])


@contextmanager
def serving(*services: str) -> Iterator[Serving]:
    """Serve their metrics on a free port."""
    told = Serving(services)
    with scraped(told.text) as told.address:
        yield told
