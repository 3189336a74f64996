"""One number becomes capacity per role: shares, band, bounded moves of a changed ratio, bounds.

A role's exact share is the anchor's capacity × its weight / the anchor's weight, where weights are
the shares multiplied down the levels of nesting. How a role other than the anchor follows:

1. short of its share by more than one instance and more than the band, it is brought back to it,
   unless the anchor grows, which brings it there anyway
2. the anchor grows: to the exact share rounded up, never below what it has, so a partner that has
   a surplus already does not grow
3. the anchor shrinks: to the exact share rounded up, never above what it has
4. the anchor holds: a role that exceeds its share by more than the tolerance gives back

A role gives back no more than the step limit at once; while the counts follow a changed ratio, no
move either way exceeds `max_move` beyond what the anchor's own change means for the role. Growth
waits like any scale-out, giving back like any scale-in; bounds and pin come last.
"""

from __future__ import annotations

import math

from heteroscale.entities.decision import Decision, Direction, Figures, Reason, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import UNIT_SLACK, RolePath, RoleSpec, ServiceSpec
from heteroscale.policy.guard import bounded, locked
from heteroscale.policy.ratio import round_down, round_up, slack
from heteroscale.policy.sized import Freedom, Sized
from heteroscale.policy.supply import smallest_unit


def coordinate(spec: ServiceSpec, sized: Sized) -> Decision:
    """Return the capacity of every leaf role that goes with the anchor's."""
    weights = spec.group.weights(sized.ratio)
    anchor = spec.policy.anchor
    holds = sized.direction is Direction.HOLD
    anchor_units = sized.held[anchor] if holds else float(sized.anchor_capacity)
    reasons = list(sized.reasons)
    capacity: dict[RolePath, int] = {}
    grows = shrinks = False
    for leaf in spec.group.leaves():
        role = leaf.path
        kept = round_down(sized.held[role])
        wanted = sized.anchor_capacity
        if role != anchor:
            per_anchor = weights[role] / weights[anchor]
            wanted = _partner(spec, leaf, sized, anchor_units, per_anchor, kept, reasons)
        wanted = _operator(spec, leaf, sized, kept, wanted, reasons)
        capacity[role] = wanted
        grows = grows or wanted > kept
        shrinks = shrinks or wanted < kept
    direction = sized.direction
    if holds and (grows or shrinks):
        direction = Direction.OUT if grows else Direction.IN
    return Decision(
        service=spec.name,
        direction=direction,
        capacity=capacity,
        ratio=sized.ratio,
        reasons=tuple(reasons),
    )


def _partner(
    spec: ServiceSpec,
    leaf: RoleSpec,
    sized: Sized,
    anchor_units: float,
    per_anchor: float,
    kept: int,
    reasons: list[Reason],
) -> int:
    """Return the capacity of a role that is not the anchor, before bounds."""
    exact = anchor_units * per_anchor
    has, band = sized.held[leaf.path], spec.policy.ratio.band
    if sized.direction is Direction.HOLD:
        if exact - has > slack(exact, band):
            return _restored(spec, leaf, sized, exact, kept, reasons)
        # What the anchor still waits for will need its partners.
        exact += sized.anchor_pending * per_anchor
        if has - exact > slack(exact, band):
            return _given_back(spec, leaf, sized, exact, kept, reasons)
        return kept
    if sized.direction is Direction.IN and exact - has > slack(exact, band):
        return _restored(spec, leaf, sized, exact, kept, reasons)
    anchor_has = sized.held[spec.policy.anchor]
    # Where the role would be if it changed by the same share as the anchor.
    along = has * anchor_units / anchor_has if anchor_has else has
    limited = min(exact, along + _up(spec, sized, along))
    if sized.direction is Direction.IN or sized.ratio_changed:
        limited = max(limited, along - _down(spec, sized, along))
    wanted = round_up(limited)
    if sized.direction is Direction.OUT:
        wanted = max(kept, wanted)
    elif has - wanted < smallest_unit(leaf) - UNIT_SLACK:
        wanted = kept
    if wanted != kept:
        reasons.append(_reason(ReasonCode.FOLLOWS, leaf, has, exact, wanted))
        if round_up(limited) != round_up(exact):
            reasons.append(_reason(ReasonCode.MOVE_LIMITED, leaf, has, exact, wanted))
    return wanted


