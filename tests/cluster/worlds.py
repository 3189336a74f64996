"""Namespaces of a real cluster with workloads in them, for tests to scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.cluster_sections import (
    ClusterFile,
    ClusterNodesSection,
    RoutingLabelSection,
    ScalableKind,
    WorkloadSection,
)
from heteroscale.entities.snapshot import Instance
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.in_place import InPlaceSubcluster
from tests.cluster.control_plane import PATIENCE_S, ControlPlane, until
from tests.cluster.shipped import allow

GPU = "nvidia.com/gpu"
ROUTE = "heteroscale.dev/route"
ROUTING = RoutingLabelSection(key=ROUTE, value="on")
#: how long a fake pod takes to become ready
POD_START_S = 3.0


def node(name: str, gpus: int = 8) -> dict[str, Any]:
    """Return a fake node of H20."""
    labels = {"nvidia.com/gpu.product": "H20", "type": "kwok"}
    capacity = {GPU: str(gpus), "cpu": "64", "memory": "512Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def deployment(name: str, replicas: int, *, kind: str = "Deployment") -> dict[str, Any]:
    """Return a workload of one pod an instance, one GPU each, routed by a label of its own."""
    labels = {"app": name}
    requests = {GPU: "1"}
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {
                "labels": {**labels, ROUTE: "on"},
                "annotations": {"heteroscale.test/start": f"{POD_START_S:g}s"},
            },
            "spec": {
                "containers": [
                    {
                        "name": "engine",
                        "image": "engine:fake",
                        "resources": {"limits": requests, "requests": requests},
                    }
                ]
            },
        },
    }
    if kind == "StatefulSet":
        spec |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def made(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    """Create an object that may be there already."""
    reply = client.post(path, json=body)
    assert reply.is_success or reply.status_code == httpx.codes.CONFLICT, reply.text


def workload(namespace: str, role: str, kind: ScalableKind, name: str) -> WorkloadSection:
    """Return a workload of the service `chat` on H20."""
    return WorkloadSection(
        service="chat", role=role, accelerator="H20", kind=kind, namespace=namespace, name=name
    )


@contextmanager
def in_place(
    plane: ControlPlane,
    *workloads: WorkloadSection,
    may_change_s: Callable[[], float] = lambda: math.inf,
    kubeconfig: Path | None = None,
    label: RoutingLabelSection | None = ROUTING,
) -> Iterator[InPlaceSubcluster]:
    """Watch and scale workloads of a running cluster."""
    file = ClusterFile(
        name="alpha",
        workloads=workloads,
        routing_label=label,
        nodes=ClusterNodesSection(),
    )
    clock = WallClock()
    way_in = kubeconfig or plane.controller
    api = ApiServer(clock, kubeconfig=way_in, may_change_s=may_change_s)
    subcluster = InPlaceSubcluster(file, api, clock)
    try:
        assert subcluster.wait_until_filled(PATIENCE_S)
        yield subcluster
    finally:
        subcluster.close()


def settled(subcluster: InPlaceSubcluster, role: str) -> tuple[Instance, ...]:
    """Return a role's instances once there are as many as are asked for."""

    def seen() -> tuple[Instance, ...]:
        instances = subcluster.observe().instances
        mine = [one for one in instances if one.role == role and one.state != "terminated"]
        return tuple(sorted(mine, key=lambda one: one.ordinal))

    def wanted() -> int:
        counts = subcluster.observe().group_roles
        return sum(one.replicas for one in counts if one.role == role)

    until(lambda: len(seen()) == wanted(), f"as many {role} instances as asked for")
    return seen()


@contextmanager
def fleet_of(client: httpx.Client, namespace: str, *workloads: dict[str, Any]) -> Iterator[None]:
    """Make a namespace with workloads that the controller may scale, and room for them.

    The workloads are taken away again.
    """
    for index in range(4):
        made(client, "/api/v1/nodes", node(f"node-{index}"))
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    made(client, "/api/v1/namespaces", body)
    allow(client, namespace)
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    until(lambda: client.get(account).is_success, "pods may be made in the namespace")
    for one in workloads:
        made(client, f"/apis/apps/v1/namespaces/{namespace}/{one['kind'].lower()}s", one)
    try:
        yield
    finally:
        for one in workloads:
            name = f"{one['kind'].lower()}s/{one['metadata']['name']}"
            client.delete(f"/apis/apps/v1/namespaces/{namespace}/{name}")
