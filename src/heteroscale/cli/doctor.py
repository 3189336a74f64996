"""`heteroscale doctor`: what the cluster and Prometheus lack for the files of a controller."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.cli.errors import EXIT_FAILED
from heteroscale.cli.logs import LogFormat, begin_logging
from heteroscale.cli.root import app
from heteroscale.config.metrics import load_metrics


@app.command()
def doctor(
    services: Annotated[Path, typer.Option(metavar="FILE", help="Services to look after.")],
    metrics: Annotated[Path, typer.Option(metavar="FILE", help="Where signals are read.")],
    cluster: Annotated[Path, typer.Option(metavar="FILE", help="Workloads of the services.")],
    kubeconfig: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The way in. Default: as kubectl finds it."),
    ] = None,
) -> None:
    """Look for what the cluster and Prometheus lack, changing nothing; exit 1 if anything is."""
    # The way to a cluster is an extra, which no other command waits for or needs.
    from heteroscale.adapters.prometheus_checkup import metrics_findings, ways  # noqa: PLC0415
    from heteroscale.controller import engines_of, load_files  # noqa: PLC0415
    from heteroscale.subcluster.api_server import ApiServer  # noqa: PLC0415
    from heteroscale.subcluster.checkup import cluster_findings  # noqa: PLC0415
    from heteroscale.subcluster.scaled_services_checkup import resource_findings  # noqa: PLC0415

    begin_logging(LogFormat.TEXT)
    fleet, workloads = load_files(services, cluster)
    signals = load_metrics(metrics)
    clock = WallClock()
    with closing(ApiServer(clock, kubeconfig=kubeconfig)) as api:
        amiss, found = resource_findings(workloads, fleet, api)
        every = (*workloads.workloads, *found.workloads())
        workloads = workloads.model_copy(update={"workloads": every})
        fleet = dataclasses.replace(fleet, services=(*fleet.services, *found.specs()))
        findings = [*amiss, *cluster_findings(workloads, api, clock)]
    by_pod = any(source.pods for server in signals.servers for source in server.sources)
    pods = engines_of(workloads, clock, kubeconfig) if by_pod else {}
    findings += metrics_findings(signals, fleet, clock, pods)
    for way in ways(signals):
        print(way)
    grave = [one for one in findings if not one.note]
    notes = [one for one in findings if one.note]
    for one in grave:
        print(one)
    for one in notes:
        print(f"note: {one}")
    if grave:
        raise typer.Exit(EXIT_FAILED)
    print(f"ok: {len(workloads.workloads)} workloads, {len(signals.servers)} Prometheus servers")
