"""The summary of a run for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from heteroscale.report.figures import (
    FLEET_COLUMNS,
    Figure,
    conditions,
    fleet_row,
    fleet_total,
    headline,
    span_text,
)
from heteroscale.sim.result import Count, FleetResult, SimulationResult


def summary(result: SimulationResult) -> RenderableType:
    """Return the headline figures and where every request and token ended."""
    title = Text.assemble(
        (result.scenario, "bold"),
        f"  policy {result.policy}, seed {result.seed}, {span_text(result.simulated_s)} simulated",
        *((f"  {words}", "bold yellow") for words in conditions(result)),
    )
    return Group(title, _figures(headline(result)), _counts(result))


def fleet_summary(fleet: FleetResult) -> RenderableType:
    """Return a line for each service of a run, one for all, and where every request ended."""
    first = next(iter(fleet.services.values()))
    title = Text.assemble(
        (first.scenario, "bold"),
        f"  policy {first.policy}, seed {first.seed}, {span_text(first.simulated_s)} simulated",
        *(
            (f"  {name}: {words}", "bold yellow")
            for name, result in fleet.services.items()
            for words in conditions(result)
        ),
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for at, heading in enumerate(FLEET_COLUMNS):
        table.add_column(heading if at else "", justify="right" if at else "left", no_wrap=True)
    for name, result in fleet.services.items():
        table.add_row(*map(Text, fleet_row(name, result)))
    table.add_row(*map(Text, fleet_total(fleet)), style="bold")
    return Group(title, table, _counts(fleet))


def _figures(figures: tuple[Figure, ...]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for figure in figures:
        # Shape as well as colour says it: a missed promise carries a mark.
        mark = " ✗" if figure.good is False else ""
        style = {None: "bold", True: "bold green", False: "bold red"}[figure.good]
        table.add_row(figure.label, Text(figure.value + mark, style=style), Text(figure.note))
    return table


def _counts(result: SimulationResult | FleetResult) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", style="dim", no_wrap=True)
    for heading in ("arrived", "completed", "running", "refused"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows: tuple[tuple[str, Count], ...] = (
        ("requests", result.requests),
        ("input tokens", result.input_tokens),
        ("output tokens", result.output_tokens),
    )
    for name, count in rows:
        cells = (count.arrived, count.completed, count.running, count.refused)
        table.add_row(name, *(f"{cell:,}" for cell in cells))
    return table
