"""`heteroscale simulate`: run a scenario through the production control loop and report on it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from heteroscale.app import POLICIES, REPORT_FILE, STATIC, Watcher, run_into, with_faults
from heteroscale.cli.root import app
from heteroscale.config.scenario import built_in_scenario, load_scenario, with_trace
from heteroscale.report.fleet import summary

_POLICY_NAMES = ", ".join((*POLICIES, STATIC))


@app.command()
def simulate(
    scenario: Annotated[
        Path | None,
        typer.Argument(metavar="[SCENARIO.yaml]", help="Default: the built-in day of the paper."),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Requests in place of the scenario's.")
    ] = None,
    policy: Annotated[
        str, typer.Option(metavar="NAME", help=f"One of {_POLICY_NAMES}.")
    ] = "heteroscale",
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where result, report and journal go.")
    ] = Path("out/run"),
    seed: Annotated[
        int | None, typer.Option(min=0, help="In place of the scenario's seed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|random",
            help="What goes wrong, in place of the scenario's faults; random: by the seed.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Stop at the first tick that breaks an invariant.")
    ] = False,
    static_peak: Annotated[
        bool | None,
        typer.Option(
            "--static-peak/--no-static-peak",
            help="Search the fixed fleet to compare with. Default: as the scenario says.",
        ),
    ] = None,
) -> None:
    """Simulate a day of requests on an autoscaled fleet: a table, a JSON result, a report."""
    chosen = with_trace(built_in_scenario() if scenario is None else load_scenario(scenario), trace)
    if trace is not None:
        chosen = dataclasses.replace(chosen, name=f"{chosen.name} on {trace.name}")
    if seed is not None:
        chosen = dataclasses.replace(chosen, seed=seed)
    if faults is not None:
        chosen = with_faults(chosen, faults)
    with _shown_progress() as watcher:
        result, text = run_into(
            out,
            chosen,
            policy=policy,
            static_peak=static_peak,
            check=check,
            watcher=watcher,
            now_s=time.perf_counter,
        )
    if as_json:
        print(text, end="")
    console = Console(stderr=as_json)
    console.print(summary(result))
    # A folder's name may hold brackets: it is no markup.
    report = f"report: {out / REPORT_FILE}"
    console.print(report, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _shown_progress() -> Iterator[Watcher]:
    """Yield who draws the progress bar, on stderr; it is gone when the run is over.

    Where stderr is no terminal nothing is drawn.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[what]}"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        # The first run ever compiles the simulator here, later ones load it.
        task = progress.add_task("preparing the simulator", total=None, what="")

        def simulated(done_s: float, total_s: float | None) -> None:
            what = f"{done_s / 3600:.1f} h" + (f" of {total_s / 3600:.0f} h" if total_s else "")
            progress.update(
                task, description="simulating", completed=done_s, total=total_s, what=what
            )

        def searched(runs: int) -> None:
            what = f"{runs} fleets tried"
            progress.update(task, description="static peak", completed=0, total=None, what=what)

        yield Watcher(run=simulated, search=searched)
