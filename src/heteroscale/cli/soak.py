"""`heteroscale soak`: random scenarios full of faults, seed after seed, every tick checked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Annotated

import typer

from heteroscale.app import soaked
from heteroscale.cli.errors import EXIT_FAILED
from heteroscale.cli.root import app
from heteroscale.errors import ConfigError, Problem


@app.command()
def soak(
    seeds: Annotated[
        str, typer.Option(metavar="A..B", help="First and last seed; without B, until stopped.")
    ] = "0..",
    minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Begin no further seed after so long.")
    ] = None,
) -> None:
    """Break small random fleets, seed after seed; name the seeds that break an invariant."""
    started_s = time.monotonic()
    tried, broken = 0, 0
    try:
        for seed in _seeds(seeds):
            if minutes is not None and time.monotonic() - started_s >= 60.0 * minutes:
                break
            tried += 1
            line, fault = soaked(seed)
            print(line, flush=True)
            if fault is not None:
                broken += 1
                print(f"  {fault}\n  again: heteroscale soak --seeds {seed}..{seed}", flush=True)
    except KeyboardInterrupt:
        print("stopped")
    print(f"{tried} seeds, {broken} with an invariant broken")
    if broken:
        raise typer.Exit(EXIT_FAILED)


def _seeds(text: str) -> Iterator[int]:
    """Yield the seeds of a range with both ends in it.

    Raises:
        ConfigError: it is no range.
    """
    first, dots, last = text.partition("..")
    if not dots or not first.isdecimal() or not (last.isdecimal() or not last):
        raise ConfigError([Problem(path="--seeds", rule="must be A..B or A..", value=text)])
    yield from range(int(first), int(last) + 1) if last else count(int(first))
