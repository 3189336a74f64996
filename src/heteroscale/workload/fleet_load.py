"""What runs on a synthetic fleet already: whole groups, placed by a sane placer or at random.

The placer is a few lines on purpose and no part of the pre-scheduler: a fleet must not change with
what it is there to test. It takes preferred accelerators only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from heteroscale.entities.service import AcceleratorOption, ServiceSpec
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState
from heteroscale.entities.topology import DomainPath, Node
from heteroscale.workload.fleet_hardware import Load, drawn

#: Domains that are tried for a group before it is given up.
_TRIES = 6
#: Steps of the largest group.
_MOST_STEPS = 6
#: Groups in a row that find no place before the fleet counts as full.
_PATIENCE = 64
#: path length of the domains that hold nodes of one switch called S1
_CELL_DEPTH = 3


@dataclass(slots=True)
class _Cell:
    """Nodes of one type under one S1, by the GPUs that are free on them."""

    #: free GPUs → indices of nodes
    by_free: dict[int, list[int]] = field(default_factory=dict)


class _Room:
    """Free GPUs of a fleet while load is put on it."""

    def __init__(self, nodes: Sequence[Node], load: Load, draws: Iterator[float]) -> None:
        self.nodes = nodes
        self.free = [node.gpus if node.healthy else 0 for node in nodes]
        self._packed = load is Load.PACKED
        self.draws = draws
        #: domain → the S1 in it
        self.switches: dict[DomainPath, list[DomainPath]] = {}
        #: domain of any level → accelerator → its cells
        self.cells: dict[DomainPath, dict[str, list[_Cell]]] = {}
        cells: dict[tuple[DomainPath, str], _Cell] = {}
        for index, node in enumerate(nodes):
            key = (node.domain[:_CELL_DEPTH], node.accelerator)
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = _Cell()
                for depth in range(1, _CELL_DEPTH + 1):
                    by_type = self.cells.setdefault(node.domain[:depth], {})
                    by_type.setdefault(node.accelerator, []).append(cell)
                    switches = self.switches.setdefault(node.domain[:depth], [])
                    if key[0] not in switches:
                        switches.append(key[0])
            cell.by_free.setdefault(self.free[index], []).append(index)

    def take(self, option: AcceleratorOption, domain: DomainPath) -> tuple[int, ...]:
        """Return the nodes that one instance now holds in a domain; () = it does not fit."""
        cells = self.cells[domain].get(option.type, [])
        start = 0 if self._packed else int(next(self.draws) * len(cells))
        for at in range(len(cells)):
            cell = cells[(start + at) % len(cells)]
            found = self._together(cell, option) if option.nodes > 1 else self._one(cell, option)
            if found:
                self._move(cell, found, -option.gpus)
                return found
        return ()

    def give_back(self, nodes: tuple[int, ...], option: AcceleratorOption) -> None:
        """Free what one instance held."""
        place = self.nodes[nodes[0]].domain[:_CELL_DEPTH]
        cell = next(
            cell
            for cell in self.cells[place][option.type]
            if nodes[0] in cell.by_free.get(self.free[nodes[0]], ())
        )
        self._move(cell, nodes, option.gpus)

    def _one(self, cell: _Cell, option: AcceleratorOption) -> tuple[int, ...]:
        fitting = [free for free, of in cell.by_free.items() if of and free >= option.gpus]
        if not fitting:
            return ()
        if self._packed:
            return (cell.by_free[min(fitting)][-1],)
        chosen = int(next(self.draws) * sum(len(cell.by_free[free]) for free in fitting))
        for free in fitting:
            if chosen < len(cell.by_free[free]):
                return (cell.by_free[free][chosen],)
            chosen -= len(cell.by_free[free])
        return ()

    def _together(self, cell: _Cell, option: AcceleratorOption) -> tuple[int, ...]:
        """Return free nodes under one S0 switch."""
        racks: dict[DomainPath, list[int]] = {}
        for index in cell.by_free.get(option.gpus, ()):
            rack = racks.setdefault(self.nodes[index].domain, [])
            rack.append(index)
            if len(rack) == option.nodes:
                return tuple(rack)
        return ()

    def _move(self, cell: _Cell, nodes: tuple[int, ...], gpus: int) -> None:
        for index in nodes:
            cell.by_free[self.free[index]].remove(index)
            self.free[index] += gpus
            cell.by_free.setdefault(self.free[index], []).append(index)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLoad:
    """What runs, sorted as a snapshot would be."""

    instances: tuple[Instance, ...]
    group_roles: tuple[GroupRole, ...]


@dataclass(slots=True)
class _Group:
    service: ServiceSpec
    name: str
    domain: DomainPath
    #: role → nodes of each instance
    roles: dict[str, list[tuple[int, ...]]]


def place_load(
    nodes: Sequence[Node],
    services: Sequence[ServiceSpec],
    load: Load,
    used_gpus: int,
    rng: np.random.Generator,
) -> PlacedLoad:
    """Return groups that together hold about so many GPUs; every service comes up in turn."""
    room = _Room(nodes, load, drawn(rng))
    domains = {depth: sorted(d for d in room.cells if len(d) == depth) for depth in (1, 2, 3)}
    groups: list[_Group] = []
    names: dict[str, int] = {}
    before = left = sum(room.free)
    failed = turn = 0
    order = rng.permutation(len(services)).tolist()
    while before - left < used_gpus and failed < _PATIENCE and services:
        service = services[order[turn % len(order)]]
        turn += 1
        name = f"g{names.get(service.name, 0)}"
        group = _open(service, name, room, domains)
        failed = 0 if group else failed + 1
        if group is not None:
            names[service.name] = names.get(service.name, 0) + 1
            groups.append(group)
            left -= _gpus(group)
    return _observed(groups, nodes)


def _open(
    service: ServiceSpec,
    name: str,
    room: _Room,
    domains: Mapping[int, Sequence[DomainPath]],
) -> _Group | None:
    """Place the first steps of a new group in one domain; None = no domain tried holds one."""
    depth = {None: 1, "S2": 2, "S1": 3}[service.group.within]
    of_level = domains[depth]
    steps = 1 + int(next(room.draws) * _MOST_STEPS)
    for _ in range(_TRIES):
        domain = of_level[int(next(room.draws) * len(of_level))]
        types = {leaf.accelerators[0].type for leaf in service.group.leaves()}
        if not types <= room.cells[domain].keys():
            continue
        group = _Group(service, name, domain, {})
        placed = 0
        while placed < steps and _step(group, room):
            placed += 1
        if placed:
            return group
    return None


def _step(group: _Group, room: _Room) -> bool:
    """Place one unit of the group, every role at its share; False = not all of it fits."""
    taken: list[tuple[str, AcceleratorOption, tuple[int, ...]]] = []
    narrow = _narrow_domain(group, room)
    weights = group.service.group.weights({})
    for leaf in group.service.group.leaves():
        option = leaf.accelerators[0]
        domain = narrow if "/" in leaf.path else group.domain
        for _ in range(weights[leaf.path]):
            found = room.take(option, domain)
            if not found:
                for _, shape, nodes in reversed(taken):
                    room.give_back(nodes, shape)
                return False
            taken.append((leaf.path, option, found))
    for role, _, nodes in taken:
        group.roles.setdefault(role, []).append(nodes)
    return True


def _narrow_domain(group: _Group, room: _Room) -> DomainPath:
    """Return the S1 that nested roles share: where they are already, else any with their type."""
    nested = [leaf for leaf in group.service.group.leaves() if "/" in leaf.path]
    if not nested:
        return group.domain
    if nested[0].path in group.roles:
        return room.nodes[group.roles[nested[0].path][0][0]].domain[:_CELL_DEPTH]
    kind = nested[0].accelerators[0].type
    fitting = [domain for domain in room.switches[group.domain] if kind in room.cells[domain]]
    return fitting[int(next(room.draws) * len(fitting))]


def _gpus(group: _Group) -> int:
    options = {leaf.path: leaf.accelerators[0] for leaf in group.service.group.leaves()}
    return sum(
        options[role].gpus * options[role].nodes * len(instances)
        for role, instances in group.roles.items()
    )


def _observed(groups: Sequence[_Group], nodes: Sequence[Node]) -> PlacedLoad:
    instances: list[Instance] = []
    counts: list[GroupRole] = []
    for group in groups:
        for leaf in group.service.group.leaves():
            option = leaf.accelerators[0]
            placed = group.roles[leaf.path]
            domain = group.domain if len(group.domain) > 1 else ()
            if "/" in leaf.path:
                domain = nodes[placed[0][0]].domain[:_CELL_DEPTH]
            count = GroupRole(
                service=group.service.name,
                group=group.name,
                role=leaf.path,
                accelerator=option.type,
                subcluster=group.domain[0],
                domain=domain,
                replicas=len(placed),
                version="1",
            )
            counts.append(count)
            for ordinal, indices in enumerate(placed):
                on = tuple(nodes[index].name for index in indices)
                instances.append(_instance(count, ordinal, on, option.gpus))
    return PlacedLoad(
        instances=tuple(sorted(instances, key=_instance_order)),
        group_roles=tuple(sorted(counts, key=_count_order)),
    )


def _instance(count: GroupRole, ordinal: int, nodes: tuple[str, ...], gpus: int) -> Instance:
    return Instance(
        uid=f"{count.subcluster}/{count.service}/{count.group}/{count.role}/{ordinal:03d}",
        service=count.service,
        role=count.role,
        group=count.group,
        subcluster=count.subcluster,
        accelerator=count.accelerator,
        ordinal=ordinal,
        state=InstanceState.READY,
        since_s=0.0,
        nodes=nodes,
        gpus=gpus,
        version="1",
    )


def _instance_order(one: Instance) -> tuple[str, str, str, str, int, str]:
    return one.service, one.role, one.group, one.accelerator, one.ordinal, one.uid


def _count_order(one: GroupRole) -> tuple[str, str, str, str, str]:
    return one.service, one.role, one.group, one.accelerator, one.subcluster
