"""A scripted sub-cluster for tests of the planner: obeys actions, lets time pass, shows itself.

Small and obvious: it checks preconditions, knows each action by its id, places pending instances
on the first nodes with room, and brings starting ones up after a while. No requests, no signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from heteroscale.entities.action import (
    Action,
    Outcome,
    OutcomeKind,
    Rotation,
    RotationAction,
    ScaleAction,
    target_of,
)
from heteroscale.entities.service import FleetSpec, ServiceSpec
from heteroscale.entities.snapshot import (
    GroupRole,
    Instance,
    InstanceState,
    Reading,
    ServiceSnapshot,
    Snapshot,
)
from heteroscale.entities.topology import DomainPath, Inventory, Node
from heteroscale.prescheduler.ledger import Ledger

#: state → where a rotation may take it
WAYS = {
    InstanceState.READY: {Rotation.WITHDRAWN},
    InstanceState.HELD: {Rotation.READY, Rotation.WITHDRAWN},
    InstanceState.WITHDRAWN: {Rotation.READY, Rotation.DRAINING},
}


def build_nodes(
    nodes: int,
    *,
    gpus: int = 8,
    accelerator: str = "H20",
    domain: DomainPath = ("east",),
    first: int = 0,
    healthy: bool = True,
) -> tuple[Node, ...]:
    """Build nodes of one domain, named by accelerator and number."""
    return tuple(
        Node(
            name=f"{accelerator.lower()}-{'-'.join(domain)}-{number:04d}",
            accelerator=accelerator,
            gpus=gpus,
            domain=domain,
            healthy=healthy,
        )
        for number in range(first, first + nodes)
    )


def build_inventory(*nodes: Node) -> Inventory:
    """Build an inventory sorted by name."""
    return Inventory(generation="g", nodes=tuple(sorted(nodes, key=lambda node: node.name)))


def free_gpus(ledger: Ledger) -> dict[tuple[str, str], int]:
    """Return (sub-cluster, node) → free GPUs, unhealthy nodes included."""
    nodes = ledger._stock.nodes
    return {(n.domain[0], n.name): free for n, free in zip(nodes, ledger._free, strict=True)}


class World:
    """Counts and instances of a fleet; `east` is the sub-cluster of what is put in place."""

    def __init__(self, fleet: FleetSpec, inventory: Inventory, *, start_up_s: float = 60.0) -> None:
        self.fleet = fleet
        self.inventory = inventory
        self.start_up_s = start_up_s
        self.counts: dict[tuple[str, str], GroupRole] = {}
        self.instances: dict[str, Instance] = {}
        self.applied: set[str] = set()
        self.outcomes: list[Outcome] = []
        #: sub-clusters that give no node to anybody, whatever their inventory says
        self.full: frozenset[str] = frozenset()

    def settle(self, spec: ServiceSpec, replicas: Mapping[str, int], now_s: float) -> None:
        """Put a service in place, ready: leaf role → replicas on its preferred accelerator."""
        for role, wanted in replicas.items():
            leaf = next(leaf for leaf in spec.group.leaves() if leaf.path == role)
            action = ScaleAction(
                id=f"settle-{spec.name}-{role}",
                service=spec.name,
                subcluster="east",
                group="g0",
                role=role,
                accelerator=leaf.accelerators[0].type,
                domain=(),
                replicas=wanted,
                expected_replicas=0,
                version="",
            )
            self.apply(action, now_s)
        self.pass_time(now_s)
        self.pass_time(now_s + self.start_up_s)

    def apply(self, action: Action, now_s: float) -> Outcome:
        """Carry an action out, or say why not; a second time changes nothing."""
        kind = OutcomeKind.APPLIED
        if action.id not in self.applied:
            kind = (
                self._scale(action, now_s)
                if isinstance(action, ScaleAction)
                else self._rotate(action, now_s)
            )
        if kind is OutcomeKind.APPLIED:
            self.applied.add(action.id)
        return Outcome(action_id=action.id, service=action.service, kind=kind, at_s=now_s)

    def pass_time(self, now_s: float) -> None:
        """Give nodes to what is pending and end start-ups that are due."""
        for uid, one in sorted(self.instances.items()):
            if one.state is InstanceState.PENDING:
                self._start(uid, one, now_s)
            elif (
                one.state is InstanceState.STARTING
                and now_s - one.since_s >= self.start_up_s - 1e-6
            ):
                state = InstanceState.HELD if one.held else InstanceState.READY
                self.instances[uid] = _moved(one, state, now_s)

    def snapshot(
        self,
        now_s: float,
        readings: Mapping[str, Sequence[Reading]],
        *,
        unreachable: tuple[str, ...] = (),
    ) -> Snapshot:
        """Show everything, with the outcomes since the last time."""
        outcomes, self.outcomes = tuple(self.outcomes), []
        return Snapshot(
            now_s=now_s,
            services={
                spec.name: ServiceSnapshot(
                    readings=tuple(readings.get(spec.name, ())),
                    instances=tuple(
                        sorted(
                            (i for i in self.instances.values() if i.service == spec.name),
                            key=lambda i: (i.role, i.group, i.accelerator, i.ordinal, i.uid),
                        )
                    ),
                    group_roles=tuple(
                        self.counts[key] for key in sorted(self.counts) if key[0] == spec.name
                    ),
                )
                for spec in self.fleet.services
            },
            inventory=self.inventory,
            outcomes=outcomes,
            unreachable=unreachable,
        )

    def states(self, service: str, role: str) -> list[str]:
        """Return the states of a role's instances in order of ordinal."""
        own = [i for i in self.instances.values() if (i.service, i.role) == (service, role)]
        return [i.state.value for i in sorted(own, key=lambda i: (i.group, i.ordinal))]

    def _scale(self, action: ScaleAction, now_s: float) -> OutcomeKind:
        key = (action.service, target_of(action))
        count = self.counts.get(key)
        version = "" if count is None else count.version
        replicas = 0 if count is None else count.replicas
        if (version, replicas) != (action.version, action.expected_replicas):
            return OutcomeKind.STALE
        for uid in action.remove:
            del self.instances[uid]
        own = [i.ordinal for i in self.instances.values() if _key(i) == key]
        first = max(own, default=-1) + 1
        for ordinal in range(first, first + action.replicas - len(own)):
            uid = f"{action.service}:{key[1]}:{ordinal}:{now_s}"
            self.instances[uid] = Instance(
                uid=uid,
                service=action.service,
                role=action.role,
                group=action.group,
                subcluster=action.subcluster,
                accelerator=action.accelerator,
                ordinal=ordinal,
                state=InstanceState.PENDING,
                since_s=now_s,
                version="1",
            )
        self.counts[key] = GroupRole(
            service=action.service,
            group=action.group,
            role=action.role,
            accelerator=action.accelerator,
            subcluster=action.subcluster,
            domain=action.domain,
            replicas=action.replicas,
            version=f"{int(version or 0) + 1}",
        )
        return OutcomeKind.APPLIED

    def _rotate(self, action: RotationAction, now_s: float) -> OutcomeKind:
        one = self.instances.get(action.uid)
        if one is None or one.version != action.version:
            return OutcomeKind.STALE
        if one.state is InstanceState.STARTING:
            held = action.to is Rotation.HELD
            self.instances[one.uid] = replace(one, held=held, version=f"{int(one.version) + 1}")
            return OutcomeKind.APPLIED
        if action.to not in WAYS.get(one.state, ()):
            return OutcomeKind.REFUSED
        moved = _moved(one, InstanceState(action.to.value), now_s)
        self.instances[one.uid] = replace(moved, requests=0, held=False)
        return OutcomeKind.APPLIED

    def _start(self, uid: str, one: Instance, now_s: float) -> None:
        spec = next(spec for spec in self.fleet.services if spec.name == one.service)
        option = spec.option(one.role, one.accelerator)
        domain = self.counts[_key(one)].domain or (one.subcluster,)
        taken = {name for other in self.instances.values() for name in other.nodes}
        free = [
            node.name
            for node in self.inventory.nodes
            if node.healthy
            and node.name not in taken
            and node.accelerator == one.accelerator
            and node.domain[: len(domain)] == domain
        ]
        if one.subcluster in self.full:
            return
        if option is not None and len(free) >= option.nodes:
            nodes = tuple(free[: option.nodes])
            self.instances[uid] = replace(_moved(one, InstanceState.STARTING, now_s), nodes=nodes)


def _moved(one: Instance, state: InstanceState, now_s: float) -> Instance:
    return replace(one, state=state, since_s=now_s, version=f"{int(one.version) + 1}")


def _key(one: Instance) -> tuple[str, str]:
    return (one.service, f"{one.subcluster}|{one.group}|{one.role}|{one.accelerator}")
