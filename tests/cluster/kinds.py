"""Kinds of other makers on the test's API server: their shape, and nobody makes pods of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.cluster.control_plane import until

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_TABLE = Path(__file__).parent / "kinds.yaml"


@contextmanager
def installed(client: httpx.Client, *kinds: str) -> Iterator[None]:
    """Let the API server serve kinds of the table, by default all; take them away again."""
    table = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    made = [_definition(kind, table[kind]) for kind in kinds or table]
    paths = [_served_at(one) for one in made]
    for one in made:
        client.post(_DEFINITIONS, json=one).raise_for_status()
    until(lambda: all(client.get(path).is_success for path in paths), "the kinds are served")
    try:
        yield
    finally:
        for one in made:
            client.delete(f"{_DEFINITIONS}/{one['metadata']['name']}")
        until(lambda: not any(client.get(path).is_success for path in paths), "they are gone")


def _served_at(definition: Mapping[str, Any]) -> str:
    spec = definition["spec"]
    return f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"


def _definition(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    plural = row.get("plural", f"{kind.lower()}s")
    subresources: dict[str, Any] = {"status": {}}
    if "scale" in row:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": row["scale"],
        }
    version = {
        "name": row["version"],
        "served": True,
        "storage": True,
        "subresources": subresources,
        "schema": {"openAPIV3Schema": _schema({"spec": row["spec"], "status": row["status"]})},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{row['group']}",
            # The API server guards the groups of its own project.
            "annotations": {"api-approved.kubernetes.io": "unapproved, of a test"},
        },
        "spec": {
            "group": row["group"],
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }


def _schema(shape: Any) -> dict[str, Any]:
    if isinstance(shape, dict):
        return {
            "type": "object",
            "properties": {key: _schema(value) for key, value in shape.items()},
        }
    if isinstance(shape, list):
        return {"type": "array", "items": _schema(shape[0])}
    if shape == "any":
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"type": shape}
