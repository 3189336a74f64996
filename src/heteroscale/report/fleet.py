"""What a run of any number of services leaves to read: of one it is that service's own report."""

from __future__ import annotations

from rich.console import RenderableType

from heteroscale.report import encode, html, table
from heteroscale.sim.result import FleetResult


def result_json(fleet: FleetResult, wall_s: float | None) -> str:
    """Return the documented JSON, with `wall_s` last.

    Raises:
        ValueError: a figure is NaN or infinite, which JSON cannot say.
    """
    if len(fleet.services) == 1:
        return encode.result_json(fleet.only, wall_s)
    return encode.fleet_json(fleet, wall_s)


def page(fleet: FleetResult) -> str:
    """Return the whole page."""
    return html.render(fleet.only) if len(fleet.services) == 1 else html.render_fleet(fleet)


def summary(fleet: FleetResult) -> RenderableType:
    """Return what the terminal shows."""
    return table.summary(fleet.only) if len(fleet.services) == 1 else table.fleet_summary(fleet)
