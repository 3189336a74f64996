"""Fleet brake: what many services ask for at once is more likely a fault of ours than the truth.

A renamed exporter reads as fully covered zero for everyone. So a scale-in that too many ask for at
once is held for all, also when their waits end one after another, and no more than a share of the
fleet's GPUs leaves in any hour. What an operator's bound or pin asks for passes, and is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from heteroscale.entities.decision import Direction, Figures, Reason, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import BrakeSpec, Mode, ServiceSpec
from heteroscale.entities.snapshot import Snapshot
from heteroscale.entities.state import HOUR_S
from heteroscale.policy.ratio import round_down
from heteroscale.policy.sized import Freedom, Sized


def brake_fleet(
    sized: Mapping[str, Sized],
    specs: Mapping[str, ServiceSpec],
    left_gpus: Sequence[tuple[float, int]],
    snapshot: Snapshot,
    rules: BrakeSpec,
) -> Mapping[str, Sized]:
    """Return the sizes the fleet allows; most ticks nobody asks for less and nothing has left."""
    nodes = snapshot.inventory.nodes
    calm = all(one.direction >= Direction.HOLD and not one.asks_in for one in sized.values())
    if nodes and not left_gpus and calm:
        return sized
    return brake(
        sized,
        specs=specs,
        rules=rules,
        fleet_gpus=sum(node.gpus for node in nodes),
        left_gpus=left_gpus,
        now_s=snapshot.now_s,
    )


def brake(
    sized: Mapping[str, Sized],
    *,
    specs: Mapping[str, ServiceSpec],
    rules: BrakeSpec,
    fleet_gpus: int,
    left_gpus: Sequence[tuple[float, int]],
    now_s: float,
) -> Mapping[str, Sized]:
    """Return every service's size with the scale-ins that may not happen now turned into holds.

    Services that act are counted by themselves, as what the others ask for does not happen; those
    are told what would become of it if all of them acted.

    Args:
        sized: service → size.
        specs: service → what its operator asks for; at least the services of `sized`.
        rules: shares and counts.
        fleet_gpus: GPUs of the whole inventory.
        left_gpus: (at_s, GPUs) that left before.
        now_s: epoch seconds.
    """
    left = _left_within_the_hour(left_gpus, now_s)
    budget = hour_budget_gpus(rules, fleet_gpus, left_gpus, now_s)
    acting = {name: one for name, one in sized.items() if specs[name].mode is Mode.ENFORCE}
    allowed = _braked(acting, specs, rules, budget, left)
    if len(acting) == len(sized):
        return allowed
    return {**_braked(sized, specs, rules, budget, left), **allowed}


def hour_budget_gpus(
    rules: BrakeSpec, fleet_gpus: int, left_gpus: Sequence[tuple[float, int]], now_s: float
) -> float:
    """Return the GPUs that may still leave the fleet within the hour; negative = too many have."""
    return rules.gpus_per_hour_share * fleet_gpus - _left_within_the_hour(left_gpus, now_s)


def _left_within_the_hour(left_gpus: Sequence[tuple[float, int]], now_s: float) -> int:
    return sum(gpus for at_s, gpus in left_gpus if now_s - at_s < HOUR_S)


def _braked(
    sized: Mapping[str, Sized],
    specs: Mapping[str, ServiceSpec],
    rules: BrakeSpec,
    budget: float,
    left: int,
) -> Mapping[str, Sized]:
    """Return the sizes that these services may have together."""
    asking = sum(1 for one in sized.values() if one.asks_in and not one.forced)
    if asking >= rules.services and asking > rules.share * len(sized):
        figures: Figures = {"asking": asking, "services": len(sized), "share": rules.share}
        reason = Reason(step=Step.BRAKE, code=ReasonCode.BRAKE_SHARE, figures=figures)
        return {name: _held(one, specs[name], reason) for name, one in sized.items()}
    shrinking = [name for name, one in sized.items() if one.direction is Direction.IN]
    if not shrinking and budget > 0:
        return sized
    return _within(sized, shrinking, specs, budget, left)


def _within(
    sized: Mapping[str, Sized],
    shrinking: Sequence[str],
    specs: Mapping[str, ServiceSpec],
    budget: float,
    left: int,
) -> Mapping[str, Sized]:
    """Return the sizes with the hour's GPUs given out: the operator's first, then by priority.

    The least important service gives back first; ties by name. Where none has left yet, one unit
    goes even if the budget holds less, or a small fleet would never shrink.
    """
    allowed = dict(sized)
    least = 1 if budget > 0 and left == 0 else 0
    figures: dict[str, float | int | str] = {"budget": budget, "left": left}
    order = sorted(shrinking, key=lambda name: (not sized[name].forced, specs[name].priority, name))
    for name in order:
        one, spec = sized[name], specs[name]
        kept = round_down(one.held[spec.policy.anchor])
        per_unit = _gpus_per_unit(spec, one)
        units = kept - one.anchor_capacity
        fitting = max(0, round_down(budget / per_unit))
        if not one.forced:
            units = min(units, max(least, fitting))
        budget -= units * per_unit
        least = 0
        if units == 0:
            reason = Reason(step=Step.BRAKE, code=ReasonCode.BRAKE_GPUS, figures=figures)
            allowed[name] = _held(one, spec, reason)
        elif not one.forced and (units > fitting or kept - units != one.anchor_capacity):
            code = ReasonCode.BRAKE_GPUS_CAP
            capped = figures | {"asked": one.anchor_capacity, "capacity": kept - units}
            if units > fitting:
                code, capped = ReasonCode.BRAKE_GPUS_ONE, capped | {"unit": per_unit}
            reasons = (*one.reasons, Reason(step=Step.BRAKE, code=code, figures=capped))
            allowed[name] = replace(one, anchor_capacity=kept - units, reasons=reasons)
    if budget > 0:
        return allowed
    # Nothing is left of the hour: roles that only exceed their share do not give back either.
    return {name: _waiting(one) for name, one in allowed.items()}


def _held(one: Sized, spec: ServiceSpec, reason: Reason) -> Sized:
    """Return a size without its scale-in, and without a partner's; a forced one stays as it is."""
    if one.direction is not Direction.IN or one.forced:
        return _waiting(one)
    return replace(
        one,
        direction=Direction.HOLD,
        anchor_capacity=round_down(one.held[spec.policy.anchor]),
        shrink=min(one.shrink, Freedom.WAITING),
        reasons=(*one.reasons, reason),
    )


def _waiting(one: Sized) -> Sized:
    return replace(one, shrink=Freedom.WAITING) if one.shrink is Freedom.FREE else one


def _gpus_per_unit(spec: ServiceSpec, one: Sized) -> float:
    """Return the GPUs of one anchor unit and its share of every partner, on preferred types."""
    weights = spec.group.weights(one.ratio)
    gpus = sum(
        weights[leaf.path] * leaf.accelerators[0].gpus * leaf.accelerators[0].nodes
        for leaf in spec.group.leaves()
    )
    return gpus / weights[spec.policy.anchor]
