"""What was decided and why: recommendations, decisions, and the reasons that lead to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

#: Numbers behind a reason, by name with unit suffix.
Figures = Mapping[str, float | int | str]


class Direction(IntEnum):
    """Ordered from risky to safe: where signals disagree the greatest wins."""

    IN = -1
    HOLD = 0
    OUT = 1


class Step(StrEnum):
    """The step of planning a reason comes from."""

    SIGNAL = "signal"
    RECOMMEND = "recommend"
    GUARD = "guard"
    BRAKE = "brake"
    COORDINATE = "coordinate"
    PLACE = "place"
    LIFECYCLE = "lifecycle"
    ACT = "act"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why one step changed, kept or refused something."""

    step: Step
    #: a ReasonCode; the table of texts is in `entities/reasons.py`
    code: str
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One strategy's raw opinion, in capacity units of the anchor role."""

    #: e.g. "proportional decode tps", "feedback ttft_s", "schedule night"
    source: str
    direction: Direction
    #: unrounded capacity asked for; for HOLD the supply it was compared with
    demand: float
    reasons: tuple[Reason, ...]
    #: it forbids every scale-in, also that of a surplus partner: something is unknown or not low
    blocks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Capacity per leaf role, with the reasons of every step in order."""

    service: str
    #: of the anchor; when it holds, OUT if any role grows, else IN if any shrinks
    direction: Direction
    #: leaf role → capacity units wanted; a supply that is kept is rounded down, so only a whole
    #: unit less than the supply is a wish to shrink
    capacity: Mapping[str, int]
    #: top-level role → share in force
    ratio: Mapping[str, int]
    reasons: tuple[Reason, ...]
