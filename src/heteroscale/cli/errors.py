"""The one place where an error becomes a line on stderr and an exit code.

2 = the operator can fix it (every problem is printed), 1 = anything else of ours, 130 = Ctrl-C.
Anything not raised on purpose keeps its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from heteroscale.errors import ConfigError, HeteroScaleError

EXIT_FAILED = 1
EXIT_CONFIG = 2
#: 128 + SIGINT, as shells count
EXIT_INTERRUPTED = 130


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn what is raised inside into a message and an exit code."""
    try:
        yield
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_CONFIG) from None
    except HeteroScaleError as error:
        print(f"heteroscale: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        print("heteroscale: interrupted", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None


class Commands(TyperGroup):
    """Every command of the application, each run under `exit_on_error`."""

    # The context's class is the argument parser's own and has moved between its versions.
    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with exit_on_error():
            return super().invoke(ctx)
