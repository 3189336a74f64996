"""What would be placed where if it were wanted now: figures, sentences, table, JSON, picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import chain

from heteroscale.config.inventory import NamedFault
from heteroscale.entities.fleet import KnownFleet, NodeName
from heteroscale.entities.placement import Grant, NoFit
from heteroscale.entities.reasons import describe
from heteroscale.entities.service import RolePath, ServiceSpec
from heteroscale.entities.snapshot import Instance
from heteroscale.prescheduler.explain import explain_placement
from heteroscale.prescheduler.what_if import WhatIf, supplied
from heteroscale.report.fleet_html import NodeMove, Overlay
from heteroscale.report.fleet_text import fault_json

#: accelerator → instances; negative where they leave
Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    """One role of one service: what it has, should have, and would have."""

    service: str
    role: RolePath
    #: capacity units there now, and wanted
    units: float
    wanted: float
    #: accelerator → instances
    now: Counts
    proposed: Counts
    #: capacity units that fit nowhere
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The answer to a what-if in figures and sentences."""

    changes: tuple[RoleChange, ...]
    #: (service, sentence), in the order of the services
    sentences: tuple[tuple[str, str], ...]
    #: instances that would leave, by uid
    leaving: tuple[Instance, ...]
    #: what it would cost more an hour; negative = less; None = some price is not known
    price_per_hour: float | None


def proposal_of(fleet: KnownFleet, specs: Sequence[ServiceSpec], asked: WhatIf) -> Proposal:
    """Return what an answer means."""
    plan = asked.plan
    gone = {uid for release in plan.releases for uid in release.uids}
    leaving = tuple(sorted((i for i in fleet.instances if i.uid in gone), key=lambda i: i.uid))
    by_service: dict[str, list[Instance]] = {}
    for one in fleet.instances:
        by_service.setdefault(one.service, []).append(one)
    wanting = {request.spec.name for request in asked.requests}
    changes = [
        change
        for spec in sorted(specs, key=lambda spec: spec.name)
        if spec.name in wanting
        for change in _changes(spec, by_service.get(spec.name, []), gone, asked)
    ]
    return Proposal(
        changes=tuple(changes),
        sentences=tuple(_sentences(asked, leaving)),
        leaving=leaving,
        price_per_hour=_price(fleet, specs, asked, leaving),
    )


def _changes(
    spec: ServiceSpec, instances: Sequence[Instance], gone: set[str], asked: WhatIf
) -> Iterator[RoleChange]:
    request = next(one for one in asked.requests if one.spec.name == spec.name)
    missing: Counter[RolePath] = Counter()
    for no_fit in asked.plan.no_fits:
        if no_fit.service == spec.name:
            missing.update(no_fit.missing)
    units = supplied(spec, instances)
    for leaf in spec.group.leaves():
        role = leaf.path
        now = Counter(one.accelerator for one in instances if one.role == role)
        proposed = Counter(now)
        proposed.subtract(
            one.accelerator for one in instances if one.role == role and one.uid in gone
        )
        for grant in asked.plan.grants:
            if (grant.service, grant.role) == (spec.name, role):
                proposed[grant.accelerator] += grant.replicas
        yield RoleChange(
            service=spec.name,
            role=role,
            units=units[role],
            wanted=units[role] + request.add.get(role, 0) - request.remove.get(role, 0),
            now=_sorted(now),
            proposed=_sorted(proposed),
            missing=missing[role],
        )


def _sorted(counts: Counter[str]) -> Counts:
    return {kind: counts[kind] for kind in sorted(counts) if counts[kind]}


def _sentences(asked: WhatIf, leaving: Sequence[Instance]) -> Iterator[tuple[str, str]]:
    plan = asked.plan
    for request in asked.requests:
        name = request.spec.name
        grants = [grant for grant in plan.grants if grant.service == name]
        no_fits = [no_fit for no_fit in plan.no_fits if no_fit.service == name]
        for reason in explain_placement(grants, no_fits):
            yield name, describe(reason)
        groups: dict[tuple[str, str, str, str], list[Instance]] = {}
        for one in leaving:
            if one.service == name:
                key = (one.role, one.accelerator, one.group, one.subcluster)
                groups.setdefault(key, []).append(one)
        for role, accelerator, group, subcluster in sorted(groups):
            of_it = groups[role, accelerator, group, subcluster]
            nodes = ", ".join(sorted({name for one in of_it for name in one.nodes}))
            what = f"{len(of_it)} {role} on {accelerator} leave group {group}"
            yield name, f"{what} at {subcluster} ({nodes or 'no node yet'})"
        if not grants and not no_fits and not groups:
            yield name, "no group can give what should leave, so nothing does"


def _price(
    fleet: KnownFleet, specs: Sequence[ServiceSpec], asked: WhatIf, leaving: Sequence[Instance]
) -> float | None:
    by_name = {spec.name: spec for spec in specs}
    gpus: Counter[str] = Counter()
    for grant in asked.plan.grants:
        option = by_name[grant.service].option(grant.role, grant.accelerator)
        if option is not None:
            gpus[grant.accelerator] += grant.replicas * option.gpus * option.nodes
    for one in leaving:
        gpus[one.accelerator] -= (one.gpus or 0) * len(one.nodes)
    if any(kind not in fleet.prices for kind in gpus):
        return None
    return sum(fleet.prices[kind] * count for kind, count in sorted(gpus.items()))


