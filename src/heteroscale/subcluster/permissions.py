"""What a controller must be allowed to do on the cluster, for the files it is set up by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heteroscale.config.cluster_sections import ClusterFile
from heteroscale.config.scaled_service_sections import GROUP, PLURAL
from heteroscale.subcluster.config_map_store import memory_of
from heteroscale.subcluster.scalables import SCALABLES
from heteroscale.subcluster.second_writers import WRITER_KINDS


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Permission:
    """Verbs on one resource, as RBAC spells them."""

    #: "" = the core group
    group: str
    #: with its sub-resource, if any: "deployments/scale"
    resource: str
    #: "" = of the whole cluster
    namespace: str
    verbs: tuple[str, ...]
    #: of the only object it is for; "" = all
    name: str = ""


def needed(file: ClusterFile, lease_namespace: str) -> Iterator[Permission]:
    """Yield everything that is asked of the API server, each resource and namespace once."""
    verbs: tuple[str, ...] = ("list", "watch")
    yield Permission(group="", resource="nodes", namespace="", verbs=verbs)
    # Nothing that is still to be made has a name that RBAC could look at.
    for group, resource, own in (
        ("coordination.k8s.io", "leases", file.lease.name),
        ("", "configmaps", memory_of(file.lease)),
    ):
        for verbs, name in ((("create",), ""), (("get", "update"), own)):
            yield Permission(
                group=group, resource=resource, namespace=lease_namespace, verbs=verbs, name=name
            )
    for namespace in file.namespaces:
        for group, resource, verbs in (
            (GROUP, PLURAL, ("list", "watch")),
            (GROUP, f"{PLURAL}/status", ("patch",)),
            ("events.k8s.io", "events", ("create", "patch")),
        ):
            yield Permission(group=group, resource=resource, namespace=namespace, verbs=verbs)
    for namespace in sorted({one.namespace for one in file.workloads}):
        verbs = ("get", "list", "watch", "patch")
        yield Permission(group="", resource="pods", namespace=namespace, verbs=verbs)
        # Of pods that declare our readiness gate.
        yield Permission(group="", resource="pods/status", namespace=namespace, verbs=("patch",))
        for writer in WRITER_KINDS:
            verbs = ("list",)
            yield Permission(
                group=writer.group, resource=writer.plural, namespace=namespace, verbs=verbs
            )
    for kind, namespace in sorted({(one.kind, one.namespace) for one in file.workloads}):
        scalable = SCALABLES[kind]
        verbs = ("get", "list", "watch", *(() if scalable.has_scale else ("patch",)))
        yield Permission(
            group=scalable.group, resource=scalable.plural, namespace=namespace, verbs=verbs
        )
        if scalable.has_scale:
            yield Permission(
                group=scalable.group,
                resource=f"{scalable.plural}/scale",
                namespace=namespace,
                verbs=("get", "update"),
            )
