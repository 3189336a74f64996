"""The `heteroscale` command: reads arguments, calls one function, prints; decides nothing.

One file per command; its name here is all it takes to register it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from typer import Exit

from heteroscale.cli.errors import exit_on_error, interrupted_by_sigterm
from heteroscale.cli.root import app

#: in the order of the help page; each is the module of the same name
COMMANDS = (
    "simulate",
    "run",
    "doctor",
    "soak",
    "replay",
    "explain",
    "topology",
    "place",
    "validate",
    "schema",
    "profile",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; `arguments` are the process's own unless given."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # Importing the simulator takes seconds: Ctrl-C there is Ctrl-C like anywhere.
        with interrupted_by_sigterm(), exit_on_error():
            _run(words)
    except Exit as stopped:
        raise SystemExit(stopped.exit_code) from None


def _run(words: Sequence[str]) -> None:
    # Only the command that is asked for is imported: checking a file needs no simulator.
    wanted = [command for command in COMMANDS if words[:1] == [command]]
    for command in wanted or COMMANDS:
        import_module(f"heteroscale.cli.{command}")
    try:
        app(words, prog_name="heteroscale")
    finally:
        # What cannot be written must be known now: later the interpreter has no words for it.
        sys.stdout.flush()
