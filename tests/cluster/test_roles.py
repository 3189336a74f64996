"""The roles that are shipped are the least: a verb that is taken away is missed by who needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml

from heteroscale.adapters.wall_clock import WallClock, steady_s
from heteroscale.config.cluster_sections import (
    ClusterFile,
    RoutingLabelSection,
    ScalableKind,
    WorkloadSection,
)
from heteroscale.config.scaled_service_sections import PLURAL
from heteroscale.entities.action import Rotation
from heteroscale.errors import SubclusterUnavailable
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.config_map_store import ConfigMapStore
from heteroscale.subcluster.in_place import InPlaceSubcluster
from heteroscale.subcluster.lease import Lease
from heteroscale.subcluster.scalables import SCALABLES
from heteroscale.subcluster.scaled_services import resources_path
from heteroscale.subcluster.watched import Watched
from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.kinds import installed
from tests.cluster.memories import CONFIG_MAPS, NAME, memory_in
from tests.cluster.shipped import DEPLOY, path_of, role_of
from tests.cluster.test_custom_resource import install
from tests.cluster.test_doctor import checked
from tests.cluster.test_hindrances import applied, withdrawal
from tests.cluster.test_in_place import scale
from tests.cluster.test_levers import decode_of, moved, states
from tests.cluster.worlds import ROUTE, deployment, fleet_of, in_place, settled, workload

SPACE, GATED = "roles", "roles-gated"
#: of the Lease and the memory beside it
OWN = "heteroscale"
KINDS = {SCALABLES[kind].plural: kind for kind in ScalableKind}
PAIR = [{"name": "prefill", "replicas": 1}, {"name": "decode", "replicas": 1}]
#: verbs that only what is told of ScaledServices needs
TELLING = (f"{PLURAL}/status", "events")


def rules() -> Iterator[Any]:
    """Yield every verb on every resource of the roles that are shipped."""
    text = (DEPLOY / "kustomize" / "base" / "roles.yaml").read_text(encoding="utf-8")
    for role in yaml.safe_load_all(text):
        for rule in role.get("rules", ()):
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield pytest.param(resource, verb, id=f"{verb} {resource}")


def section(kind: ScalableKind) -> WorkloadSection:
    component = None if SCALABLES[kind].has_scale else "decode"
    return WorkloadSection(
        service="chat",
        role="decode",
        accelerator="H20",
        kind=kind,
        namespace=SPACE,
        name=kind.value.lower(),
        component=component,
    )


def workload_of(kind: ScalableKind) -> dict[str, Any]:
    """Return an object with a count of one for `decode`."""
    if kind in (ScalableKind.DEPLOYMENT, ScalableKind.STATEFUL_SET):
        return deployment(kind.value.lower(), 1, kind=kind.value)
    scalable = SCALABLES[kind]
    spec: dict[str, Any] = {"replicas": 1}
    if not scalable.has_scale:
        spec = {scalable.components[-1]: deepcopy(PAIR)}
        for key in reversed(scalable.components[1:-1]):
            spec = {key: spec}
    return {
        "apiVersion": f"{scalable.group}/{scalable.version}",
        "kind": kind.value,
        "metadata": {"name": kind.value.lower()},
        "spec": spec,
    }


@dataclass(frozen=True)
class Roles:
    plane: ControlPlane
    client: httpx.Client

    def without(self, resource: str, verb: str) -> None:
        """Take a verb on a resource out of the role that grants it."""
        role = role_of(resource)
        kept = []
        for rule in role["rules"]:
            others = [one for one in rule["resources"] if one != resource]
            if resource not in rule["resources"] or verb not in rule["verbs"]:
                kept.append(rule)
                continue
            less = [one for one in rule["verbs"] if one != verb]
            parts = ((others, rule["verbs"]), ([resource], less))
            kept += [{**rule, "resources": res, "verbs": verbs} for res, verbs in parts if verbs]
        self.put({**role, "rules": [one for one in kept if one["resources"]]})

    def put(self, role: dict[str, Any]) -> None:
        path = f"{path_of(role)}/{role['metadata']['name']}"
        self.client.put(path, json=role).raise_for_status()


@pytest.fixture(scope="module")
def roles(plane: ControlPlane) -> Iterator[Roles]:
    """Yield roles over a namespace with a workload of every kind."""
    with plane.client() as client, installed(client), fleet_of(client, SPACE):
        install(client)
        for kind in ScalableKind:
            body = workload_of(kind)
            client.post(SCALABLES[kind].path(SPACE), json=body).raise_for_status()
        yield Roles(plane, client)


@contextmanager
def watching(plane: ControlPlane, kind: ScalableKind) -> Iterator[InPlaceSubcluster]:
    """Look at one workload, whether or not that is allowed."""
    label = RoutingLabelSection(key=ROUTE, value="on")
    file = ClusterFile(name="alpha", workloads=(section(kind),), routing_label=label)
    clock = WallClock()
    subcluster = InPlaceSubcluster(file, ApiServer(clock, kubeconfig=plane.controller), clock)
    try:
        yield subcluster
    finally:
        subcluster.close()


def never_seen(plane: ControlPlane, kind: ScalableKind, fault: str) -> None:
    """What cannot be listed or watched is told as not current, and who it is by."""
    with watching(plane, kind) as subcluster:
        until(lambda: fault in subcluster.fault(), f"it is told: {fault}")


def never_asked(plane: ControlPlane, fault: str) -> None:
    """Resources that cannot be listed or watched are told as not current."""
    clock = WallClock()
    api = ApiServer(clock, kubeconfig=plane.controller)
    watched = Watched(api, clock, resources_path(SPACE))
    try:
        until(lambda: fault in watched.fault, f"it is told: {fault}")
    finally:
        watched.close()
        api.interrupt()
        watched.join()
        api.close()


def not_looked_at(plane: ControlPlane, kind: ScalableKind, fault: str) -> None:
    """A check-up cannot tell what is amiss with a workload that it may not read, and says so."""
    found = checked(plane, section(kind))
    (unread,) = [one for one in found if one.what.startswith("it may not be read (HTTP 403")]
    assert fault in unread.what
    assert unread.mend == "check our permissions above"


def not_scaled(plane: ControlPlane, kind: ScalableKind, fault: str) -> None:
    """What cannot be written is refused, and nothing has changed."""
    with watching(plane, kind) as subcluster:
        assert subcluster.wait_until_filled(30.0)
        outcome = applied(subcluster, scale(subcluster, 2))
        assert (outcome.kind, fault in outcome.detail) == ("refused", True), outcome
        assert [one.replicas for one in subcluster.observe().group_roles] == [1]


def not_moved(plane: ControlPlane, fault: str) -> None:
    """A pod that cannot be written stays in rotation."""
    with watching(plane, ScalableKind.DEPLOYMENT) as subcluster:
        assert subcluster.wait_until_filled(30.0)
        until(
            lambda: [one.state for one in subcluster.observe().instances] == ["ready"],
            "its pod is ready",
        )
        (pod,) = subcluster.observe().instances
        outcome = applied(subcluster, withdrawal(subcluster, pod.uid, pod.version))
        assert (outcome.kind, fault in outcome.detail) == ("refused", True), outcome


def not_opened(plane: ControlPlane, client: httpx.Client, fault: str) -> None:
    """A pod whose readiness gate cannot be opened stays out of rotation."""
    decode = workload(GATED, "decode", ScalableKind.DEPLOYMENT, "decode")
    with (
        fleet_of(client, GATED, decode_of({}, gate=True)),
        in_place(plane, decode, label=None) as subcluster,
    ):
        until(lambda: set(states(subcluster)) == {"held"}, "newcomers wait at the gate")
        one, *_ = settled(subcluster, "decode")
        outcome = moved(subcluster, one, Rotation.READY)
        assert (outcome.kind, fault in outcome.detail) == ("refused", True), outcome
        assert set(states(subcluster)) == {"held"}


def not_led(plane: ControlPlane, client: httpx.Client, verb: str, fault: str) -> None:
    """Who cannot have the Lease says why, and does not lead."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{OWN}/leases"
    client.delete(f"{path}/heteroscale")
    if verb != "create":
        free = {"metadata": {"name": "heteroscale"}, "spec": {"holderIdentity": ""}}
        client.post(path, json=free).raise_for_status()
    clock = WallClock()
    lease = Lease(
        ApiServer(clock, kubeconfig=plane.controller, limit_s=1.0),
        clock,
        steady_s,
        namespace=OWN,
        name="heteroscale",
        identity="we",
        duration_s=3,
    )
    try:
        until(lambda: fault in lease.fault, f"it is told: {fault}")
        assert not lease.leads()
    finally:
        lease.close()


