"""Whether a cluster is as its file says, and whether we may do there what we must: in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from http import HTTPStatus

from heteroscale.config.cluster_sections import ClusterFile, WorkloadSection
from heteroscale.entities.finding import Finding
from heteroscale.ports import Clock
from heteroscale.subcluster.api_server import ApiServer, NotReached
from heteroscale.subcluster.levers import GATE, lever_of
from heteroscale.subcluster.permissions import Permission, needed
from heteroscale.subcluster.pods import ROTATION, gpus_of, unschedulable
from heteroscale.subcluster.scalables import (
    SCALABLES,
    KubeObject,
    Scalable,
    labels_of,
    pods_of,
    replicas_of,
)
from heteroscale.subcluster.second_writers import WRITER_KINDS, writes

#: instances' ages and waits are read against the API server's clock
_SKEW_S = 5.0
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def cluster_findings(file: ClusterFile, api: ApiServer, clock: Clock) -> Iterator[Finding]:
    """Yield what is amiss in one cluster; nothing there is changed."""
    where = f"cluster {file.name}"
    try:
        theirs_s = api.clock_s()
        ours_s = clock.now_s()
        if theirs_s is not None and abs(theirs_s - ours_s) > _SKEW_S:
            yield Finding(
                where=where,
                what=f"its clock is {theirs_s - ours_s:+.0f} s from ours",
                mend="set both by NTP: how long an instance has been ready is told by its clock",
            )
        for permission in needed(file, file.lease.namespace or api.namespace):
            refused = _refused(api, permission)
            if refused:
                yield _not_permitted(where, permission, refused)
        for workload in file.workloads:
            yield from _workload_findings(file, api, workload)
    except NotReached as error:
        yield Finding(
            where=where,
            what=f"it gives no answer ({error})",
            mend="check the address and the credentials in the kubeconfig, and the network",
        )


def _refused(api: ApiServer, permission: Permission) -> tuple[str, ...]:
    """Return the verbs that we are not allowed."""
    return tuple(verb for verb in permission.verbs if not _allowed(api, permission, verb))


def _allowed(api: ApiServer, permission: Permission, verb: str) -> bool:
    resource, _, part = permission.resource.partition("/")
    asked = {
        "group": permission.group,
        "resource": resource,
        "subresource": part,
        "namespace": permission.namespace,
        "name": permission.name,
        "verb": verb,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    reply = api.post(_REVIEWS, review)
    if not reply.done:
        raise NotReached(reply.reason, sent=True)
    return bool((reply.body.get("status") or {}).get("allowed"))


def _not_permitted(where: str, permission: Permission, verbs: tuple[str, ...]) -> Finding:
    place = f"in namespace {permission.namespace}" if permission.namespace else "in the cluster"
    shown = ", ".join(f'"{verb}"' for verb in verbs)
    rule = f'{{apiGroups: ["{permission.group}"], resources: ["{permission.resource}"],'
    rule += f' resourceNames: ["{permission.name}"],' if permission.name else ""
    return Finding(
        where=where,
        what=f"we may not {' or '.join(verbs)} {permission.resource} {place}",
        mend=f"add to our {'Role there' if permission.namespace else 'ClusterRole'}: "
        f"{rule} verbs: [{shown}]}}",
    )


def _workload_findings(
    file: ClusterFile, api: ApiServer, workload: WorkloadSection
) -> Iterator[Finding]:
    scalable = SCALABLES[workload.kind]
    where = (
        f"cluster {file.name}: {workload.kind.value} {workload.namespace}/{workload.name} "
        f"({workload.role} of {workload.service})"
    )
    reply = api.get(scalable.path(workload.namespace, workload.name))
    if not reply.done:
        known = api.get(scalable.path(workload.namespace)).done
        missing = "there is no such object" if known else "its kind cannot be read there"
        if reply.status == HTTPStatus.FORBIDDEN:
            missing = "it may not be read"
        made = "the name and namespace in the cluster file"
        if reply.status != HTTPStatus.NOT_FOUND:
            made = "our permissions above"
        elif not known:
            made = f"that {scalable.plural}.{scalable.group} {scalable.version} is installed"
        yield Finding(where=where, what=f"{missing} ({reply.reason})", mend=f"check {made}")
        return
    found = reply.body
    if replicas_of(scalable, found, workload.component) is None:
        yield Finding(
            where=where,
            what=f"it has no component {workload.component}",
            mend="name one of its components in the cluster file",
        )
        return
    scale = f"{scalable.path(workload.namespace, workload.name)}/scale"
    if scalable.has_scale and api.get(scale).status == HTTPStatus.NOT_FOUND:
        yield Finding(
            where=where,
            what="it has no /scale",
            mend=f"install a version of {scalable.plural}.{scalable.group} with the sub-resource",
        )
    yield from _writer_findings(api, where, workload, found)
    yield from _pod_findings(file, api, where, workload, found)


def _writer_findings(
    api: ApiServer, where: str, workload: WorkloadSection, found: KubeObject
) -> Iterator[Finding]:
    for kind in WRITER_KINDS:
        reply = api.get(kind.path(workload.namespace))
        for writer in reply.body.get("items") or () if reply.done else ():
            if writes(kind, writer, workload, found):
                name = writer["metadata"]["name"]
                yield Finding(
                    where=where,
                    what=f"{kind.kind} {name} sets its count, too: we refuse to",
                    mend=f"delete {kind.kind} {name}, or take {workload.service} out of our files",
                )


def _pod_findings(
    file: ClusterFile,
    api: ApiServer,
    where: str,
    workload: WorkloadSection,
    found: KubeObject,
) -> Iterator[Finding]:
    selected = pods_of(SCALABLES[workload.kind], found, workload.component)
    if not selected:
        yield Finding(
            where=where,
            what="nothing says which pods are its own",
            mend="wait until its controller has filled its status, or check that controller",
        )
        return
    label = file.routing_label
    if label is not None and label.key in selected:
        yield Finding(
            where=where,
            what=f"the routing label {label.key} is in its own selector: a pod that leaves "
            "rotation would be orphaned and replaced",
            mend="use a label that only the router selects by, on the pod template alone",
        )
    pods, _ = api.list_all(f"/api/v1/namespaces/{workload.namespace}/pods")
    own = [one for one in pods if selected.items() <= labels_of(one).items()]
    yield from _routing_findings(
        file, where, own, selected, _template_labels(SCALABLES[workload.kind], found)
    )
    if own and not any(gpus_of(one, file.nodes.resource) for one in own):
        yield Finding(
            where=where,
            what=f"none of its {len(own)} pods asks for {file.nodes.resource}",
            mend="set nodes.resource of the cluster file to what its containers ask for",
        )
    for reason in sorted({reason for one in own if (reason := unschedulable(one))}):
        yield Finding(
            where=where,
            what=f"a pod of it cannot be scheduled: {reason}",
            mend="make room for it or mend what it asks for; until then it is no supply",
            note=True,
        )


def _routing_findings(
    file: ClusterFile,
    where: str,
    own: list[KubeObject],
    selected: Collection[str],
    template: Mapping[str, str] | None,
) -> Iterator[Finding]:
    label = file.routing_label
    if label is None:
        plain = [one for one in own if lever_of(one, selected, label) is None]
        if plain or not own:
            yield Finding(
                where=where,
                what="nothing takes its pods out of rotation and back: soft scale-in is refused, "
                "they end plainly",
                mend="name a label of your router's selector as routing_label of the cluster file, "
                f"or declare the readiness gate {GATE} in its pod template",
                note=True,
            )
        return
    pair = f"{label.key}: {label.value}"
    if template is not None and template.get(label.key) != label.value:
        yield Finding(
            where=where,
            what=f"its pod template lacks the routing label {pair}: new pods get no requests",
            mend=f"add {pair} to the labels of its pod template",
        )
    bare = [one for one in own if _lacks(one, label.key, label.value)]
    if bare:
        yield Finding(
            where=where,
            what=f"{len(bare)} of its {len(own)} pods lack the routing label {pair} though we took "
            "none of them out of rotation",
            mend=f"kubectl label pod -n {bare[0]['metadata']['namespace']} "
            f"{bare[0]['metadata']['name']} {label.key}={label.value}",
        )


def _lacks(pod: KubeObject, key: str, value: str) -> bool:
    metadata = pod["metadata"]
    moved = ROTATION in (metadata.get("annotations") or {})
    return not moved and (metadata.get("labels") or {}).get(key) != value


def _template_labels(scalable: Scalable, found: KubeObject) -> Mapping[str, str] | None:
    """Return the labels of a kind's pod template; None = it keeps it elsewhere."""
    template = (found.get("spec") or {}).get("template") or {}
    if scalable.group != "apps" or not isinstance(template, dict):
        return None
    labels: Mapping[str, str] = (template.get("metadata") or {}).get("labels") or {}
    return labels
