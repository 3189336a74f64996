"""What an action may do to instances and counts of a sub-cluster, and how it is told no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from heteroscale.entities.action import ScaleAction
from heteroscale.entities.decision import Direction
from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import InstanceState
from heteroscale.entities.topology import Node
from heteroscale.sim.rows import Count, Row
from heteroscale.sim.start_up import StartUps

#: (role, accelerator) → the shape of one instance
Shapes: TypeAlias = Mapping[tuple[str, str], AcceleratorOption]

#: States that have not got as far as an engine.
UNBORN = frozenset({InstanceState.PENDING, InstanceState.STARTING})
#: states in which observers see how many requests are left
LEAVING = frozenset({InstanceState.WITHDRAWN, InstanceState.DRAINING})

#: states from which a service has nothing more to lose
GONE = frozenset({InstanceState.DRAINING, InstanceState.FAILED})

#: state → where an action may move it from there; a draining instance has no way back
WAYS: Mapping[InstanceState, tuple[InstanceState, ...]] = {
    InstanceState.READY: (
        InstanceState.READY,
        InstanceState.WITHDRAWN,
        InstanceState.DRAINING,
    ),
    InstanceState.HELD: (
        InstanceState.HELD,
        InstanceState.READY,
        InstanceState.WITHDRAWN,
        InstanceState.DRAINING,
    ),
    InstanceState.WITHDRAWN: (
        InstanceState.WITHDRAWN,
        InstanceState.READY,
        InstanceState.DRAINING,
    ),
    InstanceState.DRAINING: (InstanceState.DRAINING,),
}


class Engines(Protocol):
    """What the life of an instance does to the serving kernel."""

    def start(self, row: Row, node: Node, routed: bool) -> int:
        """Bring an engine up and return its number."""
        ...

    def route(self, engine: int, routed: bool) -> None:
        """Send new requests to an engine, or stop sending them."""
        ...

    def stop(self, engine: int) -> None:
        """Take an engine away with whatever it still runs."""
        ...

    def requests(self, engine: int) -> int:
        """Return the requests queued or running on an engine."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """What one service brings into a sub-cluster."""

    shapes: Shapes
    start_ups: StartUps
    engines: Engines


class Refusal(Exception):
    """The sub-cluster says no; nothing was changed."""


class StaleTarget(Exception):
    """The target is not what the action was made for; nothing was changed."""


def effect_of(before: InstanceState, after: InstanceState) -> Direction:
    """Return what a rotation does to the service: a withdrawal is a scale-in, a restore not."""
    if before is InstanceState.WITHDRAWN and after is InstanceState.READY:
        return Direction.OUT
    return Direction.IN if after is InstanceState.WITHDRAWN else Direction.HOLD


def check_count(count: Count | None, action: ScaleAction) -> None:
    """Pass a count that is the one an action was made for; None = there is none.

    Raises:
        StaleTarget: it is another.
    """
    version = "" if count is None else str(count.version)
    replicas = 0 if count is None else count.replicas
    if (version, replicas) != (action.version, action.expected_replicas):
        raise StaleTarget(
            f"{action.group} {action.role} has {replicas} replicas at version {version!r},"
            f" not {action.expected_replicas} at {action.version!r}"
        )


def victims_of(count: Count, action: ScaleAction) -> list[Row]:
    """Return the instances to go: the named ones, then the highest ordinals.

    Raises:
        Refusal: a named one is not there.
    """
    fewer = count.replicas - action.replicas
    if fewer <= 0:
        return []
    by_uid = {row.uid: row for row in count.rows}
    unknown = [uid for uid in action.remove if uid not in by_uid]
    if unknown:
        raise Refusal(f"{', '.join(unknown)}: no such instance in {action.group} {action.role}")
    named = [by_uid[uid] for uid in action.remove]
    rest = sorted(
        (row for row in count.rows if row.uid not in action.remove), key=lambda row: -row.ordinal
    )
    return (named + rest)[:fewer]
