"""Proportional control: size a role so that a linear signal per capacity unit meets its target.

Source: HeteroScale (arXiv:2508.19559), proportional control on throughput. Ours: any linear
signal, the load instead of the load per instance, and the treatment of censored signals.
"""

from __future__ import annotations

from heteroscale.entities.decision import Direction, Reason, Recommendation, Step
from heteroscale.entities.policy import ProportionalSpec
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.snapshot import Signal, UnknownCause
from heteroscale.policy.permission import unknown, why_not_in
from heteroscale.policy.signal import SHARES, lookup
from heteroscale.policy.situation import Situation


def recommend(situation: Situation) -> tuple[Recommendation, ...]:
    """Return one recommendation per configured signal, in configured order."""
    forbidden: dict[bool, Reason | None] = {}
    recommendations: list[Recommendation] = []
    for control in situation.spec.policy.proportional:
        served = control.signal is Signal.TPS
        if served not in forbidden:
            forbidden[served] = why_not_in(situation, served=served)
        recommendations.append(_of_signal(situation, control, forbidden[served]))
    return tuple(recommendations)


def _of_signal(
    situation: Situation, control: ProportionalSpec, forbids_in: Reason | None
) -> Recommendation:
    """Return what one signal asks for; demand inside the tolerance is the supply."""
    base, guard = situation.base, situation.spec.policy.guard
    signal, role, target = control.signal, control.role, control.target
    source = f"proportional {role} {signal}"
    load = lookup(situation.signals, signal, role)
    if isinstance(load, UnknownCause):
        return _hold(source, base, (unknown(signal, role, load),), blocks=True)
    in_units = load / target
    if signal in SHARES:
        # A mean grows with the ready capacity; a starting or held instance carries nothing yet.
        in_units *= situation.tally.ready[role]
    demand = in_units * situation.weights[situation.spec.policy.anchor] / situation.weights[role]
    asked = Reason(
        step=Step.RECOMMEND,
        code=ReasonCode.PROPORTIONAL,
        figures={
            "signal": signal,
            "role": role,
            "load": load,
            "target": target,
            "demand": demand,
        },
    )
    if demand > base * (1.0 + guard.tolerance_out):
        return Recommendation(
            source=source,
            direction=Direction.OUT,
            demand=demand,
            reasons=(asked,),
            blocks=forbids_in is not None,
        )
    if forbids_in is not None:
        return _hold(source, base, (asked, forbids_in), blocks=True)
    if demand >= base * (1.0 - guard.tolerance_in):
        figures = {"demand": demand, "supply": base}
        within = Reason(step=Step.GUARD, code=ReasonCode.WITHIN_TOLERANCE, figures=figures)
        return _hold(source, base, (asked, within), blocks=False)
    return Recommendation(source=source, direction=Direction.IN, demand=demand, reasons=(asked,))


def _hold(source: str, base: float, reasons: tuple[Reason, ...], *, blocks: bool) -> Recommendation:
    return Recommendation(
        source=source, direction=Direction.HOLD, demand=base, reasons=reasons, blocks=blocks
    )
