"""Changes of counts and pods, each under the precondition of its own target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heteroscale.config.cluster_sections import ClusterFile, ScalableKind, WorkloadSection
from heteroscale.entities.action import OutcomeKind, Rotation, RotationAction, ScaleAction
from heteroscale.entities.snapshot import WAYS, Instance
from heteroscale.ports import Clock
from heteroscale.subcluster.api_server import (
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    ApiServer,
    NotReached,
    Reply,
)
from heteroscale.subcluster.levers import Lever, gate_is_open, gate_patch, lever_of
from heteroscale.subcluster.pods import (
    DELETION_COST,
    group_of,
    rotation_patch,
    uid_of,
    version_of,
    written,
)
from heteroscale.subcluster.scalables import (
    SCALABLES,
    KubeObject,
    Scalable,
    Victims,
    count_patch,
    pods_of,
    replicas_of,
)
from heteroscale.subcluster.watched import Watched

_NOT_FOUND, _CONFLICT, _UNPROCESSABLE = 404, 409, 422
#: what a failed `test` of a JSON patch is answered with
_TEST_FAILED = "testing"
#: objects change for reasons of their own; a write that met one is tried again so often
_TRIES = 4
#: far below the 0 of a pod without the annotation
_CHEAP = "-1000"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one write."""

    kind: OutcomeKind
    detail: str = ""


