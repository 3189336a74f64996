"""The controller as a process of its own, seen from outside: its ticks, its CPU, its memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.ports import free_ports

_STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the controller said and used by some moment."""

    ticks: int
    ticks_s: float
    cpu_s: float
    peak_mib: float


class Controlled:
    """A running controller."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self._process = process
        self._proc = Path("/proc", str(process.pid))
        self._http = httpx.Client(base_url=f"http://{address}", timeout=30.0)

    def seen(self) -> Seen:
        """Return its own metrics, and what the system counts of it."""
        said = self._http.get("/metrics").text
        name = "heteroscale_tick_duration_seconds"
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        status = (self._proc / "status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
        return Seen(
            ticks=int(_figure(said, f"{name}_count ")),
            ticks_s=_figure(said, f"{name}_sum "),
            cpu_s=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
            peak_mib=int(peak) / 1024.0,
        )

    def answers(self) -> bool:
        """Return whether it can be asked by now.

        Raises:
            ChildProcessError: it has ended.
        """
        if self._process.poll() is not None:
            raise ChildProcessError("the controller has ended: see its log")
        try:
            return self._http.get("/healthz").is_success
        except httpx.HTTPError:
            return False


def _figure(text: str, name: str) -> float:
    begin = text.find(f"\n{name}") + 1
    return float(text[begin + len(name) : text.index("\n", begin)]) if begin else 0.0


@contextmanager
def controlled(source: Path, files: Path, kubeconfig: Path, state: Path) -> Iterator[Controlled]:
    """Run the controller of a source folder on the files of another; stop it at the end."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    arguments = [
        *("run", "--services", files / "services.yaml", "--metrics", files / "metrics.yaml"),
        *("--cluster", files / "cluster.yaml", "--kubeconfig", kubeconfig),
        *("--state", state, "--listen", address),
    ]
    code = "from heteroscale.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    with (
        state.with_suffix(".log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], stderr=log, env=environment
        ) as process,
    ):
        try:
            yield Controlled(process, address)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
