"""One HTML page about a run that needs nothing else: no network, no second file, no build.

The words and figures are in the page itself and can be read without scripts; uPlot (MIT, its
licence is in the page) draws the plots from the figures embedded beside it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from heteroscale.report.encode import rounded
from heteroscale.report.figures import (
    FLEET_COLUMNS,
    Figure,
    clock_text,
    conditions,
    counted,
    counts_text,
    fleet_row,
    fleet_total,
    headline,
    hours_text,
    moves_text,
    saved_share,
    share_text,
    span_text,
)
from heteroscale.report.plots import Plot, plots
from heteroscale.sim.result import Change, FleetResult, SimulationResult

ARROWS = {"out": "▲", "in": "▼"}


def render(result: SimulationResult) -> str:
    """Return the whole page of a run of one service."""
    return _page(
        result.scenario,
        subtitle=_subtitle(result),
        conditions=_conditions(result),
        verdict=_verdict(result),
        body=_run(result, ""),
    )


def render_fleet(fleet: FleetResult) -> str:
    """Return the whole page of a run of several services: a table, then each to be opened."""
    first = next(iter(fleet.services.values()))
    count = f"{len(fleet.services)} services"
    saved = saved_share(fleet)
    verdict = f"{count} used {hours_text(fleet.gpu_hours)} GPU-hours."
    if saved is not None:
        way = "fewer" if saved >= 0 else "more"
        verdict = (
            f"{count}: {share_text(abs(saved))} {way} GPU-hours than the smallest fixed fleets"
            " that attain as much."
        )
    services = [
        _service(at, name, result) for at, (name, result) in enumerate(fleet.services.items())
    ]
    return _page(
        first.scenario,
        subtitle=_subtitle(first),
        conditions="",
        verdict=verdict,
        body="\n".join((_fleet_table(fleet), *services)),
    )


def _page(name: str, *, subtitle: str, conditions: str, verdict: str, body: str) -> str:
    return Template(_asset("page.html")).substitute(
        title=escape(f"{name} · HeteroScale"),
        scenario=escape(name),
        subtitle=escape(subtitle),
        conditions=conditions,
        verdict=escape(verdict),
        body=body,
        style=_asset("uplot.min.css") + _asset("page.css"),
        licence=_asset("uplot.LICENSE"),
        library=_asset("uplot.min.js"),
        script=_asset("page.js"),
    )


def _run(result: SimulationResult, suffix: str) -> str:
    """Return the figures, plots and changes of one service; `suffix` sets its ids apart."""
    drawn = plots(result)
    return Template(_asset("run.html")).substitute(
        suffix=suffix,
        cards="\n".join(_card(figure) for figure in headline(result)),
        plots="\n".join(_figure(f"{at}{suffix}", plot) for at, plot in enumerate(drawn)),
        changes=_changes(result),
        change_count=f"{len(result.changes):,}",
        figures=_embedded(result, drawn),
    )


def _fleet_table(fleet: FleetResult) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in FLEET_COLUMNS)
    rows = [fleet_row(name, result) for name, result in fleet.services.items()]
    body = "".join(map(_row, (*rows, fleet_total(fleet))))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="fleet">{table}</div>'


def _row(cells: tuple[str, ...]) -> str:
    first, *others = map(escape, cells)
    return f"<tr><th>{first}</th>" + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"


def _service(at: int, name: str, result: SimulationResult) -> str:
    """Return one service of several; the first is open."""
    return (
        f'<details class="service"{"" if at else " open"}><summary><b>{escape(name)}</b>'
        f" <span>{escape(hours_text(result.gpu_hours))} GPU-hours</span></summary>"
        f"{_conditions(result)}{_run(result, f'-{at}')}</details>"
    )


@cache
def _asset(name: str) -> str:
    return (files("heteroscale.report") / "assets" / name).read_text(encoding="utf-8")


def _subtitle(result: SimulationResult) -> str:
    return (
        f"Policy {result.policy}, seed {result.seed}, {span_text(result.simulated_s)} simulated"
        f" in {counted(result.ticks, 'tick')}"
    )


def _conditions(result: SimulationResult) -> str:
    words = conditions(result)
    return f'<p class="conditions">{escape("; ".join(words))}</p>' if words else ""


def _verdict(result: SimulationResult) -> str:
    saved = saved_share(result)
    if saved is None:
        return f"The fleet used {hours_text(result.gpu_hours)} GPU-hours."
    fixed = f"the smallest fixed fleet that attains as much ({counts_text(result.static_peak)})"
    if saved < 0:
        return f"{share_text(-saved)} more GPU-hours than {fixed}."
    return f"{share_text(saved)} fewer GPU-hours than {fixed}."


def _card(figure: Figure) -> str:
    tone = {None: "", True: " good", False: " missed"}[figure.good]
    mark = '<span class="mark" aria-label="missed">✗</span>' if figure.good is False else ""
    return (
        f'<div class="card{tone}"><dt>{escape(figure.label)}</dt>'
        f"<dd><b>{escape(figure.value)}{mark}</b><small>{escape(figure.note)}</small></dd></div>"
    )


def _figure(at: str, plot: Plot) -> str:
    return (
        f'<figure class="plot{" wide" if plot.wide else ""}">'
        f"<figcaption><b>{escape(plot.title)}</b> <span>{escape(plot.note)}</span></figcaption>"
        f'<div id="plot-{at}"></div></figure>'
    )


def _changes(result: SimulationResult) -> str:
    if not result.changes:
        return "<p>Nothing was changed.</p>"
    several = len({change.service for change in result.changes}) > 1
    return "\n".join(_change(result, change, several=several) for change in result.changes)


def _change(result: SimulationResult, change: Change, *, several: bool) -> str:
    arrow = ARROWS.get(change.direction, "◆")
    service = f"<em>{escape(change.service)}</em> " if several else ""
    gist = change.headline or "the steps inside say why"
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in change.reasons)
    return (
        f'<details class="change {escape(change.direction)}" data-at="{change.at_s:.3f}"><summary>'
        f"<time>{escape(clock_text(result, change.at_s))}</time>"
        f'<span class="direction">{arrow} {escape(change.direction)}</span>'
        f'<span class="moves">{service}{escape(moves_text(change))}</span>'
        f'<span class="gist">{escape(gist)}</span></summary><ol>{reasons}</ol></details>'
    )


def _embedded(result: SimulationResult, drawn: tuple[Plot, ...]) -> str:
    """Return the figures as JSON that cannot end the script element it stands in."""
    timeline = result.timeline
    series = {key: [rounded(value) for value in row] for key, row in timeline.series.items()}
    for role, states in timeline.instances.items():
        series |= {f"instances/{role}/{state}": list(row) for state, row in states.items()}
    content = {
        "start_s": timeline.start_s,
        "interval_s": timeline.interval_s,
        "end_s": timeline.start_s + result.simulated_s,
        "series": series,
        "plots": [asdict(plot) for plot in drawn],
        "changes": [
            {"at_s": change.at_s, "direction": change.direction, "moves": moves_text(change)}
            for change in result.changes
        ],
    }
    if result.faults:
        content["faults"] = [{"at_s": note.at_s, "kind": note.kind} for note in result.faults]
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
