"""A real Prometheus over a history written beforehand: instants are asked for, none is awaited."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import free_ports

#: labels → (epoch seconds, value), ascending in time
Series = dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]


@dataclass
class History:
    """Samples by metric, as OpenMetrics wants them: a family at a time, a series at a time."""

    families: dict[str, Series] = field(default_factory=dict)

    def put(self, metric: str, labels: Mapping[str, str], at_s: float, value: float) -> None:
        """Add one sample, later than the series' others."""
        series = self.families.setdefault(metric, {})
        series.setdefault(tuple(sorted(labels.items())), []).append((at_s, value))

    def text(self) -> Iterator[str]:
        """Yield the lines of an OpenMetrics text."""
        for metric, series in self.families.items():
            yield f"# TYPE {metric} unknown\n"
            for labels, samples in series.items():
                pairs = ",".join(f'{name}="{value}"' for name, value in labels)
                for at_s, value in samples:
                    yield f"{metric}{{{pairs}}} {value!r} {at_s:.3f}\n"
        yield "# EOF\n"


def binary(name: str) -> str:
    """Return where a program is, or skip: `make test-integration` installs it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make test-integration installs it")
    return found


@contextmanager
def prometheus(folder: Path, history: History) -> Iterator[str]:
    """Run a server over a history; yield its address."""
    text = folder / "history.txt"
    with text.open("w", encoding="utf-8") as file:
        file.writelines(history.text())
    blocks = folder / "tsdb"
    subprocess.run(
        [
            binary("promtool"),
            *("tsdb", "create-blocks-from", "--max-block-duration=168h"),
            *("openmetrics", "-q", str(text), str(blocks)),
        ],
        check=True,
        capture_output=True,
    )
    with running(folder, "global: {}\n") as url:
        yield url


@contextmanager
def scraping(folder: Path, target: str, labels: Mapping[str, str]) -> Iterator[str]:
    """Run a server that scrapes one address every second; yield its own."""
    job: dict[str, object] = {"job_name": "engines", "honor_labels": True}
    job["static_configs"] = [{"targets": [target], "labels": dict(labels)}]
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
    with running(folder, json.dumps(config)) as url:
        yield url


@contextmanager
def running(folder: Path, config: str) -> Iterator[str]:
    """Run a server over the blocks of a folder, if there are any; yield its address."""
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    (port,) = free_ports(1)
    with subprocess.Popen(
        [
            binary("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            _await(server.stderr or (), "Server is ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.communicate()


def _await(lines: Iterable[str], word: str) -> None:
    said = []
    for line in lines:
        said.append(line)
        if word in line:
            return
    pytest.fail(f"the server ended before it was ready: {''.join(said)[-500:]}")
