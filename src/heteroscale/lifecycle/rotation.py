"""Soft scale-in: ready → withdrawn → draining → terminated, or from withdrawn back to ready.

A withdrawn instance gets no requests and keeps running while the SLO is watched. Its state is on
the instance itself; only the observation clock is remembered, so a restart begins it anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from heteroscale.entities.policy import LifecycleSpec
from heteroscale.entities.service import UNIT_SLACK, RolePath, ServiceSpec
from heteroscale.entities.snapshot import Instance, InstanceState

#: Of a longer gap between ticks only so many intervals count: the rest was seen by nobody.
_WATCHED_INTERVALS = 2.0
_WITHDRAWN = InstanceState.WITHDRAWN
_DRAINING = InstanceState.DRAINING
_NOT_SERVING = frozenset({InstanceState.PENDING, InstanceState.STARTING})


class Cue(StrEnum):
    """What happened to an instance or its service that may move it."""

    #: picked to leave by a scale-in
    CHOSEN = "chosen"
    #: the same of one that cannot leave rotation and come back
    CHOSEN_FOR_GOOD = "chosen_for_good"
    SLO_DEGRADED = "slo_degraded"
    UNKNOWN_TOO_LONG = "unknown_too_long"
    #: the operator stopped scale-in while it was under way
    CANCELLED = "cancelled"
    DEMAND_RETURNED = "demand_returned"
    #: watched long enough with every SLO signal known and met
    OBSERVED = "observed"
    IDLE = "idle"
    DRAIN_TIMED_OUT = "drain_timed_out"
    BROKEN = "broken"
    #: it has waited for its node for too long
    UNPLACED = "unplaced"


class Move(StrEnum):
    """What becomes of an instance."""

    WITHDRAW = "withdraw"
    RESTORE = "restore"
    DRAIN = "drain"
    REMOVE = "remove"


#: The whole machine; a pair that is not here changes nothing. What serves nobody yet leaves at
#: once: there is nothing to observe. So does what cannot be taken out of rotation but by its end;
#: its own grace period is all the draining it gets. There is no way back from draining.
TRANSITIONS: Mapping[tuple[InstanceState, Cue], Move] = {
    (InstanceState.PENDING, Cue.CHOSEN): Move.REMOVE,
    (InstanceState.PENDING, Cue.UNPLACED): Move.REMOVE,
    (InstanceState.STARTING, Cue.CHOSEN): Move.REMOVE,
    (InstanceState.READY, Cue.CHOSEN): Move.WITHDRAW,
    (InstanceState.HELD, Cue.CHOSEN): Move.WITHDRAW,
    (InstanceState.READY, Cue.CHOSEN_FOR_GOOD): Move.REMOVE,
    (InstanceState.HELD, Cue.CHOSEN_FOR_GOOD): Move.REMOVE,
    (InstanceState.WITHDRAWN, Cue.SLO_DEGRADED): Move.RESTORE,
    (InstanceState.WITHDRAWN, Cue.UNKNOWN_TOO_LONG): Move.RESTORE,
    (InstanceState.WITHDRAWN, Cue.CANCELLED): Move.RESTORE,
    (InstanceState.WITHDRAWN, Cue.DEMAND_RETURNED): Move.RESTORE,
    (InstanceState.WITHDRAWN, Cue.OBSERVED): Move.DRAIN,
    (InstanceState.DRAINING, Cue.IDLE): Move.REMOVE,
    (InstanceState.DRAINING, Cue.DRAIN_TIMED_OUT): Move.REMOVE,
    (InstanceState.FAILED, Cue.BROKEN): Move.REMOVE,
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One instance's move, and why."""

    instance: Instance
    move: Move
    cue: Cue


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What the SLO signals said in this tick."""

    #: worst known latency over its SLO; None = no latency is known
    ratio: float | None
    #: every SLO signal is known, or is without events while the load is known to be zero
    known: bool


#: Nothing is withdrawn, so nothing needs watching.
NOT_WATCHED = Watch(ratio=None, known=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What soft scale-in remembers between ticks."""

    #: withdrawn or draining instance uid → seconds observed with every SLO signal known
    observed_s: Mapping[str, float] = field(default_factory=dict)
    #: since when an SLO signal is unknown while something is withdrawn; None = it is not
    unknown_since_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Everything about one tick that may move the leaving instances of one service."""

    now_s: float
    #: watched time since the last tick
    elapsed_s: float
    watch: Watch
    #: leaf role → capacity units wanted beyond what is there or coming
    returned: Mapping[RolePath, float] = field(default_factory=dict)
    #: scale-in is paused: what is withdrawn comes back
    cancelled: bool = False
    #: the fleet is frozen: only restores
    frozen: bool = False
    #: uids that cannot be moved now: out of reach, or an earlier change is not seen yet
    blocked: Collection[str] = ()
    #: withdrawn uids beyond the operator's pin or maximum: neither latency nor the unknown brings
    #: them back, or the order and the restore would undo each other every tick
    ordered: Collection[str] = ()


def chosen(instances: Iterable[Instance]) -> tuple[Turn, ...]:
    """Return how the victims of a scale-in begin to leave."""
    return tuple(turn for one in instances if (turn := _turn(one, _choice(one))) is not None)


def rotate(
    spec: ServiceSpec, instances: Sequence[Instance], memory: Memory, occasion: Occasion
) -> tuple[tuple[Turn, ...], Memory]:
    """Return the moves of withdrawn, draining and failed instances, and the memory after them.

    Args:
        instances: all of the service's, in snapshot order; others than the leaving are ignored.
    """
    withdrawn = [one for one in instances if one.state is _WITHDRAWN]
    after = _remembered(spec, instances, withdrawn, memory, occasion)
    common = _common_cue(spec.lifecycle, after, occasion) if withdrawn else None
    movable = [one for one in withdrawn if one.uid not in occasion.blocked]
    returned = _returned(spec, movable, occasion.returned)
    turns: list[Turn] = []
    for one in instances:
        if one.uid in occasion.blocked:
            continue
        cue = _cue(spec.lifecycle, one, common, returned, after, occasion)
        turn = None if cue is None else _turn(one, cue)
        if turn is not None and not (occasion.frozen and turn.move is not Move.RESTORE):
            turns.append(turn)
    return tuple(turns), after


def watched_s(last_s: float | None, now_s: float, interval_s: float) -> float:
    """Return the time since the last tick that counts as watched; None = there was none."""
    since_s = now_s if last_s is None else last_s
    return min(max(0.0, now_s - since_s), _WATCHED_INTERVALS * interval_s)


def completed(memory: Memory, instances: Iterable[Instance]) -> bool:
    """Return whether something that was leaving is gone: a scale-in went all the way."""
    present = {one.uid for one in instances if one.state is not InstanceState.TERMINATED}
    return any(uid not in present for uid in memory.observed_s)


def restorable(spec: ServiceSpec, instances: Iterable[Instance]) -> dict[RolePath, float]:
    """Return leaf role → withdrawn capacity units, the first source of a scale-out."""
    return worth_by_role(spec, (one for one in instances if one.state is _WITHDRAWN))


def worth_by_role(spec: ServiceSpec, instances: Iterable[Instance]) -> dict[RolePath, float]:
    """Return leaf role → capacity units of the instances."""
    units: dict[RolePath, float] = {}
    for one in instances:
        units[one.role] = units.get(one.role, 0.0) + _worth(spec, one)
    return units


def unplaced(spec: ServiceSpec, instances: Iterable[Instance], now_s: float) -> list[Instance]:
    """Return the instances that have waited for a node too long: they are coming no more."""
    return [
        one
        for one in instances
        if one.state is InstanceState.PENDING and _overdue(spec.lifecycle, one, now_s)
    ]


def _overdue(spec: LifecycleSpec, one: Instance, now_s: float) -> bool:
    return now_s - one.since_s >= spec.pending_timeout_s


def ordered_out(
    spec: ServiceSpec, instances: Iterable[Instance], supply: Mapping[RolePath, float]
) -> frozenset[str]:
    """Return the withdrawn uids that would exceed the operator's pin or maximum if they came back.

    Args:
        supply: leaf role → capacity units ready, starting or held.
    """
    room = {
        leaf.path: spec.pin.get(leaf.path, leaf.max_replicas) - supply.get(leaf.path, 0.0)
        for leaf in spec.group.leaves()
    }
    uids: set[str] = set()
    for one in sorted((each for each in instances if each.state is _WITHDRAWN), key=_first_back):
        worth = _worth(spec, one)
        if worth > room.get(one.role, 0.0) + UNIT_SLACK:
            uids.add(one.uid)
        else:
            room[one.role] = room.get(one.role, 0.0) - worth
    return frozenset(uids)


def _first_back(instance: Instance) -> tuple[str, int, str, str]:
    """Order withdrawn instances as they come back: the other way round from how they leave."""
    return (instance.role, instance.ordinal, instance.group, instance.uid)


def _choice(instance: Instance) -> Cue:
    serves = instance.state not in _NOT_SERVING
    return Cue.CHOSEN_FOR_GOOD if serves and not instance.reversible else Cue.CHOSEN


def _turn(instance: Instance, cue: Cue) -> Turn | None:
    move = TRANSITIONS.get((instance.state, cue))
    return None if move is None else Turn(instance, move, cue)


def _remembered(
    spec: ServiceSpec,
    instances: Sequence[Instance],
    withdrawn: Sequence[Instance],
    memory: Memory,
    occasion: Occasion,
) -> Memory:
    """Return the memory with this tick's time added, for what is still leaving."""
    degraded = _degraded(spec.lifecycle, occasion.watch)
    watched_s = occasion.elapsed_s if occasion.watch.known and not degraded else 0.0
    observed_s: dict[str, float] = {}
    for one in instances:
        before_s = memory.observed_s.get(one.uid)
        if one.state is _WITHDRAWN:
            # The clock starts with the first tick that sees it withdrawn.
            time_s = occasion.elapsed_s if one.uid in occasion.ordered else watched_s
            observed_s[one.uid] = 0.0 if before_s is None else before_s + time_s
        elif one.state is _DRAINING:
            observed_s[one.uid] = before_s or 0.0
    unknown_since_s = memory.unknown_since_s
    if not withdrawn or occasion.watch.known:
        unknown_since_s = None
    else:
        # A time that is yet to come was set by a clock that was set back since.
        since_s = occasion.now_s if unknown_since_s is None else unknown_since_s
        unknown_since_s = min(since_s, occasion.now_s)
    return Memory(observed_s=observed_s, unknown_since_s=unknown_since_s)


