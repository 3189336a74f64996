"""What differs between the kinds of objects whose counts are written: a table, and how to read it.

Facts: apps/v1, lws, rbg, kthena, aibrix, dynamo and grove definitions of autumn 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from heteroscale.config.cluster_sections import ScalableKind

#: an object as the API server returns it
KubeObject: TypeAlias = Mapping[str, Any]


class Victims(Enum):
    """Which pods go when a count falls."""

    #: the cheapest to delete first, as an annotation on the pod says
    CHEAPEST = "cheapest"
    #: the highest numbers, whatever anyone wishes
    HIGHEST = "highest"
    #: its controller chooses, and cannot be told
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalable:
    """How one kind is reached, read and written."""

    group: str
    version: str
    plural: str
    #: whether its count is written through /scale
    has_scale: bool = True
    #: where a kind without /scale keeps its components: a list of mappings by name …
    components: tuple[str, ...] = ()
    #: … and where the selector of its pods stands: a mapping, or text
    selector: tuple[str, ...] = ("status", "selector")
    #: labels of a component's pods where no selector says it: key → "{name}" or "{component}"
    pod_labels: Mapping[str, str] | None = None
    victims: Victims = Victims.UNKNOWN
    #: whether its status tells how far a new pod template has got
    tells_rollout: bool = False

    def path(self, namespace: str, name: str = "") -> str:
        """Return the object's path on the API server, or that of all of its kind there."""
        base = f"/apis/{self.group}/{self.version}/namespaces/{namespace}/{self.plural}"
        return f"{base}/{name}" if name else base


_APPS = ("spec", "selector", "matchLabels")
SCALABLES: Mapping[ScalableKind, Scalable] = {
    ScalableKind.DEPLOYMENT: Scalable(
        group="apps",
        version="v1",
        plural="deployments",
        selector=_APPS,
        victims=Victims.CHEAPEST,
        tells_rollout=True,
    ),
    ScalableKind.STATEFUL_SET: Scalable(
        group="apps",
        version="v1",
        plural="statefulsets",
        selector=_APPS,
        victims=Victims.HIGHEST,
        tells_rollout=True,
    ),
    ScalableKind.LEADER_WORKER_SET: Scalable(
        group="leaderworkerset.x-k8s.io",
        version="v1",
        plural="leaderworkersets",
        selector=("status", "hpaPodSelector"),
        victims=Victims.HIGHEST,
        tells_rollout=True,
    ),
    ScalableKind.DISAGGREGATED_SET_ROLE_SCALER: Scalable(
        group="disaggregatedset.x-k8s.io",
        version="v1",
        plural="disaggregatedsetrolescalers",
        victims=Victims.HIGHEST,
    ),
    ScalableKind.ROLE_BASED_GROUP_SCALING_ADAPTER: Scalable(
        group="workloads.x-k8s.io",
        version="v1alpha2",
        plural="rolebasedgroupscalingadapters",
    ),
    ScalableKind.DYNAMO_GRAPH_DEPLOYMENT_SCALING_ADAPTER: Scalable(
        group="nvidia.com",
        version="v1beta1",
        plural="dynamographdeploymentscalingadapters",
    ),
    ScalableKind.POD_CLIQUE_SCALING_GROUP: Scalable(
        group="grove.io",
        version="v1alpha1",
        plural="podcliquescalinggroups",
        victims=Victims.HIGHEST,
    ),
    ScalableKind.MODEL_SERVING: Scalable(
        group="workload.serving.volcano.sh",
        version="v1alpha1",
        plural="modelservings",
        has_scale=False,
        components=("spec", "template", "roles"),
        pod_labels={
            "modelserving.volcano.sh/name": "{name}",
            "modelserving.volcano.sh/role": "{component}",
            "modelserving.volcano.sh/entry": "true",
        },
        victims=Victims.CHEAPEST,
    ),
    ScalableKind.STORM_SERVICE: Scalable(
        group="orchestration.aibrix.ai",
        version="v1alpha1",
        plural="stormservices",
        has_scale=False,
        components=("spec", "template", "spec", "roles"),
        pod_labels={"storm-service-name": "{name}", "role-name": "{component}"},
    ),
    ScalableKind.DYNAMO_GRAPH_DEPLOYMENT: Scalable(
        group="nvidia.com",
        version="v1beta1",
        plural="dynamographdeployments",
        has_scale=False,
        components=("spec", "components"),
        pod_labels={
            "nvidia.com/dynamo-graph-deployment-name": "{name}",
            "nvidia.com/dynamo-component": "{component}",
        },
    ),
}


