"""What deploy/ ships, on a real API server: it is accepted, and its account may do what it must."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from heteroscale.config.cluster_sections import ScalableKind
from heteroscale.entities.action import OutcomeKind
from heteroscale.entities.snapshot import InstanceState
from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.exporter import exporter
from tests.cluster.test_doctor import checked
from tests.cluster.test_hindrances import applied, withdrawal
from tests.cluster.test_in_place import scale, served_tps, ticked, written
from tests.cluster.worlds import deployment, fleet_of, in_place, made, settled, workload
from tests.integration.prometheus_server import scraping

BASE = Path(__file__).resolve().parents[2] / "deploy" / "kustomize" / "base"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
NAMESPACE = "heteroscale"
CORE = "/api/v1"
#: kind → path of all of its kind; {} = its namespace
PATHS = {
    "Namespace": f"{CORE}/namespaces",
    "ServiceAccount": f"{CORE}/namespaces/{{}}/serviceaccounts",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ClusterRole": f"{RBAC}/clusterroles",
    "ClusterRoleBinding": f"{RBAC}/clusterrolebindings",
    "Role": f"{RBAC}/namespaces/{{}}/roles",
    "RoleBinding": f"{RBAC}/namespaces/{{}}/rolebindings",
}


def shipped() -> list[dict[str, Any]]:
    """Return every object of the base, in its order."""
    base = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))
    texts = [(BASE / name).read_text(encoding="utf-8") for name in base["resources"]]
    return [one for text in texts for one in yaml.safe_load_all(text)]


def path_of(one: dict[str, Any]) -> str:
    return PATHS[one["kind"]].format(one["metadata"].get("namespace", ""))


@pytest.fixture
def account(plane: ControlPlane) -> Iterator[Path]:
    """Yield the way in of the account that the base makes, its roles bound in `e2e`."""
    with plane.client() as client:
        made(client, f"{CORE}/namespaces", {"metadata": {"name": "e2e"}})
        for one in shipped():
            if one["kind"] == "Deployment":
                continue
            if one["metadata"].get("namespace") == "serving":
                one["metadata"]["namespace"] = "e2e"
            made(client, path_of(one), one)
        token = f"{CORE}/namespaces/{NAMESPACE}/serviceaccounts/heteroscale/token"
        reply = client.post(token, json={"spec": {}}).raise_for_status().json()
        yield plane.kubeconfig_of("heteroscale", reply["status"]["token"], NAMESPACE)


def test_the_api_server_takes_every_object_that_is_shipped(plane: ControlPlane) -> None:
    with plane.client() as client:
        for namespace in (NAMESPACE, "serving"):
            made(client, f"{CORE}/namespaces", {"metadata": {"name": namespace}})
        for one in shipped():
            strict = {"dryRun": "All", "fieldValidation": "Strict"}
            reply = client.post(path_of(one), params=strict, json=one)
            assert reply.status_code in (httpx.codes.CREATED, httpx.codes.CONFLICT), reply.text


def test_the_controller_scales_with_the_roles_that_are_shipped(
    plane: ControlPlane, account: Path, tmp_path: Path
) -> None:
    labels = {"heteroscale_service": "chat", "heteroscale_role": "decode"}
    with (
        plane.client() as client,
        fleet_of(client, "e2e", deployment("prefill", 1), deployment("decode", 1)),
        exporter("chat", engines=8) as engines,
        scraping(tmp_path, engines.address, labels) as prometheus,
    ):
        engines.rate(280.0)
        until(lambda: served_tps(prometheus) > 250.0, "the load shows in Prometheus")
        files = written(tmp_path, plane, prometheus, account)
        out = ticked(files, observe=False, most=8)
        assert {one.kind for report in out for one in report.outcomes} == {OutcomeKind.APPLIED}
        assert all(report.notices == () for report in out)


def test_pods_leave_rotation_and_go_with_the_roles_that_are_shipped(
    plane: ControlPlane, account: Path
) -> None:
    decode = workload("e2e", "decode", ScalableKind.DEPLOYMENT, "decode")
    with (
        plane.client() as client,
        fleet_of(client, "e2e", deployment("decode", 2)),
        in_place(plane, decode, kubeconfig=account) as subcluster,
    ):
        until(
            lambda: {one.state for one in settled(subcluster, "decode")} == {InstanceState.READY},
            "both are ready",
        )
        last = settled(subcluster, "decode")[-1]
        leaving = applied(subcluster, withdrawal(subcluster, last.uid, last.version))
        assert (leaving.kind, leaving.detail) == (OutcomeKind.APPLIED, "")
        going = applied(subcluster, scale(subcluster, 1, last.uid))
        assert (going.kind, going.detail) == (OutcomeKind.APPLIED, "")
        assert last.uid not in {one.uid for one in settled(subcluster, "decode")}
        assert subcluster.fault() == ""


RULES = [
    pytest.param(role, position, verb, id=f"{rule['resources'][0]} {verb}")
    for role in shipped()
    if role["kind"] in ("ClusterRole", "Role")
    for position, rule in enumerate(role["rules"])
    for verb in rule["verbs"]
    if set(rule["apiGroups"]) & {"", "apps", "autoscaling", "coordination.k8s.io"}
]


@pytest.mark.parametrize(("role", "position", "verb"), RULES)
def test_a_verb_that_is_taken_away_is_missed_and_no_other(
    plane: ControlPlane, account: Path, role: dict[str, Any], position: int, verb: str
) -> None:
    less, rule = deepcopy(role), role["rules"][position]
    verbs = [one for one in rule["verbs"] if one != verb]
    less["rules"][position : position + 1] = [{**rule, "verbs": verbs}] if verbs else []
    path = f"{path_of(role)}/{role['metadata']['name']}"
    decode = workload("e2e", "decode", ScalableKind.DEPLOYMENT, "decode")

    def missed() -> list[str]:
        found = checked(plane, decode, kubeconfig=account)
        return [one.what for one in found if one.what.startswith("we may not")]

    with plane.client() as client, fleet_of(client, "e2e", deployment("decode", 1)):
        until(lambda: missed() == [], "everything is allowed")
        client.put(path, json=less).raise_for_status()
        try:
            until(lambda: bool(missed()), "the verb is missed")
            (only,) = missed()
            assert only.startswith(f"we may not {verb} {rule['resources'][0]} in ")
        finally:
            client.put(path, json=role).raise_for_status()
