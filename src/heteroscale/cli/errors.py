"""The one place where an error becomes a line on stderr and an exit code.

2 = the operator can fix it (every problem is printed), 1 = anything else of ours or of the system's
files, 130 = Ctrl-C, 143 = SIGTERM. Anything not raised on purpose keeps its traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from typer import Exit
from typer.core import TyperGroup

from heteroscale.errors import ConfigError, HeteroScaleError

EXIT_FAILED = 1
EXIT_CONFIG = 2
#: 128 + SIGINT and 128 + SIGTERM, as shells count
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
#: what the extra `kubernetes` brings
_EXTRA = ("httpx2", "lightkube")


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C undoes is undone."""


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Make SIGTERM what Ctrl-C is inside, so that nothing half-written stays behind."""

    def stop(*_: object) -> NoReturn:
        raise Terminated

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn what is raised inside into a message and an exit code."""
    try:
        yield
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise Exit(EXIT_CONFIG) from None
    except HeteroScaleError as error:
        print(f"heteroscale: {error}", file=sys.stderr)
        raise Exit(EXIT_FAILED) from None
    except ModuleNotFoundError as missing:
        if missing.name not in _EXTRA:
            raise
        print("heteroscale: needs an extra: pip install 'heteroscale[kubernetes]'", file=sys.stderr)
        raise Exit(EXIT_CONFIG) from None
    except OSError as error:
        _tell(error)
        raise Exit(EXIT_FAILED) from None
    except Terminated:
        print("heteroscale: terminated", file=sys.stderr)
        raise Exit(EXIT_TERMINATED) from None
    except KeyboardInterrupt:
        print("heteroscale: interrupted", file=sys.stderr)
        raise Exit(EXIT_INTERRUPTED) from None


def _tell(error: OSError) -> None:
    """Say which file it was; who closed the pipe that we write to knows already."""
    if error.filename is None:
        # A file has a name, a stream has none. What is still buffered can go nowhere: no second
        # complaint when the interpreter ends.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        where = error.filename or "standard output"
        print(f"heteroscale: {where}: {error.strerror or error}", file=sys.stderr)


class Commands(TyperGroup):
    """Every command of the application, each run under `exit_on_error`."""

    # The context's class is the argument parser's own and has moved between its versions.
    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with exit_on_error():
            return super().invoke(ctx)
