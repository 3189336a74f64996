"""What `heteroscale doctor` says of a real cluster, from healthy to nearly everything amiss."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.cluster_sections import (
    ClusterFile,
    RoutingLabelSection,
    ScalableKind,
    WorkloadSection,
)
from heteroscale.controller import Files
from heteroscale.entities.finding import Finding
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.checkup import cluster_findings
from tests.cluster.control_plane import NOBODY, ControlPlane, until
from tests.cluster.exporter import exporter
from tests.cluster.test_in_place import served_tps, written
from tests.cluster.worlds import ROUTE, deployment, fleet_of, made, workload
from tests.integration.prometheus_server import scraping

DEPLOYMENT = ScalableKind.DEPLOYMENT


def checked(
    plane: ControlPlane,
    *workloads: WorkloadSection,
    namespaces: tuple[str, ...] = (),
    kubeconfig: Path | None = None,
) -> list[Finding]:
    label = RoutingLabelSection(key=ROUTE, value="on")
    file = ClusterFile(
        name="alpha", workloads=workloads, namespaces=namespaces, routing_label=label
    )
    clock = WallClock()
    api = ApiServer(clock, kubeconfig=kubeconfig or plane.controller)
    try:
        return list(cluster_findings(file, api, clock))
    finally:
        api.close()


def autoscaler(name: str, target: str) -> dict[str, Any]:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 2},
    }


@contextmanager
def autoscaled(client: httpx.Client, namespace: str, name: str, target: str) -> Iterator[None]:
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    made(client, path, autoscaler(name, target))
    try:
        yield
    finally:
        client.delete(f"{path}/{name}")


def pods_in(client: httpx.Client, namespace: str) -> int:
    return len(client.get(f"/api/v1/namespaces/{namespace}/pods").json()["items"])


def test_a_healthy_cluster_gives_no_cause_for_a_word(plane: ControlPlane) -> None:
    decode = workload("healthy", "decode", DEPLOYMENT, "decode")
    with plane.client() as client, fleet_of(client, "healthy", deployment("decode", 2)):
        until(lambda: pods_in(client, "healthy") == 2, "its pods are there")
        assert checked(plane, decode) == []


def test_another_autoscaler_of_the_same_object_is_named(plane: ControlPlane) -> None:
    decode = workload("contested", "decode", DEPLOYMENT, "decode")
    with (
        plane.client() as client,
        fleet_of(client, "contested", deployment("decode", 1)),
        autoscaled(client, "contested", "hungry", "decode"),
        autoscaled(client, "contested", "elsewhere", "another"),
    ):
        (only,) = checked(plane, decode)
    assert only.where == "cluster alpha: Deployment contested/decode (decode of chat)"
    assert only.what == "HorizontalPodAutoscaler hungry sets its count, too: we refuse to"


def test_a_routing_label_that_its_workload_selects_by_would_orphan_pods(
    plane: ControlPlane,
) -> None:
    orphaning = deployment("decode", 1)
    orphaning["spec"]["selector"]["matchLabels"][ROUTE] = "on"
    decode = workload("orphaning", "decode", DEPLOYMENT, "decode")
    with plane.client() as client, fleet_of(client, "orphaning", orphaning):
        (only,) = checked(plane, decode)
    assert "would be orphaned and replaced" in only.what


def test_pods_that_nobody_routes_to_are_counted(plane: ControlPlane) -> None:
    bare = deployment("decode", 2)
    del bare["spec"]["template"]["metadata"]["labels"][ROUTE]
    decode = workload("bare", "decode", DEPLOYMENT, "decode")
    with plane.client() as client, fleet_of(client, "bare", bare):
        until(lambda: pods_in(client, "bare") == 2, "its pods are there")
        template, pods = checked(plane, decode)
    assert template.what.startswith("its pod template lacks the routing label")
    assert pods.what.startswith("2 of its 2 pods lack the routing label heteroscale.dev/route: on")
    assert pods.mend.startswith("kubectl label pod -n bare decode-")


def test_what_is_not_there_is_told_from_what_is_not_installed(plane: ControlPlane) -> None:
    storm = workload("empty", "prefill", ScalableKind.STORM_SERVICE, "chat")
    with plane.client() as client, fleet_of(client, "empty"):
        missing, absent = checked(
            plane,
            workload("empty", "decode", DEPLOYMENT, "nowhere"),
            storm.model_copy(update={"component": "prefill"}),
        )
    assert missing.what.startswith("there is no such object")
    assert absent.mend == "check that stormservices.orchestration.aibrix.ai v1alpha1 is installed"


def test_every_verb_that_we_lack_is_told_with_the_rule_to_add(plane: ControlPlane) -> None:
    way_in = plane.kubeconfig_of(NOBODY, NOBODY)
    found = checked(plane, workload("default", "decode", DEPLOYMENT, "decode"), kubeconfig=way_in)
    rules = [one for one in found if one.what.startswith("we may not")]
    assert rules[0].what == "we may not list or watch nodes in the cluster"
    assert rules[0].mend == (
        'add to our ClusterRole: {apiGroups: [""], resources: ["nodes"], verbs: ["list", "watch"]}'
    )
    assert 'resources: ["deployments/scale"], verbs: ["get", "update"]}' in rules[-1].mend


@pytest.mark.parametrize("token", ["not-a-token"])
def test_credentials_that_are_not_taken_are_all_that_is_said(
    plane: ControlPlane, token: str
) -> None:
    way_in = plane.kubeconfig_of("stranger", token)
    decode = workload("default", "decode", DEPLOYMENT, "decode")
    (only,) = checked(plane, decode, kubeconfig=way_in)
    assert only.what == "it gives no answer (HTTP 401: Unauthorized)"


def asked(files: Files) -> subprocess.CompletedProcess[str]:
    named = {
        "--services": files.services,
        "--metrics": files.metrics,
        "--cluster": files.cluster,
        "--kubeconfig": files.kubeconfig,
    }
    options = [str(part) for pair in named.items() for part in pair]
    command = [sys.executable, "-c", "from heteroscale.cli import main; main()", "doctor"]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def test_the_exit_code_tells_good_from_amiss_from_wrong_files(
    plane: ControlPlane, tmp_path: Path
) -> None:
    labels = {"heteroscale_service": "chat", "heteroscale_role": "decode"}
    with (
        plane.client() as client,
        fleet_of(client, "e2e", deployment("prefill", 1), deployment("decode", 1)),
        exporter("chat") as engines,
        scraping(tmp_path, engines.address, labels) as prometheus,
    ):
        engines.rate(100.0)
        until(lambda: served_tps(prometheus) > 50.0, "the load shows in Prometheus")
        files = written(tmp_path, plane, prometheus)
        good = asked(files)
        assert (good.returncode, good.stderr) == (0, "")
        assert good.stdout.endswith("ok: 2 workloads, 1 Prometheus servers\n")
        with autoscaled(client, "e2e", "hungry", "decode"):
            amiss = asked(files)
        assert amiss.returncode == 1
        assert "HorizontalPodAutoscaler hungry sets its count" in amiss.stdout
        wrong = asked(replace(files, services=files.metrics))
        assert wrong.returncode == 2
