"""Online ratio: the shares of the top-level roles follow the measured mix of their tokens.

Slow on purpose: means over a window, one share at a time, a wait between two moves, and no move
for less than a whole share, so that it never goes back and forth at a steady mix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from heteroscale.entities.decision import Figures, Reason, Step
from heteroscale.entities.policy import OnlineRatioSpec
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import GroupSpec, RolePath, RoleSpec
from heteroscale.entities.snapshot import Signal, UnknownCause
from heteroscale.entities.state import MixPoint, ServiceState
from heteroscale.policy.ratio import configured, in_parts
from heteroscale.policy.signal import Judged, Signals

#: The window is kept as this many sums, however short the interval: a sixteenth of the window is
#: fine enough for a ratio that moves once in many minutes, and every tick pays for each of them.
MAX_POINTS = 16


class Mix(NamedTuple):
    """The measured mix and the ratio it has led to."""

    #: top-level role → share; empty = as configured
    ratio: Mapping[RolePath, int]
    until_s: float
    points: tuple[MixPoint, ...] = ()
    reasons: tuple[Reason, ...] = ()


def follow(
    group: GroupSpec,
    online: OnlineRatioSpec,
    signals: Signals,
    state: ServiceState,
    *,
    now_s: float,
    may_move: bool,
) -> Mix:
    """Return the mix with this tick in it, and the ratio, moved by at most one share.

    Args:
        group: for the top-level roles and their configured shares.
        online: how to follow.
        signals: for the loads.
        state: the mix, ratio and wait so far.
        now_s: epoch seconds.
        may_move: whether the ratio may change now; the mix is measured either way.
    """
    ratio = state.ratio if state.ratio.keys() == {role.path for role in group.roles} else {}
    loads = _loads(group, online, signals)
    if loads is None:
        return Mix(points=state.mix, ratio=ratio, until_s=state.ratio_until_s)
    points = _with(state.mix, loads, now_s, online.window_s)
    kept = Mix(points=points, ratio=ratio, until_s=state.ratio_until_s)
    width_s = online.window_s / MAX_POINTS
    measured = now_s - points[0].at_s >= online.window_s - width_s
    # The mean hardly changes within one sum, so it is looked at when a new one begins.
    looks = points[-1].samples == 1
    if not (may_move and measured and looks) or now_s < state.ratio_until_s:
        return kept
    moved = _moved(ratio or configured(group), online, points)
    if moved is None:
        return kept
    ratio, reason = moved
    return Mix(points=points, ratio=ratio, until_s=now_s + online.wait_s, reasons=(reason,))


def _loads(
    group: GroupSpec, online: OnlineRatioSpec, signals: Signals
) -> Mapping[RolePath, float] | None:
    """Return followed role → tokens/s, offered where all offer, else served; None = unknown."""
    for signal in (Signal.OFFERED_TPS, Signal.TPS):
        by_role = signals.get(signal)
        if by_role is None:
            continue
        loads: dict[RolePath, float] = {}
        for role in group.roles:
            load = _load(role, by_role) if role.path in online.capacity_tps else None
            if load is not None:
                loads[role.path] = load
        if loads and loads.keys() == online.capacity_tps.keys():
            return loads
    return None


def _load(role: RoleSpec, by_role: Mapping[RolePath, Judged]) -> float | None:
    """Return the most over the leaves of a role that report; None = none does, or one is unknown.

    Every part of a nested role sees all of its tokens, so they are no summands.
    """
    most: float | None = None
    for leaf in (role,) if not role.roles else role.leaves():
        verdict = by_role.get(leaf.path)
        if verdict is None:
            continue
        if isinstance(verdict, UnknownCause):
            return None
        most = verdict if most is None else max(most, verdict)
    return most


def _with(
    points: tuple[MixPoint, ...], loads: Mapping[RolePath, float], now_s: float, window_s: float
) -> tuple[MixPoint, ...]:
    """Return the points of the window with one more tick summed into the newest."""
    width_s = window_s / MAX_POINTS
    at_s = now_s // width_s * width_s
    if points and points[-1].at_s == at_s and points[-1].loads_tps.keys() == loads.keys():
        return (*points[:-1], _summed(points[-1], loads))
    # What is older than the window, later than now (a clock that went back) or of other roles goes.
    kept = tuple(
        point
        for point in points
        if now_s - window_s < point.at_s <= at_s and point.loads_tps.keys() == loads.keys()
    )
    return (*kept, MixPoint(at_s=at_s, samples=1, loads_tps=loads))


def _summed(point: MixPoint, loads: Mapping[RolePath, float]) -> MixPoint:
    """Return a point with one more tick in it."""
    sums = {role: load + point.loads_tps[role] for role, load in loads.items()}
    return MixPoint(at_s=point.at_s, samples=point.samples + 1, loads_tps=sums)


def _moved(
    ratio: Mapping[RolePath, int], online: OnlineRatioSpec, points: tuple[MixPoint, ...]
) -> tuple[Mapping[RolePath, int], Reason] | None:
    """Return the ratio with one part moved; None = no role is a whole part from its ideal."""
    samples = sum(point.samples for point in points)
    ideal = {
        role: sum(point.loads_tps[role] for point in points) / samples / capacity_tps
        for role, capacity_tps in online.capacity_tps.items()
    }
    total = sum(ideal.values())
    if total == 0.0:
        return None
    parts = in_parts(ratio, online.parts)
    followed = sum(parts[role] for role in ideal)
    excess = {role: parts[role] - units / total * followed for role, units in ideal.items()}
    taker = min(excess, key=lambda role: (excess[role], role))
    giver = max(excess, key=lambda role: (excess[role], role))
    if excess[giver] < 1.0 or excess[taker] > -1.0 or parts[giver] == 1:
        return None
    figures: Figures = {
        "giver": giver,
        "taker": taker,
        "giver_share": parts[giver] - 1,
        "taker_share": parts[taker] + 1,
        "parts": online.parts,
    }
    reason = Reason(step=Step.COORDINATE, code=ReasonCode.RATIO_SHARE_MOVED, figures=figures)
    parts[giver] -= 1
    parts[taker] += 1
    return parts, reason
