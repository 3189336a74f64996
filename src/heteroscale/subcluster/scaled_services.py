"""The `ScaledService` resources of a cluster: which of them are looked after, and why others not.

Each is judged by itself: what is wrong with one is said of it and stops no other. Who was first
keeps a name or an object that two of them ask for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from heteroscale.config.cluster_sections import ClusterFile, ScalableKind, WorkloadSection
from heteroscale.config.scaled_service import Asked, Held, asked_by, read_scaled_service
from heteroscale.config.scaled_service_sections import (
    GROUP,
    KIND,
    PLURAL,
    VERSION,
    ScaledServiceFile,
)
from heteroscale.entities.service import FleetSpec, ServiceSpec
from heteroscale.errors import ConfigError
from heteroscale.subcluster.pod_templates import held_by
from heteroscale.subcluster.scalables import KubeObject
from heteroscale.subcluster.watched import ObjectKey, key_of

#: (kind, namespace, name, component)
_Target: TypeAlias = tuple[str, str, str, str | None]


def resources_path(namespace: str, name: str = "") -> str:
    """Return the path of a namespace's resources on the API server, or of one of them."""
    base = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"
    return f"{base}/{name}" if name else base


def called(key: ObjectKey) -> str:
    """Return how a resource is named in words."""
    return f"{KIND} {key[0]}/{key[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a resource is not looked after."""

    #: one word, for programs
    reason: str
    #: everything that is wrong
    message: str


