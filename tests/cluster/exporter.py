"""Engines' metrics as a test says they are, served over HTTP for a real Prometheus to scrape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

from heteroscale.adapters.wall_clock import WallClock


class Exporter:
    """A counter of decode tokens that grows at a rate, and an empty queue."""

    def __init__(self, service: str) -> None:
        self._service = service
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
            labels = f'heteroscale_service="{self._service}",heteroscale_role="decode"'
            waiting = "vllm:num_requests_waiting"
            usage = "vllm:kv_cache_usage_perc"
            tokens = f"vllm:generation_tokens_total{{{labels}}} {self._made:.0f}\n"
            return f"{tokens}{waiting}{{{labels}}} 0\n{usage}{{{labels}}} 0.2\n"

    def _count(self) -> None:
        now_s = self._clock.now_s()
        self._made += self._tps * (now_s - self._at_s)
        self._at_s = now_s


@contextmanager
def exporter(service: str) -> Iterator[Exporter]:
    """Serve an exporter on a free port."""
    told = Exporter(service)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = told.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.address = f"127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
