"""Which node labels name which switch, by who writes the labels. Facts only; no rule reads a value.

Keys stand from the switch nearest the node outwards. A site with labels of its own writes them in
its inventory file (`levels`); a new family is one more entry here.
"""

from __future__ import annotations

from collections.abc import Mapping

from heteroscale.entities.topology import SwitchLabels

#: the levels services speak of unless the fleet has others
_LEVELS = ("S0", "S1", "S2")


def _family(*keys: str, unique_names: bool = True) -> SwitchLabels:
    return SwitchLabels(levels=_LEVELS, keys=keys, unique_names=unique_names)


_ZONE = "topology.kubernetes.io/zone"

#: name → labels
LABEL_PRESETS: Mapping[str, SwitchLabels] = {
    # no family: nodes carry the level names themselves
    "levels": SwitchLabels(levels=_LEVELS, keys=_LEVELS),
    # topograph 1.0 and later; tiers count outwards from the node
    "topograph": _family(
        "fabric.topograph.run/tier-0",
        "fabric.topograph.run/tier-1",
        "fabric.topograph.run/tier-2",
    ),
    # topograph up to 0.5
    "topograph-v0": _family(
        "network.topology.nvidia.com/leaf",
        "network.topology.nvidia.com/spine",
        "network.topology.nvidia.com/core",
    ),
    # Amazon EC2; layer 1 is the widest
    "aws": _family(
        "topology.k8s.aws/network-node-layer-3",
        "topology.k8s.aws/network-node-layer-2",
        "topology.k8s.aws/network-node-layer-1",
    ),
    # Google Cloud names two levels of its fabric; the zone is around both
    "gcp": _family(
        "cloud.google.com/gce-topology-subblock",
        "cloud.google.com/gce-topology-block",
        _ZONE,
    ),
    # Oracle Cloud likewise
    "oci": _family(
        "oci.oraclecloud.com/host.rack_id",
        "oci.oraclecloud.com/host.network_block_id",
        _ZONE,
    ),
    # No fabric labels at all. Two zones may both have a rack 1.
    "zone-rack": _family(
        "kubernetes.io/hostname", "topology.kubernetes.io/rack", _ZONE, unique_names=False
    ),
}

#: GPU type and count of a node as GPU feature discovery labels them
PRODUCT_LABEL = "nvidia.com/gpu.product"
COUNT_LABEL = "nvidia.com/gpu.count"
