"""Composes the steps that look at one service alone: signal, recommend, guard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from heteroscale.entities.decision import Direction, Reason, Recommendation, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import RolePath, ServiceSpec
from heteroscale.entities.snapshot import ServiceSnapshot
from heteroscale.entities.state import ServiceState
from heteroscale.policy import feedback
from heteroscale.policy.arbitrate import arbitrate, recommendations
from heteroscale.policy.guard import Guarded, Leave, guard, leave
from heteroscale.policy.online_ratio import Mix, follow
from heteroscale.policy.period import NO_PERIOD, Period, period_at
from heteroscale.policy.ratio import configured, families, in_whole_units, slack
from heteroscale.policy.signal import Signals, judged, latencies
from heteroscale.policy.situation import Situation
from heteroscale.policy.sized import Freedom as Freedom
from heteroscale.policy.sized import Sized as Sized
from heteroscale.policy.supply import explain_foreign, tally, to_hold, without
from heteroscale.policy.window import fold

__all__ = ["Freedom", "Sized", "size"]


def size(
    spec: ServiceSpec,
    snapshot: ServiceSnapshot,
    state: ServiceState,
    *,
    now_s: float,
    utc_offsets_s: Mapping[str, int],
    frozen: bool,
) -> tuple[Sized, ServiceState]:
    """Return the anchor capacity one service should have now, and its memory folded forward.

    1. signal: judge the readings, count the capacity, find the ratio in force
    2. recommend: ask every strategy, keep one answer
    3. guard: pass it through the window and what may change now

    Args:
        spec: what the operator asks for.
        snapshot: what was observed.
        state: from the last tick; folded in every mode, also when frozen or paused.
        now_s: epoch seconds.
        utc_offsets_s: time zone → seconds east of UTC now; a schedule of an absent zone holds.
        frozen: the whole fleet is.
    """
    # 1. signal
    signals = judged(snapshot.readings, spec.policy.trust)
    mix = _mix(spec, signals, state, now_s=now_s, frozen=frozen)
    situation = _situation(spec, snapshot, state, signals, mix, now_s, utc_offsets_s)
    # 2. recommend
    asked = recommendations(situation)
    chosen = arbitrate(asked, situation.base)
    # 3. guard
    anchor = next(leaf for leaf in spec.group.leaves() if leaf.path == spec.policy.anchor)
    window = fold(state, chosen.demand, now_s, spec.policy.guard.stabilization_window_s)
    blocked = _blocked(spec, asked)
    free = leave(spec, state, now_s=now_s, frozen=frozen, blocked=blocked, full=window.full)
    guarded = guard(spec, anchor, state, chosen, situation.base, window, free, now_s)
    changed = bool(state.ratio_seen) and state.ratio_seen != situation.ratio
    moving = (changed or state.ratio_moving) and not _settled(situation)
    reasons = (
        *explain_foreign(situation.tally),
        *mix.reasons,
        *((_ratio_changed(state.ratio_seen, situation.ratio),) if changed else ()),
        *_distinct(asked or (chosen,)),
        *((_FROZEN,) if frozen and _FROZEN not in guarded.reasons else ()),
        *guarded.reasons,
    )
    grown = guarded.capacity if guarded.direction is Direction.OUT else None
    return _sized(situation, guarded, free, reasons, moving=moving), replace(
        state,
        window=window.entries,
        window_since_s=window.since_s,
        window_fed_s=now_s,
        feedback=feedback.remember(situation, asked, grown),
        ratio=mix.ratio,
        ratio_until_s=mix.until_s,
        mix=mix.points,
        ratio_seen=situation.ratio,
        ratio_moving=moving,
    )


def _situation(
    spec: ServiceSpec,
    snapshot: ServiceSnapshot,
    state: ServiceState,
    signals: Signals,
    mix: Mix,
    now_s: float,
    utc_offsets_s: Mapping[str, int],
) -> Situation:
    """Return what the strategies are given."""
    counted = tally(spec, snapshot.instances)
    counts = snapshot.group_roles
    if state.relocating is not None:
        beside = state.relocating.uncounted
        counted = without(spec, counted, snapshot.instances, beside)
        counts = tuple(one for one in counts if (one.subcluster, one.group) not in beside)
    held = to_hold(spec, counted, counts)
    period, ratio = _ratio(spec, state, mix, now_s, utc_offsets_s)
    return Situation(
        spec=spec,
        state=state,
        now_s=now_s,
        signals=signals,
        latencies=latencies(signals, spec.slo),
        tally=counted,
        held=held,
        base=held[spec.policy.anchor],
        ratio=ratio,
        weights=spec.group.weights(ratio),
        period=period,
    )


def _sized(
    situation: Situation,
    guarded: Guarded,
    free: Leave,
    reasons: tuple[Reason, ...],
    *,
    moving: bool,
) -> Sized:
    """Return the guarded number with what the later steps need to follow it."""
    return Sized(
        direction=guarded.direction,
        anchor_capacity=guarded.capacity,
        asks_in=guarded.asks_in,
        forced=guarded.forced,
        supply=situation.tally.supply,
        held=situation.held,
        anchor_pending=situation.tally.pending[situation.spec.policy.anchor],
        ratio=situation.ratio,
        ratio_changed=moving,
        grow=free.grow,
        shrink=free.shrink,
        reasons=reasons,
    )


_FROZEN = Reason(step=Step.GUARD, code=ReasonCode.FROZEN)


def _mix(
    spec: ServiceSpec, signals: Signals, state: ServiceState, *, now_s: float, frozen: bool
) -> Mix:
    """Return the measured mix; where the ratio does not follow it, none is kept."""
    online = spec.policy.ratio.online
    if online is None:
        return Mix(ratio={}, until_s=0.0)
    return follow(spec.group, online, signals, state, now_s=now_s, may_move=not frozen)


def _ratio(
    spec: ServiceSpec,
    state: ServiceState,
    mix: Mix,
    now_s: float,
    utc_offsets_s: Mapping[str, int],
) -> tuple[Period, Mapping[RolePath, int]]:
    """Return the period in force and the ratio: the schedule's, else the online, else configured.

    While a schedule's local time is unknown, the ratio that was in force stays.
    """
    ratio = mix.ratio or configured(spec.group)
    if not spec.policy.schedules:
        return NO_PERIOD, ratio
    period = period_at(spec, now_s, utc_offsets_s, ratio)
    if period.ratio is not None:
        return period, period.ratio
    if period.unknown and state.ratio_seen.keys() == ratio.keys():
        return period, state.ratio_seen
    return period, ratio


def _settled(situation: Situation) -> bool:
    """Return whether every role is as close to the ratio in force as it needs to be, or may be.

    Where a bound or pin keeps the ratio broken, that is as far as the move goes.
    """
    spec, weights = situation.spec, situation.weights
    anchor = spec.policy.anchor
    steps = {path: step for one in families(spec.group, anchor) for path, step in one.items()}
    for leaf in spec.group.leaves():
        role = leaf.path
        if role == anchor:
            continue
        exact = situation.base * weights[role] / weights[anchor]
        exact = min(max(spec.pin.get(role, exact), leaf.min_replicas), leaf.max_replicas)
        most = exact if steps[role] == 1 else in_whole_units(exact, steps[role])
        tolerated = slack(exact, spec.policy.ratio.band)
        if not exact - tolerated <= situation.held[role] <= most + tolerated:
            return False
    return True


def _ratio_changed(before: Mapping[RolePath, int], after: Mapping[RolePath, int]) -> Reason:
    figures = {"before": _told(before), "after": _told(after)}
    return Reason(step=Step.COORDINATE, code=ReasonCode.RATIO_CHANGED, figures=figures)


def _told(ratio: Mapping[RolePath, int]) -> str:
    return ", ".join(f"{share} {role}" for role, share in ratio.items())


def _blocked(spec: ServiceSpec, asked: tuple[Recommendation, ...]) -> bool:
    """Return whether nothing may shrink: something is unknown or not low, or nobody speaks."""
    if not asked:
        return not spec.policy.feedback
    return any(one.blocks for one in asked)


def _distinct(asked: tuple[Recommendation, ...]) -> tuple[Reason, ...]:
    """Return the reasons of all recommendations, each once, in order."""
    if len(asked) == 1:
        return asked[0].reasons
    reasons: list[Reason] = []
    for one in asked:
        reasons.extend(reason for reason in one.reasons if reason not in reasons)
    return tuple(reasons)
