"""What takes a pod out of rotation and brings it back, seen where routers look: at EndpointSlices.

The pods are those of a Deployment behind a Service; the API server and the controllers that make
EndpointSlices are real.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.cluster_sections import ScalableKind
from heteroscale.entities.action import Outcome, OutcomeKind, Rotation, RotationAction
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.subcluster.in_place import InPlaceSubcluster
from heteroscale.subcluster.levers import GATE
from heteroscale.subcluster.pods import ROTATION
from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.worlds import (
    ROUTE,
    ROUTING,
    deployment,
    fleet_of,
    in_place,
    made,
    settled,
    workload,
)

READY, WITHDRAWN, HELD = InstanceState.READY, InstanceState.WITHDRAWN, InstanceState.HELD
DYNAMO = {
    "nvidia.com/dynamo-discovery-backend": "kubernetes",
    "nvidia.com/dynamo-discovery-enabled": "true",
    "nvidia.com/dynamo-namespace": "prod-chat",
    "nvidia.com/dynamo-component": "decode",
    "nvidia.com/dynamo-component-type": "worker",
}
#: what the Service of one component that Dynamo's operator makes selects by
DYNAMO_SERVICE = ("dynamo-namespace", "dynamo-component", "dynamo-component-type")


def decode_of(labels: dict[str, str], *, gate: bool = False) -> dict[str, Any]:
    """Return a Deployment of two pods with labels beside its own."""
    made_of = deployment("decode", 2)
    template = made_of["spec"]["template"]
    template["metadata"]["labels"] = {"app": "decode", **labels}
    if gate:
        template["spec"]["readinessGates"] = [{"conditionType": GATE}]
    return made_of


def serve(client: httpx.Client, namespace: str, selector: dict[str, str]) -> None:
    """Put a Service before the pods."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "decode"},
        "spec": {"selector": selector, "ports": [{"port": 8000}], "clusterIP": "None"},
    }
    made(client, f"/api/v1/namespaces/{namespace}/services", service)


