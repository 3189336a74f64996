"""What takes a pod out of rotation and brings it back: a table, and what is written for it.

A pod keeps running meanwhile. Which lever moves it is read off the pod and its workload: whoever
declares our readiness gate is moved by it; else a label that the router selects by and the
workload does not. Where there is none, a pod leaves rotation by its end alone.

| router | follows | lever |
|---|---|---|
| any that follows pod Ready (AIBrix, Kthena, a Service) | readiness | the gate, if declared |
| Service, InferencePool (llm-d's EPP) | labels | the routing label of the cluster file |
| Dynamo, discovery `kubernetes` | endpoints of its Services, or pods | the labels these select by |

Facts: gateway-api-inference-extension and llm-d-router of autumn 2026, ai-dynamo 1.6.1.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

from heteroscale.config.cluster_sections import RoutingLabelSection
from heteroscale.entities.action import Rotation
from heteroscale.subcluster.scalables import KubeObject, labels_of

#: declared in `spec.readinessGates` of a pod; True in its status = in rotation
GATE = "heteroscale.dev/in-rotation"
#: labels that were taken off a pod with their values, as JSON
LABELS_OFF = "heteroscale.dev/labels-off"
#: on every pod that Dynamo's operator lets be discovered through Kubernetes
_DYNAMO = ("nvidia.com/dynamo-discovery-backend", "kubernetes")
#: what the Services of discovery select by, and what a front end that watches pods looks for
_DYNAMO_LABELS = ("nvidia.com/dynamo-namespace", "nvidia.com/dynamo-discovery-enabled")


class Lever(Enum):
    """A way out of rotation and back."""

    GATE = "readiness gate"
    LABEL = "routing label"
    DYNAMO = "Dynamo's discovery"


def lever_of(
    pod: KubeObject, selected: Collection[str], label: RoutingLabelSection | None
) -> Lever | None:
    """Return what moves a pod; None = nothing does.

    Args:
        selected: labels that its workload selects by: without one of these a pod is orphaned.
        label: of the cluster file.
    """
    gates = pod["spec"].get("readinessGates") or ()
    if any(one.get("conditionType") == GATE for one in gates):
        return Lever.GATE
    if label is not None:
        return None if label.key in selected else Lever.LABEL
    key, value = _DYNAMO
    if labels_of(pod).get(key) == value and not set(_DYNAMO_LABELS) & set(selected):
        return Lever.DYNAMO
    return None


def gate_is_open(pod: KubeObject) -> bool:
    """Return whether the pod's status says that it is in rotation."""
    return _says(pod, GATE)


def containers_ready(pod: KubeObject) -> bool:
    """Return whether a pod waits for nothing but its readiness gates."""
    return _says(pod, "ContainersReady")


def label_patch(
    pod: KubeObject, lever: Lever | None, label: RoutingLabelSection | None, to: Rotation
) -> dict[str, Any]:
    """Return the part of `metadata` in a merge patch that moves a pod by its labels."""
    returns = to is Rotation.READY
    if lever is Lever.LABEL and label is not None:
        return {"labels": {label.key: label.value if returns else None}}
    if lever is not Lever.DYNAMO:
        return {}
    notes = pod["metadata"].get("annotations") or {}
    off: Mapping[str, str] = json.loads(notes.get(LABELS_OFF, "{}"))
    if returns:
        return {"labels": dict(off), "annotations": {LABELS_OFF: None}}
    labels = labels_of(pod)
    off = {**off, **{key: labels[key] for key in _DYNAMO_LABELS if key in labels}}
    return {
        "labels": dict.fromkeys(off),
        "annotations": {LABELS_OFF: json.dumps(off, sort_keys=True)},
    }


def gate_patch(pod: KubeObject, *, opens: bool, why: str, at: str) -> dict[str, Any]:
    """Return the strategic merge patch of a pod's status that opens or shuts its gate.

    Args:
        why: one word.
        at: time of the change, as Kubernetes writes it.
    """
    condition = {
        "type": GATE,
        "status": "True" if opens else "False",
        "reason": why.capitalize(),
        "lastTransitionTime": at,
    }
    return {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"conditions": [condition]}}


def _says(pod: KubeObject, kind: str) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)
