"""Who else sets the counts that we set: autoscalers of other makers that name the same object.

Facts: autoscaling/v2, keda, aibrix, kthena and rbg definitions of autumn 2026.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from threading import Event, Thread
from typing import Any

from heteroscale.config.cluster_sections import ScalableKind, WorkloadSection
from heteroscale.subcluster.api_server import ApiServer, NotReached
from heteroscale.subcluster.scalables import KubeObject

#: keys under which an autoscaler names the object that it scales
_TARGETS = ("scaleTargetRef", "targetRef")
#: seconds between two looks, and until the first has succeeded
_PACE_S = 15.0
_FIRST_PACE_S = 1.0
_KEDA_PAUSED = "autoscaling.keda.sh/paused"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WriterKind:
    """A kind of object that makes somebody set counts."""

    kind: str
    group: str
    version: str
    plural: str
    #: kind of what it names without saying its kind
    names: ScalableKind = ScalableKind.DEPLOYMENT

    def path(self, namespace: str) -> str:
        """Return the path of all of its kind in a namespace."""
        return f"/apis/{self.group}/{self.version}/namespaces/{namespace}/{self.plural}"


COORDINATED_POLICY = WriterKind(
    kind="CoordinatedPolicy",
    group="workloads.x-k8s.io",
    version="v1alpha2",
    plural="coordinatedpolicies",
)
WRITER_KINDS = (
    WriterKind(
        kind="HorizontalPodAutoscaler",
        group="autoscaling",
        version="v2",
        plural="horizontalpodautoscalers",
    ),
    WriterKind(kind="ScaledObject", group="keda.sh", version="v1alpha1", plural="scaledobjects"),
    WriterKind(
        kind="PodAutoscaler",
        group="autoscaling.aibrix.ai",
        version="v1alpha1",
        plural="podautoscalers",
    ),
    WriterKind(
        kind="AutoscalingPolicy",
        group="workload.serving.volcano.sh",
        version="v1alpha1",
        plural="autoscalingpolicies",
        names=ScalableKind.MODEL_SERVING,
    ),
    WriterKind(
        kind="AutoscalingPolicyBinding",
        group="workload.serving.volcano.sh",
        version="v1alpha1",
        plural="autoscalingpolicybindings",
        names=ScalableKind.MODEL_SERVING,
    ),
    COORDINATED_POLICY,
)


def writes(
    kind: WriterKind, writer: KubeObject, workload: WorkloadSection, found: KubeObject | None
) -> bool:
    """Return whether an autoscaler sets the count that a workload section names.

    Args:
        writer: of that kind, in the workload's namespace.
        found: the workload's object; None = it is not there.
    """
    if kind is COORDINATED_POLICY:
        return _coordinates(writer, workload, found)
    metadata = writer["metadata"]
    if (metadata.get("annotations") or {}).get(_KEDA_PAUSED) == "true":
        return False
    for target, beside in _targets(writer.get("spec") or {}):
        # Kthena names a part of an object as kind ModelServing/Role and name chat/decode.
        named_kind = str(target.get("kind") or kind.names).partition("/")[0]
        name, _, part = str(target.get("name")).partition("/")
        parts = (part,) if part else beside
        named = named_kind, name
        whole = not parts or workload.component is None
        if named == (workload.kind.value, workload.name) and (whole or workload.component in parts):
            return True
    return False


def _targets(spec: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
    """Yield every object that a specification names, with the parts of it; no parts = all."""
    for key, value in spec.items():
        if key in _TARGETS and isinstance(value, dict):
            yield value, _parts(spec)
        elif isinstance(value, dict):
            yield from _targets(value)
        elif isinstance(value, list):
            for one in value:
                if isinstance(one, dict):
                    yield from _targets(one)


def _parts(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the roles that stand beside a target: AIBrix names one, Kthena some."""
    role = (spec.get("subTargetSelector") or {}).get("roleName")
    if role:
        return (role,)
    roles = spec.get("roles")
    if isinstance(roles, dict):
        return tuple(roles)
    part = spec.get("subTargets") or {}
    return (part["name"],) if isinstance(part, dict) and part.get("name") else ()


