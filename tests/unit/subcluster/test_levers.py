from __future__ import annotations

import json
from typing import Any

import pytest

from heteroscale.config.cluster_sections import RoutingLabelSection
from heteroscale.entities.action import Rotation
from heteroscale.subcluster.levers import (
    GATE,
    LABELS_OFF,
    Lever,
    gate_patch,
    label_patch,
    lever_of,
)

ROUTE = RoutingLabelSection(key="route", value="on")
DYNAMO = {
    "nvidia.com/dynamo-discovery-backend": "kubernetes",
    "nvidia.com/dynamo-discovery-enabled": "true",
    "nvidia.com/dynamo-namespace": "prod-chat",
    "nvidia.com/dynamo-component": "decode",
}
KEPT = ("nvidia.com/dynamo-discovery-backend", "nvidia.com/dynamo-component")


def pod(
    labels: dict[str, str] | None = None, *, gate: bool = False, notes: dict[str, str] | None = None
) -> dict[str, Any]:
    gates = [{"conditionType": GATE if gate else "example.com/other"}]
    metadata = {"uid": "u-1", "labels": labels or {}, "annotations": notes or {}}
    return {"metadata": metadata, "spec": {"readinessGates": gates}, "status": {}}


@pytest.mark.parametrize(
    ("found", "selected", "label", "lever"),
    [
        pytest.param(pod(), {"app"}, None, None, id="nobody said anything"),
        pytest.param(pod(), {"app"}, ROUTE, Lever.LABEL, id="routing label"),
        pytest.param(pod(), {"app", "route"}, ROUTE, None, id="a label that would orphan the pod"),
        pytest.param(pod(gate=True), {"app"}, None, Lever.GATE, id="declared gate"),
        pytest.param(pod(gate=True), {"app"}, ROUTE, Lever.GATE, id="the gate goes before"),
        pytest.param(pod(DYNAMO), {"app"}, None, Lever.DYNAMO, id="Dynamo on Kubernetes"),
        pytest.param(
            pod(DYNAMO), {"nvidia.com/dynamo-namespace"}, None, None, id="Dynamo, orphaned by it"
        ),
        pytest.param(
            pod({"nvidia.com/dynamo-component": "decode"}), {"app"}, None, None, id="Dynamo on etcd"
        ),
    ],
)
def test_which_lever_moves_a_pod(
    found: dict[str, Any],
    selected: set[str],
    label: RoutingLabelSection | None,
    lever: Lever | None,
) -> None:
    assert lever_of(found, selected, label) is lever


def test_a_dynamo_pod_keeps_what_it_lost_and_gets_it_back() -> None:
    out = label_patch(pod(DYNAMO), Lever.DYNAMO, None, Rotation.WITHDRAWN)
    off = json.dumps({key: DYNAMO[key] for key in sorted(DYNAMO) if key not in KEPT})
    assert out == {
        "labels": {
            "nvidia.com/dynamo-namespace": None,
            "nvidia.com/dynamo-discovery-enabled": None,
        },
        "annotations": {LABELS_OFF: off},
    }
    left = {key: DYNAMO[key] for key in KEPT}
    withdrawn = pod(left, notes={LABELS_OFF: off})
    drains = label_patch(withdrawn, Lever.DYNAMO, None, Rotation.DRAINING)
    assert drains["annotations"] == {LABELS_OFF: off}
    back = label_patch(withdrawn, Lever.DYNAMO, None, Rotation.READY)
    assert {**left, **back["labels"]} == DYNAMO
    assert back["annotations"] == {LABELS_OFF: None}


def test_the_gate_says_why_it_is_shut() -> None:
    assert gate_patch(pod(gate=True), opens=False, why="withdrawn", at="2026-03-01T10:00:00Z") == {
        "metadata": {"uid": "u-1"},
        "status": {
            "conditions": [
                {
                    "type": GATE,
                    "status": "False",
                    "reason": "Withdrawn",
                    "lastTransitionTime": "2026-03-01T10:00:00Z",
                }
            ]
        },
    }


def test_a_gate_and_no_lever_change_no_label() -> None:
    assert label_patch(pod(gate=True), Lever.GATE, ROUTE, Rotation.WITHDRAWN) == {}
    assert label_patch(pod(), None, None, Rotation.DRAINING) == {}
