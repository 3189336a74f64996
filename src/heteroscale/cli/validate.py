"""`heteroscale validate`: check the files that a fleet is set up by, every fault at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from heteroscale.cli.root import app
from heteroscale.config.check import check_file
from heteroscale.config.cluster_sections import ClusterFile
from heteroscale.config.inventory import ReadInventory
from heteroscale.config.metrics_sections import MetricsFile
from heteroscale.config.scaled_service_sections import KIND, ScaledServiceFile
from heteroscale.config.wishes import Wishes
from heteroscale.entities.service import FleetSpec
from heteroscale.errors import ConfigError, Problem
from heteroscale.sim.check import faults_of


@app.command()
def validate(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Files of any kind: heteroscale schema names them."),
    ],
) -> None:
    """Check the files that a fleet is set up by, and report every fault at once."""
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
    if isinstance(held, Wishes):
        return (
            f"{_counted(len(held.fleet.services), 'service')}, {_counted(len(held.want), 'wish')}"
        )
    if isinstance(held, FleetSpec):
        return _counted(len(held.services), "service")
    if isinstance(held, ReadInventory):
        return _counted(len(held.fleet.inventory.nodes), "node")
    if isinstance(held, ClusterFile):
        return _counted(len(held.workloads), "workload")
    if isinstance(held, MetricsFile):
        sources = sum(len(server.sources) for server in held.servers)
        return f"{_counted(len(held.servers), 'server')}, {_counted(sources, 'source')}"
    if isinstance(held, ScaledServiceFile):
        return f"{KIND} {held.metadata.name}"
    faults = faults_of(held)
    if faults:
        raise ConfigError([dataclasses.replace(fault, file=str(file)) for fault in faults])
    return f"scenario {held.name}"


def _counted(count: int, thing: str) -> str:
    return (
        f"1 {thing}" if count == 1 else f"{count:,} {thing}{'es' if thing.endswith('sh') else 's'}"
    )
