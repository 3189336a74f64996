"""One number becomes capacity per role: shares, band, bounded moves of a changed ratio, bounds.

A role's exact share is the anchor's capacity × its weight / the anchor's weight, where weights are
the shares multiplied down the levels of nesting. How a role other than the anchor follows:

1. short of its share by more than one instance and more than the band, it is brought back to it,
   unless the anchor grows, which brings it there anyway
2. the anchor grows: to the exact share rounded up, never below what it has, so a partner that has
   a surplus already does not grow
3. the anchor shrinks: to the exact share rounded up, never above what it has
4. the anchor holds: a role that exceeds its share by more than the tolerance gives back

The parts of a nested role without the anchor move together: where one of them is short or has too
much all are looked at, and each is rounded to what whole units of the nested role take, so that no
part of a unit belongs to nobody.

A role gives back no more than the step limit at once; while the counts follow a changed ratio, no
move either way exceeds `max_move` beyond what the anchor's own change means for the role. Growth
waits like any scale-out, giving back like any scale-in; bounds and pin come last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from heteroscale.entities.decision import Decision, Direction, Figures, Reason, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import UNIT_SLACK, RolePath, RoleSpec, ServiceSpec
from heteroscale.policy.guard import bounded, locked
from heteroscale.policy.ratio import families, in_whole_units, round_down, slack
from heteroscale.policy.sized import Freedom, Sized
from heteroscale.policy.supply import smallest_unit


class _Share(NamedTuple):
    """What a role beside the anchor should have."""

    leaf: RoleSpec
    #: instances of it in one unit of what it is a part of
    step: int
    #: capacity units beside what the anchor has, and beside what it waits for as well
    exact: float
    coming: float
    #: it, or a role of its family, has less than that or more by more than is tolerated
    is_short: bool
    is_over: bool


def coordinate(spec: ServiceSpec, sized: Sized) -> Decision:
    """Return the capacity of every leaf role that goes with the anchor's."""
    weights = spec.group.weights(sized.ratio)
    anchor = spec.policy.anchor
    holds = sized.direction is Direction.HOLD
    anchor_units = sized.held[anchor] if holds else float(sized.anchor_capacity)
    shares = _shares(spec, sized, weights, anchor_units)
    reasons = list(sized.reasons)
    capacity: dict[RolePath, int] = {}
    grows = shrinks = False
    for leaf in spec.group.leaves():
        role = leaf.path
        kept = round_down(sized.held[role])
        wanted = sized.anchor_capacity
        if role != anchor:
            wanted = _partner(spec, shares[role], sized, anchor_units, kept, reasons)
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


def _shares(
    spec: ServiceSpec, sized: Sized, weights: Mapping[RolePath, int], anchor_units: float
) -> dict[RolePath, _Share]:
    """Return leaf role → what it should have beside so much of the anchor."""
    shares: dict[RolePath, _Share] = {}
    anchor, band, held = spec.policy.anchor, spec.policy.ratio.band, sized.held
    leaves = {leaf.path: leaf for leaf in spec.group.leaves()}
    for family in families(spec.group, anchor):
        per_anchor = {role: weights[role] / weights[anchor] for role in family}
        exact = {role: anchor_units * share for role, share in per_anchor.items()}
        # What the anchor still waits for will need its partners.
        coming = {role: exact[role] + sized.anchor_pending * per_anchor[role] for role in family}
        # A part at its bound keeps no other from what it may have.
        most = {role: min(exact[role], _highest(spec, leaves[role])) for role in family}
        least = {role: max(coming[role], _lowest(spec, leaves[role])) for role in family}
        is_short = any(most[role] - held[role] > slack(most[role], band) for role in family)
        is_over = any(held[role] - least[role] > slack(least[role], band) for role in family)
        for role, step in family.items():
            shares[role] = _Share(
                leaf=leaves[role],
                step=step,
                exact=exact[role],
                coming=coming[role],
                is_short=is_short or exact[role] - held[role] > slack(exact[role], band),
                is_over=is_over or held[role] - coming[role] > slack(coming[role], band),
            )
    return shares


def _highest(spec: ServiceSpec, leaf: RoleSpec) -> int:
    return min(leaf.max_replicas, spec.pin.get(leaf.path, leaf.max_replicas))


