"""A fleet as one HTML page that needs nothing else: every node in its switches, and the figures.

The figures can be read without scripts; the picture is drawn from what is embedded beside it. A
plan of changes can be laid over it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from heteroscale.config.inventory import NamedFault
from heteroscale.entities.fleet import KnownFleet, NodeName
from heteroscale.entities.placement import Scarcity
from heteroscale.entities.topology import DomainPath
from heteroscale.report.fleet_rows import SUBCLUSTER_LEVEL, DomainRow, domain_rows
from heteroscale.report.fleet_text import fault_lines, subgroup_word

#: (service, role, GPUs of one node): negative = they become free
NodeMove = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """A plan of changes laid over a fleet; ready-made parts of the page."""

    heading: str
    verdict: str
    #: HTML above the picture, already escaped
    before: str
    #: node → what changes on it
    moves: Mapping[NodeName, Sequence[NodeMove]]
    #: (domain, service, role, instances) of what comes, told of the whole domain
    grants: Sequence[tuple[DomainPath, str, str, int]] = ()


def render_fleet(
    fleet: KnownFleet,
    title: str,
    faults: Sequence[NamedFault] = (),
    overlay: Overlay | None = None,
) -> str:
    """Return the whole page.

    Args:
        title: what the fleet is called, e.g. its file.
    """
    rows = domain_rows(fleet)
    places = {row.path: at for at, row in enumerate(rows)}
    whole = rows[0]
    return Template(_asset("fleet.html")).substitute(
        title=escape(f"{title} · HeteroScale"),
        eyebrow=escape("HeteroScale topology" if overlay is None else f"HeteroScale · {title}"),
        heading=escape(title if overlay is None else overlay.heading),
        verdict=escape(_verdict(whole) if overlay is None else overlay.verdict),
        subtitle=escape(_subtitle(rows)),
        cards="\n".join(_cards(rows, fleet)),
        before="" if overlay is None else overlay.before,
        sections=_subgroups(fleet, rows, places) + _faults(faults),
        figures=_embedded(fleet, rows, places, overlay),
        style=_asset("page.css") + _asset("fleet.css"),
        script=_asset("fleet.js"),
    )


@cache
def _asset(name: str) -> str:
    return (files("heteroscale.report") / "assets" / name).read_text(encoding="utf-8")


def _verdict(whole: DomainRow) -> str:
    gpus = sum(whole.gpus.values())
    if whole.used_gpus is None:
        return f"{gpus:,} GPUs; nothing is known about their use."
    share = whole.used_gpus / gpus if gpus else 0.0
    return f"{whole.used_gpus:,} of {gpus:,} GPUs in use ({100 * share:.0f} %)."


def _subtitle(rows: Sequence[DomainRow]) -> str:
    levels = Counter(row.level for row in rows if row.path)
    words = [
        f"{count:,} {level}{'s' if level == SUBCLUSTER_LEVEL and count > 1 else ''}"
        for level, count in levels.items()
    ]
    return ", ".join((*words, f"{rows[0].nodes:,} nodes"))


def _cards(rows: Sequence[DomainRow], fleet: KnownFleet) -> list[str]:
    whole = rows[0]
    healthy = whole.nodes - whole.unhealthy
    cards = [_card("healthy nodes", f"{healthy:,}", f"of {whole.nodes:,}")]
    if whole.free_gpus is not None and whole.whole_free_nodes is not None:
        note = f"{whole.whole_free_nodes:,} nodes have nothing on them"
        cards.append(_card("free GPUs", f"{whole.free_gpus:,}", note))
    cards += (
        _card(f"{kind} GPUs", f"{gpus:,}", f"{100 * gpus / sum(whole.gpus.values()):.0f} %")
        for kind, gpus in sorted(whole.gpus.items(), key=lambda item: (-item[1], item[0]))[:4]
    )
    for scarcity in Scarcity:
        of_it = [row for row in rows if len(row.path) == 2 and row.scarcity is scarcity]
        free = [row.free_gpus for row in of_it if row.free_gpus is not None]
        note = f"{sum(free):,} GPUs free" if len(free) == len(of_it) else "use unknown"
        label = f"{scarcity.name.lower()} {fleet.levels[-1]} subgroups"
        cards.append(_card(label, f"{len(of_it):,}", note if of_it else "none"))
    return cards


def _card(label: str, value: str, note: str) -> str:
    return (
        f'<div class="card"><dt>{escape(label)}</dt>'
        f"<dd><b>{escape(value)}</b><small>{escape(note)}</small></dd></div>"
    )


def _subgroups(
    fleet: KnownFleet, rows: Sequence[DomainRow], places: Mapping[DomainPath, int]
) -> str:
    """Return the table of sub-clusters and the widest switches."""
    figures = ("nodes", "unhealthy", "GPUs", "in use", "free", "whole nodes")
    headings = "".join(f'<th class="figure">{name}</th>' for name in figures)
    lines = [f"<tr><th></th><th>subgroup</th>{headings}<th></th></tr>"]
    for row in rows:
        if not 1 <= len(row.path) <= 2:
            continue
        word = subgroup_word(row) or ""
        gpus = (sum(row.gpus.values()), row.used_gpus, row.free_gpus)
        cells = (
            f"<td>{escape(f'{row.level} ' + '/'.join(row.path))}</td>",
            f'<td class="{word}">{word}</td>',
            *(
                f'<td class="figure">{"?" if value is None else f"{value:,}"}</td>'
                for value in (row.nodes, row.unhealthy, *gpus, row.whole_free_nodes)
            ),
            f"<td>{escape(', '.join(f'{held:,} {kind}' for kind, held in row.gpus.items()))}</td>",
        )
        lines.append(f'<tr data-domain="{places[row.path]}">{"".join(cells)}</tr>')
    hint = "Click one to look at it in the picture."
    head = f"Sub-clusters and {escape(fleet.levels[-1])} switches"
    table = f'<div class="table"><table>{"".join(lines)}</table></div>'
    return f'<section><h2>{head}</h2><p class="hint">{hint}</p>{table}</section>'


def _faults(faults: Sequence[NamedFault]) -> str:
    if not faults:
        return ""
    head, *told = fault_lines(faults)
    items = "".join(f"<li>{escape(line)}</li>" for line in told)
    return (
        f'<section><h2>Faults of the inventory</h2><p class="hint">{escape(head)}</p>'
        f'<ul class="faults">{items}</ul></section>'
    )


def _embedded(
    fleet: KnownFleet,
    rows: Sequence[DomainRow],
    places: Mapping[DomainPath, int],
    overlay: Overlay | None,
) -> str:
    """Return the fleet as JSON that cannot end the script element it stands in."""
    names: dict[str, int] = {}
    types = {kind: at for at, kind in enumerate(rows[0].gpus)}
    used = fleet.used_gpus()
    runs: dict[NodeName, list[list[int]]] = {}
    for one in fleet.instances:
        run = [_index(names, one.service), _index(names, one.role), one.gpus or 0]
        for name in one.nodes:
            runs.setdefault((one.subcluster, name), []).append(run)
    moves = {} if overlay is None else overlay.moves
    nodes = []
    for node in fleet.inventory.nodes:
        key = (node.domain[0], node.name)
        moved = [[_index(names, a), _index(names, b), gpus] for a, b, gpus in moves.get(key, ())]
        nodes.append(
            [
                node.name,
                places[node.domain],
                types[node.accelerator],
                node.gpus,
                -1 if used is None else min(node.gpus, used.get(key, 0)),
                int(node.healthy),
                *([runs.get(key, []), moved] if moved else [runs[key]] if key in runs else []),
            ]
        )
    content = {
        "levels": ["fleet", SUBCLUSTER_LEVEL, *reversed(fleet.levels)],
        "types": list(types),
        "domains": [
            [
                row.path[-1] if row.path else "fleet",
                places[row.path[:-1]] if row.path else -1,
                len(row.path),
                -1 if row.scarcity is None else row.scarcity.value,
            ]
            for row in rows
        ],
        "nodes": nodes,
        "moved": overlay is not None,
        "grants": [
            [places[path], _index(names, service), _index(names, role), replicas]
            for path, service, role, replicas in (() if overlay is None else overlay.grants)
        ],
        "names": list(names),
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _index(names: dict[str, int], name: str) -> int:
    """Return where a name stands in the table of names; a new one is added."""
    return names.setdefault(name, len(names))
