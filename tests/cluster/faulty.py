"""A server between us and another that can refuse, break off, dawdle and lie, as a test says."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TypeAlias
from urllib.parse import urlsplit

import yaml

from tests.cluster.control_plane import ControlPlane

#: of one connection, not of what is asked
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}
_LIMIT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, before it is passed on."""

    method: str
    #: with its query
    path: str
    body: bytes

    @property
    def watches(self) -> bool:
        """Return whether the answer goes on and on."""
        return "watch=1" in self.path

    @property
    def writes(self) -> bool:
        """Return whether it changes something."""
        return self.method != "GET"


@dataclass(frozen=True)
class Refused:
    """Answered here; nobody else hears of it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """The connection breaks: before the other has heard, or when it has, and has answered."""

    heard: bool


@dataclass(frozen=True)
class Late:
    """Passed on after so long."""

    delay_s: float


@dataclass(frozen=True)
class Told:
    """Passed on, and something made of the answer."""

    change: Callable[[bytes], bytes]


Fault: TypeAlias = Refused | Cut | Late | Told
#: what goes wrong with a request; None = nothing
Rule: TypeAlias = Callable[[Asked], Fault | None]


class FaultyServer:
    """Passes requests on, but for what its rule says of them."""

    def __init__(self, upstream: str, certificate: Path | None = None) -> None:
        """Pass everything on.

        Args:
            certificate: whom to trust, if the other speaks TLS.
        """
        address = urlsplit(upstream)
        self._upstream = (address.hostname or "", address.port or 0)
        self._tls = ssl.create_default_context(cafile=certificate) if certificate else None
        self._lock = Lock()
        self._streams: set[socket.socket] = set()
        self._closed = Event()
        self.rule: Rule = lambda _: None
        self.url = ""

    def drop_watches(self) -> None:
        """End every answer that goes on and on, in the middle."""
        with self._lock:
            for stream in self._streams:
                with suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End whatever goes on."""
        self._closed.set()
        self.drop_watches()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        length = int(handler.headers.get("Content-Length") or 0)
        asked = Asked(method=handler.command, path=handler.path, body=handler.rfile.read(length))
        fault = self.rule(asked)
        if isinstance(fault, Refused):
            message = json.dumps({"message": f"refused by a test: {fault.status}"}).encode()
            _send(handler, fault.status, fault.headers, message)
            return
        if fault == Cut(heard=False):
            _cut(handler)
            return
        if isinstance(fault, Late):
            self._closed.wait(fault.delay_s)
        self._pass_on(handler, asked, fault)

    def _pass_on(self, handler: BaseHTTPRequestHandler, asked: Asked, fault: Fault | None) -> None:
        upstream = self._connection()
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in _HOP}
        headers["Accept-Encoding"] = "identity"
        try:
            upstream.request(asked.method, asked.path, asked.body or None, headers)
            if upstream.sock is not None and asked.watches:
                self._stream(handler, upstream)
                return
            response = upstream.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            _cut(handler)
            return
        finally:
            upstream.close()
        if isinstance(fault, Cut):
            _cut(handler)
            return
        if isinstance(fault, Told):
            body = fault.change(body)
        _send(handler, response.status, dict(response.getheaders()), body)

    def _stream(
        self, handler: BaseHTTPRequestHandler, upstream: http.client.HTTPConnection
    ) -> None:
        stream = upstream.sock
        with self._lock:
            self._streams.add(stream)
        try:
            response = upstream.getresponse()
            handler.send_response(response.status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            while part := response.read1(65536):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if response.isclosed():
                handler.wfile.write(b"0\r\n\r\n")
        finally:
            with self._lock:
                self._streams.discard(stream)
            handler.close_connection = True

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._upstream
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=_LIMIT_S)
        return http.client.HTTPSConnection(host, port, timeout=_LIMIT_S, context=self._tls)


def _send(
    handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    handler.send_response(status)
    for key, value in headers.items():
        if key.lower() not in _HOP:
            handler.send_header(key, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _cut(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    with suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def faulty(upstream: str, certificate: Path | None = None) -> Iterator[FaultyServer]:
    """Stand before a server on a free port."""
    between = FaultyServer(upstream, certificate)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            with suppress(OSError, http.client.HTTPException):
                between.serve(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{verb}", Handler.serve)
    with _Server(("127.0.0.1", 0), Handler) as server:
        between.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield between
        finally:
            between.close()
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    """Its connections end with whoever uses them, and nobody waits for that."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


@contextmanager
def before(plane: ControlPlane, user: str, token: str) -> Iterator[tuple[FaultyServer, Path]]:
    """Stand before the API server; yield what stands there, and somebody's way in through it."""
    certificate = plane.folder / "certs" / "apiserver.crt"
    with faulty(plane.url, certificate) as between:
        config = yaml.safe_load(plane.kubeconfig_of(user, token).read_text(encoding="utf-8"))
        config["clusters"][0]["cluster"] = {"server": between.url}
        way_in = plane.folder / f"kubeconfig-{user}-{urlsplit(between.url).port}"
        way_in.write_text(yaml.safe_dump(config), encoding="utf-8")
        yield between, way_in
