"""What is sent to an API server that is too busy, held to a plain HTTP server's own count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.errors import ConfigError
from heteroscale.subcluster.api_server import ApiServer, NotReached


class Busy(ThreadingHTTPServer):
    """Says "too many requests, ask again at once" so often, then does what it is asked."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.asked = 0
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Busy

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        busy = self.server.asked <= self.server.refusals
        self.send_response(429 if busy else 200)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def busy() -> Iterator[Busy]:
    with Busy(refusals=2) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def kubeconfig(folder: Path, server: Busy) -> Path:
    path = folder / "kubeconfig"
    address = f"http://127.0.0.1:{server.server_address[1]}"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": address}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "here"}}],
        "current-context": "c",
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def test_a_server_that_is_too_busy_is_asked_again_within_the_tick(
    busy: Busy, tmp_path: Path
) -> None:
    clock = WallClock()
    api = ApiServer(clock, kubeconfig=kubeconfig(tmp_path, busy))
    assert api.namespace == "here"
    assert api.post("/thing", {}, clock.now_s() + 10.0).done
    assert busy.asked == 3
    api.close()


def test_who_lost_the_lead_while_waiting_does_not_ask_again(busy: Busy, tmp_path: Path) -> None:
    clock = WallClock()
    left_s = iter([5.0, 5.0, 0.0])
    api = ApiServer(clock, kubeconfig=kubeconfig(tmp_path, busy), may_change_s=lambda: next(left_s))
    with pytest.raises(NotReached, match="we do not lead") as raised:
        api.post("/thing", {}, clock.now_s() + 10.0)
    assert not raised.value.sent
    assert busy.asked == 2
    api.close()


def test_a_way_in_that_is_not_there_is_the_operators_to_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kubeconfig: must name a cluster"):
        ApiServer(WallClock(), kubeconfig=tmp_path / "nowhere")
