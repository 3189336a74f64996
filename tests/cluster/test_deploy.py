"""The chart and the kustomizations on a real API server: taken as they are, and the same."""

from __future__ import annotations

import json
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.kinds import installed
from tests.cluster.shipped import CHART, NAME, applied, chart, kustomized, rendered, told
from tests.cluster.worlds import fleet_of

EXAMPLES = CHART.parents[2] / "examples"
#: what a release says of itself and a kustomization cannot
OF_A_RELEASE = ("app.kubernetes.io/managed-by", "helm.sh/chart")

FILES = ",".join(
    f"files.{name}={EXAMPLES / name}.yaml" for name in ("services", "metrics", "cluster")
)
OPTIONS = {
    "looks only, files of its own making": ("--set-file", FILES),
    "acts, watched by the operator": (
        *("--set-file", FILES, "--set", "act=true,serviceMonitor.enabled=true"),
        *("--set", "prometheusRule.enabled=true,dashboard.enabled=true"),
        *("--set", "serviceMonitor.labels.release=kube-prometheus"),
    ),
    "closed in, on nodes of its own": (
        *("--set", "act=true,replicas=3,namespaces={a,b},groups={apps},configMap=mine"),
        *("--set", "networkPolicy.from[0].namespaceSelector.matchLabels.name=monitoring"),
        *("--set", "networkPolicy.egress[0].to[0].ipBlock.cidr=10.0.0.1/32"),
        *("--set", "networkPolicy.egress[0].ports[0].port=443"),
        *("--set", "secrets={prometheus-password},log=text,priorityClassName=high"),
        *("--set", "tolerations[0].operator=Exists,nodeSelector.pool=control"),
        *("--set", "serviceAccount.annotations.role=scrape,pod.labels.team=serving"),
        *("--set", f"image.digest=sha256:{'0' * 64},imagePullSecrets[0].name=registry"),
        *("--set", "lease.namespace=leases,lease.name=ours,networkPolicy.enabled=true"),
    ),
}


def namespaces(*names: str) -> list[dict[str, Any]]:
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]


