"""`heteroscale topology`: the tree of a fleet, what is in use, and how scarce its parts are."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from heteroscale.cli.root import app
from heteroscale.config.inventory import NamedFault, load_inventory
from heteroscale.config.inventory_text import inventory_text
from heteroscale.config.label_presets import LABEL_PRESETS
from heteroscale.config.wishes_text import wishes_text
from heteroscale.entities.fleet import KnownFleet
from heteroscale.errors import ConfigError, Problem
from heteroscale.report.fleet_html import render_fleet
from heteroscale.report.fleet_text import fault_lines, fleet_json, tree_lines
from heteroscale.workload.fleet_hardware import FleetShape, Load
from heteroscale.workload.fleets import synthetic_fleet

#: labels of a synthetic fleet
_PRESET = "topograph"

_DEPTH = (
    "0 = the fleet, 1 = its sub-clusters, then level by level down to nodes."
    " Default: as deep as reads at a glance."
)


@app.command()
def topology(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Inventory (YAML or JSON).")
    ] = None,
    depth: Annotated[int | None, typer.Option(min=0, help=_DEPTH)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a picture: one HTML page.")
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Make a fleet up instead of reading a file.")
    ] = False,
    nodes: Annotated[int, typer.Option(help="Synthetic: nodes of 8 GPUs.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Synthetic: of every random draw.")] = 1,
    subclusters: Annotated[
        int | None, typer.Option(help="Synthetic: default one for each 20 nodes, at most 8.")
    ] = None,
    load: Annotated[Load, typer.Option(help="Synthetic: how what runs was placed.")] = Load.PACKED,
    used: Annotated[float, typer.Option(help="Synthetic: share of GPUs in use.")] = 0.7,
    unhealthy: Annotated[float, typer.Option(help="Synthetic: share of nodes that failed.")] = 0.01,
    services: Annotated[
        int | None, typer.Option(help="Synthetic: default one for each 6 nodes, at least 3.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Synthetic: write the inventory as JSON.")
    ] = None,
    wishes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Synthetic: write services and their wishes as JSON."),
    ] = None,
) -> None:
    """Show an inventory as a tree with capacity, use and RDMA subgroups, and name its faults."""
    _one_source(file, synthetic=synthetic, written={"--out": out, "--wishes": wishes})
    fleet: KnownFleet
    faults: Sequence[NamedFault] = ()
    if file is None:
        shape = FleetShape(
            nodes=nodes,
            seed=seed,
            subclusters=subclusters,
            load=load,
            used_share=used,
            unhealthy_share=unhealthy,
            services=services,
        )
        fleet = _made_up(shape, out, wishes)
    else:
        read = load_inventory(file)
        fleet, faults = read.fleet, read.faults
    if html is not None:
        title = f"synthetic fleet {seed}" if file is None else file.name
        html.write_text(render_fleet(fleet, title, faults), encoding="utf-8")
    if as_json:
        print(fleet_json(fleet, faults), end="")
        return
    print("\n".join(tree_lines(fleet, depth)))
    for line in fault_lines(faults):
        print(line, file=sys.stderr)


def _made_up(shape: FleetShape, out: Path | None, wishes: Path | None) -> KnownFleet:
    """Return a synthetic fleet; write its inventory and the wishes of its services if asked to."""
    made = synthetic_fleet(shape, LABEL_PRESETS[_PRESET])
    if out is not None:
        out.write_text(inventory_text(_PRESET, made.records, made.instances), encoding="utf-8")
    if wishes is not None:
        wishes.write_text(wishes_text(made.services, made.want()), encoding="utf-8")
    return made.known()


def _one_source(file: Path | None, *, synthetic: bool, written: Mapping[str, Path | None]) -> None:
    """Hold the command line to one fleet.

    Raises:
        ConfigError: none or two are asked for.
    """
    problems: list[Problem] = []
    if (file is None) is not synthetic:
        problems.append(Problem(path="FILE", rule="is required, or --synthetic in its place"))
    problems += (
        Problem(path=option, rule="is for --synthetic only")
        for option, path in written.items()
        if path is not None and not synthetic
    )
    if problems:
        raise ConfigError(problems)
