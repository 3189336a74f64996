from __future__ import annotations

from typing import Any

import pytest

from heteroscale.config.cluster_sections import RoutingLabelSection, ScalableKind, WorkloadSection
from heteroscale.entities.action import Rotation, RotationAction
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.subcluster.levers import GATE, Lever
from heteroscale.subcluster.pods import ACTION, ROTATION, SINCE, instance_of, rotation_patch

WORKLOAD = WorkloadSection(
    service="chat",
    role="decode",
    accelerator="H20",
    kind=ScalableKind.DEPLOYMENT,
    namespace="prod",
    name="chat-decode",
)
ROUTE = RoutingLabelSection(key="route", value="on")
CREATED, PLACED, UP, MOVED = (f"2026-03-01T10:0{minute}:00Z" for minute in range(4))
#: of CREATED
CREATED_S = 1_772_359_200.0


def pod(
    *,
    node: str | None = "node-1",
    ready: bool = True,
    notes: dict[str, str] | None = None,
    **status: Any,
) -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": PLACED}]
    said = "True" if ready else "False"
    conditions.append({"type": "Ready", "status": said, "lastTransitionTime": UP})
    return {
        "metadata": {
            "namespace": "prod",
            "name": "chat-decode-x",
            "uid": "0123456789",
            "resourceVersion": "7",
            "creationTimestamp": CREATED,
            "annotations": notes or {},
        },
        "spec": {
            "nodeName": node,
            "containers": [{"resources": {"limits": {"nvidia.com/gpu": "8"}}}, {}],
        },
        "status": {"phase": "Running", "conditions": conditions, **status},
    }


def seen(found: dict[str, Any], lever: Lever | None = Lever.LABEL) -> Instance:
    return instance_of(found, WORKLOAD, "main", 3, "nvidia.com/gpu", lever)


def test_a_ready_pod_is_an_instance_in_rotation_since_it_became_ready() -> None:
    assert seen(pod()) == Instance(
        uid="prod/chat-decode-x@01234567",
        service="chat",
        role="decode",
        group="prod-chat",
        subcluster="main",
        accelerator="H20",
        ordinal=3,
        state=InstanceState.READY,
        since_s=CREATED_S + 120.0,
        nodes=("node-1",),
        gpus=8,
        version="new.ready",
    )


def waiting(reason: str) -> list[dict[str, Any]]:
    return [{"name": "engine", "state": {"waiting": {"reason": reason}}}]


@pytest.mark.parametrize(
    ("found", "state", "minute"),
    [
        (pod(node=None, ready=False), InstanceState.PENDING, 0),
        (pod(ready=False), InstanceState.STARTING, 1),
        (pod(ready=False, containerStatuses=waiting("ContainerCreating")), "starting", 1),
        (pod(ready=False, containerStatuses=waiting("CrashLoopBackOff")), "failed", 2),
        (pod(ready=False, phase="Failed"), InstanceState.FAILED, 2),
        (pod(notes={ROTATION: "withdrawn", SINCE: MOVED}), InstanceState.WITHDRAWN, 3),
        (pod(notes={ROTATION: "draining", SINCE: MOVED}), InstanceState.DRAINING, 3),
        (pod(notes={ROTATION: "held", SINCE: MOVED}), InstanceState.HELD, 3),
        (pod(notes={ROTATION: "held", SINCE: CREATED}), InstanceState.HELD, 2),
    ],
)
def test_state_and_since_are_read_off_the_pod(
    found: dict[str, Any], state: str, minute: int
) -> None:
    one = seen(found)
    assert (one.state, one.since_s) == (state, CREATED_S + 60.0 * minute)


def test_a_starting_pod_told_to_hold_is_starting_and_held() -> None:
    one = seen(pod(ready=False, notes={ROTATION: "held", SINCE: CREATED}))
    assert (one.state, one.held) == (InstanceState.STARTING, True)


def gated(
    notes: dict[str, str] | None = None, *, opened: bool | None, ready: bool = True
) -> dict[str, Any]:
    """Return a pod with the gate whose containers are ready; None = nobody has touched the gate."""
    found = pod(ready=ready and bool(opened), notes=notes)
    found["spec"]["readinessGates"] = [{"conditionType": GATE}]
    said = {"type": "ContainersReady", "status": str(ready), "lastTransitionTime": UP}
    found["status"]["conditions"].append(said)
    if opened is not None:
        gate = {"type": GATE, "status": str(opened), "lastTransitionTime": MOVED}
        found["status"]["conditions"].append(gate)
    return found


@pytest.mark.parametrize(
    ("found", "state", "minute", "held"),
    [
        pytest.param(gated(opened=None, ready=False), "starting", 1, False, id="still starts"),
        pytest.param(gated(opened=None), "held", 2, True, id="a newcomer waits at the gate"),
        pytest.param(gated(opened=True), "ready", 2, False, id="in rotation"),
        pytest.param(
            gated({ROTATION: "withdrawn", SINCE: MOVED}, opened=False),
            "withdrawn",
            3,
            False,
            id="taken out",
        ),
        pytest.param(
            gated({ROTATION: "withdrawn", SINCE: MOVED}, opened=True),
            "ready",
            2,
            False,
            id="decided, and stopped before the gate was shut",
        ),
        pytest.param(
            gated({SINCE: MOVED}, opened=False),
            "held",
            3,
            True,
            id="decided to return, and stopped before the gate was opened",
        ),
    ],
)
def test_a_pod_with_the_gate_is_where_the_gate_says(
    found: dict[str, Any], state: str, minute: int, held: bool
) -> None:
    one = seen(found, Lever.GATE)
    assert (one.state, one.since_s, one.held) == (state, CREATED_S + 60.0 * minute, held)


def test_what_nothing_takes_out_and_back_is_not_reversible() -> None:
    assert (seen(pod()).reversible, seen(pod(), None).reversible) == (True, False)


def test_a_pod_that_is_being_deleted_is_no_longer_there() -> None:
    found = pod()
    found["metadata"]["deletionTimestamp"] = MOVED
    assert seen(found).state is InstanceState.TERMINATED


def moved(to: Rotation) -> RotationAction:
    return RotationAction(
        id="turn-1", service="chat", subcluster="main", uid="u", to=to, version="new.ready"
    )


def test_leaving_rotation_takes_the_routing_label_off_and_says_why() -> None:
    patch = rotation_patch(pod(), moved(Rotation.WITHDRAWN), Lever.LABEL, ROUTE, CREATED_S + 180.0)
    assert patch == {
        "metadata": {
            "resourceVersion": "7",
            "annotations": {
                ROTATION: "withdrawn",
                SINCE: "2026-03-01T10:03:00.000000+00:00",
                ACTION: "turn-1",
            },
            "labels": {"route": None},
        }
    }


def test_coming_back_puts_the_label_on_and_leaves_only_the_trace_of_the_action() -> None:
    patch = rotation_patch(pod(), moved(Rotation.READY), Lever.LABEL, ROUTE, CREATED_S)
    assert patch["metadata"]["labels"] == {"route": "on"}
    assert patch["metadata"]["annotations"][ROTATION] is None


def test_without_a_lever_only_the_note_is_written() -> None:
    patch = rotation_patch(pod(), moved(Rotation.DRAINING), None, None, CREATED_S)
    assert "labels" not in patch["metadata"]
