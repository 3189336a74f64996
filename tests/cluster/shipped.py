"""What deploy/ ships, as objects: the chart as Helm, the kustomizations as kubectl renders them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.cluster.control_plane import CONTROLLERS, ControlPlane, programs

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "heteroscale"
#: release and namespace
NAME = "heteroscale"
#: of the API server that is built; Helm asks none while it renders
VERSION = "1.36.3"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


def told(program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of the built programs."""
    command = [str(programs() / program), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def rendered(*options: str) -> subprocess.CompletedProcess[str]:
    """Render the chart, or be told why not."""
    where = ("-n", NAME, "--kube-version", VERSION)
    return told("helm", "template", NAME, str(CHART), *where, *options)


def chart(*options: str) -> list[dict[str, Any]]:
    """Return every object of the chart, its custom resource definitions included."""
    done = rendered("--include-crds", *options)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def kustomized(name: str) -> list[dict[str, Any]]:
    """Return every object of a kustomization."""
    done = told("kubectl", "kustomize", str(DEPLOY / "kustomize" / name))
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def applied(
    plane: ControlPlane, objects: Iterable[Mapping[str, Any]], *options: str
) -> subprocess.CompletedProcess[str]:
    """Apply objects as the admin; every field that is not known is an error."""
    text = yaml.safe_dump_all(objects)
    way_in = (f"--kubeconfig={plane.kubeconfig}", f"--cache-dir={plane.folder / 'kubectl'}")
    strict = ("--server-side", "--force-conflicts", "--validate=strict")
    return told("kubectl", *way_in, "apply", *strict, *options, "-f", "-", stdin=text)


@cache
def _roles() -> tuple[dict[str, Any], ...]:
    """Return the account, the roles and their bindings, as for workloads in one namespace."""
    kinds = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    found = [one for one in chart("--set", "namespaces={here}") if one["kind"] in kinds]
    for one in found:
        if "subjects" in one:
            group = "rbac.authorization.k8s.io"
            users = [{"kind": "User", "name": user, "apiGroup": group} for user in CONTROLLERS]
            one["subjects"] += users
    return tuple(found)


def role_of(resource: str) -> dict[str, Any]:
    """Return the role that says something of a resource."""
    for one in _roles():
        if any(resource in rule["resources"] for rule in one.get("rules", ())):
            return deepcopy(one)
    raise LookupError(resource)


def path_of(one: Mapping[str, Any]) -> str:
    """Return the path of all roles or bindings of a kind, in its namespace if it has one."""
    namespace = one["metadata"].get("namespace")
    place = f"namespaces/{namespace}/" if namespace else ""
    return f"{_RBAC}/{place}{one['kind'].lower()}s"


def installed(plane: ControlPlane) -> Path:
    """Make the chart's account and its roles; return the account's way in."""
    here = [one for one in _roles() if one["metadata"].get("namespace") != "here"]
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}
    done = applied(plane, [space, *here])
    assert done.returncode == 0, done.stderr
    token = f"/api/v1/namespaces/{NAME}/serviceaccounts/{NAME}/token"
    with plane.client() as client:
        reply = client.post(token, json={"spec": {}}).raise_for_status().json()
    return plane.kubeconfig_of(NAME, reply["status"]["token"], NAME)


def allow(client: httpx.Client, namespace: str) -> None:
    """Let the controller work in a namespace, as the chart would: workloads, and a Lease there."""
    for one in _roles():
        if one["metadata"].get("namespace") is None or one["kind"] == "ServiceAccount":
            continue
        bound = deepcopy(one)
        bound["metadata"]["namespace"] = namespace
        reply = client.post(path_of(bound), json=bound)
        assert reply.is_success or reply.status_code == httpx.codes.CONFLICT, reply.text
