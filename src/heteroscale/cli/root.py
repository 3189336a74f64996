"""The application that commands register with (`@app.command()`), and its own options."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from heteroscale.cli.errors import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"heteroscale {metadata.version('heteroscale')}")
        raise typer.Exit


@app.callback()
def heteroscale(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Coordinated autoscaling for LLM inference with prefill and decode on separate GPUs."""
