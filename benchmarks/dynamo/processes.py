"""A Dynamo whose engines come and go: its front end, and mocker processes started and ended."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.dynamo import engine_words, environment, make_model
from tests.ports import free_ports

#: what a pod is given between SIGTERM and SIGKILL
GRACE_S = 5.0
_SCRAPE_S = 5.0
#: Dynamo reads an engine's port as a signed 16-bit number; from 32,768 on ports are handed out
_FIRST_PORT, _LAST_PORT = 20_000, 32_768
_ID = re.compile(r'dynamo_component_uptime_seconds\{worker_id="([0-9a-f]+)"\}')
_INFLIGHT = re.compile(
    r'dynamo_component_inflight_requests\{[^}]*dynamo_endpoint="generate"[^}]*\} ([0-9.]+)'
)
_SERVED = re.compile(
    r'dynamo_component_requests_total\{[^}]*dynamo_endpoint="generate"[^}]*\} ([0-9.]+)'
)


@dataclass(slots=True)
class Engine:
    """One mocker process."""

    process: subprocess.Popen[bytes]
    port: int
    #: its name in Dynamo's discovery; "" = it has not said yet
    name: str = ""

    @property
    def alive(self) -> bool:
        """Return whether its process runs."""
        return self.process.poll() is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What an engine says of itself."""

    #: requests it has been sent
    served: int
    #: requests it has not ended
    running: int


@dataclass(slots=True)
class Processes:
    """Everything that runs; ended when it is left."""

    python: Path
    folder: Path
    #: role → what its engines are told beside the model and the step times
    words: dict[str, Sequence[str]]
    #: what the front end is told, and its environment beside that of all
    front_words: Sequence[str] = ()
    front_settings: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    _port: int = _FIRST_PORT
    _front: subprocess.Popen[bytes] | None = None
    _engines: list[Engine] = field(default_factory=list)
    _timers: list[threading.Timer] = field(default_factory=list)

    def __enter__(self) -> Processes:
        """Make the model and start the front end."""
        make_model(self.python, self.folder)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        words = ("--http-port", str(port), *self.front_words)
        self._front = self._run("frontend", words, self.front_settings)
        return self

    def __exit__(self, *_: object) -> None:
        """End everything that was started."""
        for timer in self._timers:
            timer.cancel()
        started = [one.process for one in self._engines]
        started += [] if self._front is None else [self._front]
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()

    def start(self, role: str, settings: Mapping[str, str] | None = None) -> Engine:
        """Start an engine; it enters discovery by itself.

        Args:
            settings: its environment beside that of all.
        """
        self._port = next(one for one in range(self._port + 1, _LAST_PORT) if _free(one))
        words = (*engine_words(self.folder), *self.words[role])
        process = self._run(
            "mocker", words, {**(settings or {}), "DYN_SYSTEM_PORT": str(self._port)}
        )
        engine = Engine(process, self._port)
        self._engines.append(engine)
        return engine

    def end(self, engine: Engine) -> None:
        """Send SIGTERM now, and SIGKILL to what is left after the grace period."""
        engine.process.send_signal(signal.SIGTERM)
        timer = threading.Timer(GRACE_S, engine.process.kill)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def page(self, engine: Engine) -> Page | None:
        """Return what an engine says of itself; None = nothing yet."""
        try:
            url = f"http://127.0.0.1:{engine.port}/metrics"
            with urllib.request.urlopen(url, timeout=_SCRAPE_S) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        named, served, running = _ID.search(text), _SERVED.search(text), _INFLIGHT.search(text)
        if named is None or served is None or running is None:
            return None
        engine.name = named[1]
        return Page(served=int(float(served[1])), running=int(float(running[1])))

    def _run(
        self, module: str, words: Sequence[str], settings: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        number = len(self._engines)
        with (self.folder / f"{number}-{module}.log").open("wb") as log:
            return subprocess.Popen(
                [str(self.python), "-m", f"dynamo.{module}", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment(self.folder), **settings},
            )


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