class Workloads(Protocol):
    """Where the objects that resources name are looked up."""

    def unlisted(self, kind: ScalableKind, namespace: str) -> str:
        """Return why the objects of a kind cannot be told; "" = they can."""
        ...

    def found(self, kind: ScalableKind, namespace: str, name: str) -> KubeObject | None:
        """Return an object; None = it is not there."""
        ...

    def only_accelerator(self) -> str | None:
        """Return the accelerator of every node that has any; None = there are several, or none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedOut:
    """What becomes of each resource, the oldest first."""

    asked: Mapping[ObjectKey, Asked]
    refused: Mapping[ObjectKey, Refusal]

    def by_fate(self) -> Mapping[str, int]:
        """Return how many are looked after (""), and how many are refused, by reason."""
        return {"": len(self.asked), **Counter(one.reason for one in self.refused.values())}

    def specs(self) -> tuple[ServiceSpec, ...]:
        """Return the services that are looked after."""
        return tuple(one.spec for one in self.asked.values())

    def workloads(self) -> tuple[WorkloadSection, ...]:
        """Return their workloads."""
        return tuple(workload for one in self.asked.values() for workload in one.workloads)


class Sorter:
    """Sorts resources out again and again, reading anew only what has changed."""

    def __init__(self, file: ClusterFile, fleet: FleetSpec, workloads: Workloads) -> None:
        """Judge beside the services and workloads of files."""
        self._file = file
        self._fleet = fleet
        self._workloads = workloads
        #: (uid, generation) → what was read
        self._files: dict[tuple[str, int], ScaledServiceFile | Refusal] = {}
        #: uid → what it was made from, and what was made
        self._made: dict[str, tuple[tuple[object, ...], Asked | Refusal]] = {}

    def sort_out(self, resources: Mapping[ObjectKey, KubeObject]) -> SortedOut:
        """Return which resources are looked after, and what is wrong with the others."""
        names = {spec.name: "the services file" for spec in self._fleet.services}
        targets = {_target(one): f"service {one.service}" for one in self._file.workloads}
        asked: dict[ObjectKey, Asked] = {}
        refused: dict[ObjectKey, Refusal] = {}
        order = sorted(resources.values(), key=_seniority)
        for resource in order:
            key, judged = key_of(resource), self._judged(resource, names)
            if isinstance(judged, Asked):
                judged = _free(judged, targets) or judged
            if isinstance(judged, Refusal):
                refused[key] = judged
                continue
            asked[key] = judged
            names[judged.spec.name] = called(key)
            targets.update((_target(one), f"service {one.service}") for one in judged.workloads)
        self._forget({_read_of(one) for one in order})
        return SortedOut(asked=asked, refused=refused)

    def places(self, resources: Iterable[KubeObject]) -> frozenset[tuple[ScalableKind, str]]:
        """Return kind and namespace of every object that readable resources name."""
        files = (self._read(one) for one in resources)
        return frozenset(
            (workload.kind, file.metadata.namespace)
            for file in files
            if isinstance(file, ScaledServiceFile)
            for workload in file.workloads()
        )

    def _judged(self, resource: KubeObject, names: Mapping[str, str]) -> Asked | Refusal:
        file = self._read(resource)
        if isinstance(file, Refusal):
            return file
        if file.metadata.name in names:
            owner = names[file.metadata.name]
            message = f"{file.metadata.name} is a service of {owner}, which goes first"
            return Refusal(reason="NameTaken", message=message)
        held = self._held(file)
        if isinstance(held, Refusal):
            return held
        basis = (file, tuple(held.items()))
        uid = resource["metadata"]["uid"]
        known = self._made.get(uid)
        if known is None or known[0] != basis:
            known = basis, _made(file, held, self._fleet.interval_s)
            self._made[uid] = known
        return known[1]

    def _read(self, resource: KubeObject) -> ScaledServiceFile | Refusal:
        key = _read_of(resource)
        if key not in self._files:
            metadata = resource["metadata"]
            named = {name: metadata.get(name) for name in ("name", "namespace")}
            try:
                self._files[key] = read_scaled_service({**resource, "metadata": named})
            except ConfigError as error:
                self._files[key] = _faulty(error)
        return self._files[key]

    def _held(self, file: ScaledServiceFile) -> Mapping[tuple[ScalableKind, str], Held] | Refusal:
        """Return what the workloads of a resource hold, or which of them cannot be told."""
        namespace, workloads = file.metadata.namespace, tuple(file.workloads())
        unlisted = [self._workloads.unlisted(one.kind, namespace) for one in workloads]
        if any(unlisted):
            message = "; ".join(dict.fromkeys(filter(None, unlisted)))
            return Refusal(reason="WorkloadsUnknown", message=message)
        found = {
            (one.kind, one.name): self._workloads.found(one.kind, namespace, one.name)
            for one in workloads
        }
        missing = [f"{kind} {namespace}/{name}" for (kind, name), one in found.items() if not one]
        if missing:
            message = "; ".join(f"{one} is not there" for one in missing)
            return Refusal(reason="WorkloadMissing", message=message)
        only = self._workloads.only_accelerator()
        return {
            (kind, name): held_by(kind, one, self._file.nodes, only)
            for (kind, name), one in found.items()
            if one is not None
        }

    def _forget(self, kept: Collection[tuple[str, int]]) -> None:
        uids = {uid for uid, _ in kept}
        self._files = {key: one for key, one in self._files.items() if key in kept}
        self._made = {uid: one for uid, one in self._made.items() if uid in uids}


def _made(
    file: ScaledServiceFile, held: Mapping[tuple[ScalableKind, str], Held], interval_s: float
) -> Asked | Refusal:
    try:
        return asked_by(file, held, interval_s)
    except ConfigError as error:
        return _faulty(error)


def _faulty(error: ConfigError) -> Refusal:
    return Refusal(reason="Invalid", message="; ".join(map(str, error.problems)))


def _free(asked: Asked, targets: Mapping[_Target, str]) -> Refusal | None:
    """Return why the workloads may not be scaled for this service; None = they may."""
    taken = [(one, targets[_target(one)]) for one in asked.workloads if _target(one) in targets]
    message = "; ".join(
        f"{one.kind} {one.namespace}/{one.name} is scaled for {owner}, which goes first"
        for one, owner in taken
    )
    return Refusal(reason="WorkloadTaken", message=message) if taken else None


def _target(workload: WorkloadSection) -> _Target:
    return workload.kind.value, workload.namespace, workload.name, workload.component


def _read_of(resource: KubeObject) -> tuple[str, int]:
    return resource["metadata"]["uid"], resource["metadata"]["generation"]


def _seniority(resource: KubeObject) -> tuple[str, ObjectKey]:
    return resource["metadata"]["creationTimestamp"], key_of(resource)
