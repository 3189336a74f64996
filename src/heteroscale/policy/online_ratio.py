"""Online ratio: the shares of the top-level roles follow the measured mix of their tokens.

Slow on purpose: means over a window, one share at a time, a wait between two moves, and no move
for less than a whole share, so that it never goes back and forth at a steady mix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.entities.decision import Figures, Reason, Step
from heteroscale.entities.policy import OnlineRatioSpec
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import GroupSpec, RolePath
from heteroscale.entities.snapshot import Signal, UnknownCause
from heteroscale.entities.state import MixPoint, ServiceState
from heteroscale.policy.ratio import configured, in_parts
from heteroscale.policy.signal import Signals

#: The window is kept as this many sums, however short the interval: a sixteenth of the window is
#: fine enough for a ratio that moves once in many minutes, and every tick pays for each of them.
MAX_POINTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """The measured mix and the ratio it has led to."""

    points: tuple[MixPoint, ...] = ()
    #: top-level role → share; empty = as configured
    ratio: Mapping[RolePath, int]
    until_s: float
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
    if not may_move or not measured or now_s < state.ratio_until_s:
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
        by_role = signals.get(signal, {})
        loads: dict[RolePath, float] = {}
        for role in group.roles:
            verdicts = [by_role[leaf.path] for leaf in role.leaves() if leaf.path in by_role]
            known = [verdict for verdict in verdicts if not isinstance(verdict, UnknownCause)]
            if role.path in online.capacity_tps and known and len(known) == len(verdicts):
                loads[role.path] = sum(known)
        if loads and loads.keys() == online.capacity_tps.keys():
            return loads
    return None


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
