"""The life of instances in a simulated sub-cluster: pending, starting, ready, ..., terminated.

It knows nodes, counts and time in picoseconds, and tells the serving engines what starts, stops and
leaves rotation. It decides nothing: every change but a start-up's end is asked for by an action, or
is a fault that someone else chose.

    pending -> starting -> ready | held -> withdrawn -> draining -> terminated
                             ^______________|
    starting and everything after it -> failed -> terminated
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from heteroscale.entities.action import RotationAction, ScaleAction
from heteroscale.entities.decision import Direction
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState
from heteroscale.entities.topology import DomainPath, Node
from heteroscale.sim.nodes import NodePool
from heteroscale.sim.rows import (
    UP_STATES,
    Count,
    GroupKey,
    Row,
    count_shown,
    instance_order,
    row_shown,
)
from heteroscale.sim.usage import Usage
from heteroscale.sim.ways import (
    GONE,
    LEAVING,
    UNBORN,
    WAYS,
    Engines,
    check_count,
    effect_of,
    victims_of,
)
from heteroscale.sim.ways import Refusal as Refusal
from heteroscale.sim.ways import StaleTarget as StaleTarget
from heteroscale.sim.ways import Tenant as Tenant


class Roster:
    """Every instance of one sub-cluster and the counts they answer to."""

    def __init__(
        self,
        *,
        name: str,
        nodes: Sequence[Node],
        levels: Sequence[str],
        tenants: Mapping[str, Tenant],
        epoch_s: float = 0.0,
    ) -> None:
        """Begin empty.

        Args:
            nodes: in first-fit order, shared by all services.
            levels: names of the topology levels, narrowest first.
            tenants: service → what it brings.
            epoch_s: epoch time at which the run's picoseconds start.
        """
        self._name = name
        self._pool = NodePool(nodes, levels)
        self._tenants = tenants
        #: of start-ups that begin now, beside their own length; a fault's, else 1
        self.start_factor = 1.0
        self._epoch_s = epoch_s
        self._counts: dict[GroupKey, Count] = {}
        self._rows: dict[str, Row] = {}
        self._waiting: list[Row] = []
        self._starting: list[tuple[int, Row]] = []
        #: counts what happened to any instance but for its requests, to be read
        self.changes = 0
        #: what each service has used, to be read
        self.usage = Usage()
        self._instances: tuple[Instance, ...] | None = None
        #: rows out of rotation for good or for now, as of the last change of anything visible
        self._leaving: tuple[Row, ...] = ()
        self._group_roles: tuple[GroupRole, ...] | None = None

    # --- what others may ask -------------------------------------------------------------------

    def due_ps(self) -> int | None:
        """Return when the next start-up ends; None = nothing is starting."""
        return self._starting[0][0] if self._starting else None

    @property
    def name(self) -> str:
        """Return the sub-cluster's name."""
        return self._name

    @property
    def pool(self) -> NodePool:
        """Return the nodes, to be looked at."""
        return self._pool

    def rows(self) -> Iterable[Row]:
        """Return every instance that is not terminated, oldest first."""
        return self._rows.values()

    def instances(self) -> tuple[Instance, ...]:
        """Return what observers see; the same object while nothing visible changed."""
        if self._instances is None:
            self._leaving = tuple(row for row in self._rows.values() if row.state in LEAVING)
        for row in self._leaving:
            self._refresh_requests(row)
        if self._instances is None:
            shown = (self._show(row) for row in self._rows.values())
            self._instances = tuple(sorted(shown, key=instance_order))
        return self._instances

    def group_roles(self) -> tuple[GroupRole, ...]:
        """Return the counts; the same object while none changed."""
        if self._group_roles is None:
            counts = sorted(self._counts.values(), key=lambda count: count.key)
            self._group_roles = tuple(count_shown(count, self._name) for count in counts)
        return self._group_roles

    # --- time ----------------------------------------------------------------------------------

    def advance(self, now_ps: int) -> None:
        """End every start-up that is due, in order of (time, uid)."""
        while self._starting and self._starting[0][0] <= now_ps:
            _, row = self._starting.pop(0)
            self._come_up(row, now_ps)

    def place(self, key: GroupKey, domain: DomainPath, replicas: int) -> None:
        """Put a fleet in place that is ready when the run starts.

        Raises:
            Refusal: the nodes do not hold it.
        """
        count = self._counts.setdefault(key, Count(key=key, domain=domain))
        for _ in range(replicas):
            row = self._create(count, 0)
            if not row.nodes:
                service, _, role, accelerator = key
                raise Refusal(
                    f"{service}: {replicas} {role} instances on {accelerator} do not fit"
                    f" sub-cluster {self._name} at the start: instance {row.ordinal} found no node"
                )
            self._starting = [entry for entry in self._starting if entry[1] is not row]
            row.fails = False
            self._come_up(row, 0)
        count.replicas = len(count.rows)

    # --- faults --------------------------------------------------------------------------------

    def lose(self, row: Row, now_ps: int) -> None:
        """Let an instance that was starting or running fail, with whatever it runs."""
        self._stop_engine(row)
        self._move(row, InstanceState.FAILED, now_ps)

    def restart(self, row: Row, now_ps: int) -> None:
        """Let a running instance's engine die and start again where it stands.

        What is leaving does not come back: it has failed.
        """
        if row.state in LEAVING:
            self.lose(row, now_ps)
            return
        self._stop_engine(row)
        self._start(row, now_ps)

    def set_health(self, index: int, healthy: bool, now_ps: int) -> None:
        """Let a node stop or begin again to take instances; those on a lost one have failed."""
        self._pool.set_health(index, healthy)
        if healthy:
            self._place_waiting(now_ps)
            return
        for row in tuple(self._rows.values()):
            if index in row.nodes and row.state is not InstanceState.FAILED:
                self.lose(row, now_ps)

    # --- actions -------------------------------------------------------------------------------

    def scale(self, action: ScaleAction, now_ps: int) -> Direction:
        """Set a count; a repeat of the last action on it changes nothing.

        Returns what it did to the service: removing what has drained or failed is no change of it.

        Raises:
            StaleTarget: the count is not the one the action was made for.
            Refusal: an instance that would go is still in rotation with requests, or is not there.
        """
        key = (action.service, action.group, action.role, action.accelerator)
        count = self._counts.get(key)
        if count is not None and count.last_action == action.id:
            return Direction.HOLD
        check_count(count, action)
        tenant = self._tenants.get(action.service)
        if tenant is None or (action.role, action.accelerator) not in tenant.shapes:
            raise Refusal(f"{action.role} of {action.service} has no shape on {action.accelerator}")
        if count is None:
            count = self._counts[key] = Count(key=key, domain=action.domain, version=0)
        victims = victims_of(count, action)
        for row in victims:
            self._refresh_requests(row)
            if row.state is not InstanceState.DRAINING and row.requests:
                raise Refusal(f"{row.uid} is {row.state} with {row.requests} requests")
        more = action.replicas - count.replicas
        cut = any(row.state not in GONE for row in victims)
        for row in victims:
            self._terminate(row, now_ps)
        for _ in range(more):
            self._create(count, now_ps)
        count.replicas = action.replicas
        count.version += 1
        count.last_action = action.id
        count.shown = self._group_roles = None
        if victims:
            self._place_waiting(now_ps)
        return Direction.OUT if more > 0 else Direction.IN if cut else Direction.HOLD

    def rotate(self, action: RotationAction, now_ps: int) -> Direction:
        """Move one instance in or out of rotation.

        Returns what it did to the service: a withdrawal is a scale-in, a restore a scale-out.

        Raises:
            StaleTarget: the instance changed since, or is gone.
            Refusal: there is no way from where it stands to where it should.
        """
        row = self._rows.get(action.uid)
        if row is None:
            raise StaleTarget(f"{action.uid} is gone")
        if row.last_action == action.id:
            return Direction.HOLD
        if str(row.version) != action.version:
            raise StaleTarget(f"{action.uid} is at version {row.version}, not {action.version}")
        wanted = InstanceState(action.to.value)
        effect = Direction.HOLD
        if row.state in UNBORN and wanted in (InstanceState.READY, InstanceState.HELD):
            row.held = wanted is InstanceState.HELD
            self._changed(row)
        elif wanted not in WAYS.get(row.state, ()):
            raise Refusal(f"{action.uid} is {row.state}: there is no way to {wanted}")
        elif wanted is not row.state:
            effect = effect_of(row.state, wanted)
            row.held = wanted is InstanceState.HELD
            self._engines(row).route(row.engine, wanted is InstanceState.READY)
            self._move(row, wanted, now_ps)
            self._refresh_requests(row)
        row.last_action = action.id
        return effect

    # --- inside --------------------------------------------------------------------------------

    def _engines(self, row: Row) -> Engines:
        return self._tenants[row.key[0]].engines

    def _create(self, count: Count, now_ps: int) -> Row:
        service, group, role, accelerator = count.key
        shape = self._tenants[service].shapes[role, accelerator]
        ordinal = count.next_ordinal
        count.next_ordinal += 1
        row = Row(
            uid=f"{self._name}/{service}/{group}/{role}/{accelerator}/{ordinal}",
            key=count.key,
            ordinal=ordinal,
            shape=shape,
            domain=count.domain,
            state=InstanceState.PENDING,
            since_ps=now_ps,
        )
        count.rows.append(row)
        self._rows[row.uid] = row
        self.usage.hold(row, now_ps)
        self._changed(row)
        if not self._begin_start(row, now_ps):
            self._waiting.append(row)
        return row

    def _begin_start(self, row: Row, now_ps: int) -> bool:
        nodes = self._pool.take(row.shape, row.domain)
        if nodes is None:
            return False
        row.nodes = nodes
        self._start(row, now_ps)
        return True

    def _start(self, row: Row, now_ps: int) -> None:
        self._move(row, InstanceState.STARTING, now_ps)
        service, group, role, accelerator = row.key
        # Its fate is that of its place among its service's own instances.
        name = f"{self._name}/{group}/{role}/{accelerator}/{row.ordinal}"
        start_up = self._tenants[service].start_ups(name, row.starts)
        row.fails, row.starts = start_up.fails, row.starts + 1
        length_ps = round(start_up.length_ps * self.start_factor)
        self._starting.append((now_ps + length_ps, row))
        self._starting.sort(key=lambda entry: (entry[0], entry[1].uid))

    def _place_waiting(self, now_ps: int) -> None:
        """Start what has waited for GPUs, oldest first; what still does not fit is passed."""
        self._waiting = [row for row in self._waiting if not self._begin_start(row, now_ps)]

    def _come_up(self, row: Row, now_ps: int) -> None:
        if row.fails:
            self._move(row, InstanceState.FAILED, now_ps)
            return
        state = InstanceState.HELD if row.held else InstanceState.READY
        node = self._pool.node(row.nodes[0])
        row.engine = self._engines(row).start(row, node, state is InstanceState.READY)
        self._move(row, state, now_ps)

    def _terminate(self, row: Row, now_ps: int) -> None:
        self._stop_engine(row)
        self._move(row, InstanceState.TERMINATED, now_ps)
        self.usage.release(row, now_ps)
        self._pool.give_back(row.nodes, row.shape.gpus)
        self._waiting = [other for other in self._waiting if other is not row]
        self._counts[row.key].rows.remove(row)
        del self._rows[row.uid]

    def _stop_engine(self, row: Row) -> None:
        """Take away a running engine, or one that would have come up."""
        if row.engine >= 0:
            self._engines(row).stop(row.engine)
            row.engine, row.requests = -1, None
        self._starting = [entry for entry in self._starting if entry[1] is not row]

    def _move(self, row: Row, state: InstanceState, now_ps: int) -> None:
        was_up, is_up = row.state in UP_STATES, state in UP_STATES
        if was_up != is_up:
            self.usage.run(row, int(is_up) - int(was_up), now_ps)
        row.state = state
        row.since_ps = now_ps
        self._changed(row)

    def _changed(self, row: Row) -> None:
        self.changes += 1
        row.version += 1
        row.shown = self._instances = None

    def _show(self, row: Row) -> Instance:
        if row.shown is None:
            names = tuple(self._pool.node(index).name for index in row.nodes)
            row.shown = row_shown(row, self._name, names, self._epoch_s)
        return row.shown

    def _refresh_requests(self, row: Row) -> None:
        requests = self._engines(row).requests(row.engine) if row.engine >= 0 else None
        if requests != row.requests:
            row.requests = requests
            row.shown = self._instances = None
