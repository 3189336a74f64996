"""`heteroscale explain`: one decision of one service in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from heteroscale.adapters.journal_file import JournalReader
from heteroscale.cli.journals import opened
from heteroscale.cli.root import app
from heteroscale.entities.snapshot import Reading
from heteroscale.errors import ConfigError, Problem
from heteroscale.journal.explain import Explanation, explanation, moment
from heteroscale.journal.replay import intact

#: tables must not be cut where output goes into a file
_WIDTH = 110


@app.command()
def explain(
    journal: Annotated[
        Path, typer.Argument(metavar="JOURNAL", help="A journal's folder, or one of its files.")
    ],
    service: Annotated[str, typer.Option(help="The service to explain.")],
    at: Annotated[
        str,
        typer.Option(
            help="When: ISO 8601 (UTC if it names no zone), epoch seconds, or +SECONDS after the"
            " start of the run, one interval before its first tick."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Tell one decision: what was seen, what each step made of it, what was done."""
    reader = opened(journal)
    at_s = instant(at, reader)
    told = explanation(reader.lines(reader.segment_at(at_s)), service, at_s)
    if as_json:
        print(msgspec.json.encode(told).decode())
    else:
        _show(told, Console(width=_WIDTH, highlight=False))


def instant(text: str, reader: JournalReader) -> float:
    """Return an instant written in one of the three ways, in epoch seconds.

    Raises:
        ConfigError: it is none of them, or beyond any calendar.
    """
    at_s = _instant(text, reader)
    try:
        if at_s is not None:
            moment(at_s)
            return at_s
    except (OverflowError, ValueError, OSError):
        pass
    rule = "must be ISO 8601, epoch seconds, or +SECONDS after the start of the run"
    raise ConfigError([Problem(path="--at", rule=rule, value=text)])


def _instant(text: str, reader: JournalReader) -> float | None:
    try:
        if not text.startswith("+"):
            return float(text)
        # A sum of epoch seconds may end a rounding below the tick that is meant.
        at_s = start_s(reader) + float(text)
        return at_s + 2 * math.ulp(at_s)
    except ValueError:
        pass
    try:
        written = datetime.fromisoformat(text)
        return (written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def start_s(reader: JournalReader) -> float:
    """Return when the run of a journal started: its first tick comes one interval later."""
    first = next(intact(reader.lines()), None)
    return 0.0 if first is None else first.record.now_s - first.fleet.interval_s


def _show(told: Explanation, console: Console) -> None:
    console.print(f"{told.service} at {told.at} (tick {told.tick}, mode {told.mode})", markup=False)
    console.print("\nSEEN")
    console.print(_readings(told.readings))
    for line in _seen_lines(told):
        console.print(f"  {line}", markup=False)
    console.print("\nMADE OF IT")
    for line in _made_lines(told):
        console.print(f"  {line}", markup=False)
    console.print("\nDONE")
    for line in _done_lines(told):
        console.print(f"  {line}", markup=False)


def _readings(readings: tuple[Reading, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("  role", "signal"):
        table.add_column(title)
    table.add_column("value", justify="right")
    table.add_column("age", justify="right")
    table.add_column("coverage", justify="right")
    for one in readings:
        where = f" on {one.accelerator}" if one.accelerator else ""
        value = f"{one.value:.6g}" if one.value is not None else "unknown"
        if one.cause is not None:
            value = f"unknown: {one.cause.value.replace('_', ' ')}"
        table.add_row(
            f"  {one.role}{where}",
            one.signal.value,
            value,
            f"{one.age_s:.0f} s",
            f"{one.coverage:.0%}",
        )
    return table


def _seen_lines(told: Explanation) -> Iterator[str]:
    if not told.readings:
        yield "no reading at all: every signal is missing"
    for role, states in sorted(told.replicas.items()):
        yield f"{role} instances: {_counts(states)}"
    if not told.replicas:
        yield "no instances"
    if told.unreachable:
        yield f"out of reach: {', '.join(told.unreachable)}"
    yield from (f"answer: {one}" for one in told.outcomes)
    yield from (f"note: {one}" for one in told.notices)


def _made_lines(told: Explanation) -> Iterator[str]:
    for step in told.steps:
        for index, text in enumerate(step.texts):
            yield f"{step.step.value if index == 0 else '':<12} {text}"
    if told.error is not None:
        yield f"left out of planning, nothing is done: {told.error}"
    elif told.direction is None:
        yield "no decision"
    else:
        ratio = ":".join(f"{share} {role}" for role, share in told.ratio.items())
        word = {"in": "scale in", "out": "scale out"}.get(told.direction, told.direction)
        yield f"decision: {word}; capacity {_counts(told.capacity)}; ratio {ratio}"
    yield from told.placement
    if not told.agrees:
        yield "CAUTION: the journal holds another decision than the one computed here; see replay"


def _done_lines(told: Explanation) -> Iterator[str]:
    if not told.actions:
        yield "nothing"
    for one in told.actions:
        if not one.sent:
            yield f"not sent (mode {told.mode}): {one.text}"
        else:
            yield f"{one.text}: {one.outcome or 'no answer in the journal yet'}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
