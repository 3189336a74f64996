"""What stands in the way of a service's changes, in words that stay as they are while it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from heteroscale.config.cluster_sections import WorkloadSection
from heteroscale.entities.snapshot import Instance
from heteroscale.subcluster.pods import unschedulable
from heteroscale.subcluster.scalables import KubeObject
from heteroscale.subcluster.writing import Hindrances


def in_the_way(
    hindrances: Hindrances,
    owned: Iterable[tuple[WorkloadSection, Sequence[KubeObject]]],
    instances: Iterable[Instance],
) -> Mapping[str, tuple[str, ...]]:
    """Return service → what stands in its way.

    Args:
        owned: every workload with its pods.
    """
    found: dict[str, tuple[str, ...]] = {}
    for service, text in _each(hindrances, owned, instances):
        found[service] = (*found.get(service, ()), text)
    return found


def _each(
    hindrances: Hindrances,
    owned: Iterable[tuple[WorkloadSection, Sequence[KubeObject]]],
    instances: Iterable[Instance],
) -> Iterator[tuple[str, str]]:
    plain = (one for one in instances if not one.reversible)
    for service, other in sorted(hindrances.contested.items()):
        yield service, f"{other}: nothing of it is changed"
    for service, rollout in sorted(hindrances.rolling.items()):
        yield service, f"{rollout}: nothing of it is scaled in meanwhile"
    for service, role in sorted({(one.service, one.role) for one in plain}):
        way = f"nothing takes a pod of {role} out of rotation and back"
        yield service, f"{way}: soft scale-in is refused, what is scaled in ends plainly"
    for workload, pods in owned:
        stuck = [reason for pod in pods if (reason := unschedulable(pod))]
        for reason, count in sorted(Counter(stuck).items() if stuck else ()):
            whose = f"{count} of {workload.role} on {workload.accelerator}"
            yield workload.service, f"{whose} find no node: {reason}"