_HEADINGS = ("service", "role", "now", "wanted", "proposed", "missing")


def proposal_lines(fleet: KnownFleet, proposal: Proposal) -> list[str]:
    """Return the table, then why, then what it costs."""
    rows = [_HEADINGS, *(_cells(change) for change in proposal.changes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += ("", *(f"{name}: {sentence}" for name, sentence in proposal.sentences))
    lines += ("", *notes(fleet, proposal))
    return lines


def notes(fleet: KnownFleet, proposal: Proposal) -> list[str]:
    """Return what else there is to know, in sentences."""
    told = [_cost(proposal)]
    if fleet.others_gpus is None:
        told.append("The inventory says nothing about use: every healthy node counts as free.")
    return told


def _cost(proposal: Proposal) -> str:
    price = proposal.price_per_hour
    if price is None:
        return "The inventory does not say what all of these GPUs cost."
    if not price:
        return "It would cost the same."
    return f"It would cost {abs(price):,.2f} an hour {'more' if price > 0 else 'less'}."


def _cells(change: RoleChange) -> tuple[str, ...]:
    return (
        change.service,
        change.role,
        _counts(change.now),
        f"{change.wanted:.4g} units",
        _counts(change.proposed),
        str(change.missing or ""),
    )


def _counts(counts: Counts) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"


def grant_values(grant: Grant) -> Mapping[str, object]:
    """Return what one group is given, for JSON."""
    return {
        "service": grant.service,
        "group": grant.group,
        "role": grant.role,
        "accelerator": grant.accelerator,
        "domain": list(grant.domain or (grant.subcluster,)),
        "replicas": grant.replicas,
        "nodes": [list(nodes) for nodes in grant.nodes],
        "price_per_hour": grant.price_per_hour,
    }


def proposal_json(
    fleet: KnownFleet,
    asked: WhatIf,
    proposal: Proposal,
    faults: Sequence[NamedFault],
    advice: Mapping[str, object],
) -> str:
    """Return everything as documented in docs/topology.md.

    Args:
        advice: keys beside the others, where it was asked for.
    """
    content = {
        "services": [
            {
                "service": change.service,
                "role": change.role,
                "units": change.units,
                "wanted": change.wanted,
                "now": change.now,
                "proposed": change.proposed,
                "missing": change.missing,
            }
            for change in proposal.changes
        ],
        "grants": [grant_values(grant) for grant in asked.plan.grants],
        "releases": [
            {
                "service": one.service,
                "group": one.group,
                "role": one.role,
                "accelerator": one.accelerator,
                "instance": one.uid,
                "nodes": list(one.nodes),
            }
            for one in proposal.leaving
        ],
        "no_fits": [_no_fit(no_fit) for no_fit in asked.plan.no_fits],
        "reasons": [{"service": name, "text": text} for name, text in proposal.sentences],
        "price_per_hour": proposal.price_per_hour,
        "use_known": fleet.others_gpus is not None,
        "faults": [fault_json(fault) for fault in faults],
        **advice,
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _no_fit(no_fit: NoFit) -> Mapping[str, object]:
    return {
        "service": no_fit.service,
        "missing": dict(no_fit.missing),
        "causes": dict(no_fit.causes),
    }


def overlay_of(fleet: KnownFleet, asked: WhatIf, proposal: Proposal) -> Overlay:
    """Return the plan as what lies over the picture of the fleet."""
    moves: dict[NodeName, list[NodeMove]] = {}
    by_name = {request.spec.name: request.spec for request in asked.requests}
    for grant in asked.plan.grants:
        option = by_name[grant.service].option(grant.role, grant.accelerator)
        for name in chain.from_iterable(grant.nodes):
            coming = (grant.service, grant.role, 0 if option is None else option.gpus)
            moves.setdefault((grant.subcluster, name), []).append(coming)
    for one in proposal.leaving:
        for name in one.nodes:
            move = (one.service, one.role, -(one.gpus or 0))
            moves.setdefault((one.subcluster, name), []).append(move)
    placed = sum(grant.replicas for grant in asked.plan.grants)
    missing = sum(change.missing for change in proposal.changes)
    verdict = (
        f"{placed:,} instances would be placed, {len(proposal.leaving):,} would leave;"
        f" {missing:,} capacity units fit nowhere."
    )
    return Overlay(
        heading="What would be placed where",
        verdict=verdict,
        before=_tables(fleet, proposal),
        moves=moves,
        grants=[
            (grant.domain or (grant.subcluster,), grant.service, grant.role, grant.replicas)
            for grant in asked.plan.grants
        ],
    )


def _tables(fleet: KnownFleet, proposal: Proposal) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in _HEADINGS)
    rows = [
        "<tr>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(change)[:-1])
        + f'<td class="removed">{change.missing or ""}</td></tr>'
        for change in proposal.changes
    ]
    told = "".join(
        f'<tr><td>{escape(name)}</td><td class="told">{escape(sentence)}</td></tr>'
        for name, sentence in proposal.sentences
    )
    hint = escape(" ".join(notes(fleet, proposal)))
    return (
        f'<section><h2>Now and then</h2><p class="hint">{hint}</p>'
        f'<div class="table"><table><tr>{head}</tr>{"".join(rows)}</table></div></section>'
        f'<section><h2>Why</h2><div class="table"><table>{told}</table></div></section>'
    )
