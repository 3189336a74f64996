"""What a recommendation must pass before it may change the one number of a service.

In order: stabilization window, damping, step limit, wait; then the operator's bounds and pin, which
pass every wait but stop at a pause or freeze. Tolerance comes earlier, per linear signal, because
a strategy that asks for fixed steps or counts has a dead band of its own.
Everything is rounded up: to whole units that hold the load.
"""

from __future__ import annotations

from typing import NamedTuple

from heteroscale.entities.decision import Direction, Reason, Recommendation, Step
from heteroscale.entities.policy import GuardSpec
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import UNIT_SLACK, RoleSpec, ServiceSpec
from heteroscale.entities.state import ServiceState
from heteroscale.policy.ratio import round_down, round_up
from heteroscale.policy.sized import Freedom
from heteroscale.policy.supply import smallest_unit
from heteroscale.policy.window import Window

_NONE: tuple[Reason, ...] = ()

#: In its cool-down a service asks the fleet brake only when at most this share of its supply is
#: wanted. In the evening of a shared time zone everyone asks for a little less, all night, and
#: that is the truth; what reads as false zeros asks for next to nothing.
COLLAPSE = 0.5


class Guarded(NamedTuple):
    """The number that passed, and what it had to give up on the way."""

    direction: Direction
    capacity: int
    #: the load asks for less than is kept, whether or not a wait still holds it
    asks_in: bool
    #: the operator asks for it
    forced: bool
    reasons: tuple[Reason, ...]


class Leave(NamedTuple):
    """How free the service is in both directions at this instant."""

    grow: Freedom
    shrink: Freedom


def leave(
    spec: ServiceSpec,
    state: ServiceState,
    *,
    now_s: float,
    frozen: bool,
    blocked: bool,
    full: bool,
) -> Leave:
    """Return in which directions the service may change.

    Args:
        spec: for the operator's pause.
        state: for the waits.
        now_s: epoch seconds.
        frozen: the whole fleet is.
        blocked: something is unknown or not low, so nothing may shrink.
        full: the stabilization window has been fed for its whole length.
    """
    grow = shrink = Freedom.FREE
    if frozen or spec.pause.scale_out:
        grow = Freedom.LOCKED
    elif now_s < state.scale_out_until_s:
        grow = Freedom.WAITING
    if frozen or spec.pause.scale_in:
        shrink = Freedom.LOCKED
    elif blocked or not full or now_s < state.scale_in_until_s:
        shrink = Freedom.WAITING
    return Leave(grow=grow, shrink=shrink)


def guard(
    spec: ServiceSpec,
    leaf: RoleSpec,
    state: ServiceState,
    asked: Recommendation,
    base: float,
    window: Window,
    free: Leave,
    now_s: float,
) -> Guarded:
    """Return the anchor's capacity that may be made of what is asked.

    Args:
        spec: the service.
        leaf: its anchor role.
        state: for the waits.
        asked: the one recommendation to follow.
        base: capacity that "no change" means.
        window: with `asked` already in it.
        free: in which directions the service may change.
        now_s: epoch seconds.
    """
    kept = round_down(base)
    capacity, reasons, asks_in = kept, _NONE, False
    rules = spec.policy.guard
    if asked.direction is Direction.OUT:
        capacity, reasons = _out(rules, asked.demand, base)
        if free.grow is not Freedom.FREE:
            waits_s = state.scale_out_until_s - now_s
            capacity, reasons = kept, (_stopped(spec, asked.direction, free.grow, waits_s),)
    elif asked.direction is Direction.IN:
        capacity, reasons = _in(rules, smallest_unit(leaf), base, window, now_s)
        if capacity < kept:
            # A pause, a freeze, a bound and a pin come before the fleet brake; a wait after it.
            asks_in = free.shrink is not Freedom.LOCKED
            asks_in = asks_in and bounded(spec, leaf, capacity)[0] < kept
            asks_in = asks_in and (free.shrink is Freedom.FREE or window.highest <= COLLAPSE * base)
            if free.shrink is not Freedom.FREE:
                waits_s = state.scale_in_until_s - now_s
                capacity, reasons = kept, (_stopped(spec, asked.direction, free.shrink, waits_s),)
    return _operator(spec, leaf, kept, capacity, reasons, free, asks_in=asks_in)


def _stopped(spec: ServiceSpec, direction: Direction, freedom: Freedom, waits_s: float) -> Reason:
    """Return why a change that is asked for does not happen.

    What is unknown asks for no change, and a window that fills tells so itself; so whatever waits
    here waits for its cool-down.
    """
    if freedom is Freedom.LOCKED:
        return locked(spec, direction)
    growing = direction is Direction.OUT
    code = ReasonCode.COOL_DOWN_OUT if growing else ReasonCode.COOL_DOWN_IN
    return _because(code, left_s=waits_s)


