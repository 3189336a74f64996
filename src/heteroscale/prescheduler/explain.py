"""Reasons for what was placed and what was not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.placement import Grant, NoFit
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import RolePath

#: of more instances the nodes are not told one by one: the grant has them all
_SEATS_TOLD = 6


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
                "seats": _seats(grant),
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


def _seats(grant: Grant) -> str:
    """Return the nodes and the price as "n07, n08+n09 and 3 more; 76.80 an hour"."""
    told = ", ".join("+".join(nodes) for nodes in grant.nodes[:_SEATS_TOLD])
    more = len(grant.nodes) - _SEATS_TOLD
    if more > 0:
        told += f" and {more} more"
    price = grant.price_per_hour
    return told if price is None else f"{told}; {price:,.2f} an hour"


def _told(no_fit: NoFit) -> str:
    """Return the causes as "12 nodes: 7 full, 4 wrong accelerator, 1 unhealthy"."""
    if not no_fit.causes:
        return "no nodes at all"
    causes = sorted(no_fit.causes.items(), key=lambda cause: (-cause[1], cause[0]))
    told = ", ".join(f"{nodes} {cause}" for cause, nodes in causes)
    return f"{sum(no_fit.causes.values())} nodes: {told}"
