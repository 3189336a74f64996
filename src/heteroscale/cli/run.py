"""`heteroscale run`: the controller on a real cluster."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.cli.root import app
from heteroscale.controller import Files, controller, log_tick


@app.command()
def run(
    services: Annotated[Path, typer.Option(metavar="FILE", help="Services to look after.")],
    metrics: Annotated[Path, typer.Option(metavar="FILE", help="Where signals are read.")],
    cluster: Annotated[Path, typer.Option(metavar="FILE", help="Workloads of the services.")],
    state: Annotated[
        Path, typer.Option(metavar="DIR", help="Where memory and journal are kept.")
    ] = Path("out/controller"),
    kubeconfig: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The way in. Default: as kubectl finds it."),
    ] = None,
    observe: Annotated[
        bool,
        typer.Option(
            "--observe", help="Look and decide, write nothing to the cluster; no Lease is taken."
        ),
    ] = False,
    ticks: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after so many ticks.")
    ] = None,
) -> None:
    """Scale the workloads of a Kubernetes cluster, tick after tick, until it is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    stop = Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: stop.set())
    clock = WallClock()
    files = Files(
        services=services, metrics=metrics, cluster=cluster, state=state, kubeconfig=kubeconfig
    )
    with controller(files, clock, observe=observe) as running:
        running.run(stop, log_tick, ticks)
