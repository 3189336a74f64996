"""Several recommendations become one, by a total order: out beats hold beats in, higher wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from heteroscale.entities.decision import Direction, Figures, Reason, Recommendation, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.policy import feedback, proportional, schedule
from heteroscale.policy.situation import Situation

#: Every strategy, in the order in which reasons are told. The safety net comes first.
STRATEGIES: Mapping[str, Callable[[Situation], tuple[Recommendation, ...]]] = {
    "feedback": feedback.recommend,
    "proportional": proportional.recommend,
    "schedule": schedule.recommend,
}


def recommendations(situation: Situation) -> tuple[Recommendation, ...]:
    """Return what every strategy asks for, and a hold while nothing of the anchor is ready."""
    asked = [one for recommend in STRATEGIES.values() for one in recommend(situation)]
    anchor = situation.spec.policy.anchor
    if situation.tally.ready[anchor] == 0.0:
        figures: Figures = {"role": anchor, "held": situation.base}
        reason = Reason(step=Step.SIGNAL, code=ReasonCode.NOTHING_READY, figures=figures)
        asked.append(_hold("readiness", situation.base, reason, blocks=True))
    return tuple(asked)


def arbitrate(asked: Sequence[Recommendation], base: float) -> Recommendation:
    """Return the recommendation to follow: greatest direction, then demand, then source name."""
    if not asked:
        figures: Figures = {"supply": base}
        reason = Reason(step=Step.RECOMMEND, code=ReasonCode.NOTHING_ASKED, figures=figures)
        return _hold("none", base, reason, blocks=False)
    return max(asked, key=lambda one: (one.direction, one.demand, one.source))


def _hold(source: str, base: float, reason: Reason, *, blocks: bool) -> Recommendation:
    return Recommendation(
        source=source, direction=Direction.HOLD, demand=base, reasons=(reason,), blocks=blocks
    )
