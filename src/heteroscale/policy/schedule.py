"""Periodic strategy: the static counts of the recurring period that is in force.

Source: HeteroScale (arXiv:2508.19559), for services that cannot use metrics.
"""

from __future__ import annotations

from heteroscale.entities.decision import Direction, Figures, Reason, Recommendation, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.policy.situation import Situation


def recommend(situation: Situation) -> tuple[Recommendation, ...]:
    """Return what the period in force asks for, and a hold per schedule of unknown local time."""
    period, base = situation.period, situation.base
    recommendations = [
        Recommendation(
            source=f"schedule {name}",
            direction=Direction.HOLD,
            demand=base,
            reasons=(
                Reason(
                    step=Step.SIGNAL,
                    code=ReasonCode.TIMEZONE_UNKNOWN,
                    figures={"schedule": name, "timezone": timezone},
                ),
            ),
            blocks=True,
        )
        for name, timezone in period.unknown
    ]
    if period.name is not None:
        figures: Figures = {"schedule": period.name, "demand": period.demand}
        recommendations.append(
            Recommendation(
                source=f"schedule {period.name}",
                direction=Direction((period.demand > base) - (period.demand < base)),
                demand=period.demand,
                reasons=(Reason(step=Step.RECOMMEND, code=ReasonCode.SCHEDULE, figures=figures),),
            )
        )
    return tuple(recommendations)
