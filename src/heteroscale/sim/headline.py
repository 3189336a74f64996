"""Which one of a decision's reasons asked for a change: what a reader sees before the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from heteroscale.entities.decision import Direction, Reason, Step
from heteroscale.entities.reasons import ReasonCode, describe

#: what changes counts where the guarded number is not what moved, likeliest first
_BESIDE_THE_GUARD: Mapping[Direction, tuple[ReasonCode, ...]] = {
    Direction.OUT: (
        ReasonCode.RESTORED_SLO,
        ReasonCode.RESTORED_UNKNOWN,
        ReasonCode.RESTORED_CANCELLED,
        ReasonCode.RESTORED_DEMAND,
        ReasonCode.PINNED,
        ReasonCode.BELOW_MINIMUM,
        ReasonCode.SHORT,
        ReasonCode.RATIO_SHARE_MOVED,
        ReasonCode.RATIO_CHANGED,
        ReasonCode.PLACED,
    ),
    Direction.IN: (
        ReasonCode.PINNED,
        ReasonCode.GIVES_WAY,
        ReasonCode.ABOVE_MAXIMUM,
        ReasonCode.SURPLUS,
        ReasonCode.RATIO_SHARE_MOVED,
        ReasonCode.RATIO_CHANGED,
        ReasonCode.CALLED_OFF,
        ReasonCode.WITHDRAWN,
    ),
}


def headline(direction: Direction, reasons: Sequence[Reason]) -> str:
    """Return the sentence that says why a change went this way; empty = none of them does.

    A scale-out has one recommendation that asked for the most. A scale-in has none: what every
    signal and the whole window allow is in the guard's sentence.
    """
    for reason in reasons:
        if direction is Direction.OUT and reason.code == ReasonCode.SCALE_OUT:
            return describe(_asked_most(reasons, reason))
        if direction is Direction.IN and reason.code == ReasonCode.SCALE_IN:
            return describe(reason)
    for code in _BESIDE_THE_GUARD.get(direction, ()):
        for reason in reasons:
            if reason.code == code:
                return describe(reason)
    return ""


def _asked_most(reasons: Sequence[Reason], guarded: Reason) -> Reason:
    """Return the recommendation that asked for the most, if for more than is supplied."""
    asking = [one for one in reasons if one.step is Step.RECOMMEND and "demand" in one.figures]
    most = max(asking, key=_demand, default=guarded)
    return most if _demand(most) > float(guarded.figures["supply"]) else guarded


def _demand(reason: Reason) -> float:
    return float(reason.figures["demand"])
