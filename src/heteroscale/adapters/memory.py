"""In-memory forms of every port: for tests, benchmarks and first steps. No files, no threads.

They pass the same contracts as the real ones; what can go wrong outside is an option of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heteroscale.adapters.wall_clock import zone_offset_s
from heteroscale.entities.action import (
    Action,
    Outcome,
    OutcomeKind,
    Rotation,
    RotationAction,
    ScaleAction,
)
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import (
    WAYS,
    GroupRole,
    Instance,
    InstanceState,
    Observation,
    Reading,
)
from heteroscale.entities.state import FleetState
from heteroscale.entities.topology import DomainPath, Node
from heteroscale.errors import MetricsUnavailable, SubclusterUnavailable
from heteroscale.journal.chain import GENESIS


class MemoryClock:
    """Time that moves when told to."""

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        """Return epoch seconds."""
        return self._now_s

    def utc_offset_s(self, timezone: str, at_s: float) -> int:
        """Return how many seconds east of UTC a zone is at that instant."""
        return zone_offset_s(timezone, at_s)

    def advance(self, seconds: float) -> None:
        """Let time pass; negative jumps back, as clocks do."""
        self._now_s += seconds


class MemoryMetrics:
    """Readings as they were put in."""

    def __init__(self, readings: Mapping[str, tuple[Reading, ...]] | None = None) -> None:
        #: service → its readings, also of services nobody asks for
        self.readings: Mapping[str, tuple[Reading, ...]] = readings or {}
        #: whether every read fails
        self.down = False

    def read(
        self,
        fleet: FleetSpec,
        now_s: float,  # noqa: ARG002 - readings are as fresh as they say
    ) -> Mapping[str, tuple[Reading, ...]]:
        """Return the readings of the fleet's services."""
        if self.down:
            raise MetricsUnavailable("the metrics source is switched off")
        readings = self.readings
        return {spec.name: readings[spec.name] for spec in fleet.services if spec.name in readings}


class MemoryStore:
    """Remembers the state as long as the process lives."""

    def __init__(self, state: FleetState | None = None) -> None:
        self._state = state or FleetState()
        #: whether every save fails
        self.down = False

    def load(self) -> FleetState:
        """Return the last saved state."""
        return self._state

    def save(self, state: FleetState, acting: frozenset[str]) -> None:  # noqa: ARG002 - all is kept
        """Keep the state: it is immutable, so keeping it is all."""
        if self.down:
            raise OSError("the store is switched off")
        self._state = state


