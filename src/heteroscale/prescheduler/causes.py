"""Why capacity fits nowhere, as counts of nodes an operator can check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.groups import widest_level
from heteroscale.prescheduler.growth import Growth
from heteroscale.prescheduler.ledger import Ledger


class Cause(StrEnum):
    """What rules a node out, in the order in which it is asked."""

    #: outside every domain the capacity may go to
    OTHER_DOMAIN = "other domain"
    UNHEALTHY = "unhealthy"
    WRONG_ACCELERATOR = "wrong accelerator"
    #: of an accelerator of which the service may hold no more
    OVER_QUOTA = "quota used up"
    #: right in every way but too few GPUs are free
    FULL = "full"
    #: holds one instance's part, but not enough such nodes share a domain for a whole step
    APART = "too few together"


def causes_of(
    growth: Growth, ledger: Ledger, levels: Sequence[str], *, may_open: bool
) -> dict[str, int]:
    """Return cause → nodes, over every node of the inventory; causes of no node are left out.

    Args:
        growth: what is left of it found no place.
        may_open: a new group was possible too, so every domain of its level was a candidate.
    """
    group = growth.request.spec.group
    candidates: Iterable[DomainPath] = (
        ledger.domains(widest_level(group, levels))
        if may_open
        else [one.domain or (one.subcluster,) for one in growth.groups]
    )
    options = [
        option
        for leaf in group.leaves()
        if leaf.path in growth.left
        for option in leaf.accelerators
    ]
    inside, outside = ledger.census(candidates)
    counts: Counter[Cause] = Counter({Cause.OTHER_DOMAIN: outside})
    for (accelerator, free), nodes in inside.items():
        counts[_cause(accelerator, free, options, growth.quota)] += nodes
    return {cause.value: counts[cause] for cause in Cause if counts[cause]}


def _cause(
    accelerator: str | None,
    free: int,
    options: Sequence[AcceleratorOption],
    quota: Mapping[str, int],
) -> Cause:
    if accelerator is None:
        return Cause.UNHEALTHY
    least = min((o.gpus for o in options if o.type == accelerator), default=None)
    if least is None:
        return Cause.WRONG_ACCELERATOR
    if quota.get(accelerator, least) < least:
        return Cause.OVER_QUOTA
    return Cause.FULL if free < least else Cause.APART