def not_remembered(plane: ControlPlane, client: httpx.Client, verb: str, fault: str) -> None:
    """Who cannot keep its memory does not begin to act."""
    client.delete(memory_in(OWN))
    if verb != "create":
        client.post(CONFIG_MAPS.format(OWN), json={"metadata": {"name": NAME}})
    clock = WallClock()
    api = ApiServer(clock, kubeconfig=plane.controller)
    store = ConfigMapStore(api, clock, namespace=OWN, name=NAME, writer="we")
    try:
        with pytest.raises(SubclusterUnavailable, match=fault):
            store.load()
    finally:
        api.close()


def flow(roles: Roles, resource: str, verb: str) -> Callable[[], None] | None:
    """Return what fails without a verb; None = what is told, or a second try, needs it."""
    fault = f'cannot {verb} resource "{resource}"'
    plural, _, part = resource.partition("/")
    kind = KINDS.get(plural, ScalableKind.DEPLOYMENT)
    if resource in TELLING:
        return None
    if resource == "leases":
        return lambda: not_led(roles.plane, roles.client, verb, fault)
    if resource == "configmaps":
        return lambda: not_remembered(roles.plane, roles.client, verb, fault)
    if verb in ("list", "watch"):
        said = fault if verb == "list" else f"/{resource}: HTTP 403"
        if resource == PLURAL:
            return lambda: never_asked(roles.plane, said)
        return lambda: never_seen(roles.plane, kind, said)
    if verb == "get" and resource in KINDS:
        return lambda: not_looked_at(roles.plane, kind, fault)
    if resource == "pods/status":
        return lambda: not_opened(roles.plane, roles.client, fault)
    if part or (verb == "patch" and plural in KINDS):
        return lambda: not_scaled(roles.plane, kind, fault)
    if verb == "patch":
        return lambda: not_moved(roles.plane, fault)
    return None