def _restored(
    spec: ServiceSpec,
    leaf: RoleSpec,
    sized: Sized,
    exact: float,
    kept: int,
    reasons: list[Reason],
) -> int:
    """Return the capacity of a role short of its share."""
    has = sized.held[leaf.path]
    if sized.grow is not Freedom.FREE:
        reasons.append(_reason(ReasonCode.SHORT_WAITS, leaf, has, exact, kept))
        return kept
    wanted = round_up(min(exact, has + _up(spec, sized, has)))
    reasons.append(_reason(ReasonCode.SHORT, leaf, has, exact, wanted))
    return wanted


def _given_back(
    spec: ServiceSpec,
    leaf: RoleSpec,
    sized: Sized,
    exact: float,
    kept: int,
    reasons: list[Reason],
) -> int:
    """Return the capacity of a role with more than its share."""
    has, smallest = sized.held[leaf.path], smallest_unit(leaf)
    if has - round_up(exact) < smallest - UNIT_SLACK:
        code = ReasonCode.SURPLUS_ROUNDED
        reasons.append(_reason(code, leaf, has, exact, kept, smallest=smallest))
        return kept
    if sized.shrink is not Freedom.FREE:
        reasons.append(_reason(ReasonCode.SURPLUS_WAITS, leaf, has, exact, kept))
        return kept
    # Rounding up must not eat the whole move, or a fractional surplus would never go.
    wanted = round_up(max(exact, has - _down(spec, sized, has)))
    wanted = min(wanted, round_down(has - smallest))
    reasons.append(_reason(ReasonCode.SURPLUS, leaf, has, exact, wanted))
    return wanted


def _up(spec: ServiceSpec, sized: Sized, has: float) -> float:
    """Return how much a role may gain at once; a lost partner is replaced whole."""
    return max(1.0, has * spec.policy.ratio.max_move) if sized.ratio_changed else math.inf


def _down(spec: ServiceSpec, sized: Sized, has: float) -> float:
    """Return how much a role may give back at once."""
    share = spec.policy.guard.step_in
    if sized.ratio_changed:
        share = min(share, spec.policy.ratio.max_move)
    return max(1.0, has * share)


def _operator(
    spec: ServiceSpec,
    leaf: RoleSpec,
    sized: Sized,
    kept: int,
    asked: int,
    reasons: list[Reason],
) -> int:
    """Return the capacity inside bounds or pinned, where no pause or freeze stops it."""
    wanted, why = bounded(spec, leaf, asked)
    if wanted != asked and wanted != kept:
        direction = Direction.OUT if wanted > kept else Direction.IN
        freedom = sized.grow if wanted > kept else sized.shrink
        if freedom is Freedom.LOCKED:
            wanted, why = kept, (*why, locked(spec, direction))
    if wanted != asked and leaf.path != spec.policy.anchor:
        figures: Figures = {"role": leaf.path, "asked": asked, "capacity": wanted}
        broken = Reason(step=Step.COORDINATE, code=ReasonCode.RATIO_BROKEN, figures=figures)
        why = (*why, broken)
    reasons.extend(reason for reason in why if reason not in reasons)
    return wanted


def _reason(
    code: ReasonCode, leaf: RoleSpec, has: float, exact: float, wanted: int, **more: float
) -> Reason:
    figures: Figures = {"role": leaf.path, "supply": has, "exact": exact, "capacity": wanted}
    return Reason(step=Step.COORDINATE, code=code, figures={**figures, **more})