APPLIED = Change(OutcomeKind.APPLIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindrances:
    """Why counts of a service cannot be set; all of its roles wait, so that none goes alone."""

    #: service → who else sets its counts
    contested: Mapping[str, str] = field(default_factory=dict)
    #: service → what is replacing its pods: nothing is scaled in meanwhile
    rolling: Mapping[str, str] = field(default_factory=dict)

    def of(self, service: str, *, shrinks: bool) -> str:
        """Return what forbids a change of a service; "" = nothing."""
        return self.contested.get(service, "") or (shrinks and self.rolling.get(service, "")) or ""


class Writer:
    """Carries out actions on one cluster."""

    def __init__(
        self,
        file: ClusterFile,
        api: ApiServer,
        clock: Clock,
        objects: Mapping[tuple[ScalableKind, str], Watched],
        pods: Mapping[str, Watched],
    ) -> None:
        """Write through `api`, and tell the watches what it answers."""
        self._file = file
        self._api = api
        self._clock = clock
        self._objects = objects
        self._pods = pods
        self._instances: Mapping[str, Instance] = {}
        self._hindrances = Hindrances()

    def look_after(
        self,
        file: ClusterFile,
        objects: Mapping[tuple[ScalableKind, str], Watched],
        pods: Mapping[str, Watched],
    ) -> None:
        """Write what this file names from now on."""
        self._file = file
        self._objects = objects
        self._pods = pods

    def know(self, instances: Iterable[Instance], hindrances: Hindrances) -> None:
        """Learn what the instances are by now, and what stands in the way."""
        self._instances = {one.uid: one for one in instances}
        self._hindrances = hindrances

    def scale(self, action: ScaleAction, deadline_s: float) -> Change:
        """Set one count, the named instances made the first to go."""
        shrinks = action.replicas < action.expected_replicas
        hindrance = self._hindrances.of(action.service, shrinks=shrinks)
        if hindrance:
            return Change(OutcomeKind.REFUSED, hindrance)
        workload = self._workload_of(action)
        if workload is None:
            wanted = f"{action.role} on {action.accelerator} in group {action.group}"
            return Change(OutcomeKind.REFUSED, f"no workload is named for {wanted}")
        watched = self._objects[workload.kind, workload.namespace]
        found = watched.objects().get((workload.namespace, workload.name))
        if found is None:
            return Change(OutcomeKind.STALE, f"{workload.kind} {workload.name} is gone")
        generation = str(found["metadata"]["generation"])
        replicas = replicas_of(SCALABLES[workload.kind], found, workload.component)
        if (generation, replicas) != (action.version, action.expected_replicas):
            return Change(OutcomeKind.STALE, f"{replicas} replicas at generation {generation}")
        try:
            refused = self._name_victims(action, workload, deadline_s)
            if refused is not None:
                return refused
            return self._set_count(action, workload, found, deadline_s)
        except NotReached as error:
            return _not_reached(error)

    def rotate(self, action: RotationAction, deadline_s: float) -> Change:
        """Move one pod in or out of rotation."""
        pod = self._pod(action.uid)
        if pod is None:
            return Change(OutcomeKind.STALE, f"{action.uid} is gone")
        lever = self._lever_of(pod, action.uid)
        forbidden = self._forbidden(action, lever)
        path = _pod_path(pod)
        for _ in range(_TRIES):
            if version_of(pod).partition(".")[0] == action.id:
                return self._pull(pod, action, lever, deadline_s)
            if forbidden:
                return Change(OutcomeKind.REFUSED, forbidden)
            if version_of(pod) != action.version:
                return Change(OutcomeKind.STALE, f"{action.uid} is at {version_of(pod)}")
            state = self._instances[action.uid].state
            if action.to not in WAYS.get(state, frozenset()):
                way = f"from {state.value} to {action.to.value}"
                return Change(OutcomeKind.REFUSED, f"no way {way}")
            label = self._file.routing_label
            patch = rotation_patch(pod, action, lever, label, self._clock.now_s())
            try:
                reply = self._api.patch(path, patch, MERGE_PATCH, deadline_s)
                if reply.status != _CONFLICT:
                    change = self._taken(reply, self._pods[pod["metadata"]["namespace"]])
                    if change.kind is not OutcomeKind.APPLIED:
                        return change
                    return self._pull(reply.body, action, lever, deadline_s)
                reply = self._api.get(path)
            except NotReached as error:
                return _not_reached(error)
            if not reply.done or uid_of(reply.body) != action.uid:
                return Change(OutcomeKind.STALE, f"{action.uid} is gone")
            pod = reply.body
        return Change(OutcomeKind.STALE, f"{action.uid} changes all the time")

    def _pull(
        self, pod: KubeObject, action: RotationAction, lever: Lever | None, deadline_s: float
    ) -> Change:
        """Open or shut the gate of a pod whose note already says so; labels went with the note."""
        opens = action.to is Rotation.READY
        if lever is not Lever.GATE or gate_is_open(pod) is opens:
            return APPLIED
        at = written(self._clock.now_s())
        patch = gate_patch(pod, opens=opens, why=action.to.value, at=at)
        try:
            reply = self._api.patch(f"{_pod_path(pod)}/status", patch, STRATEGIC_PATCH, deadline_s)
        except NotReached as error:
            return Change(OutcomeKind.UNKNOWN, str(error))
        return self._taken(reply, self._pods[pod["metadata"]["namespace"]])

    def _lever_of(self, pod: KubeObject, uid: str) -> Lever | None:
        """Return what moves a pod in and out of rotation."""
        instance = self._instances.get(uid)
        workload = None if instance is None else self._workload_of(instance)
        if workload is None:
            return None
        found = self._objects[workload.kind, workload.namespace].objects()
        owner = found.get((workload.namespace, workload.name), {})
        selected = pods_of(SCALABLES[workload.kind], owner, workload.component)
        return lever_of(pod, selected, self._file.routing_label)

    def _forbidden(self, action: RotationAction, lever: Lever | None) -> str:
        """Return why a pod may not be moved whatever its state; "" = it may."""
        leaves = action.to in (Rotation.WITHDRAWN, Rotation.DRAINING)
        hindrance = self._hindrances.of(action.service, shrinks=leaves)
        if hindrance and action.to is not Rotation.READY:
            return hindrance
        if lever is None and action.to is not Rotation.DRAINING:
            return "nothing takes it out of rotation and back"
        return ""

    def _workload_of(self, of: ScaleAction | Instance) -> WorkloadSection | None:
        wanted = (of.service, of.group, of.role, of.accelerator)
        for one in self._file.workloads:
            if (one.service, group_of(one), one.role, one.accelerator) == wanted:
                return one
        return None

    def _name_victims(
        self, action: ScaleAction, workload: WorkloadSection, deadline_s: float
    ) -> Change | None:
        """Make the named pods the first to go; None = they are."""
        unknown = sorted(set(action.remove) - set(self._instances))
        if unknown:
            return Change(OutcomeKind.REFUSED, f"{unknown[0]} is not there")
        match SCALABLES[workload.kind].victims:
            case Victims.HIGHEST:
                return self._highest(action)
            case Victims.CHEAPEST:
                for uid in action.remove:
                    change = self._make_cheap(uid, deadline_s)
                    if change.kind is not OutcomeKind.APPLIED:
                        return change
        return None

    def _highest(self, action: ScaleAction) -> Change | None:
        """Refuse to shrink where others than the named ones would go."""
        named = {self._instances[uid].ordinal for uid in action.remove}
        going = set(range(action.replicas, action.expected_replicas))
        if named <= going:
            return None
        kept = ", ".join(str(ordinal) for ordinal in sorted(named - going))
        return Change(OutcomeKind.REFUSED, f"the highest ordinals go, and {kept} is not of them")

    def _make_cheap(self, uid: str, deadline_s: float) -> Change:
        pod = self._pod(uid)
        if pod is None:
            return Change(OutcomeKind.STALE, f"{uid} is gone")
        metadata = pod["metadata"]
        if (metadata.get("annotations") or {}).get(DELETION_COST) == _CHEAP:
            return APPLIED
        patch = {"metadata": {"uid": metadata["uid"], "annotations": {DELETION_COST: _CHEAP}}}
        reply = self._api.patch(_pod_path(pod), patch, MERGE_PATCH, deadline_s)
        return self._taken(reply, self._pods[metadata["namespace"]])

    def _set_count(
        self,
        action: ScaleAction,
        workload: WorkloadSection,
        found: KubeObject,
        deadline_s: float,
    ) -> Change:
        scalable = SCALABLES[workload.kind]
        path = scalable.path(workload.namespace, workload.name)
        watched = self._objects[workload.kind, workload.namespace]
        if not scalable.has_scale:
            patch = count_patch(
                scalable, found, workload.component, action.expected_replicas, action.replicas
            )
            reply = self._api.patch(path, patch, JSON_PATCH, deadline_s)
            return self._taken(reply, watched)
        change = self._put_scale(scalable, workload, action, deadline_s)
        if change.kind is OutcomeKind.APPLIED:
            reply = self._api.get(path)
            if reply.done:
                watched.take(reply.body)
        return change

    def _put_scale(
        self,
        scalable: Scalable,
        workload: WorkloadSection,
        action: ScaleAction,
        deadline_s: float,
    ) -> Change:
        """Write the count through /scale, if it is still the expected one.

        The object changes when its pods do, too: what moved beside the count is tried again.
        """
        path = f"{scalable.path(workload.namespace, workload.name)}/scale"
        for _ in range(_TRIES):
            reply = self._api.get(path)
            if not reply.done:
                return _refusal(reply)
            scale: dict[str, Any] = {**reply.body}
            seen = (scale.get("spec") or {}).get("replicas", 0)
            if seen != action.expected_replicas:
                return Change(OutcomeKind.STALE, f"{seen} replicas")
            scale["spec"] = {"replicas": action.replicas}
            scale.pop("status", None)
            reply = self._api.put(path, scale, deadline_s)
            if reply.status != _CONFLICT:
                break
        return APPLIED if reply.done else _refusal(reply)

    def _pod(self, uid: str) -> KubeObject | None:
        namespace, _, rest = uid.partition("/")
        watched = self._pods.get(namespace)
        if watched is None:
            return None
        pod = watched.objects().get((namespace, rest.rpartition("@")[0]))
        return pod if pod is not None and uid_of(pod) == uid else None

    def _taken(self, reply: Reply, watched: Watched) -> Change:
        if not reply.done:
            return _refusal(reply)
        watched.take(reply.body)
        return APPLIED


def _pod_path(pod: KubeObject) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _refusal(reply: Reply) -> Change:
    """Return what an answer means: the target moved, we may not, or nobody knows."""
    tested = reply.status == _UNPROCESSABLE and _TEST_FAILED in reply.reason.lower()
    if tested or reply.status in (_NOT_FOUND, _CONFLICT):
        return Change(OutcomeKind.STALE, reply.reason)
    if reply.status >= 500:
        return Change(OutcomeKind.UNKNOWN, reply.reason)
    return Change(OutcomeKind.REFUSED, reply.reason)


def _not_reached(error: NotReached) -> Change:
    kind = OutcomeKind.UNKNOWN if error.sent else OutcomeKind.REFUSED
    return Change(kind, str(error))
