"""Why capacity fits nowhere, as counts of nodes an operator can check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from heteroscale.entities.placement import PlacementRequest
from heteroscale.entities.service import AcceleratorOption, RolePath
from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.groups import Group
from heteroscale.prescheduler.ledger import Ledger


class Cause(StrEnum):
    """What rules a node out, in the order in which it is asked."""

    #: outside every domain the capacity may go to
    OTHER_DOMAIN = "other domain"
    UNHEALTHY = "unhealthy"
    WRONG_ACCELERATOR = "wrong accelerator"
    #: right in every way but too few GPUs are free
    FULL = "full"
    #: holds one instance's part, but not enough such nodes share a domain for a whole step
    APART = "too few together"


def causes_of(
    request: PlacementRequest,
    missing: Mapping[RolePath, int],
    groups: Sequence[Group],
    ledger: Ledger,
    may_open: bool,
) -> dict[str, int]:
    """Return cause → nodes, over every node of the inventory; causes of no node are left out.

    Args:
        groups: the service's groups that could have grown.
        may_open: a new group was possible too, so every domain of its level was a candidate.
    """
    candidates: Iterable[DomainPath] = (
        ledger.domains(request.spec.group.within)
        if may_open
        else [group.domain or (group.subcluster,) for group in groups]
    )
    options = [
        option
        for leaf in request.spec.group.leaves()
        if leaf.path in missing
        for option in leaf.accelerators
    ]
    inside, outside = ledger.census(candidates)
    counts: Counter[Cause] = Counter({Cause.OTHER_DOMAIN: outside})
    for (accelerator, free), nodes in inside.items():
        counts[_cause(accelerator, free, options)] += nodes
    return {cause.value: counts[cause] for cause in Cause if counts[cause]}


def _cause(accelerator: str | None, free: int, options: Sequence[AcceleratorOption]) -> Cause:
    if accelerator is None:
        return Cause.UNHEALTHY
    least = min((o.gpus for o in options if o.type == accelerator), default=None)
    if least is None:
        return Cause.WRONG_ACCELERATOR
    return Cause.FULL if free < least else Cause.APART
