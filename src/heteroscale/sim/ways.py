"""What an action may do to an instance of a simulated sub-cluster, and how it is told no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from heteroscale.entities.decision import Direction
from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import InstanceState
from heteroscale.entities.topology import Node
from heteroscale.sim.rows import Row

#: (service, role, accelerator) → the shape of one instance
Shapes: TypeAlias = Mapping[tuple[str, str, str], AcceleratorOption]

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


class Refusal(Exception):
    """The sub-cluster says no; nothing was changed."""


class StaleTarget(Exception):
    """The target is not what the action was made for; nothing was changed."""


def effect_of(before: InstanceState, after: InstanceState) -> Direction:
    """Return what a rotation does to the service: a withdrawal is a scale-in, a restore not."""
    if before is InstanceState.WITHDRAWN and after is InstanceState.READY:
        return Direction.OUT
    return Direction.IN if after is InstanceState.WITHDRAWN else Direction.HOLD
