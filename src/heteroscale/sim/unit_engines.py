"""Engines of a service whose prefill is made of parts: what serves is a complete unit of them.

Instances of the parts that are in rotation are put together, in one group and by their ordinals,
until each part has its share: that is one engine of the kernel. It leaves rotation as soon as one
of its members does, finishes what it has, and then sets its members free, who make new units with
others. A member that is gone at once takes its unit with it: the requests start over elsewhere.
What is left over serves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heteroscale.entities.service import RolePath
from heteroscale.entities.topology import Node
from heteroscale.sim.engines import Places, ServingEngines, Speeds, take_away
from heteroscale.sim.kernel_reading import InstanceColumns
from heteroscale.sim.kernel_state import Int64Array
from heteroscale.sim.rows import Row
from heteroscale.sim.serving import InstanceCounters, Serving
from heteroscale.sim.unit_speed import Parts, unit_speed


@dataclass(slots=True, kw_only=True, eq=False)
class _Member:
    """One instance of a part."""

    row: Row
    node: Node
    routed: bool
    unit: _Unit | None = None
    #: of the units it was in before
    tokens: int = 0
    busy_ps: int = 0

    @property
    def role(self) -> RolePath:
        """Return its leaf role."""
        return self.row.key[2]


@dataclass(slots=True, kw_only=True, eq=False)
class _Unit:
    """Members that serve as one engine of the kernel."""

    handle: int
    members: Mapping[RolePath, Sequence[_Member]]
    busy: Mapping[RolePath, float]

    def everyone(self) -> list[_Member]:
        """Return the members of every part."""
        return [member for of_role in self.members.values() for member in of_role]


class UnitEngines:
    """Starts, routes and stops the engines of one serving plane with a prefill of parts."""

    def __init__(self, role: str, serving: Serving, speeds: Speeds, parts: Parts) -> None:
        """Take the kernel's name of the prefill role, and how its parts work together."""
        self._role = role
        self._serving = serving
        self._speeds = speeds
        self._parts = parts
        self._plain = ServingEngines(serving, speeds)
        self._places: Places = self._plain.places
        self._engines: dict[int, int] = {}
        self._members: dict[int, _Member] = {}
        self._units: list[_Unit] = []
        self._busy_ps: Counter[RolePath] = Counter()
        self._born = 0

    def start(self, row: Row, node: Node, routed: bool) -> int:
        """Bring an engine up on a node and return its handle."""
        engine = self._born
        self._born += 1
        if row.key[2] not in self._parts.shares:
            self._engines[engine] = self._plain.start(row, node, routed)
            return engine
        self._members[engine] = _Member(row=row, node=node, routed=routed)
        self._form(row.key[1])
        return engine

    def route(self, engine: int, routed: bool) -> None:
        """Send new requests to an engine, or stop sending them."""
        member = self._members.get(engine)
        if member is None:
            self._plain.route(self._engines[engine], routed)
            return
        member.routed = routed
        unit = member.unit
        if unit is not None:
            complete = all(one.routed for one in unit.everyone())
            self._serving.set_rotation(unit.handle, complete)
        self._form(member.row.key[1])

    def stop(self, engine: int) -> None:
        """Take an engine away; what it or its unit still runs starts over elsewhere."""
        member = self._members.pop(engine, None)
        if member is None:
            self._plain.stop(self._engines.pop(engine))
            return
        if member.unit is not None:
            self._part(member.unit)
        self._form(member.row.key[1])

    def requests(self, engine: int) -> int:
        """Return the requests an engine, or the unit it is in, still owes something to."""
        member = self._members.get(engine)
        if member is None:
            return self._plain.requests(self._engines[engine])
        return 0 if member.unit is None else self._serving.outstanding(member.unit.handle)

    def counted(self, engines: Int64Array) -> InstanceColumns:
        """Return what engines have counted so far; members of a role share tokens equally.

        KV stands with units, not with their members.
        """
        rows = np.zeros((len(engines), 4), np.int64)
        plain = [at for at, one in enumerate(engines.tolist()) if one in self._engines]
        handles = np.array([self._engines[int(engines[at])] for at in plain], np.int64)
        rows[plain] = np.stack(self._plain.counted(handles), axis=1)
        for at, engine in enumerate(engines.tolist()):
            if engine in self._members:
                rows[at, :2] = self._done_by(self._members[engine])
        return InstanceColumns(*rows.T)

    def part_busy_ps(self) -> Mapping[RolePath, float]:
        """Return leaf role → summed time in which its instances computed."""
        busy_ps = Counter({role: self._busy_ps[role] for role in self._parts.shares})
        for unit in self._units:
            busy_ps.update(self._unit_busy_ps(unit))
        return dict(busy_ps)

    def settle(self) -> None:
        """Set members free whose unit left rotation and is done, and put them together anew."""
        done = [
            unit
            for unit in self._units
            if not all(one.routed for one in unit.everyone())
            and not self._serving.outstanding(unit.handle)
        ]
        for unit in done:
            self._part(unit)
        for group in sorted({member.row.key[1] for member in self._members.values()}):
            self._form(group)

    def _form(self, group: str) -> None:
        """Make as many units of a group as its free members in rotation make."""
        free = sorted(
            (
                one
                for one in self._members.values()
                if one.unit is None and one.routed and one.row.key[1] == group
            ),
            key=lambda one: (one.row.ordinal, one.row.uid),
        )
        while True:
            chosen = {
                role: _enough(free, role, units) for role, units in self._parts.shares.items()
            }
            if not all(chosen.values()):
                return
            self._make(group, chosen)
            free = [one for one in free if one.unit is None]

    def _make(self, group: str, members: Mapping[RolePath, Sequence[_Member]]) -> None:
        speed = unit_speed(
            self._parts,
            {
                role: [self._speeds[role, one.row.key[3]] for one in of_role]
                for role, of_role in members.items()
            },
        )
        worth = min(
            sum(one.row.shape.capacity for one in of_role) / self._parts.shares[role]
            for role, of_role in members.items()
        )
        keeper = members[next(iter(self._parts.shares))][0]
        handle = self._serving.add_instance(
            self._role,
            speed.coefficients,
            group=self._places.group(group),
            location=self._places.location(keeper.node),
            capacity=max(1, round(1000 * worth)),
            in_rotation=True,
        )
        unit = _Unit(handle=handle, members=members, busy=speed.busy)
        for member in unit.everyone():
            member.unit = unit
        self._units.append(unit)

    def _part(self, unit: _Unit) -> None:
        """Take a unit's engine away and set its members free."""
        self._busy_ps.update(self._unit_busy_ps(unit))
        counted = self._serving.instance_counters(unit.handle)
        for member in unit.everyone():
            tokens, busy_ps = _of_member(member, unit, counted)
            member.tokens += tokens
            member.busy_ps += busy_ps
            member.unit = None
        self._units.remove(unit)
        take_away(self._serving, unit.handle)

    def _done_by(self, member: _Member) -> tuple[int, int]:
        """Return (tokens, busy ps) of a member, in the units it was in and in the one it is in."""
        if member.unit is None:
            return member.tokens, member.busy_ps
        counted = self._serving.instance_counters(member.unit.handle)
        tokens, busy_ps = _of_member(member, member.unit, counted)
        return member.tokens + tokens, member.busy_ps + busy_ps

    def _unit_busy_ps(self, unit: _Unit) -> Mapping[RolePath, float]:
        busy_ps = self._serving.instance_counters(unit.handle).busy_ps
        return {
            role: busy_ps * unit.busy[role] * len(of_role) for role, of_role in unit.members.items()
        }


def _of_member(member: _Member, unit: _Unit, counted: InstanceCounters) -> tuple[int, int]:
    """Return (tokens, busy ps) of a unit that one of its members has done."""
    share = unit.busy[member.role]
    return (
        counted.tokens // len(unit.members[member.role]),
        round(counted.busy_ps * share),
    )


def _enough(free: Sequence[_Member], role: RolePath, units: int) -> list[_Member]:
    """Return the first members of a role that are worth so many units; [] = there are too few."""
    chosen: list[_Member] = []
    worth = 0.0
    for member in free:
        if worth >= units:
            break
        if member.role == role:
            chosen.append(member)
            worth += member.row.shape.capacity
    return chosen if worth >= units else []