def _coordinates(writer: KubeObject, workload: WorkloadSection, found: KubeObject | None) -> bool:
    """Return whether a policy holds back the scaling of the group that an adapter belongs to."""
    if workload.kind is not ScalableKind.ROLE_BASED_GROUP_SCALING_ADAPTER or found is None:
        return False
    target = (found.get("spec") or {}).get("scaleTargetRef") or {}
    if target.get("name") != writer["metadata"]["name"]:
        return False
    return any(
        target.get("role") in (rule.get("roles") or ()) and "scaling" in rule.get("strategy", {})
        for rule in (writer.get("spec") or {}).get("policies") or ()
    )


class SecondWriters:
    """Every autoscaler of some namespaces, looked at again and again from a thread of its own.

    They change rarely and by hand, so they are listed and not watched.
    """

    def __init__(self, api: ApiServer, namespaces: Iterable[str]) -> None:
        """Begin to look."""
        self._api = api
        self._places = self._first = _places(namespaces)
        self._found: Mapping[tuple[WriterKind, str], Sequence[KubeObject]] = {}
        self._stop = Event()
        #: set when a look is due
        self._due = Event()
        #: set once everything was listed in the namespaces that were named first
        self.filled = Event()
        #: why the last look failed; "" = it did not
        self.fault = ""
        self._thread = Thread(target=self._run, name="second writers", daemon=True)
        self._thread.start()

    def found(self) -> Mapping[tuple[WriterKind, str], Sequence[KubeObject]]:
        """Return them by kind and namespace; the same mapping as long as none has changed."""
        return self._found

    def look_in(self, namespaces: Iterable[str]) -> None:
        """Look in these, and no others, from now on."""
        places = _places(namespaces)
        if places != self._places:
            self._places = places
            self._due.set()

    def knows(self, namespace: str) -> bool:
        """Return whether every kind was listed in a namespace."""
        return all((kind, namespace) in self._found for kind in WRITER_KINDS)

    def of(self, workload: WorkloadSection, found: KubeObject | None) -> str:
        """Return who else sets a workload's count, by kind and name; "" = nobody."""
        for kind in WRITER_KINDS:
            for writer in self._found.get((kind, workload.namespace), ()):
                if writes(kind, writer, workload, found):
                    return f"{kind.kind} {writer['metadata']['name']}"
        return ""

    def close(self) -> None:
        """Stop looking; the thread ends with its present request."""
        self._stop.set()
        self._due.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._due.clear()
            faults = self._look(self._places)
            self.fault = "; ".join(dict.fromkeys(faults))
            if all(place in self._found for place in self._first):
                self.filled.set()
            self._due.wait(_PACE_S if self.filled.is_set() else _FIRST_PACE_S)

    def _look(self, places: Sequence[tuple[WriterKind, str]]) -> Sequence[str]:
        """List them all anew; what cannot be listed stays as it was, and is a fault."""
        found = {place: self._found[place] for place in places if place in self._found}
        faults: list[str] = []
        for place in places:
            try:
                found[place] = self._listed(*place)
            except NotReached as error:
                faults.append(str(error))
            except Exception as error:  # noqa: BLE001 - whatever the answer was, look again
                faults.append(f"{type(error).__name__}: {error}")
        if found != self._found:
            self._found = found
        return faults

    def _listed(self, kind: WriterKind, namespace: str) -> tuple[KubeObject, ...]:
        """Return the autoscalers of a kind; none where the kind is not installed.

        Raises:
            NotReached: no answer, or a refusal.
        """
        try:
            items, _ = self._api.list_all(kind.path(namespace))
        except NotReached as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return ()
            raise
        return tuple(
            {
                "metadata": {key: one["metadata"].get(key) for key in ("name", "annotations")},
                "spec": one.get("spec"),
            }
            for one in items
        )


def _places(namespaces: Iterable[str]) -> Sequence[tuple[WriterKind, str]]:
    return [(kind, one) for one in namespaces for kind in WRITER_KINDS]
