"""`heteroscale validate`: check services and scenario files, every fault at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heteroscale.cli.root import app
from heteroscale.config.check import check_file
from heteroscale.errors import ConfigError, Problem


@app.command()
def validate(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Services or scenario files (YAML).")
    ],
) -> None:
    """Check services or scenario files and report every fault at once."""
    problems: list[Problem] = []
    for file in files:
        try:
            print(f"{file}: ok ({check_file(file)})")
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
