"""Reads a node of the cluster as the record of an inventory."""

from __future__ import annotations

from heteroscale.config.cluster_sections import ClusterNodesSection
from heteroscale.entities.topology import NodeRecord
from heteroscale.subcluster.scalables import KubeObject, labels_of


def record_of(node: KubeObject, section: ClusterNodesSection, subcluster: str) -> NodeRecord:
    """Return a node's record; one without GPUs has 0 of them."""
    status, labels = node.get("status", {}), labels_of(node)
    product = labels.get(section.product_label, "")
    ready = [one for one in status.get("conditions") or () if one["type"] == "Ready"]
    return NodeRecord(
        name=node["metadata"]["name"],
        subcluster=subcluster,
        accelerator=section.accelerators.get(product, product),
        gpus=int((status.get("allocatable") or {}).get(section.resource, 0)),
        labels=labels,
        healthy=not node["spec"].get("unschedulable", False)
        and any(one["status"] == "True" for one in ready),
    )
