"""`heteroscale run`: the controller on a real cluster."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from heteroscale.adapters.listener import Page, listening
from heteroscale.adapters.wall_clock import WallClock
from heteroscale.cli.logs import LogFormat, begin_logging
from heteroscale.cli.root import app
from heteroscale.errors import ConfigError, Problem

_LAST_PORT = 65535

_log = logging.getLogger(__name__)


@app.command()
def run(
    services: Annotated[Path, typer.Option(metavar="FILE", help="Services to look after.")],
    metrics: Annotated[Path, typer.Option(metavar="FILE", help="Where signals are read.")],
    cluster: Annotated[Path, typer.Option(metavar="FILE", help="Workloads of the services.")],
    state: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Where the journal is kept, and memory if only observing."
        ),
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
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Answer /metrics, /healthz and /readyz there."),
    ] = None,
    log: Annotated[
        LogFormat, typer.Option(help="How the log is written to stderr.")
    ] = LogFormat.TEXT,
    ticks: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after so many ticks.")
    ] = None,
) -> None:
    """Scale the workloads of a Kubernetes cluster, tick after tick, until it is stopped."""
    # The way to a cluster is an extra, which no other command waits for or needs.
    from heteroscale.controller import Files, controller  # noqa: PLC0415

    begin_logging(log)
    stop = Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: stop.set())
    clock = WallClock()
    files = Files(
        services=services, metrics=metrics, cluster=cluster, state=state, kubeconfig=kubeconfig
    )
    with controller(files, clock, observe=observe) as running, ExitStack() as opened:
        if listen:
            opened.enter_context(_answering(listen, running.pages()))
        running.run(stop, most=ticks)


@contextmanager
def _answering(listen: str, pages: Mapping[str, Callable[[], Page]]) -> Iterator[None]:
    host, port = _address(listen)
    with ExitStack() as opened:
        try:
            bound = opened.enter_context(listening(host, port, pages))
        except OSError as error:
            rule = f"must be an address to listen at ({error.strerror})"
            raise ConfigError([Problem(path="--listen", rule=rule, value=listen)]) from error
        _log.info("listening at %s:%d", host, bound)
        yield


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > _LAST_PORT:
        rule = "must be HOST:PORT, e.g. 0.0.0.0:8080"
        raise ConfigError([Problem(path="--listen", rule=rule, value=listen)])
    return host.strip("[]"), int(port)
