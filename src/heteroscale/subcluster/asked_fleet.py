"""The fleet that a controller is asked to look after by now: that of files, and of resources."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from threading import Event
from types import MappingProxyType

from heteroscale.config.cluster_sections import ClusterFile, WorkloadSection
from heteroscale.entities.service import FleetSpec, Mode, ServiceSpec
from heteroscale.ports import Clock
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.in_place import InPlaceSubcluster
from heteroscale.subcluster.scalables import KubeObject
from heteroscale.subcluster.scaled_services import (
    Refusal,
    SortedOut,
    Sorter,
    called,
    resources_path,
)
from heteroscale.subcluster.watched import ObjectKey, Watched

#: what is not listed yet is looked for this often
_PACE_S = 0.05


class AskedFleet:
    """Follows the resources of one cluster and lets the sub-cluster scale what they name."""

    def __init__(
        self,
        file: ClusterFile,
        fleet: FleetSpec,
        api: ApiServer,
        clock: Clock,
        subcluster: InPlaceSubcluster,
        *,
        observe: bool = False,
    ) -> None:
        """Begin to watch the resources of the namespaces that the file names.

        Args:
            fleet: of the services file.
            api: a connection of its own, which it closes.
            observe: whether every resource is only looked at, whatever its mode.
        """
        self._file = file
        self._api = api
        self._given = self._fleet = fleet
        self._subcluster = subcluster
        self._observe = observe
        self._watches = [Watched(api, clock, resources_path(one)) for one in file.namespaces]
        self._sorter = Sorter(file, fleet, subcluster)
        self._specs: tuple[ServiceSpec, ...] = ()
        self._workloads = file.workloads
        #: service → its workloads, until nothing of it is remembered any more
        self._held: dict[str, tuple[WorkloadSection, ...]] = {}
        self.sorted_out = SortedOut(asked={}, refused={})

    def unknown(self) -> str:
        """Return why it is not known what is asked for; "" = it is."""
        faults = [one.fault or "not listed yet" for one in self._watches if not one.filled.is_set()]
        return "; ".join(dict.fromkeys(faults))

    def settle(self, limit_s: float) -> str:
        """Wait until everything that is named can be told; return why it is not known what is."""
        pause = Event()
        for _ in range(max(1, int(limit_s / _PACE_S))):
            if not self.unknown():
                self.now(())
                if not any(_unlisted(one) for one in self.sorted_out.refused.values()):
                    break
            pause.wait(_PACE_S)
        return self.unknown()

    def resources(self) -> Mapping[ObjectKey, KubeObject]:
        """Return every resource, whether it is looked after or not."""
        found: dict[ObjectKey, KubeObject] = {}
        for one in self._watches:
            found.update(one.objects())
        return MappingProxyType(found)

    def now(self, remembered: Collection[str]) -> FleetSpec:
        """Return the fleet; the same as before where nothing has changed.

        Args:
            remembered: services of which something may still be out of rotation; those that
                nobody asks for any more are seen until then, so that it can come back.
        """
        if not self._watches:
            return self._fleet
        resources = self.resources()
        self._subcluster.watch(self._sorter.places(resources.values()))
        self.sorted_out = self._sorter.sort_out(resources)
        self._scale(remembered)
        specs = self.sorted_out.specs()
        if specs != self._specs:
            self._specs = specs
            if self._observe:
                specs = tuple(dataclasses.replace(one, mode=Mode.OBSERVE) for one in specs)
            services = (*self._given.services, *specs)
            self._fleet = dataclasses.replace(self._given, services=services)
        return self._fleet

    def notices(self) -> tuple[str, ...]:
        """Return why resources are not looked after, in words."""
        return tuple(
            f"{called(key)} is not looked after: {refusal.message}"
            for key, refusal in self.sorted_out.refused.items()
        )

    def close(self) -> None:
        """Stop watching and close the connections."""
        for one in self._watches:
            one.close()
        self._api.interrupt()
        for one in self._watches:
            one.join()
        self._api.close()

    def _scale(self, remembered: Collection[str]) -> None:
        asked = {one.spec.name: one.workloads for one in self.sorted_out.asked.values()}
        self._held = {
            name: workloads
            for name, workloads in {**self._held, **asked}.items()
            if name in asked or (name in remembered and self._listed(workloads))
        }
        own = (*self._file.workloads, *self.sorted_out.workloads())
        taken = {_object_of(one) for one in own}
        left = (
            workload
            for name, workloads in sorted(self._held.items())
            if name not in asked
            for workload in workloads
            if _object_of(workload) not in taken
        )
        workloads = (*own, *left)
        if workloads != self._workloads:
            self._workloads = workloads
            self._subcluster.scale(workloads)

    def _listed(self, workloads: tuple[WorkloadSection, ...]) -> bool:
        return not any(self._subcluster.unlisted(one.kind, one.namespace) for one in workloads)


def _unlisted(refusal: Refusal) -> bool:
    return refusal.reason == "WorkloadsUnknown"


def _object_of(workload: WorkloadSection) -> tuple[object, ...]:
    return workload.kind, workload.namespace, workload.name, workload.component