@pytest.mark.parametrize(("resource", "verb"), list(rules()))
def test_a_verb_that_is_taken_away_is_missed_and_no_other(
    roles: Roles, resource: str, verb: str
) -> None:
    role = role_of(resource)
    concerned = section(KINDS.get(resource.partition("/")[0], ScalableKind.DEPLOYMENT))
    place = "the cluster" if resource == "nodes" else "namespace "

    def missed() -> list[str]:
        spaces = (SPACE,) if resource in (PLURAL, *TELLING) else ()
        found = checked(roles.plane, concerned, namespaces=spaces)
        return [one.what for one in found if one.what.startswith("we may not")]

    def alone() -> bool:
        lines = missed()
        return len(lines) == 1 and lines[0].startswith(f"we may not {verb} {resource} in {place}")

    roles.without(resource, verb)
    try:
        until(alone, "the verb is missed, and nothing else")
        broken = flow(roles, resource, verb)
        if broken is not None:
            broken()
    finally:
        roles.put(role)


def test_every_kind_is_scaled_with_the_roles_that_are_shipped(roles: Roles) -> None:
    for kind in ScalableKind:
        with watching(roles.plane, kind) as subcluster:
            assert subcluster.wait_until_filled(30.0)
            outcome = applied(subcluster, scale(subcluster, 2))
            assert (outcome.kind, outcome.detail) == ("applied", ""), kind