def _degraded(spec: LifecycleSpec, watch: Watch) -> bool:
    return watch.ratio is not None and watch.ratio >= spec.restore_ratio


def _common_cue(spec: LifecycleSpec, memory: Memory, occasion: Occasion) -> Cue | None:
    """Return what brings every withdrawn instance of the service back, if anything does."""
    if _degraded(spec, occasion.watch):
        return Cue.SLO_DEGRADED
    since_s = memory.unknown_since_s
    if since_s is not None and occasion.now_s - since_s >= spec.unknown_restore_s:
        return Cue.UNKNOWN_TOO_LONG
    return Cue.CANCELLED if occasion.cancelled else None


def _returned(
    spec: ServiceSpec, withdrawn: Sequence[Instance], wanted: Mapping[RolePath, float]
) -> set[str]:
    """Return the uids that returning demand brings back: as many as cover it."""
    left = dict(wanted)
    uids: set[str] = set()
    for one in sorted(withdrawn, key=_first_back):
        if left.get(one.role, 0.0) > UNIT_SLACK:
            left[one.role] -= _worth(spec, one)
            uids.add(one.uid)
    return uids


def _cue(
    spec: LifecycleSpec,
    one: Instance,
    common: Cue | None,
    returned: set[str],
    memory: Memory,
    occasion: Occasion,
) -> Cue | None:
    match one.state:
        case InstanceState.WITHDRAWN:
            ordered = one.uid in occasion.ordered
            if common is not None and not ordered:
                return common
            if one.uid in returned:
                return Cue.DEMAND_RETURNED
            watched = ordered or occasion.watch.known
            enough = watched and memory.observed_s[one.uid] >= spec.observe_s
            return Cue.OBSERVED if enough else None
        case InstanceState.DRAINING:
            if one.requests == 0:
                return Cue.IDLE
            timed_out = occasion.now_s - one.since_s >= spec.drain_timeout_s
            return Cue.DRAIN_TIMED_OUT if timed_out else None
        case InstanceState.PENDING:
            return Cue.UNPLACED if _overdue(spec, one, occasion.now_s) else None
        case InstanceState.FAILED:
            return Cue.BROKEN
        case _:
            return None


def _worth(spec: ServiceSpec, instance: Instance) -> float:
    """Return an instance's capacity units; 0 for an accelerator its role does not list."""
    option = spec.option(instance.role, instance.accelerator)
    return 0.0 if option is None else option.capacity
