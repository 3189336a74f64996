"""Proves Dynamo's lever on Kubernetes: `PYTHON FOLDER`, inside a network of its own.

Front end and engines are real, and pretend to be pods of a real API server that they find one
another through. Our sub-cluster takes engines out and puts them back, as it does in production.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.dynamo.processes import Processes
from benchmarks.dynamo.side import MIX, WORDS
from benchmarks.dynamo.traffic import Traffic
from heteroscale.config.cluster_sections import ScalableKind
from heteroscale.entities.action import OutcomeKind, Rotation
from heteroscale.subcluster.in_place import InPlaceSubcluster
from tests.cluster.control_plane import ControlPlane, control_plane
from tests.cluster.test_levers import DYNAMO, DYNAMO_SERVICE, decode_of, moved, name_of
from tests.cluster.worlds import fleet_of, in_place, made, workload
from tests.integration.dynamo_lever import LOAD, prove_role, until

SPACE, FRONT = "dynamo", "front"
METADATA = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "dynamoworkermetadatas.nvidia.com"},
    "spec": {
        "group": "nvidia.com",
        "scope": "Namespaced",
        "names": {
            "kind": "DynamoWorkerMetadata",
            "plural": "dynamoworkermetadatas",
            "singular": "dynamoworkermetadata",
        },
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}
PODS = f"/api/v1/namespaces/{SPACE}/pods"


class Rotating:
    """Our sub-cluster as the lever of engines that are pods."""

    def __init__(self, subcluster: InPlaceSubcluster) -> None:
        self._subcluster = subcluster
        #: engine → its pod
        self.pods: dict[str, str] = {}

    def withdraw(self, engine: str) -> None:
        self._move(engine, Rotation.WITHDRAWN)

    def restore(self, engine: str) -> None:
        self._move(engine, Rotation.READY)

    def _move(self, engine: str, to: Rotation) -> None:
        instances = self._subcluster.observe().instances
        one = next(one for one in instances if name_of(one) == self.pods[engine])
        outcome = moved(self._subcluster, one, to)
        assert outcome.kind is OutcomeKind.APPLIED, outcome


def component(role: str, replicas: int) -> dict[str, Any]:
    """Return the Deployment of one component, as Dynamo's operator labels its pods."""
    labels = {**DYNAMO, "nvidia.com/dynamo-component": role}
    made_of = decode_of(labels)
    made_of["metadata"]["name"] = role
    made_of["spec"]["replicas"] = replicas
    made_of["spec"]["selector"] = {"matchLabels": {"app": role}}
    made_of["spec"]["template"]["metadata"]["labels"] = {**labels, "app": role}
    return made_of


def serve(client: httpx.Client, role: str) -> None:
    """Put the Service of one component before its pods, as Dynamo's operator does."""
    keys = [f"nvidia.com/{name}" for name in DYNAMO_SERVICE]
    found_by = {key: DYNAMO[key] for key in DYNAMO if "discovery" in key}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": role, "labels": found_by},
        "spec": {
            "selector": {key: DYNAMO[key] for key in keys} | {"nvidia.com/dynamo-component": role},
            "ports": [{"port": 8000}],
            "clusterIP": "None",
        },
    }
    made(client, f"/api/v1/namespaces/{SPACE}/services", service)


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[ControlPlane, Mapping[str, list[dict[str, Any]]]]]:
    """Yield a cluster with the pods of every component: role → pods."""
    counts = {"decode": 2, "prefill": 2, FRONT: 1}
    with ExitStack() as opened:
        plane = opened.enter_context(control_plane(folder))
        client = opened.enter_context(plane.client())
        made(client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", METADATA)
        components = [component(role, count) for role, count in counts.items()]
        opened.enter_context(fleet_of(client, SPACE, *components))
        kinds = f"/apis/nvidia.com/v1alpha1/namespaces/{SPACE}/dynamoworkermetadatas"
        until(lambda: client.get(kinds).is_success, "Dynamo's kind is served")
        for role in counts:
            serve(client, role)

        def up(role: str) -> list[dict[str, Any]]:
            found = client.get(PODS, params={"labelSelector": f"app={role}"}).json()["items"]
            return [one for one in found if one["status"].get("podIP")]

        until(
            lambda: all(len(up(role)) == count for role, count in counts.items()), "all pods are up"
        )
        yield plane, {role: up(role) for role in counts}


def prove(python: Path, folder: Path) -> None:
    """Raise where the lever does not do what it must."""
    (folder / "plane").mkdir()
    (folder / "dynamo").mkdir()
    with cluster(folder / "plane") as (plane, pods), ExitStack() as opened:

        def settings(pod: Mapping[str, Any]) -> dict[str, str]:
            metadata = pod["metadata"]
            return {
                "DYN_DISCOVERY_BACKEND": "kubernetes",
                "KUBECONFIG": str(plane.kubeconfig),
                "POD_NAME": metadata["name"],
                "POD_UID": metadata["uid"],
                "POD_NAMESPACE": SPACE,
            }

        processes = opened.enter_context(
            Processes(
                python,
                folder / "dynamo",
                dict(WORDS),
                front_words=("--migration-limit", "1"),
                front_settings=settings(pods[FRONT][0]),
            )
        )
        sections = [workload(SPACE, role, ScalableKind.DEPLOYMENT, role) for role in WORDS]
        lever = Rotating(
            opened.enter_context(
                in_place(plane, *sections, kubeconfig=plane.kubeconfig, label=None)
            )
        )
        engines = {
            role: [(processes.start(role, settings(pod)), pod) for pod in pods[role]]
            for role in WORDS
        }
        everyone = [pair for pairs in engines.values() for pair in pairs]
        until(lambda: all(processes.page(one) for one, _ in everyone), "every engine tells")
        lever.pods = {one.name: pod["metadata"]["name"] for one, pod in everyone}
        traffic = Traffic(processes.url, MIX, (LOAD,))
        until(traffic.serves, "the front end answers")
        traffic.begin()
        for role in ("decode", "prefill"):
            (leaver, _), (stayer, _) = engines[role]
            prove_role(processes, lever, role, leaver, stayer)
        traffic.end()
        until(traffic.answered, "every request has ended")
        failed = [one for one in traffic.requests if one.failure]
        assert not failed, failed


if __name__ == "__main__":
    prove(Path(sys.argv[1]), Path(sys.argv[2]))