def routed(client: httpx.Client, namespace: str) -> set[str]:
    """Return the pods that a router sees as ready."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slices = client.get(path, params={"labelSelector": "kubernetes.io/service-name=decode"})
    return {
        end["targetRef"]["name"]
        for one in slices.json()["items"]
        for end in one.get("endpoints") or ()
        if end["conditions"]["ready"]
    }


def name_of(one: Instance) -> str:
    return one.uid.partition("/")[2].partition("@")[0]


def moved(subcluster: InPlaceSubcluster, one: Instance, to: Rotation) -> Outcome:
    action = RotationAction(
        id=f"to-{to.value}-{one.version}",
        service="chat",
        subcluster="alpha",
        uid=one.uid,
        to=to,
        version=one.version,
    )
    return subcluster.apply((action,), WallClock().now_s() + 10.0)[0]


def states(subcluster: InPlaceSubcluster) -> list[InstanceState]:
    return [one.state for one in settled(subcluster, "decode")]


LEVERS = {
    "routing-label": ({ROUTE: "on"}, {"app": "decode", ROUTE: "on"}, ROUTING, False),
    "readiness-gate": ({}, {"app": "decode"}, None, True),
    "dynamo": (
        DYNAMO,
        {f"nvidia.com/{key}": DYNAMO[f"nvidia.com/{key}"] for key in DYNAMO_SERVICE},
        None,
        False,
    ),
}


@pytest.mark.parametrize("lever", LEVERS)
def test_a_pod_leaves_the_router_keeps_running_and_the_same_one_comes_back(
    plane: ControlPlane, lever: str
) -> None:
    labels, selector, label, gate = LEVERS[lever]
    namespace = f"lever-{lever}"
    decode = workload(namespace, "decode", ScalableKind.DEPLOYMENT, "decode")
    with (
        plane.client() as client,
        fleet_of(client, namespace, decode_of(labels, gate=gate)),
        in_place(plane, decode, label=label) as subcluster,
    ):
        serve(client, namespace, selector)
        if gate:
            until(lambda: states(subcluster) == [HELD, HELD], "newcomers wait at the gate")
            assert routed(client, namespace) == set()
            for one in settled(subcluster, "decode"):
                assert moved(subcluster, one, Rotation.READY).kind is OutcomeKind.APPLIED
        until(lambda: states(subcluster) == [READY, READY], "both are in rotation")
        first, second = settled(subcluster, "decode")
        assert (first.reversible, second.reversible) == (True, True)
        both = {name_of(first), name_of(second)}
        until(lambda: routed(client, namespace) == both, "the router sees both")

        assert moved(subcluster, second, Rotation.WITHDRAWN).kind is OutcomeKind.APPLIED
        until(lambda: states(subcluster) == [READY, WITHDRAWN], "one is withdrawn")
        until(lambda: routed(client, namespace) == {name_of(first)}, "the router sees one")
        path = f"/api/v1/namespaces/{namespace}/pods/{name_of(second)}"
        before = client.get(path).json()
        assert before["status"]["phase"] == "Running"
        assert before["metadata"]["ownerReferences"]

        withdrawn = settled(subcluster, "decode")[1]
        assert moved(subcluster, withdrawn, Rotation.READY).kind is OutcomeKind.APPLIED
        until(lambda: states(subcluster) == [READY, READY], "it is back")
        until(lambda: routed(client, namespace) == both, "the router sees both again")
        after = client.get(path).json()
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert labels.items() <= after["metadata"]["labels"].items()
        assert ROTATION not in after["metadata"]["annotations"]


def test_a_decision_that_was_written_and_not_carried_out_is_none(plane: ControlPlane) -> None:
    namespace = "half-gate"
    decode = workload(namespace, "decode", ScalableKind.DEPLOYMENT, "decode")
    with (
        plane.client() as client,
        fleet_of(client, namespace, decode_of({}, gate=True)),
        in_place(plane, decode, label=None) as subcluster,
    ):
        until(lambda: states(subcluster) == [HELD, HELD], "newcomers wait at the gate")
        first, _ = settled(subcluster, "decode")
        assert moved(subcluster, first, Rotation.READY).kind is OutcomeKind.APPLIED
        until(lambda: states(subcluster) == [READY, HELD], "one is in rotation")
        note = {"metadata": {"annotations": {ROTATION: "withdrawn"}}}
        path = f"/api/v1/namespaces/{namespace}/pods/{name_of(first)}"
        merge = {"Content-Type": "application/merge-patch+json"}
        client.patch(path, json=note, headers=merge).raise_for_status()
        until(
            lambda: settled(subcluster, "decode")[0].version.endswith("withdrawn"),
            "the note is seen",
        )
        again = settled(subcluster, "decode")[0]
        assert again.state is READY
        assert moved(subcluster, again, Rotation.WITHDRAWN).kind is OutcomeKind.APPLIED
        until(lambda: states(subcluster) == [WITHDRAWN, HELD], "now it is withdrawn")


def test_where_nothing_brings_a_pod_back_it_is_not_taken_out_either(plane: ControlPlane) -> None:
    namespace = "no-lever"
    decode = workload(namespace, "decode", ScalableKind.DEPLOYMENT, "decode")
    with (
        plane.client() as client,
        fleet_of(client, namespace, decode_of({})),
        in_place(plane, decode, label=None) as subcluster,
    ):
        until(lambda: states(subcluster) == [READY, READY], "both are in rotation")
        first, second = settled(subcluster, "decode")
        assert (first.reversible, second.reversible) == (False, False)
        assert moved(subcluster, second, Rotation.WITHDRAWN).kind is OutcomeKind.REFUSED
        (notice,) = subcluster.observe().notices
        assert notice.startswith("chat: nothing takes a pod of decode out of rotation and back")
