"""What a workload says of its instances by its pod template: GPUs of one, and on which accelerator.

Facts: apps/v1 and lws definitions of autumn 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heteroscale.config.cluster_sections import ClusterNodesSection, ScalableKind
from heteroscale.config.scaled_service import Held
from heteroscale.subcluster.pods import gpus_of
from heteroscale.subcluster.scalables import KubeObject

#: kind → where its pod template stands; others have none
_TEMPLATES: Mapping[ScalableKind, tuple[str, ...]] = {
    ScalableKind.DEPLOYMENT: ("spec", "template"),
    ScalableKind.STATEFUL_SET: ("spec", "template"),
    ScalableKind.LEADER_WORKER_SET: ("spec", "leaderWorkerTemplate", "workerTemplate"),
}


def held_by(
    kind: ScalableKind, found: KubeObject, nodes: ClusterNodesSection, only: str | None
) -> Held:
    """Return what an object says of its instances.

    Args:
        only: the accelerator of every node that has any; None = there are several, or none.
    """
    template: Any = found
    for key in _TEMPLATES.get(kind, ()):
        template = template.get(key) or {}
    spec = template.get("spec") or {}
    if kind not in _TEMPLATES or "containers" not in spec:
        return Held(accelerator=only)
    products = set(_products(spec, nodes.product_label))
    chosen = products.pop() if len(products) == 1 else None
    accelerator = only if chosen is None else nodes.accelerators.get(chosen, chosen)
    return Held(accelerator=accelerator, gpus=gpus_of(template, nodes.resource) or None)


def _products(spec: Mapping[str, Any], label: str) -> Iterator[str]:
    """Yield the values of the product label that a pod asks its node for."""
    selector = spec.get("nodeSelector") or {}
    if label in selector:
        yield selector[label]
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in required.get("nodeSelectorTerms") or ():
        for one in term.get("matchExpressions") or ():
            if one.get("key") == label and one.get("operator") == "In":
                yield from one.get("values") or ()
