"""Changes of counts and pods, each under the precondition of its own target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

from heteroscale.config.cluster_sections import ClusterFile, ScalableKind, WorkloadSection
from heteroscale.entities.action import (
    Action,
    OutcomeKind,
    Rotation,
    RotationAction,
    ScaleAction,
)
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
from heteroscale.subcluster.change import APPLIED, Change, not_reached, refusal
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
    Victims,
    count_patch,
    pods_of,
    replicas_of,
)
from heteroscale.subcluster.watched import Watched

#: objects change for reasons of their own; a write that met one is tried again so often
_TRIES = 4
#: makes the API server go through all of a change but keeping it
_REHEARSED = "?dryRun=All"
#: how it answers where a webhook cannot be asked without acting
_NO_REHEARSAL = 400
#: far below the 0 of a pod without the annotation
_CHEAP = "-1000"


#: what holds a count, and as it was seen
_Target: TypeAlias = tuple[WorkloadSection, KubeObject]


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
        self._api = api
        self._clock = clock
        self.look_after(file, objects, pods)
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
        #: (service, group, role, accelerator) → what holds that count
        self._workloads = {
            (one.service, group_of(one), one.role, one.accelerator): one
            for one in reversed(file.workloads)
        }
        self._objects = objects
        self._pods = pods

    def know(self, instances: Iterable[Instance], hindrances: Hindrances) -> None:
        """Learn what the instances are by now, and what stands in the way."""
        self._instances = {one.uid: one for one in instances}
        self._hindrances = hindrances

    def moves(self, actions: Sequence[Action]) -> tuple[tuple[Action, ...], ...]:
        """Return the actions, those together whose counts one object holds and one patch sets."""
        together: dict[tuple[str, ...], list[Action]] = {}
        for one in actions:
            workload = self._workload_of(one) if isinstance(one, ScaleAction) else None
            key: tuple[str, ...] = (one.id,)
            if workload is not None and not SCALABLES[workload.kind].has_scale:
                key = (workload.kind, workload.namespace, workload.name)
            together.setdefault(key, []).append(one)
        return tuple(map(tuple, together.values()))

    def rehearse(self, actions: Sequence[ScaleAction], deadline_s: float) -> Change:
        """Ask the API server whether counts of one object could be set; nothing is changed.

        Where something that it asks itself cannot answer without acting, nobody knows, and they
        may be tried.
        """
        targets = self._targets_of(actions)
        if isinstance(targets, Change):
            return targets
        try:
            reply = self._set_counts(actions, targets, deadline_s, rehearsed=True)
        except NotReached as error:
            return Change(OutcomeKind.REFUSED, str(error))
        if isinstance(reply, Change):
            return reply
        return APPLIED if reply.done or reply.status == _NO_REHEARSAL else refusal(reply)

    def scale(self, actions: Sequence[ScaleAction], deadline_s: float) -> Change:
        """Set counts of one object, all or none; the named instances made the first to go."""
        targets = self._targets_of(actions)
        if isinstance(targets, Change):
            return targets
        workload, _ = targets[0]
        try:
            for action in actions:
                refused = self._name_victims(action, workload, deadline_s)
                if refused is not None:
                    return refused
            reply = self._set_counts(actions, targets, deadline_s)
        except NotReached as error:
            return not_reached(error)
        if isinstance(reply, Change):
            return reply
        if reply.done and SCALABLES[workload.kind].has_scale:
            self._look_again(workload)
            return APPLIED
        return self._taken(reply, self._objects[workload.kind, workload.namespace])

    def _look_again(self, workload: WorkloadSection) -> None:
        """Take in an object whose count was set; what is not answered now, its watch will tell."""
        with suppress(NotReached):
            path = SCALABLES[workload.kind].path(workload.namespace, workload.name)
            reply = self._api.get(path)
            if reply.done:
                self._objects[workload.kind, workload.namespace].take(reply.body)

    def _targets_of(self, actions: Sequence[ScaleAction]) -> Sequence[_Target] | Change:
        """Return what holds each count, or why one of them may not be set."""
        targets = []
        for action in actions:
            target = self._target_of(action)
            if isinstance(target, Change):
                return target
            targets.append(target)
        return targets

    def _target_of(self, action: ScaleAction) -> _Target | Change:
        """Return what holds a count, or why it may not be set."""
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
        return workload, found

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
                if reply.status != HTTPStatus.CONFLICT:
                    change = self._taken(reply, self._pods[pod["metadata"]["namespace"]])
                    if change.kind is not OutcomeKind.APPLIED:
                        return change
                    return self._pull(reply.body, action, lever, deadline_s)
                reply = self._api.get(path)
            except NotReached as error:
                return not_reached(error)
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
        return self._workloads.get((of.service, of.group, of.role, of.accelerator))

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

    def _set_counts(
        self,
        actions: Sequence[ScaleAction],
        targets: Sequence[_Target],
        deadline_s: float,
        *,
        rehearsed: bool = False,
    ) -> Reply | Change:
        """Return what the API server answers, or why it need not be asked.

        Raises:
            NotReached: no answer.
        """
        workload, found = targets[0]
        scalable = SCALABLES[workload.kind]
        path = scalable.path(workload.namespace, workload.name)
        if scalable.has_scale:
            (action,) = actions
            return self._put_scale(f"{path}/scale", action, deadline_s, rehearsed=rehearsed)
        patch = [
            part
            for action, (one, _) in zip(actions, targets, strict=True)
            for part in count_patch(
                scalable, found, one.component, action.expected_replicas, action.replicas
            )
            or ()
        ]
        url = path + _REHEARSED if rehearsed else path
        return self._api.patch(url, patch, JSON_PATCH, deadline_s)

    def _put_scale(
        self, path: str, action: ScaleAction, deadline_s: float, *, rehearsed: bool
    ) -> Reply | Change:
        """Write the count through /scale, if it is still the expected one.

        The object changes when its pods do, too: what moved beside the count is tried again.
        """
        for _ in range(_TRIES):
            reply = self._api.get(path)
            if not reply.done:
                return reply
            scale: dict[str, Any] = {**reply.body}
            seen = (scale.get("spec") or {}).get("replicas", 0)
            if seen != action.expected_replicas:
                return Change(OutcomeKind.STALE, f"{seen} replicas")
            scale["spec"] = {"replicas": action.replicas}
            scale.pop("status", None)
            reply = self._api.put(path + _REHEARSED if rehearsed else path, scale, deadline_s)
            if reply.status != HTTPStatus.CONFLICT:
                break
        return reply

    def _pod(self, uid: str) -> KubeObject | None:
        namespace, _, rest = uid.partition("/")
        watched = self._pods.get(namespace)
        if watched is None:
            return None
        pod = watched.objects().get((namespace, rest.rpartition("@")[0]))
        return pod if pod is not None and uid_of(pod) == uid else None

    def _taken(self, reply: Reply, watched: Watched) -> Change:
        if not reply.done:
            return refusal(reply)
        watched.take(reply.body)
        return APPLIED


def _pod_path(pod: KubeObject) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
