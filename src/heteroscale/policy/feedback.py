"""Negative feedback: fixed steps of the supply while a latency is near or above its SLO.

Source: HeteroScale (arXiv:2508.19559), steps of 10 % and 20 %. Ours: while a step is under way the
next one waits until it is ready or has timed out, and a low latency gives back only when asked to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from heteroscale.entities.action import Effect
from heteroscale.entities.decision import Direction, Reason, Recommendation, Step
from heteroscale.entities.policy import FeedbackSpec
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import UNIT_SLACK
from heteroscale.entities.snapshot import UnknownCause
from heteroscale.entities.state import FeedbackState
from heteroscale.policy.permission import unknown
from heteroscale.policy.signal import Latency, idle
from heteroscale.policy.situation import Situation

#: Numbers behind a reason while they are being put together.
Told = dict[str, float | int | str]

_NEW = FeedbackState()


def recommend(situation: Situation) -> tuple[Recommendation, ...]:
    """Return what each latency asks for; one that is low and has nothing to give back is silent."""
    recommendations = (_of_latency(situation, loop) for loop in situation.spec.policy.feedback)
    return tuple(one for one in recommendations if one is not None)


def remember(
    situation: Situation, asked: tuple[Recommendation, ...], wanted: float | None
) -> Mapping[str, FeedbackState]:
    """Return the memory of every latency feedback after this tick.

    Args:
        situation: what the recommendations were made from.
        asked: every recommendation of this tick.
        wanted: anchor capacity of the scale-out that follows; None = none follows, so that a
            step that was stopped is not waited for.
    """
    before = situation.state.feedback
    memory: dict[str, FeedbackState] = {}
    stepping = {one.source: one.demand for one in asked if one.direction is Direction.OUT}
    for loop in situation.spec.policy.feedback:
        old = state = before.get(loop.signal, _NEW)
        low_since_s = None
        worst = situation.latencies[loop.signal]
        if _is_low(situation, loop, worst):
            low_since_s = situation.now_s if old.low_since_s is None else old.low_since_s
        step_to, step_until_s = old.step_to, old.step_until_s
        if not _outstanding(situation, old):
            step_to, step_until_s = None, 0.0
        if wanted is not None and (demand := stepping.get(_source(loop))) is not None:
            step_to = min(demand, wanted)
            step_until_s = situation.now_s + loop.step_timeout_s
        if (step_to, step_until_s, low_since_s) != (old.step_to, old.step_until_s, old.low_since_s):
            state = replace(
                old, step_to=step_to, step_until_s=step_until_s, low_since_s=low_since_s
            )
        memory[loop.signal.value] = state
    return memory


def _of_latency(situation: Situation, loop: FeedbackSpec) -> Recommendation | None:
    base = situation.base
    worst = situation.latencies[loop.signal]
    memory = situation.state.feedback.get(loop.signal, _NEW)
    tier = None
    if worst.ratio is not None:
        reached = (tier for tier in reversed(loop.tiers) if worst.ratio >= tier.ratio)
        tier = next(reached, None)
    if worst.ratio is not None and tier is not None:
        figures: Told = {"signal": loop.signal, "role": worst.role, "ratio": worst.ratio}
        if _outstanding(situation, memory):
            return _advice(
                loop,
                Direction.HOLD,
                base,
                ReasonCode.FEEDBACK_WAITS,
                figures
                | {
                    "step_to": memory.step_to or 0.0,
                    "ready": situation.tally.ready[situation.spec.policy.anchor],
                    "left_s": memory.step_until_s - situation.now_s,
                },
            )
        demand = base * (1.0 + tier.step)
        figures |= {"step": tier.step, "demand": demand}
        return _advice(loop, Direction.OUT, demand, ReasonCode.FEEDBACK_OUT, figures)
    if _is_low(situation, loop, worst):
        return _give_back(situation, loop, memory)
    if worst.ratio is None or worst.cause is not None:
        return Recommendation(
            source=_source(loop),
            direction=Direction.HOLD,
            demand=base,
            reasons=(unknown(loop.signal, worst.cause_role, worst.cause or UnknownCause.MISSING),),
            blocks=True,
        )
    above: Told = {"signal": loop.signal, "role": worst.role, "ratio": worst.ratio, "low": loop.low}
    return _advice(loop, Direction.HOLD, base, ReasonCode.FEEDBACK_HOLD, above)


def _give_back(
    situation: Situation, loop: FeedbackSpec, memory: FeedbackState
) -> Recommendation | None:
    """Return a step in once latency has been low for long enough; None = nothing to say."""
    since_s = memory.low_since_s
    if not loop.step_in or since_s is None or situation.now_s - since_s < loop.low_for_s:
        return None
    demand = situation.base * (1.0 - loop.step_in)
    figures: Told = {
        "signal": loop.signal,
        "low_s": situation.now_s - since_s,
        "step": loop.step_in,
        "demand": demand,
    }
    reason = Reason(step=Step.RECOMMEND, code=ReasonCode.FEEDBACK_IN, figures=figures)
    return Recommendation(
        source=_source(loop), direction=Direction.IN, demand=demand, reasons=(reason,)
    )


def _is_low(situation: Situation, loop: FeedbackSpec, worst: Latency) -> bool:
    """Return whether latency is known to be low, or there is known to be nothing to measure."""
    if worst.ratio is not None:
        return worst.cause is None and worst.ratio <= loop.low
    return worst.cause is UnknownCause.NO_EVENTS and idle(situation.signals)


def _outstanding(situation: Situation, memory: FeedbackState) -> bool:
    """Return whether the last step is under way: neither ready nor timed out, and seen or sent.

    One that was refused, fits nowhere or was never sent is not: it is asked for again.
    """
    if memory.step_to is None or situation.now_s >= memory.step_until_s:
        return False
    anchor, counted = situation.spec.policy.anchor, situation.tally
    if counted.ready[anchor] >= memory.step_to:
        return False
    if counted.supply[anchor] + counted.pending[anchor] >= memory.step_to - UNIT_SLACK:
        return True
    return any(one.effect is Effect.OUT for one in situation.state.pending)


def _source(loop: FeedbackSpec) -> str:
    return f"feedback {loop.signal}"


def _advice(
    loop: FeedbackSpec,
    direction: Direction,
    demand: float,
    code: ReasonCode,
    figures: Told,
) -> Recommendation:
    """Return a recommendation made while latency is not low: it blocks every scale-in."""
    return Recommendation(
        source=_source(loop),
        direction=direction,
        demand=demand,
        reasons=(Reason(step=Step.RECOMMEND, code=code, figures=figures),),
        blocks=True,
    )
