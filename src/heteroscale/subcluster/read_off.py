"""What was read off objects and pods, kept as long as they are the same.

A watch puts another object in the place of one that has changed: whoever is still the same object
says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.config.cluster_sections import WorkloadSection
from heteroscale.entities.snapshot import GroupRole, Instance
from heteroscale.subcluster.pods import group_of
from heteroscale.subcluster.scalables import (
    SCALABLES,
    KubeObject,
    pods_of,
    replicas_of,
    rolls_out,
)


@dataclass(frozen=True, slots=True)
class Made:
    """An instance and what it was made of."""

    pod: KubeObject
    workload: WorkloadSection
    #: labels that the workload selects by
    selected: Mapping[str, str]
    ordinal: int
    instance: Instance

    def of(
        self,
        pod: KubeObject,
        workload: WorkloadSection,
        selected: Mapping[str, str],
        ordinal: int,
    ) -> bool:
        """Return whether the same would be made of these."""
        same = self.pod is pod and self.workload is workload
        return same and self.ordinal == ordinal and self.selected == selected


@dataclass(frozen=True, slots=True)
class Held:
    """What a workload's object says."""

    workload: WorkloadSection
    found: KubeObject
    #: None = it has no such component
    count: GroupRole | None
    #: labels of its pods; empty = nobody says
    pod_labels: Mapping[str, str]
    rolls_out: bool

    def of(self, workload: WorkloadSection, found: KubeObject) -> bool:
        """Return whether the same would be read off these."""
        return self.workload is workload and self.found is found


def read_off(workload: WorkloadSection, found: KubeObject, subcluster: str) -> Held:
    """Return what a workload's object says."""
    scalable = SCALABLES[workload.kind]
    replicas = replicas_of(scalable, found, workload.component)
    count = None
    if replicas is not None:
        count = GroupRole(
            service=workload.service,
            group=group_of(workload),
            role=workload.role,
            accelerator=workload.accelerator,
            subcluster=subcluster,
            domain=(),
            replicas=replicas,
            version=str(found["metadata"]["generation"]),
        )
    pod_labels = pods_of(scalable, found, workload.component)
    return Held(workload, found, count, pod_labels, rolls_out(scalable, found))