def _lowest(spec: ServiceSpec, leaf: RoleSpec) -> int:
    return max(leaf.min_replicas, spec.pin.get(leaf.path, leaf.min_replicas))


def _partner(
    spec: ServiceSpec,
    share: _Share,
    sized: Sized,
    anchor_units: float,
    kept: int,
    reasons: list[Reason],
) -> int:
    """Return the capacity of a role that is not the anchor, before bounds."""
    leaf, exact = share.leaf, share.exact
    if sized.direction is not Direction.OUT and share.is_short:
        return _restored(spec, share, sized, kept, reasons)
    if sized.direction is Direction.HOLD:
        return _given_back(spec, share, sized, kept, reasons) if share.is_over else kept
    has, anchor_has = sized.held[leaf.path], sized.held[spec.policy.anchor]
    # Where the role would be if it changed by the same share as the anchor.
    along = has * anchor_units / anchor_has if anchor_has else has
    limited = min(exact, along + _up(spec, share, sized, along))
    if sized.direction is Direction.IN or sized.ratio_changed:
        limited = max(limited, along - _down(spec, share, sized, along))
    wanted = in_whole_units(limited, share.step)
    if sized.direction is Direction.OUT:
        wanted = max(kept, wanted)
    elif has - wanted < smallest_unit(leaf) - UNIT_SLACK:
        wanted = kept
    if wanted != kept:
        reasons.append(_reason(ReasonCode.FOLLOWS, leaf, has, exact, wanted))
        if in_whole_units(limited, share.step) != in_whole_units(exact, share.step):
            reasons.append(_reason(ReasonCode.MOVE_LIMITED, leaf, has, exact, wanted))
    return wanted


def _restored(
    spec: ServiceSpec, share: _Share, sized: Sized, kept: int, reasons: list[Reason]
) -> int:
    """Return the capacity of a role that is short of its share, or one of its family is."""
    leaf, exact, has = share.leaf, share.exact, sized.held[share.leaf.path]
    wanted = in_whole_units(min(exact, has + _up(spec, share, sized, has)), share.step)
    if wanted <= kept:
        return kept
    if sized.grow is not Freedom.FREE:
        reasons.append(_reason(ReasonCode.SHORT_WAITS, leaf, has, exact, kept))
        return kept
    reasons.append(_reason(ReasonCode.SHORT, leaf, has, exact, wanted))
    return wanted


def _given_back(
    spec: ServiceSpec, share: _Share, sized: Sized, kept: int, reasons: list[Reason]
) -> int:
    """Return the capacity of a role that has more than its share, or one of its family has."""
    leaf, exact, step = share.leaf, share.coming, share.step
    has, smallest = sized.held[leaf.path], smallest_unit(leaf)
    if has - in_whole_units(exact, step) < smallest - UNIT_SLACK:
        if has - exact > slack(exact, spec.policy.ratio.band):
            code = ReasonCode.SURPLUS_ROUNDED
            reasons.append(_reason(code, leaf, has, exact, kept, smallest=smallest))
        return kept
    if sized.shrink is not Freedom.FREE:
        reasons.append(_reason(ReasonCode.SURPLUS_WAITS, leaf, has, exact, kept))
        return kept
    # Rounding up must not eat the whole move, or a fractional surplus would never go.
    wanted = in_whole_units(max(exact, has - _down(spec, share, sized, has)), step)
    wanted = min(wanted, step * round_down((has - smallest) / step))
    reasons.append(_reason(ReasonCode.SURPLUS, leaf, has, exact, wanted))
    return wanted


def _up(spec: ServiceSpec, share: _Share, sized: Sized, has: float) -> float:
    """Return how much a role may gain at once; a lost partner is replaced whole."""
    return max(share.step, has * spec.policy.ratio.max_move) if sized.ratio_changed else math.inf


def _down(spec: ServiceSpec, share: _Share, sized: Sized, has: float) -> float:
    """Return how much a role may give back at once."""
    most = spec.policy.guard.step_in
    if sized.ratio_changed:
        most = min(most, spec.policy.ratio.max_move)
    return max(share.step, has * most)


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
