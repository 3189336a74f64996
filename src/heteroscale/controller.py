"""The controller: the production loop on a real cluster, tick after tick until told to stop.

It decides nothing; it puts the parts together, keeps time, and says what happened.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from heteroscale.adapters.file_store import FileStore
from heteroscale.adapters.journal_file import JournalFolder
from heteroscale.adapters.prometheus import PrometheusMetrics
from heteroscale.config.cluster import load_cluster, unknown_names
from heteroscale.config.load import load_fleet
from heteroscale.config.metrics import load_metrics
from heteroscale.entities.service import FleetSpec, Mode
from heteroscale.entities.snapshot import InstanceState
from heteroscale.errors import ConfigError
from heteroscale.journal.recorder import Recorder
from heteroscale.loop import ControlLoop, TickReport
from heteroscale.ports import Clock
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.in_place import InPlaceSubcluster

STATE_FILE = "state.json"
JOURNAL_FOLDER = "journal"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What a controller is set up by, and where it keeps what it must remember."""

    services: Path
    metrics: Path
    cluster: Path
    state: Path
    #: None = as kubectl would find it
    kubeconfig: Path | None = None


@contextmanager
def controller(files: Files, clock: Clock, *, observe: bool) -> Iterator[tuple[ControlLoop, float]]:
    """Yield a loop on a real cluster, and the seconds between its ticks.

    Args:
        observe: whether every service is only looked at, whatever its mode.

    Raises:
        ConfigError: with every problem of the first file that has one, or between them.
    """
    fleet = load_fleet(files.services)
    cluster = load_cluster(files.cluster)
    problems = tuple(
        dataclasses.replace(problem, file=str(files.cluster))
        for problem in unknown_names(cluster, fleet)
    )
    if problems:
        raise ConfigError(problems)
    signals = load_metrics(files.metrics)
    fleet = _observed(fleet) if observe else fleet
    with ExitStack() as opened:
        api = ApiServer(clock, kubeconfig=files.kubeconfig)
        subcluster = InPlaceSubcluster(cluster, api, clock, writes=not observe)
        opened.callback(subcluster.close)

        def expected() -> dict[tuple[str, str], int]:
            counts: dict[tuple[str, str], int] = {}
            for one in subcluster.observe().instances:
                if one.state is InstanceState.READY:
                    key = (one.service, one.role)
                    counts[key] = counts.get(key, 0) + 1
            return counts

        metrics = PrometheusMetrics(signals, expected=expected)
        opened.callback(metrics.close)
        journal = opened.enter_context(JournalFolder(files.state / JOURNAL_FOLDER))
        subcluster.wait_until_filled(fleet.interval_s)
        store = FileStore(files.state / STATE_FILE)
        loop = ControlLoop(fleet, clock, metrics, (subcluster,), store, Recorder(journal))
        yield loop, fleet.interval_s


def run_ticks(
    loop: ControlLoop,
    interval_s: float,
    clock: Clock,
    stop: Event,
    told: Callable[[TickReport], None],
    most: int | None = None,
) -> None:
    """Tick at whole multiples of the interval until told to stop; a late tick delays no other.

    Args:
        most: stop by itself after so many ticks; None = never.
    """
    done = 0
    while not stop.is_set():
        told(loop.tick())
        done += 1
        if done == most:
            return
        stop.wait(interval_s - clock.now_s() % interval_s)


def log_tick(report: TickReport) -> None:
    """Log what a tick sent, what became of it, and what went wrong."""
    for notice in report.notices:
        _log.warning("tick %d: %s", report.tick, notice)
    for service, error in report.excluded.items():
        _log.error("tick %d: %s is left out: %s", report.tick, service, error)
    for action, outcome in zip(report.sent, report.outcomes, strict=True):
        detail = f" ({outcome.detail})" if outcome.detail else ""
        _log.info(
            "tick %d: %s: %s: %s%s", report.tick, action.service, action, outcome.kind, detail
        )


def _observed(fleet: FleetSpec) -> FleetSpec:
    services = tuple(dataclasses.replace(spec, mode=Mode.OBSERVE) for spec in fleet.services)
    return dataclasses.replace(fleet, services=services)
