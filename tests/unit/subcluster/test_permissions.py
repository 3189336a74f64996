"""The roles that are shipped grant what is asked of the API server, and nothing else."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import yaml

from heteroscale.config.cluster_sections import ClusterFile, ScalableKind, WorkloadSection
from heteroscale.subcluster.permissions import needed

BASE = Path(__file__).resolve().parents[3] / "deploy" / "kustomize" / "base"
#: (role, group, resource, name, verb)
Grant = tuple[str, str, str, str, str]


def every_kind() -> ClusterFile:
    workloads = [
        WorkloadSection(service="chat", role=kind, accelerator="H20", kind=kind, name="chat")
        for kind in ScalableKind
    ]
    return ClusterFile(workloads=tuple(workloads), namespaces=("default",))


def granted(role: dict[str, Any]) -> set[Grant]:
    return {
        (role["metadata"]["name"], *grant)
        for rule in role["rules"]
        for grant in product(
            rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""]), rule["verbs"]
        )
    }


def role_of(resource: str, namespace: str) -> str:
    if not namespace:
        return "heteroscale-nodes"
    return f"heteroscale-{'lease' if resource in ('leases', 'configmaps') else 'workloads'}"


def test_the_roles_grant_exactly_what_a_controller_of_every_kind_needs() -> None:
    documents = list(yaml.safe_load_all((BASE / "roles.yaml").read_text(encoding="utf-8")))
    roles = [one for one in documents if one["kind"] in ("ClusterRole", "Role")]
    wanted = {
        (role_of(one.resource, one.namespace), one.group, one.resource, one.name, verb)
        for one in needed(every_kind(), "heteroscale")
        for verb in one.verbs
    }
    assert set().union(*map(granted, roles)) == wanted
