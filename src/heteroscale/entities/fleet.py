"""A fleet at rest: what is known of its nodes and of who uses them, from no matter where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.entities.snapshot import Instance
from heteroscale.entities.topology import Inventory

#: (sub-cluster, node)
NodeName = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFleet:
    """Nodes, the instances on them, and the GPUs that others hold."""

    inventory: Inventory
    #: topology levels, narrowest first
    levels: tuple[str, ...]
    #: of every service, sorted by service, role, group, accelerator, ordinal
    instances: tuple[Instance, ...] = ()
    #: GPUs held by what is no service's instance; None = nothing at all is known about use
    others_gpus: Mapping[NodeName, int] | None = None
    #: accelerator → price of one GPU for an hour, in the operator's currency
    prices: Mapping[str, float] = field(default_factory=dict)

    def used_gpus(self) -> Mapping[NodeName, int] | None:
        """Return the GPUs in use per node, nodes without any left out; None = unknown."""
        if self.others_gpus is None:
            return None
        used = dict(self.others_gpus)
        for one in self.instances:
            for name in one.nodes:
                key = (one.subcluster, name)
                used[key] = used.get(key, 0) + (one.gpus or 0)
        return used
