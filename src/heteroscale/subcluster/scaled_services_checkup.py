"""What is wrong with the ScaledServices of a cluster, looked at once: in words."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from heteroscale.config.cluster_sections import ClusterFile, ScalableKind
from heteroscale.config.scaled_service_sections import KIND
from heteroscale.entities.finding import Finding
from heteroscale.entities.service import FleetSpec
from heteroscale.subcluster.api_server import ApiServer, NotReached
from heteroscale.subcluster.nodes import record_of
from heteroscale.subcluster.scalables import SCALABLES, KubeObject
from heteroscale.subcluster.scaled_services import SortedOut, Sorter, called, resources_path
from heteroscale.subcluster.watched import ObjectKey, key_of

_MENDS: Mapping[str, str] = {
    "Invalid": "change the resource, and try it with `heteroscale validate`",
    "NameTaken": "take the service out of one of the two, or give it another name",
    "WorkloadTaken": "let one service name it",
    "WorkloadMissing": "create it, or correct its name; kinds and names are told apart by case",
    "WorkloadsUnknown": "install the kind, or let us list it",
}


def resource_findings(
    file: ClusterFile, fleet: FleetSpec, api: ApiServer
) -> tuple[tuple[Finding, ...], SortedOut]:
    """Return what is amiss with resources, and those that are looked after.

    What may not be listed, and a cluster that gives no answer, are told by others.
    """
    findings: list[Finding] = []
    found: dict[ObjectKey, KubeObject] = {}
    for namespace in file.namespaces:
        try:
            items, _ = api.list_all(resources_path(namespace))
        except NotReached as error:
            if error.status == HTTPStatus.NOT_FOUND:
                findings.append(
                    Finding(
                        where=f"cluster {file.name}",
                        what=f"there is no kind {KIND}, and namespaces names {namespace}",
                        mend="kubectl apply -f deploy/crds/scaledservices.yaml",
                    )
                )
            continue
        found.update({key_of(one): one for one in items})
    sorted_out = Sorter(file, fleet, _Listed(file, api)).sort_out(found)
    findings += [
        Finding(
            where=f"cluster {file.name}: {called(key)}",
            what=f"it is not looked after: {refusal.message}",
            mend=_MENDS[refusal.reason],
        )
        for key, refusal in sorted_out.refused.items()
    ]
    return tuple(dict.fromkeys(findings)), sorted_out


class _Listed:
    """Objects listed when they are first asked for."""

    def __init__(self, file: ClusterFile, api: ApiServer) -> None:
        self._file = file
        self._api = api
        self._lists: dict[str, tuple[Mapping[ObjectKey, KubeObject], str]] = {}

    def unlisted(self, kind: ScalableKind, namespace: str) -> str:
        """Return why the objects of a kind could not be listed; "" = they were."""
        return self._list(SCALABLES[kind].path(namespace))[1]

    def found(self, kind: ScalableKind, namespace: str, name: str) -> KubeObject | None:
        """Return an object; None = it is not there."""
        return self._list(SCALABLES[kind].path(namespace))[0].get((namespace, name))

    def only_accelerator(self) -> str | None:
        """Return the accelerator of every node that has any; None = there are several, or none."""
        nodes = self._list("/api/v1/nodes")[0].values()
        records = [record_of(one, self._file.nodes, self._file.name) for one in nodes]
        found = {one.accelerator for one in records if one.gpus}
        return found.pop() if len(found) == 1 else None

    def _list(self, path: str) -> tuple[Mapping[ObjectKey, KubeObject], str]:
        if path not in self._lists:
            try:
                items, _ = self._api.list_all(path)
                self._lists[path] = {key_of(one): one for one in items}, ""
            except NotReached as error:
                self._lists[path] = {}, str(error)
        return self._lists[path]