class MemoryJournal:
    """Keeps every line, in one segment."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        #: whether every line is lost
        self.down = False

    def resume(self) -> tuple[int, str]:
        """Return the beginning: memory does not outlive a run."""
        return 0, GENESIS

    def at_segment_start(self) -> bool:
        """Return whether nothing was written yet."""
        return not self.lines

    def append(self, line: bytes) -> None:
        """Keep one line."""
        if self.down:
            raise OSError("the journal is switched off")
        self.lines.append(line)


#: (service, group, role, accelerator)
_CountKey = tuple[str, str, str, str]

_UNBORN = frozenset({InstanceState.PENDING, InstanceState.STARTING})


@dataclass(slots=True)
class _Count:
    """A group role with what its next instance is called."""

    shown: GroupRole
    version: int = 1
    next_ordinal: int = 0
    last_action: str = ""
    uids: list[str] = field(default_factory=list)


class MemorySubcluster:
    """A tiny world: instances start after a delay, and do as actions say. GPUs never run out."""

    def __init__(
        self, name: str, clock: MemoryClock, *, nodes: tuple[Node, ...] = (), start_s: float = 180.0
    ) -> None:
        self._name = name
        self._clock = clock
        self._nodes = nodes
        self._start_s = start_s
        self._counts: dict[_CountKey, _Count] = {}
        self._instances: dict[str, Instance] = {}
        self._last_actions: dict[str, str] = {}
        self._shown: Observation | None = None
        #: seconds by which the cache lags
        self.age_s = 0.0
        #: whether it cannot be reached, neither to observe nor to apply
        self.down = False
        #: answer to every action in place of doing it; UNKNOWN does it and does not tell
        self.answer: OutcomeKind | None = None

    @property
    def name(self) -> str:
        """Return the sub-cluster's name."""
        return self._name

    def observe(self) -> Observation:
        """Return the world as it is, with the age it is said to have."""
        if self.down:
            raise SubclusterUnavailable(f"{self._name} is switched off")
        self._finish_starts()
        if self._shown is None:
            self._shown = Observation(
                subcluster=self._name,
                age_s=self.age_s,
                instances=tuple(self._instances.values()),
                group_roles=tuple(count.shown for count in self._counts.values()),
                nodes=self._nodes,
            )
        elif self._shown.age_s != self.age_s:
            self._shown = replace(self._shown, age_s=self.age_s)
        return self._shown

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        """Carry out the batch in order."""
        if self.down:
            raise SubclusterUnavailable(f"{self._name} is switched off")
        self._finish_starts()
        return tuple(self._answered(action, deadline_s) for action in actions)

    def place(
        self,
        service: str,
        group: str,
        role: str,
        accelerator: str,
        replicas: int,
        *,
        domain: DomainPath = (),
        state: InstanceState = InstanceState.READY,
        on: Iterator[Node] | None = None,
    ) -> None:
        """Put instances in place without any action or delay; `on` gives each the next node."""
        count = self._count((service, group, role, accelerator), domain)
        for _ in range(replicas):
            self._create(count, state, () if on is None else (next(on).name,))
        count.shown = replace(count.shown, replicas=count.shown.replicas + replicas)
        self._shown = None

    def change(self, uid: str, *, state: InstanceState, requests: int | None = None) -> None:
        """Let something happen to an instance, e.g. a failure, or its requests run out."""
        self._put(
            replace(
                self._instances[uid],
                state=state,
                requests=requests,
                since_s=self._clock.now_s(),
            )
        )

    def _answered(self, action: Action, deadline_s: float) -> Outcome:
        now_s = self._clock.now_s()
        kind, detail = OutcomeKind.UNKNOWN, "no answer by the deadline"
        if self.answer in (OutcomeKind.STALE, OutcomeKind.REFUSED):
            kind, detail = self.answer, "as told"
        elif now_s < deadline_s:
            kind, detail = self._carried_out(action)
            if self.answer is OutcomeKind.UNKNOWN:
                kind, detail = OutcomeKind.UNKNOWN, "as told"
        return Outcome(
            action_id=action.id, service=action.service, kind=kind, at_s=now_s, detail=detail
        )

    def _carried_out(self, action: Action) -> tuple[OutcomeKind, str]:
        if isinstance(action, ScaleAction):
            return self._scale(action)
        return self._rotate(action)

    def _scale(self, action: ScaleAction) -> tuple[OutcomeKind, str]:
        key = (action.service, action.group, action.role, action.accelerator)
        count = self._counts.get(key)
        if count is not None and count.last_action == action.id:
            return OutcomeKind.APPLIED, ""
        replicas = count.shown.replicas if count else 0
        version = count.shown.version if count else ""
        if (version, replicas) != (action.version, action.expected_replicas):
            return OutcomeKind.STALE, f"{replicas} replicas at version {version!r}"
        count = count or self._count(key, action.domain)
        if not set(action.remove) <= set(count.uids):
            return OutcomeKind.REFUSED, "names an instance that is not there"
        for uid in self._victims(count, action.remove, replicas - action.replicas):
            count.uids.remove(uid)
            del self._instances[uid]
        for _ in range(action.replicas - replicas):
            self._create(count, InstanceState.STARTING)
        count.version += 1
        count.last_action = action.id
        count.shown = replace(count.shown, replicas=action.replicas, version=str(count.version))
        self._shown = None
        return OutcomeKind.APPLIED, ""

    def _victims(self, count: _Count, named: tuple[str, ...], fewer: int) -> list[str]:
        """Return the named instances first, then the highest ordinals."""
        rest = [uid for uid in reversed(count.uids) if uid not in named]
        return [*named, *rest][: max(0, fewer)]

    def _rotate(self, action: RotationAction) -> tuple[OutcomeKind, str]:
        one = self._instances.get(action.uid)
        if one is None:
            return OutcomeKind.STALE, f"{action.uid} is gone"
        if self._last_actions.get(action.uid) == action.id:
            return OutcomeKind.APPLIED, ""
        if one.version != action.version:
            return OutcomeKind.STALE, f"{action.uid} is at version {one.version}"
        if action.to not in WAYS.get(one.state, frozenset()):
            return OutcomeKind.REFUSED, f"no way from {one.state.value} to {action.to.value}"
        self._last_actions[action.uid] = action.id
        held = action.to is Rotation.HELD
        if one.state in _UNBORN:
            self._put(replace(one, held=held))
        elif one.state.value != action.to.value:
            state = InstanceState(action.to.value)
            self._put(replace(one, state=state, held=held, since_s=self._clock.now_s()))
        return OutcomeKind.APPLIED, ""

    def _finish_starts(self) -> None:
        now_s = self._clock.now_s()
        due = [
            one
            for one in self._instances.values()
            if one.state is InstanceState.STARTING and one.since_s + self._start_s <= now_s
        ]
        for one in due:
            state = InstanceState.HELD if one.held else InstanceState.READY
            self._put(replace(one, state=state, since_s=one.since_s + self._start_s))

    def _count(self, key: _CountKey, domain: DomainPath) -> _Count:
        if key not in self._counts:
            service, group, role, accelerator = key
            self._counts[key] = _Count(
                GroupRole(
                    service=service,
                    group=group,
                    role=role,
                    accelerator=accelerator,
                    subcluster=self._name,
                    domain=domain,
                    replicas=0,
                    version="1",
                )
            )
        return self._counts[key]

    def _create(self, count: _Count, state: InstanceState, nodes: tuple[str, ...] = ()) -> None:
        group = count.shown
        ordinal, count.next_ordinal = count.next_ordinal, count.next_ordinal + 1
        uid = "/".join((self._name, group.service, group.group, group.role, str(ordinal)))
        uid = f"{uid}@{group.accelerator}"
        count.uids.append(uid)
        self._instances[uid] = Instance(
            uid=uid,
            service=group.service,
            role=group.role,
            group=group.group,
            subcluster=self._name,
            accelerator=group.accelerator,
            ordinal=ordinal,
            state=state,
            since_s=self._clock.now_s(),
            nodes=nodes,
            version="1",
        )
        self._shown = None

    def _put(self, one: Instance) -> None:
        self._instances[one.uid] = replace(one, version=str(int(one.version) + 1))
        self._shown = None
