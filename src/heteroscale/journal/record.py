"""One tick to one record and back, given what the records before it carried.

Writer and reader keep the same memory of what was carried, so a record that stands at the start of
a segment (`alone`) is written and read with an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from heteroscale.entities.action import Outcome
from heteroscale.entities.decision import Decision, Direction
from heteroscale.entities.placement import PlacementPlan
from heteroscale.entities.plan import Plan
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import GroupRole, Instance, ServiceSnapshot, Snapshot
from heteroscale.entities.state import FleetState
from heteroscale.entities.topology import Inventory, Node
from heteroscale.journal.codec import SHORT_BYTES, digest, encoded
from heteroscale.journal.rows import (
    PlanRow,
    ServiceRow,
    SignalKey,
    action_row,
    group_of,
    group_row,
    instance_of,
    instance_row,
    readings_of,
    requests_of,
    same_but_requests,
    signal_key,
    write_readings,
)

VERSION = 1
_NO_PLACEMENT = PlacementPlan()


class Record(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One line of a journal, but for the hash at its end."""

    version: int
    tick: int
    now_s: float
    #: hash of the record before
    prev: str
    #: digest of the specs, and the inventory's generation
    specs: str
    inventory: str
    #: nothing is as in the records before: they may be gone
    alone: bool = False
    #: the first record of a run: the state does not follow from the record before
    opened: bool = False
    #: in full where they changed
    fleet: FleetSpec | None = None
    nodes: tuple[Node, ...] | None = None
    #: before this tick's plan; now and then
    state: FleetState | None = None
    outcomes: tuple[Outcome, ...] = ()
    utc_offsets_s: dict[str, int] = {}
    unreachable: tuple[str, ...] = ()
    services: dict[str, ServiceRow] = {}
    plan: PlanRow
    #: ids of the plan's actions that were let through to the sub-clusters
    sent: tuple[str, ...] = ()
    #: services the planner failed on and left out, with the error
    excluded: dict[str, str] = {}
    #: what else went wrong in this tick, in words
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything a record is made from; the snapshot has every service that the plan decides on."""

    fleet: FleetSpec
    #: before the plan
    state: FleetState
    snapshot: Snapshot
    plan: Plan
    sent: tuple[str, ...] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a record stands and how much it must carry."""

    tick: int
    prev: str
    alone: bool = False
    opened: bool = False
    with_state: bool = False


class _Written:
    """What the records so far carried of one service."""

    __slots__ = ("codes", "group_roles", "instances", "requests", "signals")

    def __init__(self) -> None:
        self.signals: tuple[SignalKey, ...] | None = None
        self.instances: tuple[Instance, ...] | None = None
        self.requests: tuple[int | None, ...] = ()
        self.group_roles: tuple[GroupRole, ...] | None = None
        #: reason codes of the decision before when it was a hold
        self.codes: tuple[str, ...] | None = None


class RecordWriter:
    """Makes records; remembers what it has written."""

    def __init__(self) -> None:
        self._services: dict[str, _Written] = {}
        self._fleet: FleetSpec | None = None
        self._specs = ""
        self._generation: str | None = None

    def record(self, evidence: Evidence, place: Place) -> Record:
        """Return the record of one tick."""
        if place.alone:
            self._services, self._fleet, self._generation = {}, None, None
        snapshot, plan = evidence.snapshot, evidence.plan
        specs_before, generation_before = self._specs, self._generation
        if evidence.fleet is not self._fleet:
            self._specs = digest(encoded(evidence.fleet), SHORT_BYTES)
            self._fleet = evidence.fleet
        self._generation = snapshot.inventory.generation
        return Record(
            version=VERSION,
            tick=place.tick,
            now_s=snapshot.now_s,
            prev=place.prev,
            specs=self._specs,
            inventory=self._generation,
            alone=place.alone,
            opened=place.opened,
            fleet=evidence.fleet if place.alone or self._specs != specs_before else None,
            nodes=(
                snapshot.inventory.nodes
                if place.alone or self._generation != generation_before
                else None
            ),
            state=evidence.state if place.with_state else None,
            outcomes=snapshot.outcomes,
            utc_offsets_s=dict(snapshot.utc_offsets_s),
            unreachable=snapshot.unreachable,
            services=self._rows(snapshot, plan),
            plan=PlanRow(
                plan.now_s,
                plan.generation,
                None if plan.placement == _NO_PLACEMENT else plan.placement,
                tuple(map(action_row, plan.actions)),
            ),
            sent=evidence.sent,
            excluded=dict(evidence.excluded),
            notices=evidence.notices,
        )

    def _rows(self, snapshot: Snapshot, plan: Plan) -> dict[str, ServiceRow]:
        before, self._services = self._services, {}
        rows: dict[str, ServiceRow] = {}
        for name, seen in snapshot.services.items():
            written = before.get(name) or _Written()
            self._services[name] = written
            rows[name] = _seen_row(seen, written)
        for decision in plan.decisions:
            _write_decision(rows[decision.service], decision, self._services[decision.service])
        return rows


