"""Nodes, namespaces and Deployments of the fleet on a control plane, until every pod is ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx

from benchmarks.cluster.fleet import GPUS_OF_NODE, NAMESPACES, REPLICAS, Fleet, namespace_of
from tests.cluster.control_plane import ControlPlane
from tests.cluster.shipped import allow, installed
from tests.cluster.worlds import deployment, made, node

#: objects under way at once
_AT_ONCE = 8
_PACE_S = 2.0
#: the machine may be busy
_PATIENCE_S = 900.0


def fill(
    plane: ControlPlane, client: httpx.Client, fleet: Fleet, say: Callable[[str], None]
) -> None:
    """Make everything, let the controller work there as its chart does, wait for ready pods.

    Raises:
        TimeoutError: they are not.
    """
    nodes = (node(f"node-{index:04d}", GPUS_OF_NODE) for index in range(fleet.nodes))
    _each(client, (("/api/v1/nodes", one) for one in nodes))
    installed(plane)
    names = [f"bench-{index}" for index in range(NAMESPACES)]
    body = {"apiVersion": "v1", "kind": "Namespace"}
    _each(client, (("/api/v1/namespaces", {**body, "metadata": {"name": name}}) for name in names))
    accounts = [f"/api/v1/namespaces/{name}/serviceaccounts/default" for name in names]
    _wait(lambda: all(client.get(one).is_success for one in accounts), "service accounts")
    for name in names:
        allow(client, name)
    say(f"{fleet.nodes} nodes are there")
    _each(
        client,
        (
            (_folder(namespace_of(name)), deployment(f"{name}-{role}", replicas))
            for name in fleet.names()
            for role, replicas in REPLICAS.items()
        ),
    )

    def all_ready() -> bool:
        ready = sum(_ready(client, name) for name in names)
        say(f"{ready} of {fleet.pods} pods are ready")
        return ready == fleet.pods

    _wait(all_ready, "ready pods")


def _each(client: httpx.Client, objects: Iterable[tuple[str, dict[str, Any]]]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for done in [threads.submit(made, client, path, body) for path, body in objects]:
            done.result()


def _folder(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


def _ready(client: httpx.Client, namespace: str) -> int:
    items = client.get(_folder(namespace)).json()["items"]
    return sum(one.get("status", {}).get("readyReplicas", 0) for one in items)


def _wait(holds: Callable[[], bool], what: str) -> None:
    nap = Event()
    for _ in range(int(_PATIENCE_S / _PACE_S)):
        if holds():
            return
        nap.wait(_PACE_S)
    raise TimeoutError(f"no {what} within {_PATIENCE_S:g} s")
