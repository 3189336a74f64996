"""`heteroscale validate`: check services, scenario and inventory files, every fault at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from heteroscale.cli.root import app
from heteroscale.config.check import check_file
from heteroscale.config.inventory import ReadInventory
from heteroscale.entities.service import FleetSpec
from heteroscale.errors import ConfigError, Problem
from heteroscale.sim.check import faults_of


@app.command()
def validate(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Services, scenario or inventory files.")
    ],
) -> None:
    """Check services, scenario or inventory files and report every fault at once."""
    problems: list[Problem] = []
    for file in files:
        try:
            print(f"{file}: ok ({_checked(file)})")
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)


def _checked(file: Path) -> str:
    """Return what a file without a fault holds, e.g. "4 services".

    Raises:
        ConfigError: with every problem in the file.
    """
    held = check_file(file)
    if isinstance(held, FleetSpec):
        count = len(held.services)
        return "1 service" if count == 1 else f"{count} services"
    if isinstance(held, ReadInventory):
        count = len(held.fleet.inventory.nodes)
        return "1 node" if count == 1 else f"{count:,} nodes"
    faults = faults_of(held)
    if faults:
        raise ConfigError([dataclasses.replace(fault, file=str(file)) for fault in faults])
    return f"scenario {held.name}"
