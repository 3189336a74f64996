"""What sizing one service yields before the fleet brake and the coordination of its roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from heteroscale.entities.decision import Direction, Reason
from heteroscale.entities.service import RolePath


class Freedom(IntEnum):
    """How free a service is to change in one direction."""

    #: frozen or paused: nothing passes
    LOCKED = 0
    #: something is unknown, or a wait runs: only the operator's bounds and pins pass
    WAITING = 1
    FREE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """The one guarded number of one service, with what the later steps need to follow it."""

    #: where the anchor's capacity goes
    direction: Direction
    #: capacity units wanted of the anchor; on a hold what is kept, rounded down
    anchor_capacity: int
    #: the load asks for less than is kept, whether or not a wait still holds it: what the fleet
    #: brake counts, which comes before the cool-down
    asks_in: bool
    #: the operator's bound or pin asks for it: it passes the fleet brake
    forced: bool
    #: leaf role → ready + starting + held
    supply: Mapping[RolePath, float]
    #: leaf role → capacity that "no change" means: the supply, or with none ready what was asked
    held: Mapping[RolePath, float]
    #: anchor capacity asked for that runs nowhere yet
    anchor_pending: float
    #: top-level role → share in force
    ratio: Mapping[RolePath, int]
    #: the ratio in force changed and the counts still follow it, in bounded moves
    ratio_changed: bool
    grow: Freedom
    shrink: Freedom
    reasons: tuple[Reason, ...]
