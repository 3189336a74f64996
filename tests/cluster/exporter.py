"""Engines' metrics as a test says they are, served over HTTP for a real Prometheus to scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Lock

from heteroscale.adapters.wall_clock import WallClock
from tests.cluster.scraped import scraped


class Exporter:
    """Engines that share a rate of decode tokens evenly, and have empty queues."""

    def __init__(self, engines: Callable[[], Sequence[str]]) -> None:
        """Tell of as many engines as there are labels."""
        self._engines = engines
        self._clock = WallClock()
        self._lock = Lock()
        self._tps = 0.0
        self._made = 0.0
        self._at_s = self._clock.now_s()
        self.address = ""

    def rate(self, tps: float) -> None:
        """Make so many tokens/s from now on."""
        with self._lock:
            self._count()
            self._tps = tps

    def text(self) -> str:
        """Return what is told to a scrape now."""
        with self._lock:
            self._count()
            engines = self._engines()
            return "".join(self._told_by(labels, 1.0 / len(engines)) for labels in engines)

    def _told_by(self, whose: str, share: float) -> str:
        labels = f"{{{whose}}}"
        figures = {
            "vllm:generation_tokens_total": f"{self._made * share:.1f}",
            "vllm:num_requests_waiting": "0",
            "vllm:kv_cache_usage_perc": "0.2",
        }
        return "".join(f"{metric}{labels} {figure}\n" for metric, figure in figures.items())

    def _count(self) -> None:
        now_s = self._clock.now_s()
        self._made += self._tps * (now_s - self._at_s)
        self._at_s = now_s


def exporter(service: str, engines: int = 1) -> AbstractContextManager[Exporter]:
    """Serve an exporter whose series name service and role."""
    whose = f'heteroscale_service="{service}",heteroscale_role="decode"'
    named = [f'{whose},instance="engine-{index}"' for index in range(engines)]
    return exporter_of(lambda: named)


@contextmanager
def exporter_of(engines: Callable[[], Sequence[str]]) -> Iterator[Exporter]:
    """Serve an exporter on a free port."""
    told = Exporter(engines)
    with scraped(told.text) as told.address:
        yield told
