"""A Dynamo of local processes behind the port that the loop knows: an engine is an instance.

With a lever, out of rotation means out of Dynamo's discovery. Without one the same actions are
noted and nothing more: the front end goes on sending requests until the process ends, as with a
workload whose count is simply lowered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.dynamo.discovery import FileDiscovery
from benchmarks.dynamo.processes import Engine, Processes
from heteroscale.entities.action import (
    Action,
    Outcome,
    OutcomeKind,
    Rotation,
    RotationAction,
    ScaleAction,
)
from heteroscale.entities.snapshot import WAYS, GroupRole, Instance, InstanceState, Observation
from heteroscale.entities.topology import Node
from heteroscale.ports import Clock

SUBCLUSTER, GROUP, ACCELERATOR = "local", "local-chat", "mocker"
_GPUS = 64
#: where an engine is found by the front end, if there is a lever
_IN_ROTATION = frozenset({InstanceState.STARTING, InstanceState.READY})
_UP = frozenset({*_IN_ROTATION, InstanceState.HELD})


@dataclass(slots=True)
class _Row:
    """One instance."""

    uid: str
    role: str
    ordinal: int
    engine: Engine
    since_s: float
    state: InstanceState = InstanceState.STARTING
    held: bool = False
    requests: int | None = None
    version: int = 1
    last_action: str = ""


@dataclass(slots=True)
class _Count:
    """How many instances a role should have."""

    rows: list[_Row] = field(default_factory=list)
    version: int = 1
    next_ordinal: int = 0
    last_action: str = ""


@dataclass(slots=True)
class Tally:
    """What was done to instances so far."""

    started: int = 0
    withdrawn: int = 0
    restored: int = 0
    #: scale-in events: instances that were taken away for good
    ended: int = 0


class LocalDynamo:
    """One sub-cluster of processes on this machine."""

    def __init__(
        self,
        processes: Processes,
        clock: Clock,
        service: str,
        replicas: Mapping[str, int],
        lever: FileDiscovery | None,
    ) -> None:
        """Start the first instances.

        Args:
            replicas: role → instances to begin with.
            lever: None = nothing but termination takes an engine out of rotation.
        """
        self._processes = processes
        self._clock = clock
        self._service = service
        self._lever = lever
        self._counts = {role: _Count() for role in replicas}
        self.tally = Tally()
        for role, wanted in replicas.items():
            for _ in range(wanted):
                self._start(role)

    @property
    def name(self) -> str:
        """Return the sub-cluster's name."""
        return SUBCLUSTER

    def counts(self) -> dict[str, int]:
        """Return role → instances."""
        return {role: len(count.rows) for role, count in self._counts.items()}

    def observe(self) -> Observation:
        """Ask every engine how it is."""
        rows = [row for count in self._counts.values() for row in count.rows]
        for row in rows:
            self._look(row)
        return Observation(
            subcluster=SUBCLUSTER,
            age_s=0.0,
            instances=tuple(self._shown(row) for row in rows),
            group_roles=tuple(self._group_role(role) for role in self._counts),
            nodes=(Node(name="here", accelerator=ACCELERATOR, gpus=_GPUS, domain=(SUBCLUSTER,)),),
        )

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:  # noqa: ARG002 - all is done at once
        """Carry out the batch in order."""
        return tuple(self._answered(action) for action in actions)

    def _answered(self, action: Action) -> Outcome:
        if isinstance(action, ScaleAction):
            kind, detail = self._scale(action)
        else:
            kind, detail = self._rotate(action)
        return Outcome(
            action_id=action.id,
            service=action.service,
            kind=kind,
            at_s=self._clock.now_s(),
            detail=detail,
        )

    def _scale(self, action: ScaleAction) -> tuple[OutcomeKind, str]:
        count = self._counts[action.role]
        if count.last_action == action.id:
            return OutcomeKind.APPLIED, ""
        if (str(count.version), len(count.rows)) != (action.version, action.expected_replicas):
            return OutcomeKind.STALE, f"{len(count.rows)} replicas at version {count.version}"
        rows = {row.uid: row for row in count.rows}
        if not set(action.remove) <= set(rows):
            return OutcomeKind.REFUSED, "names an instance that is not there"
        named = [rows[uid] for uid in action.remove]
        others = [row for row in reversed(count.rows) if row not in named]
        for row in [*named, *others][: max(0, len(count.rows) - action.replicas)]:
            count.rows.remove(row)
            self._processes.end(row.engine)
            self.tally.ended += 1
        for _ in range(action.replicas - len(count.rows)):
            self._start(action.role)
        count.version += 1
        count.last_action = action.id
        return OutcomeKind.APPLIED, ""

    def _rotate(self, action: RotationAction) -> tuple[OutcomeKind, str]:
        rows = (row for count in self._counts.values() for row in count.rows)
        row = next((row for row in rows if row.uid == action.uid), None)
        if row is None:
            return OutcomeKind.STALE, f"{action.uid} is gone"
        if row.last_action == action.id:
            return OutcomeKind.APPLIED, ""
        if str(row.version) != action.version:
            return OutcomeKind.STALE, f"{action.uid} is at version {row.version}"
        if action.to not in WAYS.get(row.state, frozenset()):
            return OutcomeKind.REFUSED, f"no way from {row.state.value} to {action.to.value}"
        row.held = action.to is Rotation.HELD
        row.last_action = action.id
        row.version += 1
        if row.state is not InstanceState.STARTING and row.state.value != action.to.value:
            self.tally.withdrawn += action.to is Rotation.WITHDRAWN
            self.tally.restored += row.state is InstanceState.WITHDRAWN and (
                action.to is Rotation.READY
            )
            self._move(row, InstanceState(action.to.value))
        return OutcomeKind.APPLIED, ""

    def _start(self, role: str) -> None:
        count = self._counts[role]
        uid = f"{SUBCLUSTER}/{role}/{count.next_ordinal}"
        engine = self._processes.start(role)
        count.rows.append(_Row(uid, role, count.next_ordinal, engine, self._clock.now_s()))
        count.next_ordinal += 1
        self.tally.started += 1

    def _look(self, row: _Row) -> None:
        """Learn how an instance is by now."""
        if not row.engine.alive:
            if row.state is not InstanceState.FAILED:
                self._move(row, InstanceState.FAILED)
            return
        page = self._processes.page(row.engine)
        row.requests = None if page is None else page.running
        if row.state is InstanceState.STARTING and page is not None and self._found(row):
            self._move(row, InstanceState.HELD if row.held else InstanceState.READY)

    def _found(self, row: _Row) -> bool:
        return self._lever is None or self._lever.lists(row.engine.name)

    def _move(self, row: _Row, to: InstanceState) -> None:
        if self._lever is not None and to in _UP and to is not InstanceState.HELD:
            self._lever.restore(row.engine.name)
        elif self._lever is not None:
            self._lever.withdraw(row.engine.name)
        row.state, row.since_s = to, self._clock.now_s()
        row.version += 1

    def _shown(self, row: _Row) -> Instance:
        # Without a lever nothing waits for requests: who terminates plainly does not ask.
        return Instance(
            uid=row.uid,
            service=self._service,
            role=row.role,
            group=GROUP,
            subcluster=SUBCLUSTER,
            accelerator=ACCELERATOR,
            ordinal=row.ordinal,
            state=row.state,
            since_s=row.since_s,
            requests=row.requests if self._lever is not None else 0,
            held=row.held,
            nodes=("here",),
            gpus=1,
            version=str(row.version),
        )

    def _group_role(self, role: str) -> GroupRole:
        count = self._counts[role]
        return GroupRole(
            service=self._service,
            group=GROUP,
            role=role,
            accelerator=ACCELERATOR,
            subcluster=SUBCLUSTER,
            domain=(),
            replicas=len(count.rows),
            version=str(count.version),
        )
