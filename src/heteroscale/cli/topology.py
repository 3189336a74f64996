"""`heteroscale topology`: the tree of a fleet, what is in use, and how scarce its parts are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from heteroscale.cli.root import app
from heteroscale.config.inventory import load_inventory
from heteroscale.report.fleet_text import fault_lines, fleet_json, tree_lines


@app.command()
def topology(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Inventory (YAML or JSON).")],
    depth: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="0 = the fleet, 1 = its sub-clusters, then level by level down to nodes."
            " Default: as deep as reads at a glance.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show an inventory as a tree with capacity, use and RDMA subgroups, and name its faults."""
    read = load_inventory(file)
    if as_json:
        print(fleet_json(read.fleet, read.faults), end="")
        return
    print("\n".join(tree_lines(read.fleet, depth)))
    for line in fault_lines(read.faults):
        print(line, file=sys.stderr)
