"""A lease whose server answers nonsense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Semaphore, Thread

import pytest

from heteroscale.adapters.wall_clock import WallClock, steady_s
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.lease import Lease

PATIENCE_S = 20.0


class Nonsense(ThreadingHTTPServer):
    """Takes every write and answers with an object that is no Lease."""

    def __init__(self) -> None:
        self.written = Semaphore(0)
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Nonsense

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()
        self.server.written.release()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[tuple[Nonsense, Path]]:
    with Nonsense() as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        config = {
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config), encoding="utf-8")
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server, tmp_path / "kubeconfig"
        server.shutdown()
        thread.join()


def test_an_answer_that_is_no_lease_never_makes_a_leader_and_is_asked_for_again(
    kubeconfig: tuple[Nonsense, Path],
) -> None:
    server, way_in = kubeconfig
    clock = WallClock()
    tried = Lease(
        ApiServer(clock, kubeconfig=way_in, limit_s=1.0),
        clock,
        steady_s,
        namespace="default",
        name="heteroscale",
        identity="me",
        duration_s=3,
    )
    for _ in range(3):
        assert server.written.acquire(timeout=PATIENCE_S)
    assert not tried.leads()
    assert tried.fault == "KeyError: 'spec'"
    tried.close()
