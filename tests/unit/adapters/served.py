"""An OpenAI-compatible endpoint in this process: one engine of known step times behind real HTTP.

The engine batches continuously: what waits is prefilled together, then all that run take a step.
Its steps end at times that are planned from the first, so a late wake-up does not add up.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "tiny"
KEY = "sk-very-secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the endpoint serves, and what is wrong with it."""

    prefill_base_s: float = 0.04
    prefill_per_token_s: float = 40e-6
    step_base_s: float = 0.008
    step_per_sequence_s: float = 0.5e-3
    step_per_kv_token_s: float = 0.5e-6
    #: most sequences that run at once
    most: int = 64
    tokens_per_chunk: int = 1
    #: whether each chunk says how many tokens there are so far
    counts_along: bool = True
    #: "" = nothing is wrong
    fault: str = ""
    models: tuple[str, ...] = (MODEL,)
    max_model_len: int | None = None
    cached_share: float = 0.0
    key: str | None = None


@dataclass(slots=True)
class Request:
    """One request inside the engine; None in its queue = the answer is complete."""

    prompt_tokens: int
    wanted: int
    made: int = 0
    tokens: queue.Queue[int | None] = field(default_factory=queue.Queue)


class Engine:
    """Runs requests in a thread of its own until it is stopped."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._is = behaviour
        self._waiting: queue.Queue[Request | None] = queue.Queue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def add(self, request: Request) -> None:
        self._waiting.put(request)

    def stop(self) -> None:
        self._stopped.set()
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        running: list[Request] = []
        end_s = time.monotonic()
        while not self._stopped.is_set():
            was_idle = not running
            new = self._admitted(running)
            if was_idle:
                end_s = time.monotonic()
            if new:
                tokens = sum(request.prompt_tokens for request in new)
                end_s += self._is.prefill_base_s + tokens * self._is.prefill_per_token_s
                self._wait(end_s)
            elif running:
                kv = sum(request.prompt_tokens + request.made for request in running)
                end_s += self._is.step_base_s + len(running) * self._is.step_per_sequence_s
                end_s += kv * self._is.step_per_kv_token_s
                self._wait(end_s)
            for request in new or running:
                request.made += 1
                request.tokens.put(request.made)
            running = [one for one in (*running, *new) if not self._is_complete(one)]

    def _admitted(self, running: list[Request]) -> list[Request]:
        """Return what begins now; with nothing to run, wait for something."""
        new: list[Request] = []
        while len(running) + len(new) < self._is.most:
            try:
                request = self._waiting.get(block=not running and not new)
            except queue.Empty:
                break
            if request is None:
                break
            new.append(request)
        return new

    def _wait(self, until_s: float) -> None:
        self._stopped.wait(max(0.0, until_s - time.monotonic()))

    def _is_complete(self, request: Request) -> bool:
        if request.made < request.wanted:
            return False
        request.tokens.put(None)
        return True


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1 and server-sent events."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Endpoint

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - not ours
        """Say nothing."""

    def do_GET(self) -> None:
        if not self._is_let_in():
            return
        self.server.asked.append(self.path)
        length = self.server.behaviour.max_model_len
        models = [{"id": name, "max_model_len": length} for name in self.server.behaviour.models]
        self._answer(200, json.dumps({"object": "list", "data": models}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._is_let_in():
            return
        self.server.asked.append(self.path)
        self.server.prompts.append(body.get("prompt") or body["messages"][0]["content"])
        match self.server.behaviour.fault:
            case "overloaded":
                self._answer(503, '{"error": "no instance is ready"}')
            case "no such path":
                self._answer(404, "Not Found")
            case "does not stream":
                self._answer(200, '{"choices": [{"text": "all at once"}]}')
            case "silent":
                self.server.released.wait()
                self.close_connection = True
            case _:
                self._stream(body)

    def _is_let_in(self) -> bool:
        key = self.server.behaviour.key
        sent = self.headers.get("Authorization")
        if key is None or sent == f"Bearer {key}":
            return True
        self._answer(401, json.dumps({"error": f"incorrect key {sent}"}))
        return False

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def _stream(self, body: dict[str, Any]) -> None:
        behaviour = self.server.behaviour
        prompt = self.server.prompts[-1] if "prompt" in body else body["messages"][0]["content"]
        request = Request(prompt_tokens=3 + len(prompt.split()), wanted=int(body["max_tokens"]))
        self.server.engine.add(request)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._event(": a comment is no event\n\n")
        chat = "messages" in body
        pending = 0
        while (made := request.tokens.get()) is not None:
            pending += 1
            if pending < behaviour.tokens_per_chunk and made < request.wanted:
                continue
            pending = 0
            text = "" if behaviour.fault == "empty" else "word " * behaviour.tokens_per_chunk
            choice = {"delta": {"content": text}} if chat else {"text": text}
            usage = self._usage(request, made) if behaviour.counts_along else None
            self._chunk({"choices": [choice], "usage": usage})
            if behaviour.fault == "fails halfway":
                self._chunk({"error": {"message": "out of memory"}})
            elif behaviour.fault == "ends early":
                self.wfile.write(b"0\r\n\r\n")
                return
        if behaviour.fault != "no usage":
            self._chunk({"choices": [], "usage": self._usage(request, request.made)})
        self._event("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _usage(self, request: Request, made: int) -> dict[str, Any]:
        cached = int(request.prompt_tokens * self.server.behaviour.cached_share)
        return {
            "prompt_tokens": request.prompt_tokens,
            "completion_tokens": made,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def _chunk(self, content: dict[str, Any]) -> None:
        self._event(f"data: {json.dumps(content)}\n\n")

    def _event(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))


class Endpoint(ThreadingHTTPServer):
    """The server, its engine, and what it was asked."""

    request_queue_size = 256

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour = behaviour
        self.engine = Engine(behaviour)
        self.asked: list[str] = []
        self.prompts: list[str] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gives up is no news."""


@contextmanager
def served(behaviour: Behaviour) -> Iterator[Endpoint]:
    """Serve while inside."""
    endpoint = Endpoint(behaviour)
    thread = threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.released.set()
        endpoint.shutdown()
        endpoint.engine.stop()
        endpoint.server_close()
        thread.join()
