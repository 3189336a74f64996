"""Which autoscalers set a count of ours: each kind as its makers write it."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale.config.cluster_sections import ScalableKind, WorkloadSection
from heteroscale.subcluster.second_writers import WRITER_KINDS, writes

KINDS = {one.kind: one for one in WRITER_KINDS}


def workload(kind: ScalableKind, name: str, component: str | None = None) -> WorkloadSection:
    return WorkloadSection(
        service="chat",
        role="decode",
        accelerator="H20",
        kind=kind,
        name=name,
        component=component,
    )


DECODE = workload(ScalableKind.DEPLOYMENT, "decode")
SERVING = workload(ScalableKind.MODEL_SERVING, "chat", "decode")
STORM = workload(ScalableKind.STORM_SERVICE, "chat", "decode")
ADAPTER = workload(ScalableKind.ROLE_BASED_GROUP_SCALING_ADAPTER, "chat-decode")
ADAPTED = {"spec": {"scaleTargetRef": {"name": "chat", "role": "decode"}}}


def reference(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"scaleTargetRef": {"kind": kind, "name": name}, **more}


def kthena(target: dict[str, str], **beside: Any) -> dict[str, Any]:
    return {"disaggregatedTarget": {"targetRef": target, **beside}}


def coordinated(role: str, **strategy: Any) -> dict[str, Any]:
    return {"policies": [{"roles": [role], "strategy": strategy}]}


ROLE = {"kind": "ModelServing/Role", "name": "chat/decode"}
CASES = [
    pytest.param(
        "HorizontalPodAutoscaler", reference("Deployment", "decode"), DECODE, True, id="HPA"
    ),
    pytest.param(
        "HorizontalPodAutoscaler",
        reference("StatefulSet", "decode"),
        DECODE,
        False,
        id="other kind",
    ),
    pytest.param(
        "HorizontalPodAutoscaler",
        reference("Deployment", "prefill"),
        DECODE,
        False,
        id="other name",
    ),
    pytest.param("ScaledObject", {"scaleTargetRef": {"name": "decode"}}, DECODE, True, id="KEDA"),
    pytest.param(
        "PodAutoscaler",
        reference("StormService", "chat", subTargetSelector={"roleName": "decode"}),
        STORM,
        True,
        id="AIBrix, our role",
    ),
    pytest.param(
        "PodAutoscaler",
        reference("StormService", "chat", subTargetSelector={"roleName": "encode"}),
        STORM,
        False,
        id="AIBrix, another role",
    ),
    pytest.param(
        "AutoscalingPolicy",
        kthena({"name": "chat"}, roles={"prefill": {}, "decode": {}}),
        SERVING,
        True,
        id="Kthena, both roles",
    ),
    pytest.param("AutoscalingPolicy", kthena({"name": "code"}), SERVING, False, id="Kthena, other"),
    pytest.param(
        "AutoscalingPolicyBinding",
        {"heterogeneousTarget": {"params": [{"target": {"targetRef": ROLE}}]}},
        SERVING,
        True,
        id="Kthena, one of several targets",
    ),
    pytest.param(
        "CoordinatedPolicy", coordinated("decode", scaling={}), ADAPTER, True, id="RBG scaling"
    ),
    pytest.param(
        "CoordinatedPolicy",
        coordinated("decode", rollingUpdate={}),
        ADAPTER,
        False,
        id="RBG, rollouts only",
    ),
    pytest.param(
        "CoordinatedPolicy",
        coordinated("prefill", scaling={}),
        ADAPTER,
        False,
        id="RBG, other role",
    ),
]


@pytest.mark.parametrize(("kind", "spec", "section", "wanted"), CASES)
def test_an_autoscaler_that_names_our_count_writes_it(
    kind: str, spec: dict[str, Any], section: WorkloadSection, wanted: bool
) -> None:
    writer = {"metadata": {"name": "chat"}, "spec": spec}
    assert writes(KINDS[kind], writer, section, ADAPTED) is wanted


def test_a_paused_scaled_object_writes_nothing() -> None:
    paused = {"name": "x", "annotations": {"autoscaling.keda.sh/paused": "true"}}
    writer = {"metadata": paused, "spec": {"scaleTargetRef": {"name": "decode"}}}
    assert not writes(KINDS["ScaledObject"], writer, DECODE, None)
