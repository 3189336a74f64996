"""The limit of a service that gives way: as an operator's maximum, for as long as others lack.

What is given up is not asked back while the shortage lasts: the limit stays until nobody of higher
priority that could use the same accelerators has lacked anything essential for `RETURN_AFTER_S`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heteroscale.entities.decision import Figures, Reason, Step
from heteroscale.entities.placement import Concession, Lack
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import RoleSpec, ServiceSpec
from heteroscale.entities.state import GivenWay, ServiceState

#: Longer than an instance takes from its node to its first request (a placeholder), so that a
#: shortage that only pauses while something starts is one shortage.
RETURN_AFTER_S = 600.0


def limited(
    spec: ServiceSpec, state: ServiceState, now_s: float
) -> tuple[ServiceSpec, ServiceState, tuple[Reason, ...]]:
    """Return a service as it may be sized in this tick, its memory, and why it is limited.

    A limit whose time is over, or that the operator no longer allows, is lifted.
    """
    way = state.given_way
    if way is None:
        return spec, state, ()
    figures: Figures = {"to": way.to}
    code, ends = ReasonCode.GIVES_WAY, now_s >= way.until_s or not spec.gives_way
    if ends:
        code = ReasonCode.WAY_ENDED
    else:
        figures = {**figures, "left_s": min(way.until_s - now_s, RETURN_AFTER_S)}
    reasons = tuple(
        Reason(step=Step.GUARD, code=code, figures={**figures, "role": role, "most": most})
        for role, most in sorted(way.most.items())
    )
    if ends:
        return spec, replace(state, given_way=None), reasons
    roles = tuple(_limited(role, way) for role in spec.group.roles)
    return replace(spec, group=replace(spec.group, roles=roles)), state, reasons


def _limited(role: RoleSpec, way: GivenWay) -> RoleSpec:
    if not role.is_leaf:
        return replace(role, roles=tuple(_limited(child, way) for child in role.roles))
    most = min(role.max_replicas, way.most.get(role.path, role.max_replicas))
    return replace(role, max_replicas=max(role.min_replicas, most))


def after_lacks(
    spec: ServiceSpec,
    state: ServiceState,
    lacks: Sequence[Lack],
    concession: Concession | None,
    now_s: float,
) -> ServiceState:
    """Return the memory of a service with what it gives up, or its limit kept, or as it is.

    Args:
        lacks: what is essential and lacking, of any service.
        concession: what it was found to give up in this tick; None = nothing more.
    """
    way, until_s = state.given_way, now_s + RETURN_AFTER_S
    if concession is not None:
        way = GivenWay(to=concession.to, most=concession.most, until_s=until_s)
    elif way is None:
        return state
    elif any(lack.spec.priority > spec.priority and lack.competes(spec) for lack in lacks):
        way = replace(way, until_s=until_s)
    else:
        # A later end was set by a clock that was set back since.
        way = replace(way, until_s=min(way.until_s, until_s))
    return replace(state, given_way=way)
