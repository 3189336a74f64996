"""Reasons for what was placed and what was not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.placement import Grant, NoFit
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import RolePath


def explain_placement(grants: Iterable[Grant], no_fits: Iterable[NoFit]) -> tuple[Reason, ...]:
    """Return one reason per grant, then one per role that was left without."""
    placed = [
        Reason(
            step=Step.PLACE,
            code=ReasonCode.PLACED,
            figures={
                "replicas": grant.replicas,
                "role": grant.role,
                "accelerator": grant.accelerator,
                "group": grant.group,
                "domain": "/".join(grant.domain or (grant.subcluster,)),
            },
        )
        for grant in grants
    ]
    missed = [
        Reason(
            step=Step.PLACE,
            code=ReasonCode.NO_FIT,
            figures={
                "role": role,
                "capacity": no_fit.missing[role],
                "causes": _told(no_fit),
            },
        )
        for no_fit in no_fits
        for role in sorted(no_fit.missing)
    ]
    return (*placed, *missed)


def explain_coming(coming: Mapping[RolePath, float]) -> tuple[Reason, ...]:
    """Return one reason per role that waits for what was asked for before.

    Args:
        coming: leaf role → capacity units.
    """
    return tuple(
        Reason(
            step=Step.PLACE,
            code=ReasonCode.COMING,
            figures={"role": role, "units": coming[role]},
        )
        for role in sorted(coming)
    )


def _told(no_fit: NoFit) -> str:
    """Return the causes as "12 nodes: 7 full, 4 wrong accelerator, 1 unhealthy"."""
    if not no_fit.causes:
        return "no nodes at all"
    causes = sorted(no_fit.causes.items(), key=lambda cause: (-cause[1], cause[0]))
    told = ", ".join(f"{nodes} {cause}" for cause, nodes in causes)
    return f"{sum(no_fit.causes.values())} nodes: {told}"
