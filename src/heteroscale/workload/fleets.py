"""Synthetic fleets: hardware, services, what runs, what is wanted. Same shape, same fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heteroscale.entities.fleet import KnownFleet
from heteroscale.entities.service import RolePath, ServiceSpec
from heteroscale.entities.snapshot import GroupRole, Instance
from heteroscale.entities.topology import Inventory, Node, NodeRecord, SwitchLabels
from heteroscale.journal.codec import generation_of
from heteroscale.prescheduler.inventory import take_inventory
from heteroscale.workload.fleet_hardware import FleetShape, node_records
from heteroscale.workload.fleet_load import place_load
from heteroscale.workload.fleet_services import synthetic_services


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticFleet:
    """One fleet at the start of a cycle."""

    #: as a cluster would report them
    records: tuple[NodeRecord, ...]
    #: where the records say where they stand
    switches: SwitchLabels
    #: sorted by name
    nodes: tuple[Node, ...]
    #: sorted by name
    services: tuple[ServiceSpec, ...]
    #: sorted by service, role, group, accelerator, ordinal
    instances: tuple[Instance, ...]
    group_roles: tuple[GroupRole, ...]
    #: service → leaf role → capacity units wanted on top of what is there; whole units of the group
    more: Mapping[str, Mapping[RolePath, int]]

    def want(self) -> Mapping[str, Mapping[RolePath, int]]:
        """Return service → leaf role → capacity units wanted, those that are there included."""
        there: Counter[tuple[str, RolePath]] = Counter()
        for count in self.group_roles:
            # each runs on its preferred accelerator, so an instance is a unit
            there[count.service, count.role] += count.replicas
        return {
            service: {role: units + there[service, role] for role, units in roles.items()}
            for service, roles in self.more.items()
        }

    def known(self) -> KnownFleet:
        """Return what an inventory of it says."""
        return KnownFleet(
            inventory=Inventory(generation=generation_of(self.nodes), nodes=self.nodes),
            levels=self.switches.levels,
            instances=self.instances,
            others_gpus={},
        )


def synthetic_fleet(shape: FleetShape, switches: SwitchLabels) -> SyntheticFleet:
    """Return the fleet of a shape.

    Args:
        switches: the labels that say where nodes stand; three levels.
    """
    # A stream for each part: more services do not change the hardware.
    hardware, kinds, load, wishes = (np.random.default_rng([shape.seed, part]) for part in range(4))
    records = node_records(shape, switches, hardware)
    nodes, _ = take_inventory(records, switches)
    services = synthetic_services(shape.service_count, kinds)
    healthy_gpus = sum(node.gpus for node in nodes if node.healthy)
    placed = place_load(nodes, services, shape.load, round(shape.used_share * healthy_gpus), load)
    used = sum((one.gpus or 0) * len(one.nodes) for one in placed.instances)
    return SyntheticFleet(
        records=records,
        switches=switches,
        nodes=nodes,
        services=services,
        instances=placed.instances,
        group_roles=placed.group_roles,
        more=_more(shape, services, shape.demand * (healthy_gpus - used), wishes),
    )


def _more(
    shape: FleetShape, services: Sequence[ServiceSpec], gpus: float, rng: np.random.Generator
) -> Mapping[str, Mapping[RolePath, int]]:
    """Return what services want more: about so many GPUs at random, one step of each at least."""
    asking = max(1, round(shape.asking_share * len(services))) if shape.asking_share > 0 else 0
    if not gpus or not asking:
        return {}
    chosen = sorted(rng.choice(len(services), size=asking, replace=False).tolist())
    parts = rng.dirichlet(np.ones(asking)).tolist()
    more: dict[str, Mapping[RolePath, int]] = {}
    for index, part in zip(chosen, parts, strict=True):
        spec = services[index]
        weights = spec.group.weights({})
        options = {leaf.path: leaf.accelerators[0] for leaf in spec.group.leaves()}
        step = sum(options[role].gpus * options[role].nodes * n for role, n in weights.items())
        steps = max(1, round(gpus * part / step))
        more[spec.name] = {role: steps * weight for role, weight in weights.items()}
    return more
