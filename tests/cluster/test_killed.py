"""Controllers that are killed at any moment strand no pod, and what they repeat has no effect."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np
import pytest

from heteroscale.adapters.wall_clock import steady_s
from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.serving import METRICS, Serving, served_tps, serving
from tests.cluster.soak import FLEET, ROLES, SERVICE, STALE_S, WORKLOAD, out_of_rotation
from tests.cluster.worlds import ROUTE, deployment, fleet_of
from tests.integration.prometheus_server import scraping

#: kills of one run; `make soak-cluster` asks for more
KILLS = int(os.environ.get("HETEROSCALE_KILLS", "6"))
NAMESPACE = "killed"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
LEAST, MOST = 2, 4
#: until what Prometheus tells is of the new load alone, and what was decided before has been done
TURNED_S = 10.0


def written(folder: Path, prometheus: str) -> list[str]:
    """Return the command that runs a controller, but for its folder of memory."""
    workloads = "".join(
        WORKLOAD.format(service="chat", role=role, namespace=NAMESPACE, short="chat")
        for role in ROLES
    )
    texts = {
        "services": FLEET.format(stale_s=STALE_S) + SERVICE.format(name="chat"),
        "metrics": METRICS.format(url=prometheus),
        "cluster": f"name: alpha\nworkloads:\n{workloads}"
        f'routing_label: {{key: {ROUTE}, value: "on"}}\n'
        f"lease: {{name: {NAMESPACE}, duration_s: 3}}\n",
    }
    command = [sys.executable, "-c", "from heteroscale.cli import main; main()", "run"]
    for name, text in texts.items():
        path = folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        command += [f"--{name}", str(path)]
    return command


@contextmanager
def controlled(command: list[str], plane: ControlPlane, folder: Path) -> Iterator[None]:
    """Run a controller from when it leads until it is killed."""
    folder.mkdir()
    options = ["--state", str(folder), "--kubeconfig", str(plane.kubeconfig)]
    log = folder / "log"
    with (
        log.open("wb") as said,
        subprocess.Popen([*command, *options], stdout=said, stderr=said) as process,
    ):
        try:
            until(lambda: "we lead" in log.read_text(encoding="utf-8"), "it leads")
            yield
        finally:
            process.send_signal(signal.SIGKILL)


class Counts:
    """Every count that the objects have had, as a watch tells it."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        #: (when, role, replicas), only what changed
        self.seen: list[tuple[float, str, int]] = []
        self._ended = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        params = {"watch": "1", "timeoutSeconds": "3600"}
        last: dict[str, int] = {}
        with (
            self._plane.client() as client,
            client.stream("GET", DEPLOYMENTS, params=params, timeout=httpx.Timeout(None)) as told,
        ):
            for line in told.iter_lines():
                event = json.loads(line)
                if event["type"] == "DELETED":
                    return
                role = event["object"]["metadata"]["name"].removeprefix("chat-")
                replicas = event["object"]["spec"]["replicas"]
                if last.get(role) != replicas:
                    last[role] = replicas
                    self.seen.append((steady_s(), role, replicas))

    def after(self, since_s: float, until_s: float, role: str) -> list[int]:
        """Return a role's counts within some time, the one it began with first."""
        before = [count for at_s, one, count in self.seen if one == role and at_s < since_s]
        within = [
            count for at_s, one, count in self.seen if one == role and since_s <= at_s < until_s
        ]
        return [*before[-1:], *within]


def turned(engines: Serving, chance: np.random.Generator, now: int) -> int:
    """Change the load; return the instances of each role that it asks for now."""
    wanted = int(chance.choice([one for one in range(LEAST, MOST + 1) if one != now]))
    engines.load("chat", wanted * 100.0 - 30.0)
    return wanted


@pytest.mark.skipif(KILLS == 0, reason="no kills are asked for")
def test_controllers_that_are_killed_strand_no_pod_and_repeat_nothing(
    plane: ControlPlane, tmp_path: Path
) -> None:
    chance, nap = np.random.default_rng(7), Event()
    pairs = [deployment(f"chat-{role}", LEAST) for role in ROLES]
    turns: list[float] = []

    def settled() -> bool:
        found = client.get(DEPLOYMENTS).raise_for_status().json()["items"]
        at_rest = not list(out_of_rotation(client, NAMESPACE))
        return at_rest and {one["spec"]["replicas"] for one in found} == {wanted}

    with (
        plane.client() as client,
        fleet_of(client, NAMESPACE, *pairs),
        serving("chat") as engines,
        scraping(tmp_path, engines.address, {}) as prometheus,
    ):
        counts = Counts(plane)
        wanted = turned(engines, chance, LEAST)
        until(lambda: served_tps(prometheus) > 0.0, "the load shows in Prometheus")
        command = written(tmp_path, prometheus)
        for kill in range(KILLS):
            with controlled(command, plane, tmp_path / f"run-{kill}"):
                nap.wait(float(chance.uniform(0.0, 4.0)))
                if kill % 3 == 1:
                    wanted = turned(engines, chance, wanted)
                    turns.append(steady_s())
                nap.wait(float(chance.uniform(0.0, 4.0)))
        with controlled(command, plane, tmp_path / "last"):
            until(settled, "the counts are what the load asks for, and every pod is in rotation")
        for role in ROLES:
            assert {count for _, one, count in counts.seen if one == role} <= {2, 3, 4}
            for turned_s, next_s in pairwise([*turns, steady_s()]):
                course = counts.after(turned_s + TURNED_S, next_s, role)
                assert course in (sorted(course), sorted(course, reverse=True)), course
