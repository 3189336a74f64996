"""A pod as an instance, and what is written on a pod to move it in or out of rotation.

Where an instance stands is on its pod: an annotation says what was decided and when, a lever does
it (`levers`). A pod without the annotation is in rotation once it is ready; one with our readiness
gate once that is open, too, so a newcomer waits there as if it were held.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from heteroscale.config.cluster_sections import RoutingLabelSection, WorkloadSection
from heteroscale.entities.action import Rotation, RotationAction
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.subcluster.levers import Lever, containers_ready, gate_is_open, label_patch
from heteroscale.subcluster.scalables import KubeObject

ROTATION = "heteroscale.dev/rotation"
SINCE = "heteroscale.dev/rotation-since"
ACTION = "heteroscale.dev/action"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

#: reasons of a waiting container that no waiting will mend
_HOPELESS = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
    }
)
_STATES: Mapping[str, InstanceState] = {
    Rotation.WITHDRAWN.value: InstanceState.WITHDRAWN,
    Rotation.DRAINING.value: InstanceState.DRAINING,
}


def uid_of(pod: KubeObject) -> str:
    """Return a name that is unique over time and still tells a person which pod it is."""
    metadata = pod["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}@{metadata['uid'][:8]}"


def pod_named(uid: str) -> tuple[str, str]:
    """Return the namespace and name of the pod that an instance is."""
    namespace, _, rest = uid.partition("/")
    return namespace, rest.rpartition("@")[0]


def version_of(pod: KubeObject) -> str:
    """Return what changes whenever somebody moves the pod in or out of rotation."""
    notes = _annotations(pod)
    return f"{notes.get(ACTION, 'new')}.{notes.get(ROTATION, 'ready')}"


def instance_of(
    pod: KubeObject,
    workload: WorkloadSection,
    subcluster: str,
    ordinal: int,
    resource: str,
    lever: Lever | None,
) -> Instance:
    """Return the instance that a pod is.

    Args:
        ordinal: its position among the pods of its count.
        resource: the extended resource that GPUs are counted by.
        lever: what moves it in and out of rotation; None = nothing.
    """
    state, since = _state_of(pod, lever)
    noted = _annotations(pod).get(ROTATION) == Rotation.HELD.value
    node = pod["spec"].get("nodeName")
    return Instance(
        uid=uid_of(pod),
        service=workload.service,
        role=workload.role,
        group=group_of(workload),
        subcluster=subcluster,
        accelerator=workload.accelerator,
        ordinal=ordinal,
        state=state,
        since_s=seconds_of(since),
        held=noted or state is InstanceState.HELD,
        nodes=() if node is None else (node,),
        gpus=gpus_of(pod, resource),
        version=version_of(pod),
        reversible=lever is not None,
    )


def group_of(workload: WorkloadSection) -> str:
    """Return the group of a workload that is scaled in place: one per service and namespace."""
    return f"{workload.namespace}-{workload.service}"


def gpus_of(pod: KubeObject, resource: str) -> int:
    """Return the GPUs that a pod's containers hold."""
    limits = (one.get("resources", {}).get("limits", {}) for one in pod["spec"]["containers"])
    return sum(int(one.get(resource, 0)) for one in limits)


def unschedulable(pod: KubeObject) -> str:
    """Return why the scheduler finds no node, in its words; "" = it does, or has not looked yet."""
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return str(one.get("message") or one.get("reason") or "no reason given")
    return ""


def seconds_of(time: str) -> float:
    """Return a Kubernetes time as epoch seconds."""
    return dt.datetime.fromisoformat(time).timestamp()


def written(at_s: float, precision: str = "seconds") -> str:
    """Return epoch seconds as Kubernetes writes a time."""
    return dt.datetime.fromtimestamp(at_s, dt.UTC).isoformat(timespec=precision)


def rotation_patch(
    pod: KubeObject,
    action: RotationAction,
    lever: Lever | None,
    label: RoutingLabelSection | None,
    now_s: float,
) -> dict[str, Any]:
    """Return the merge patch that moves a pod, valid for the very version that was seen."""
    moved = label_patch(pod, lever, label, action.to)
    metadata: dict[str, Any] = {
        **moved,
        "resourceVersion": pod["metadata"]["resourceVersion"],
        "annotations": {
            **moved.get("annotations", {}),
            ROTATION: None if action.to is Rotation.READY else action.to.value,
            SINCE: written(now_s, "microseconds"),
            ACTION: action.id,
        },
    }
    return {"metadata": metadata}


def _state_of(pod: KubeObject, lever: Lever | None) -> tuple[InstanceState, str]:
    """Return where an instance stands and since when."""
    metadata, status = pod["metadata"], pod.get("status", {})
    created = metadata["creationTimestamp"]
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    notes = _annotations(pod)
    moved = notes.get(SINCE, created)
    if "deletionTimestamp" in metadata or status.get("phase") == "Succeeded":
        return InstanceState.TERMINATED, metadata.get("deletionTimestamp", created)
    if status.get("phase") == "Failed" or _hopeless(status):
        return InstanceState.FAILED, ready.get("lastTransitionTime") or created
    if not pod["spec"].get("nodeName"):
        return InstanceState.PENDING, created
    # What was decided of a pod with a gate has happened once the gate says so.
    shut = lever is Lever.GATE and not gate_is_open(pod)
    rotation = "" if lever is Lever.GATE and not shut else notes.get(ROTATION, "")
    if rotation in _STATES:
        return _STATES[rotation], moved
    if shut and containers_ready(pod):
        up = conditions["ContainersReady"].get("lastTransitionTime") or created
        return InstanceState.HELD, max(moved, up, key=seconds_of)
    if ready.get("status") != "True":
        placed = conditions.get("PodScheduled", {})
        return InstanceState.STARTING, placed.get("lastTransitionTime") or created
    if rotation == Rotation.HELD.value:
        return InstanceState.HELD, max(moved, ready["lastTransitionTime"], key=seconds_of)
    return InstanceState.READY, ready["lastTransitionTime"] or created


def _hopeless(status: Mapping[str, Any]) -> bool:
    waiting = (
        (one.get("state") or {}).get("waiting") or {}
        for one in status.get("containerStatuses") or ()
    )
    return any(one.get("reason") in _HOPELESS for one in waiting)


def _annotations(pod: KubeObject) -> Mapping[str, str]:
    return pod["metadata"].get("annotations") or {}