def by_name(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return objects without what a release adds, by kind, namespace and name."""
    found = {}
    for one in objects:
        metadata = one["metadata"]
        labels = metadata.get("labels") or {}
        metadata["labels"] = {key: labels[key] for key in labels if key not in OF_A_RELEASE}
        if one["kind"] == "CustomResourceDefinition":
            # Helm takes definitions as they are.
            del metadata["labels"]
        found[f"{one['kind']} {metadata.get('namespace', '')}/{metadata['name']}"] = one
    return found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("base", (), id="the base looks only"),
        pytest.param("acting", ("--set", "act=true"), id="the other acts"),
    ],
)
def test_chart_and_kustomization_are_the_same_objects(name: str, options: tuple[str, ...]) -> None:
    ours = by_name(kustomized(name))
    # Helm makes the release's namespace itself.
    del ours[f"Namespace /{NAME}"]
    assert by_name(chart("--set", "namespaces={serving}", *options)) == ours


def test_the_chart_bears_the_version_of_the_package() -> None:
    project = tomllib.loads((CHART.parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    said = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    version = project["project"]["version"]
    assert (said["version"], said["appVersion"]) == (version, version)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_lint_finds_nothing_and_the_api_server_takes_every_object(
    plane: ControlPlane, options: tuple[str, ...]
) -> None:
    linted = told("helm", "lint", "--strict", "--kube-version", "1.36.3", str(CHART), *options)
    assert (linted.returncode, "0 chart(s) failed" in linted.stdout) == (0, True), linted.stdout
    assert applied(plane, namespaces("serving", "a", "b", "leases")).returncode == 0
    objects = chart(*options)
    with plane.client() as client, installed(client, "ServiceMonitor", "PrometheusRule"):
        done = applied(plane, objects, "--dry-run=server")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(objects)


@pytest.mark.parametrize("name", ["base", "acting"])
def test_the_api_server_takes_every_object_of_a_kustomization(
    plane: ControlPlane, name: str
) -> None:
    assert applied(plane, namespaces("serving")).returncode == 0
    done = applied(plane, kustomized(name), "--dry-run=server")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param("act=perhaps", "act", id="neither true nor false"),
        pytest.param("replicas=0", "replicas", id="no controller at all"),
        pytest.param("observe=true", "observe", id="a value that is none"),
        pytest.param("groups={example.com}", "groups", id="a group that is not scaled"),
        pytest.param("image.digest=latest", "digest", id="a digest that is a tag"),
        pytest.param("files.cluster=name: a", "all of services, metrics and cluster", id="a file"),
        pytest.param("files.cluster=:", "no YAML", id="a file that is none"),
    ],
)
def test_values_that_cannot_be_meant_are_refused_by_name(options: str, said: str) -> None:
    refused = rendered("--set", options)
    assert refused.returncode != 0
    assert said in refused.stderr


def test_the_namespaces_and_the_lease_of_the_cluster_file_need_not_be_repeated(
    tmp_path: Path,
) -> None:
    workloads = [{"namespace": "chat"}, {"namespace": "code"}, {}, {"namespace": "chat"}]
    lease = {"name": "ours", "namespace": "leases"}
    cluster = {"namespaces": ["asked", "code"], "workloads": workloads, "lease": lease}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(cluster), encoding="utf-8")
    given = f"files.cluster={tmp_path / 'cluster.yaml'}"
    others = "files.services=x,files.metrics=y,namespaces={more}"
    objects = chart("--set-file", given, "--set", others)
    bound = [one["metadata"] for one in objects if one["kind"] == "RoleBinding"]
    assert sorted((one["namespace"], one["name"]) for one in bound) == [
        ("asked", "heteroscale-workloads"),
        ("chat", "heteroscale-workloads"),
        ("code", "heteroscale-workloads"),
        ("default", "heteroscale-workloads"),
        ("leases", "heteroscale-lease"),
        ("more", "heteroscale-workloads"),
    ]
    (role,) = [one for one in objects if one["kind"] == "Role"]
    assert role["metadata"]["namespace"] == "leases"
    names = [name for rule in role["rules"] for name in rule.get("resourceNames", ())]
    assert names == ["ours", "ours-state"]


def test_kinds_that_are_not_used_are_not_granted() -> None:
    def groups(*options: str) -> set[tuple[str, bool]]:
        (role,) = [
            one for one in chart(*options) if one["metadata"]["name"] == "heteroscale-workloads"
        ]
        rules = role["rules"]
        return {(one["apiGroups"][0], one["verbs"] == ["list"]) for one in rules}

    less = groups("--set", "groups={apps}")
    gone = {group for group, listed in groups() - less if not listed}
    assert gone == {
        "leaderworkerset.x-k8s.io",
        "disaggregatedset.x-k8s.io",
        "workloads.x-k8s.io",
        "nvidia.com",
        "grove.io",
        "workload.serving.volcano.sh",
        "orchestration.aibrix.ai",
    }
    # Who else may set the same counts is looked at whatever is scaled.
    assert {group for group, listed in groups() if listed} == {
        group for group, listed in less if listed
    }


def test_alerts_and_dashboard_come_as_they_are_in_their_files() -> None:
    monitoring = CHART.parents[1] / "monitoring"
    wanted = "prometheusRule.enabled=true,dashboard.enabled=true"
    objects = chart("--set", wanted)
    (rule,) = [one for one in objects if one["kind"] == "PrometheusRule"]
    alerts = (monitoring / "alerts.yaml").read_text(encoding="utf-8")
    assert rule["spec"] == yaml.safe_load(alerts)
    (board,) = [one["data"] for one in objects if one["kind"] == "ConfigMap"]
    dashboard = (monitoring / "dashboard.json").read_text(encoding="utf-8")
    assert json.loads(board["heteroscale.json"]) == json.loads(dashboard)


def test_what_is_installed_starts_and_every_file_of_it_is_where_it_should_be(
    plane: ControlPlane,
) -> None:
    """The fake kubelet runs nothing; that the pods come to be shows that all they name is there."""
    objects = deepcopy(chart("--set-file", FILES, "--set", "act=true"))
    for one in objects:
        if one["metadata"].get("namespace") == NAME:
            one["metadata"]["namespace"] = "installed"
    release = [one for one in objects if one["kind"] not in ("ClusterRole", "ClusterRoleBinding")]
    assert applied(plane, namespaces("serving", "installed")).returncode == 0
    done = applied(plane, release)
    assert (done.returncode, done.stderr) == (0, "")
    path = "/apis/apps/v1/namespaces/installed/deployments/heteroscale"
    with plane.client() as client, fleet_of(client, "serving"):
        until(
            lambda: client.get(path).json().get("status", {}).get("readyReplicas") == 2,
            "both controllers are ready",
        )
        client.delete("/api/v1/namespaces/installed")
