"""A small HTTP server that answers GET of a few paths, from threads of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An answer; its status is an HTTP code."""

    status: int = 200
    text: str
    content_type: str = "text/plain; charset=utf-8"


@contextmanager
def listening(host: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> Iterator[int]:
    """Answer until the block ends; yield the port (of 0 a free one is made).

    Raises:
        OSError: it cannot be listened there.
    """

    class Answering(_Handler):
        answers = pages

    with ThreadingHTTPServer((host, port), Answering) as server:
        thread = Thread(target=server.serve_forever, name="listener", daemon=True)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    answers: Mapping[str, Callable[[], Page]] = {}
    #: who asks and then says nothing holds no thread for longer
    timeout = 10.0

    def do_GET(self) -> None:
        """Answer."""
        answer = self.answers.get(self.path.partition("?")[0])
        page = Page(status=404, text="not here\n") if answer is None else answer()
        body = page.text.encode()
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: who asks for metrics asks often."""
