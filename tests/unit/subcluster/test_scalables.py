from __future__ import annotations

from typing import Any

import pytest

from heteroscale.config.cluster_sections import ScalableKind
from heteroscale.subcluster.scalables import SCALABLES, count_patch, pods_of, replicas_of, rolls_out

DEPLOYMENT = SCALABLES[ScalableKind.DEPLOYMENT]
SERVING = SCALABLES[ScalableKind.MODEL_SERVING]


def model_serving(**decode: Any) -> dict[str, Any]:
    roles = [{"name": "prefill", "replicas": 3}, {"name": "decode", **decode}]
    return {
        "metadata": {"name": "chat", "resourceVersion": "41"},
        "spec": {"template": {"roles": roles}},
    }


def test_every_kind_is_in_the_table() -> None:
    assert set(SCALABLES) == set(ScalableKind)


@pytest.mark.parametrize("kind", [kind for kind in ScalableKind if not SCALABLES[kind].has_scale])
def test_a_kind_without_scale_says_where_its_components_and_pods_are(kind: ScalableKind) -> None:
    assert SCALABLES[kind].components
    assert "{component}" in (SCALABLES[kind].pod_labels or {}).values()


def test_a_count_that_is_not_written_is_one() -> None:
    assert replicas_of(DEPLOYMENT, {"spec": {}}, None) == 1
    assert replicas_of(DEPLOYMENT, {"spec": {"replicas": 0}}, None) == 0
    assert replicas_of(SERVING, model_serving(), "decode") == 1
    assert replicas_of(SERVING, model_serving(replicas=4), "decode") == 4
    assert replicas_of(SERVING, model_serving(), "encode") is None


def test_pods_are_found_by_the_selector_of_their_workload() -> None:
    labels = {"app": "chat", "role": "decode"}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": labels}}}
    assert pods_of(DEPLOYMENT, deployment, None) == labels
    leaders = SCALABLES[ScalableKind.LEADER_WORKER_SET]
    said = {"metadata": {"name": "l"}, "status": {"hpaPodSelector": "app=chat,role=decode"}}
    assert pods_of(leaders, said, None) == labels
    assert pods_of(leaders, {"metadata": {"name": "l"}}, None) == {}
    assert pods_of(SERVING, model_serving(), "decode") == {
        "modelserving.volcano.sh/name": "chat",
        "modelserving.volcano.sh/role": "decode",
        "modelserving.volcano.sh/entry": "true",
    }


def test_a_component_is_patched_only_where_it_still_stands_with_the_count_that_was_seen() -> None:
    assert count_patch(SERVING, model_serving(replicas=2), "decode", 2, 5) == [
        {"op": "test", "path": "/spec/template/roles/1/name", "value": "decode"},
        {"op": "test", "path": "/spec/template/roles/1/replicas", "value": 2},
        {"op": "add", "path": "/spec/template/roles/1/replicas", "value": 5},
    ]


def test_where_no_count_is_written_the_version_of_the_whole_object_is_tested() -> None:
    patch = count_patch(SERVING, model_serving(), "decode", 1, 5)
    assert patch is not None
    assert patch[1] == {"op": "test", "path": "/metadata/resourceVersion", "value": "41"}
    assert count_patch(SERVING, model_serving(), "encode", 1, 5) is None


STATEFUL_SET = SCALABLES[ScalableKind.STATEFUL_SET]
#: one of three pods is of the newest template
HALFWAY = {"observedGeneration": 7, "replicas": 3, "updatedReplicas": 1}


def rolled(status: dict[str, int], **strategy: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "d", "generation": 7},
        "spec": {"updateStrategy": strategy},
        "status": status,
    }


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        pytest.param(rolled(HALFWAY), True, id="pods of the former template are left"),
        pytest.param(rolled(HALFWAY | {"updatedReplicas": 3}), False, id="all are new"),
        pytest.param(
            rolled(HALFWAY | {"updatedReplicas": 3, "observedGeneration": 6}),
            True,
            id="its controller has not seen the newest template",
        ),
        pytest.param(rolled({"observedGeneration": 7}), False, id="no pods at all"),
        pytest.param(rolled(HALFWAY, type="OnDelete"), False, id="replaced by hand"),
        pytest.param(
            rolled(HALFWAY, rollingUpdate={"partition": 2}), False, id="held at a partition"
        ),
    ],
)
def test_a_rollout_is_under_way_while_pods_of_a_former_template_are_left(
    found: dict[str, Any], wanted: bool
) -> None:
    assert rolls_out(STATEFUL_SET, found) is wanted
    assert not rolls_out(SERVING, found)