def _seen_row(seen: ServiceSnapshot, written: _Written) -> ServiceRow:
    row = ServiceRow()
    signals = tuple(map(signal_key, seen.readings))
    if signals != written.signals:
        row.signals = written.signals = signals
    write_readings(row, seen.readings)
    instances = seen.instances
    if instances is not written.instances:
        if written.instances is None or not same_but_requests(instances, written.instances):
            row.instances = tuple(map(instance_row, instances))
            written.requests = (None,) * len(instances)
        requests = tuple(map(requests_of, instances))
        if requests != written.requests:
            row.requests = written.requests = requests
        written.instances = instances
    if seen.group_roles is not written.group_roles:
        if seen.group_roles != written.group_roles:
            row.group_roles = tuple(map(group_row, seen.group_roles))
        written.group_roles = seen.group_roles
    return row


def _write_decision(row: ServiceRow, decision: Decision, written: _Written) -> None:
    content = encoded(decision)
    if decision.direction is not Direction.HOLD:
        row.decision = msgspec.Raw(content)
        written.codes = None
        return
    codes = tuple([reason.code for reason in decision.reasons])
    if codes == written.codes:
        row.digest = digest(content, SHORT_BYTES)
    else:
        row.decision = msgspec.Raw(content)
    written.codes = codes


class _Read:
    """What the records so far said of one service."""

    __slots__ = ("group_roles", "instances", "requests", "signals")

    def __init__(self) -> None:
        self.signals: tuple[SignalKey, ...] = ()
        self.instances: tuple[Instance, ...] = ()
        self.requests: tuple[int | None, ...] = ()
        self.group_roles: tuple[GroupRole, ...] = ()


class RecordReader:
    """Gives back what the planner saw; remembers what the records so far carried."""

    def __init__(self) -> None:
        self._services: dict[str, _Read] = {}
        self._fleet: FleetSpec | None = None
        self._inventory: Inventory | None = None

    def observed(self, record: Record) -> tuple[FleetSpec, Snapshot]:
        """Return the specs and the snapshot of a record.

        Raises:
            ValueError: the record leans on one that was not read, or contradicts itself.
        """
        if record.alone:
            self._services, self._fleet, self._inventory = {}, None, None
        if record.fleet is not None:
            self._fleet = record.fleet
        if record.nodes is not None:
            self._inventory = Inventory(generation=record.inventory, nodes=record.nodes)
        if self._fleet is None or self._inventory is None:
            raise ValueError("no record read so far carries the specs and the inventory")
        if self._inventory.generation != record.inventory:
            raise ValueError(f"inventory {record.inventory} is in no record read so far")
        return self._fleet, Snapshot(
            now_s=record.now_s,
            services=self._snapshots(record.services),
            inventory=self._inventory,
            outcomes=record.outcomes,
            utc_offsets_s=record.utc_offsets_s,
            unreachable=record.unreachable,
        )

    def _snapshots(self, rows: Mapping[str, ServiceRow]) -> dict[str, ServiceSnapshot]:
        before, self._services = self._services, {}
        snapshots: dict[str, ServiceSnapshot] = {}
        for name, row in rows.items():
            read = self._services[name] = before.get(name) or _Read()
            _read_row(name, row, read)
            snapshots[name] = ServiceSnapshot(
                readings=readings_of(row, read.signals),
                instances=read.instances,
                group_roles=read.group_roles,
            )
        return snapshots


def _read_row(service: str, row: ServiceRow, read: _Read) -> None:
    if row.signals is not None:
        read.signals = row.signals
    if row.group_roles is not None:
        read.group_roles = tuple(group_of(group, service) for group in row.group_roles)
    if row.instances is not None:
        requests = row.requests or (None,) * len(row.instances)
        read.instances = tuple(
            instance_of(one, service, asked)
            for one, asked in zip(row.instances, requests, strict=True)
        )
    elif row.requests is not None:
        read.instances = tuple(
            instance_of(instance_row(one), service, asked)
            for one, asked in zip(read.instances, row.requests, strict=True)
        )