def locked(spec: ServiceSpec, direction: Direction) -> Reason:
    """Return whether the operator's pause or freeze stops a change in one direction."""
    growing = direction is Direction.OUT
    if not (spec.pause.scale_out if growing else spec.pause.scale_in):
        return _because(ReasonCode.FROZEN)
    return _because(ReasonCode.PAUSED_OUT if growing else ReasonCode.PAUSED_IN)


def _because(code: ReasonCode, **figures: float | str) -> Reason:
    return Reason(step=Step.GUARD, code=code, figures=figures)


def _out(rules: GuardSpec, demand: float, base: float) -> tuple[int, tuple[Reason, ...]]:
    """Return a capacity above `base` and at most the demand rounded up."""
    move, reasons = _bounded(
        round_up(demand) - base, base, damping=rules.damping_out, step=rules.step_out
    )
    capacity = round_up(base + move)
    why = _because(ReasonCode.SCALE_OUT, supply=base, demand=demand, capacity=capacity)
    return capacity, (*reasons, why)


def _in(
    rules: GuardSpec, smallest: float, base: float, window: Window, now_s: float
) -> tuple[int, tuple[Reason, ...]]:
    """Return a capacity below `base` by an instance or more, or `base` rounded down.

    The move starts from the highest recommendation of the window, rounded up, so the result never
    is less than what any of them asked for.
    """
    kept, demand = round_down(base), window.highest
    length_s = rules.stabilization_window_s
    if not window.full:
        fed_s = now_s - window.since_s
        return kept, (_because(ReasonCode.WINDOW_FILLING, fed_s=fed_s, window_s=length_s),)
    if demand >= base:
        ago_s = now_s - window.entries[0][0]
        why = _because(
            ReasonCode.WINDOW, highest=demand, ago_s=ago_s, window_s=length_s, supply=base
        )
        return kept, (why,)
    change = base - round_up(demand)
    if change < smallest - UNIT_SLACK:
        why = _because(ReasonCode.ROUNDED_AWAY, demand=demand, supply=base, smallest=smallest)
        return kept, (why,)
    move, reasons = _bounded(change, base, damping=rules.damping_in, step=rules.step_in)
    # Rounding up must not eat the whole move, or a fractional supply would never shrink.
    capacity = min(round_up(base - move), round_down(base - smallest))
    why = _because(ReasonCode.SCALE_IN, supply=base, demand=demand, capacity=capacity)
    return capacity, (*reasons, why)


def _bounded(
    change: float, base: float, *, damping: float, step: float
) -> tuple[float, tuple[Reason, ...]]:
    """Return the part of a change that is made at once: at least one unit, or all that is asked."""
    reasons = _NONE
    move = change
    damped = max(1.0, change * damping)
    if damped < move:
        reasons = (_because(ReasonCode.DAMPED, change=move, damped=damped, damping=damping),)
        move = damped
    limit = max(1.0, base * step)
    if limit < move:
        reasons = (
            *reasons,
            _because(ReasonCode.STEP_LIMIT, change=move, limit=limit, step=step),
        )
        move = limit
    return move, reasons


def _operator(
    spec: ServiceSpec,
    leaf: RoleSpec,
    kept: int,
    capacity: int,
    reasons: tuple[Reason, ...],
    free: Leave,
    *,
    asks_in: bool,
) -> Guarded:
    """Return the number inside bounds or pinned, where no pause or freeze stops that."""
    wanted, why = bounded(spec, leaf, capacity)
    forced = wanted < kept and (leaf.path in spec.pin or wanted == leaf.max_replicas)
    if wanted != capacity:
        growing = wanted > kept
        freedom = free.grow if growing else free.shrink
        if wanted != kept and freedom is Freedom.LOCKED:
            direction = Direction.OUT if growing else Direction.IN
            wanted, forced = kept, False
            why = (*why, locked(spec, direction))
    return Guarded(
        direction=Direction((wanted > kept) - (wanted < kept)),
        capacity=wanted,
        asks_in=asks_in,
        forced=forced,
        reasons=(*reasons, *why),
    )


def bounded(spec: ServiceSpec, leaf: RoleSpec, capacity: int) -> tuple[int, tuple[Reason, ...]]:
    """Return what the operator's pin and bounds make of a capacity, and why when they change it."""
    role, wanted = leaf.path, capacity
    reasons = _NONE
    if role in spec.pin:
        wanted = spec.pin[role]
        reasons = (_because(ReasonCode.PINNED, role=role, pin=wanted),)
    lowest, highest = leaf.min_replicas, leaf.max_replicas
    if wanted < lowest:
        why = _because(ReasonCode.BELOW_MINIMUM, role=role, capacity=wanted, minimum=lowest)
        return lowest, (*reasons, why)
    if wanted > highest:
        why = _because(ReasonCode.ABOVE_MAXIMUM, role=role, capacity=wanted, maximum=highest)
        return highest, (*reasons, why)
    return wanted, reasons
