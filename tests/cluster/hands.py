"""Objects of every kind as users have them, and small hands that make pods of their counts.

Of kinds other than apps/v1 only the shape stands on the API server: no controller of theirs can
be had here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Event, Thread
from typing import Any

import httpx

from heteroscale.config.cluster_sections import ScalableKind, WorkloadSection
from heteroscale.subcluster.pods import DELETION_COST
from heteroscale.subcluster.scalables import SCALABLES, Victims, pods_of, replicas_of
from tests.cluster.kinds import installed
from tests.cluster.worlds import deployment, made, workload

ROLES = ("prefill", "decode")
APPS = (ScalableKind.DEPLOYMENT, ScalableKind.STATEFUL_SET)
_PACE_S = 0.1


def pair_of(kind: ScalableKind, namespace: str) -> tuple[WorkloadSection, ...]:
    """Return prefill and decode of the service `chat`, as the cluster file names them."""
    if SCALABLES[kind].has_scale:
        return tuple(workload(namespace, role, kind, role) for role in ROLES)
    return tuple(
        workload(namespace, role, kind, "chat").model_copy(update={"component": role})
        for role in ROLES
    )


def objects_of(kind: ScalableKind, replicas: int = 2) -> Iterator[dict[str, Any]]:
    """Yield the objects of a pair with so many replicas of each role."""
    scalable = SCALABLES[kind]
    head = {"apiVersion": f"{scalable.group}/{scalable.version}", "kind": kind.value}
    if kind in APPS:
        for role in ROLES:
            yield deployment(role, replicas, kind=kind.value)
    elif scalable.has_scale:
        for role in ROLES:
            selector = f"app={role}"
            status = {"replicas": replicas, scalable.selector[-1]: selector}
            spec = {"replicas": replicas}
            yield {**head, "metadata": {"name": role}, "spec": spec, "status": status}
    else:
        held: Any = [{"name": role, "replicas": replicas} for role in ROLES]
        for key in reversed(scalable.components):
            held = {key: held}
        yield {**head, "metadata": {"name": "chat"}, **held}


@contextmanager
def pair(client: httpx.Client, kind: ScalableKind, namespace: str) -> Iterator[None]:
    """Make a pair of any kind in a namespace, and keep as many pods as its counts say."""
    path, stop = SCALABLES[kind].path(namespace), Event()
    thread = Thread(target=_run, args=(client, kind, namespace, stop))
    with ExitStack() as there:
        if kind not in APPS:
            there.enter_context(installed(client, kind.value))
        for one in objects_of(kind):
            made(client, path, one)
            there.callback(client.delete, f"{path}/{one['metadata']['name']}")
            if "status" in one:
                _tell(client, path, one)
        there.callback(client.delete, f"/api/v1/namespaces/{namespace}/pods")
        if kind not in APPS:
            there.callback(thread.join)
            thread.start()
        there.callback(stop.set)
        yield


def _tell(client: httpx.Client, path: str, one: dict[str, Any]) -> None:
    """Write an object's status, as its controller would."""
    merge = {"Content-Type": "application/merge-patch+json"}
    url = f"{path}/{one['metadata']['name']}/status"
    client.patch(url, json={"status": one["status"]}, headers=merge).raise_for_status()


def counts(client: httpx.Client, kind: ScalableKind, namespace: str) -> dict[str, int]:
    """Return role → replicas asked for."""
    found = {}
    for one in pair_of(kind, namespace):
        seen = client.get(SCALABLES[kind].path(namespace, one.name)).raise_for_status().json()
        found[one.role] = replicas_of(SCALABLES[kind], seen, one.component) or 0
    return found


def _run(client: httpx.Client, kind: ScalableKind, namespace: str, stop: Event) -> None:
    while not stop.wait(_PACE_S):
        for one in pair_of(kind, namespace):
            _follow(client, one)


def _follow(client: httpx.Client, one: WorkloadSection) -> None:
    """Make or delete a count's pods; the next free numbers come, the kind's victims go."""
    scalable = SCALABLES[one.kind]
    found = client.get(scalable.path(one.namespace, one.name)).json()
    labels = pods_of(scalable, found, one.component)
    folder = f"/api/v1/namespaces/{one.namespace}/pods"
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    pods = client.get(folder, params={"labelSelector": selector}).json()["items"]
    wanted = replicas_of(scalable, found, one.component) or 0
    numbers = {int(pod["metadata"]["name"].rpartition("-")[2]) for pod in pods}
    free = [number for number in range(wanted + len(pods)) if number not in numbers]
    for number in free[: max(0, wanted - len(pods))]:
        made(client, folder, _pod(f"{one.role}-{number}", labels))
    cheapest = scalable.victims is Victims.CHEAPEST
    pods.sort(key=lambda pod: (_cost(pod) if cheapest else 0, -_number(pod)))
    for pod in pods[: max(0, len(pods) - wanted)]:
        client.delete(f"{folder}/{pod['metadata']['name']}")


def _pod(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    template = deployment(name, 1)["spec"]["template"]
    metadata = {**template["metadata"], "name": name}
    metadata["labels"] = {**template["metadata"]["labels"], **labels}
    return {"metadata": metadata, "spec": template["spec"]}


def _cost(pod: Mapping[str, Any]) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(DELETION_COST, 0))


def _number(pod: Mapping[str, Any]) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])