def replicas_of(scalable: Scalable, found: KubeObject, component: str | None) -> int | None:
    """Return the count that an object asks for; None = it has no such component."""
    if scalable.has_scale:
        return int(_at(found, ("spec",), {}).get("replicas", 1))
    position = position_of(scalable, found, component)
    if position is None:
        return None
    return int(_at(found, scalable.components, [])[position].get("replicas", 1))


def rolls_out(scalable: Scalable, found: KubeObject) -> bool:
    """Return whether an object is replacing its pods by those of a newer template.

    What is to be replaced by hand, or only from some ordinal on, is no rollout under way.
    """
    status, strategy = _at(found, ("status",), {}), _at(found, ("spec", "updateStrategy"), {})
    partition = _at(strategy, ("rollingUpdate", "partition"), 0)
    if not scalable.tells_rollout or strategy.get("type") == "OnDelete" or partition:
        return False
    generation = _at(found, ("metadata", "generation"), 0)
    if status.get("observedGeneration", generation) < generation:
        return True
    return int(status.get("updatedReplicas", 0)) < int(status.get("replicas", 0))


def position_of(scalable: Scalable, found: KubeObject, component: str | None) -> int | None:
    """Return where a component stands in its object's list; None = nowhere."""
    names = [one.get("name") for one in _at(found, scalable.components, [])]
    return names.index(component) if component in names else None


def labels_of(thing: KubeObject) -> Mapping[str, str]:
    """Return an object's labels; {} = it has none."""
    return thing["metadata"].get("labels") or {}


def pods_of(scalable: Scalable, found: KubeObject, component: str | None) -> Mapping[str, str]:
    """Return the labels that the pods of a count have; empty = nobody says."""
    if scalable.pod_labels is not None:
        name = str(_at(found, ("metadata", "name"), ""))
        return {
            key: value.format(name=name, component=component or "")
            for key, value in scalable.pod_labels.items()
        }
    selector = _at(found, scalable.selector, "")
    if isinstance(selector, str):
        pairs = (pair.partition("=") for pair in selector.split(",") if "=" in pair)
        return {key: value for key, _, value in pairs}
    return dict(selector)


def count_patch(
    scalable: Scalable, found: KubeObject, component: str | None, expected: int, replicas: int
) -> list[dict[str, Any]] | None:
    """Return the JSON patch that moves a component's count, and nothing that has moved since.

    None = the object has no such component.
    """
    position = position_of(scalable, found, component)
    if position is None:
        return None
    at = "/" + "/".join((*scalable.components, str(position)))
    tested = {"op": "test", "path": f"{at}/replicas", "value": expected}
    if "replicas" not in _at(found, scalable.components, [])[position]:
        # An absent count is 1; only the whole object's version can be tested instead.
        version = _at(found, ("metadata", "resourceVersion"), "")
        tested = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
    return [
        {"op": "test", "path": f"{at}/name", "value": component},
        tested,
        {"op": "add", "path": f"{at}/replicas", "value": replicas},
    ]


def _at(found: KubeObject, keys: tuple[str, ...], default: Any) -> Any:
    """Return what stands at a path of an object."""
    value: Any = found
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return default if value is None else value
