"""`heteroscale replay`: compute every plan of a journal again and compare byte for byte."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from heteroscale.adapters.journal_file import JournalReader
from heteroscale.cli.errors import EXIT_FAILED
from heteroscale.cli.journals import opened
from heteroscale.cli.root import app
from heteroscale.journal.explain import moment
from heteroscale.journal.replay import ReplayReport
from heteroscale.journal.replay import replay as replayed


@app.command()
def replay(
    journal: Annotated[
        Path, typer.Argument(metavar="JOURNAL", help="A journal's folder, or one of its files.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compute every plan of a journal again; exit 1 at the first record that differs."""
    reader = opened(journal)
    report = replayed(reader.lines())
    print(_as_json(report, reader) if as_json else _as_text(report, reader))
    if report.fault is not None:
        raise report.fault
    if report.records == 0:
        print(f"heteroscale: {journal}: holds no records", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)


def _as_text(report: ReplayReport, reader: JournalReader) -> str:
    rows = [
        ("records", f"{report.records:,} in {len(reader.segments)} segments"),
        ("first tick", "none" if report.first_tick is None else f"{report.first_tick}"),
        ("from", "-" if report.start_s is None else moment(report.start_s)),
        ("to", "-" if report.end_s is None else moment(report.end_s)),
        ("plans equal", f"{report.plans_equal:,} of {report.records:,}"),
        ("chain", "ok" if report.fault is None else "see below"),
        *(("notice", notice) for notice in reader.notices),
    ]
    return "\n".join(f"{name:<12} {value}" for name, value in rows)


def _as_json(report: ReplayReport, reader: JournalReader) -> str:
    fault = report.fault
    return json.dumps(
        {
            "records": report.records,
            "plans_equal": report.plans_equal,
            "first_tick": report.first_tick,
            "start_s": report.start_s,
            "end_s": report.end_s,
            "segments": len(reader.segments),
            "notices": reader.notices,
            "fault": fault and {"record": fault.record, "where": fault.where, "rule": fault.rule},
        }
    )
