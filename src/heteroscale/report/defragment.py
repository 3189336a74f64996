"""Advice on moving groups out of scarce subgroups, in sentences and as JSON values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from heteroscale.entities.reasons import describe
from heteroscale.prescheduler.defragment import Defragmentation, Relocation
from heteroscale.prescheduler.explain import explain_placement
from heteroscale.report.what_if import grant_values


def advice_lines(found: Defragmentation) -> list[str]:
    """Return what could move, what each would free and why, then where all would stand."""
    if not found.moves:
        return ["No group in a scarce subgroup would fit one that is less scarce."]
    told = [f"Groups that could leave {_class(found.moves[0])} subgroups to others:"]
    told += [f"{one.service}: {_moves(one)}" for one in found.moves]
    told.append("New groups that would take their place in less scarce subgroups, all at once:")
    for service in sorted({grant.service for grant in found.grants}):
        own = [grant for grant in found.grants if grant.service == service]
        told += [f"{service}: {describe(reason)}" for reason in explain_placement(own, ())]
    return told


def advice_values(found: Defragmentation) -> Mapping[str, object]:
    """Return the same for JSON."""
    return {
        "moves": [
            {
                "service": one.service,
                "group": one.group,
                "subcluster": one.subcluster,
                "subgroup": _class(one),
                "instances": [each.uid for each in one.instances],
                "freed": [
                    {"domain": list(domain), "accelerator": accelerator, "gpus": gpus}
                    for (domain, accelerator), gpus in one.freed_gpus.items()
                ],
            }
            for one in found.moves
        ],
        "moved_to": [grant_values(grant) for grant in found.grants],
    }


def _class(one: Relocation) -> str:
    return one.scarcity.name.lower()


def _moves(one: Relocation) -> str:
    """Return "group g0 (1 decode on H20, 1 prefill on H20) would free 16 H20 at east/core-2"."""
    counts = Counter((each.role, each.accelerator) for each in one.instances)
    what = ", ".join(f"{counts[kind]} {kind[0]} on {kind[1]}" for kind in sorted(counts))
    freed = ", ".join(
        f"{gpus} {accelerator} at {'/'.join(domain)}"
        for (domain, accelerator), gpus in one.freed_gpus.items()
    )
    return f"group {one.group} ({what}) would free {freed}"
