"""A Kubernetes cluster whose workloads are scaled where they are: nothing is created or deleted.

Reading answers from what watches keep current; writing goes to the API server, each change with the
precondition of its own target, and what it answers is taken into the cache at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import zip_longest
from typing import TypeAlias

from heteroscale.config.cluster_sections import ClusterFile, ScalableKind, WorkloadSection
from heteroscale.config.label_presets import LABEL_PRESETS
from heteroscale.entities.action import (
    Action,
    Outcome,
    OutcomeKind,
)
from heteroscale.entities.snapshot import Instance, Observation
from heteroscale.entities.topology import Node
from heteroscale.errors import SubclusterUnavailable
from heteroscale.ports import Clock
from heteroscale.prescheduler.inventory import take_inventory
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.change import Change
from heteroscale.subcluster.in_the_way import in_the_way
from heteroscale.subcluster.levers import lever_of
from heteroscale.subcluster.nodes import record_of
from heteroscale.subcluster.pods import instance_of, pod_named
from heteroscale.subcluster.read_off import Held, Made, read_off
from heteroscale.subcluster.scalables import (
    SCALABLES,
    KubeObject,
    Victims,
    labels_of,
)
from heteroscale.subcluster.second_writers import SecondWriters
from heteroscale.subcluster.together import carried_out
from heteroscale.subcluster.watched import ObjectKey, Watched, key_of
from heteroscale.subcluster.writing import Hindrances, Writer

#: changes under way at once
_AT_ONCE = 8
_NUMBER = re.compile(r"-(\d+)$")

#: kind and namespace of objects
_Place: TypeAlias = tuple[ScalableKind, str]

#: a workload, the labels that it selects by, and its pods, oldest first
_Owned: TypeAlias = tuple[WorkloadSection, Mapping[str, str], Sequence[KubeObject]]


class InPlaceSubcluster:
    """One cluster behind the port that the loop knows."""

    def __init__(
        self, file: ClusterFile, api: ApiServer, clock: Clock, *, writes: bool = True
    ) -> None:
        """Begin to watch everything that the file names.

        Args:
            writes: whether anything is ever written; False refuses every action.
        """
        self._file = file
        self._writes = writes
        self._clock = clock
        self._api = api
        self._nodes = Watched(api, clock, "/api/v1/nodes")
        self._pods: Mapping[str, Watched] = {}
        self._objects: Mapping[_Place, Watched] = {}
        self._places = _places_of(file.workloads)
        self._others = SecondWriters(api, sorted({one for _, one in self._places}))
        self.watch(self._places)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=f"write {file.name}")
        self._writer = Writer(file, api, clock, self._objects, self._pods)
        self._read: tuple[object, ...] = ()
        self._shown: Observation | None = None
        self._engines: tuple[tuple[Instance, ...], Mapping[ObjectKey, Instance]] = ((), {})
        self._made: dict[ObjectKey, Made] = {}
        #: by position in the file; workloads whose object is not there are missing
        self._held: dict[int, Held] = {}
        #: service → who else sets its counts, and what else stands in its way, when last observed
        self.contested: Mapping[str, str] = {}
        self.amiss: Mapping[str, tuple[str, ...]] = {}
        self._node_objects: Mapping[ObjectKey, KubeObject] = {}
        self._inventory: tuple[Node, ...] = ()

    @property
    def name(self) -> str:
        """Return the sub-cluster's name."""
        return self._file.name

    def watch(self, places: Iterable[_Place]) -> None:
        """Begin to watch these kinds and namespaces, too; what is scaled stays as it is."""
        objects, pods = dict(self._objects), dict(self._pods)
        for kind, namespace in sorted(places):
            if namespace not in pods:
                path = f"/api/v1/namespaces/{namespace}/pods"
                pods[namespace] = Watched(self._api, self._clock, path)
            if (kind, namespace) not in objects:
                path = SCALABLES[kind].path(namespace)
                objects[kind, namespace] = Watched(self._api, self._clock, path)
        # Others read them meanwhile: they are replaced, never changed.
        self._objects, self._pods = objects, pods
        self._others.look_in(sorted(pods))

    def scale(self, workloads: tuple[WorkloadSection, ...]) -> None:
        """Scale these workloads from now on, and no others; each must be listed."""
        self._file = self._file.model_copy(update={"workloads": workloads})
        self._places = _places_of(workloads)
        self._writer.look_after(self._file, self._objects, self._pods)
        self._read = ()

    def unlisted(self, kind: ScalableKind, namespace: str) -> str:
        """Return why the objects of a kind and their pods cannot be told; "" = they can."""
        for one in (self._objects.get((kind, namespace)), self._pods.get(namespace)):
            if one is None or one.refused or not one.filled.is_set():
                return (one and one.fault) or f"{kind} in {namespace}: not listed yet"
        if not self._others.knows(namespace):
            return self._others.fault or f"autoscalers in {namespace}: not listed yet"
        return ""

    def found(self, kind: ScalableKind, namespace: str, name: str) -> KubeObject | None:
        """Return an object; None = it is not there, as far as is known."""
        return self._objects[kind, namespace].objects().get((namespace, name))

    def only_accelerator(self) -> str | None:
        """Return the accelerator of every node that has any; None = there are several, or none."""
        found = {one.accelerator for one in self._nodes_now()}
        return found.pop() if len(found) == 1 else None

    def wait_until_filled(self, limit_s: float) -> bool:
        """Wait until everything was listed once; False = not within the limit."""
        return all(one.filled.wait(limit_s) for one in self._lookouts())

    def age_s(self) -> float:
        """Return the seconds since everything was known to be current; infinite before."""
        return max(one.age_s() for one in self._watches())

    def fault(self) -> str:
        """Return why not everything is current; "" = it is, as far as anyone knows."""
        return "; ".join(dict.fromkeys(one.fault for one in self._lookouts() if one.fault))

    def observe(self) -> Observation:
        """Return what the watches hold; its age is that of the one longest without news.

        Raises:
            SubclusterUnavailable: not everything was listed yet.
        """
        if not all(one.filled.is_set() for one in self._lookouts()):
            raise SubclusterUnavailable(f"{self.name}: {self.fault() or 'not listed yet'}")
        age_s = self.age_s()
        read = (*(one.objects() for one in self._watches()), self._others.found())
        if self._shown is None or any(
            one is not before for one, before in zip_longest(read, self._read)
        ):
            self._read = read
            self._look_at_objects()
            owned = tuple(self._owned())
            instances = tuple(self._instances(owned))
            hindrances = self._hindrances()
            self.contested = hindrances.contested
            self.amiss = in_the_way(hindrances, [(one, pods) for one, _, pods in owned], instances)
            self._shown = Observation(
                subcluster=self.name,
                age_s=age_s,
                instances=instances,
                group_roles=tuple(one.count for one in self._held.values() if one.count),
                nodes=self._nodes_now(),
                notices=tuple(
                    f"{service}: {text}" for service, texts in self.amiss.items() for text in texts
                ),
            )
            self._writer.know(instances, hindrances)
        self._shown = replace(self._shown, age_s=age_s)
        return self._shown

    def engines(self) -> Mapping[ObjectKey, Instance]:
        """Return each pod's instance; the same mapping as long as no instance has changed.

        Raises:
            SubclusterUnavailable: not everything was listed yet.
        """
        instances = self.observe().instances
        if instances is not self._engines[0]:
            self._engines = instances, {pod_named(one.uid): one for one in instances}
        return self._engines[1]

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        """Carry out the batch: counts and pods at once, several at a time.

        Where several counts of a group grow, or several shrink, each is rehearsed before any is
        set: what is refused to one role would leave the others without it.
        """
        changes: Mapping[str, Change] = {}
        if self._writes:
            self.observe()
            changes = carried_out(self._writer, self._threads, actions, deadline_s)
        now_s = self._clock.now_s()
        only_observed = Change(OutcomeKind.REFUSED, "nothing is written: we only observe")
        return tuple(
            Outcome(
                action_id=action.id,
                service=action.service,
                kind=change.kind,
                at_s=now_s,
                detail=change.detail,
            )
            for action in actions
            for change in (changes.get(action.id, only_observed),)
        )

    def close(self) -> None:
        """Stop watching and close every connection."""
        every: tuple[Watched | SecondWriters, ...] = (
            *(*self._objects.values(), *self._pods.values()),
            *(self._nodes, self._others),
        )
        for one in every:
            one.close()
        self._api.interrupt()
        for one in every:
            one.join()
        self._threads.shutdown()
        self._api.close()

    def _watches(self) -> tuple[Watched, ...]:
        """Return the watches of what is scaled."""
        objects, pods = self._objects, self._pods
        namespaces = sorted({namespace for _, namespace in self._places})
        return (
            *(objects[place] for place in self._places),
            *(pods[namespace] for namespace in namespaces),
            self._nodes,
        )

    def _lookouts(self) -> tuple[Watched | SecondWriters, ...]:
        return (*self._watches(), self._others)

    def _look_at_objects(self) -> None:
        """Learn what the workloads' objects say by now, those that have changed anew."""
        before, self._held = self._held, {}
        for position, workload in enumerate(self._file.workloads):
            found = self._object_of(workload)
            if found is None:
                continue
            held = before.get(position)
            if held is None or not held.of(workload, found):
                held = read_off(workload, found, self.name)
            self._held[position] = held

    def _instances(self, owned: Iterable[_Owned]) -> Iterable[Instance]:
        resource, before = self._file.nodes.resource, self._made
        self._made = {}
        for workload, selected, pods in owned:
            for position, pod in enumerate(pods):
                number = _number_of(pod, workload.kind)
                ordinal = position if number is None else number
                key = key_of(pod)
                made = before.get(key)
                if made is None or not made.of(pod, workload, selected, ordinal):
                    lever = lever_of(pod, selected, self._file.routing_label)
                    instance = instance_of(pod, workload, self.name, ordinal, resource, lever)
                    made = Made(pod, workload, selected, ordinal, instance)
                self._made[key] = made
                yield made.instance

    def _owned(self) -> Iterable[_Owned]:
        """Yield every workload with its pods, by one look at each pod of its rarest label."""
        labelled: dict[tuple[str, str, str], list[KubeObject]] = {}
        for namespace, watched in self._pods.items():
            for pod in watched.objects().values():
                for key, value in labels_of(pod).items():
                    labelled.setdefault((namespace, key, value), []).append(pod)
        for position, workload in enumerate(self._file.workloads):
            held = self._held.get(position)
            wanted = {} if held is None else held.pod_labels
            bearers = (labelled.get((workload.namespace, *pair), []) for pair in wanted.items())
            rarest = min(bearers, key=len, default=[])
            pods = [pod for pod in rarest if wanted.items() <= labels_of(pod).items()]
            yield workload, wanted, sorted(pods, key=_seniority)

    def _hindrances(self) -> Hindrances:
        contested: dict[str, str] = {}
        rolling: dict[str, str] = {}
        for position, workload in enumerate(self._file.workloads):
            held = self._held.get(position)
            other = self._others.of(workload, None if held is None else held.found)
            if not other and not (held and held.rolls_out):
                continue
            name = f"{workload.kind.value} {workload.namespace}/{workload.name}"
            if other:
                contested[workload.service] = f"{other} sets the count of {name}, too"
            if held is not None and held.rolls_out:
                rolling[workload.service] = f"{name} is replacing its pods"
        return Hindrances(contested=contested, rolling=rolling)

    def _object_of(self, workload: WorkloadSection) -> KubeObject | None:
        watched = self._objects[workload.kind, workload.namespace]
        return watched.objects().get((workload.namespace, workload.name))

    def _nodes_now(self) -> tuple[Node, ...]:
        """Return the nodes with GPUs; the same tuple as long as none of them has changed."""
        objects = self._nodes.objects()
        if objects is not self._node_objects:
            self._node_objects = objects
            section = self._file.nodes
            records = [record_of(node, section, self.name) for node in objects.values()]
            switches = LABEL_PRESETS[section.switches]
            nodes, _ = take_inventory([one for one in records if one.gpus], switches)
            if nodes != self._inventory:
                self._inventory = nodes
        return self._inventory


def _places_of(workloads: Iterable[WorkloadSection]) -> tuple[_Place, ...]:
    return tuple(sorted({(one.kind, one.namespace) for one in workloads}))


def _seniority(pod: KubeObject) -> tuple[str, str]:
    """Return what sorts the oldest first; times of one server are spelled alike."""
    metadata = pod["metadata"]
    return metadata["creationTimestamp"], metadata["name"]


def _number_of(pod: KubeObject, kind: ScalableKind) -> int | None:
    """Return the number in a pod's name, for kinds that number theirs."""
    if SCALABLES[kind].victims is not Victims.HIGHEST:
        return None
    numbered = _NUMBER.search(pod["metadata"]["name"])
    return int(numbered[1]) if numbered else None
