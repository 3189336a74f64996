"""The controller: the production loop on a real cluster, tick after tick until told to stop.

It decides nothing; it puts the parts together, keeps time, ticks only while it leads, and says what
happened.
"""

from __future__ import annotations

import dataclasses
import logging
import socket
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from heteroscale.adapters.file_store import FileStore
from heteroscale.adapters.journal_file import JournalFolder
from heteroscale.adapters.listener import Page
from heteroscale.adapters.prometheus import PrometheusMetrics
from heteroscale.adapters.wall_clock import steady_s
from heteroscale.config.cluster import load_cluster, unknown_names
from heteroscale.config.cluster_sections import ClusterFile, LeaseSection
from heteroscale.config.load import load_fleet
from heteroscale.config.metrics import load_metrics
from heteroscale.entities.action import Action, RotationAction
from heteroscale.entities.service import FleetSpec, Mode
from heteroscale.entities.snapshot import Instance
from heteroscale.errors import ConfigError, Problem, SubclusterUnavailable
from heteroscale.journal.recorder import Recorder
from heteroscale.loop import ControlLoop, TickReport
from heteroscale.ports import Clock, Store
from heteroscale.report.health import Health
from heteroscale.report.own_metrics import CONTENT_TYPE, OwnMetrics
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.approvals import Approvals
from heteroscale.subcluster.asked_fleet import AskedFleet
from heteroscale.subcluster.config_map_store import ConfigMapStore, memory_of
from heteroscale.subcluster.finishing import Finishing
from heteroscale.subcluster.in_place import InPlaceSubcluster
from heteroscale.subcluster.lease import Lease
from heteroscale.subcluster.publishing import Publisher
from heteroscale.subcluster.watched import ObjectKey

STATE_FILE = "state.json"
JOURNAL_FOLDER = "journal"
FREEZE_FILE = "freeze"
#: while another leads, this often is looked whether to stop
_WAIT_S = 0.5
#: a look at a cluster's pods waits so long for each list
_LISTED_S = 10.0

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


class Controller:
    """The production loop on one cluster, for as long as we lead there."""

    def __init__(
        self,
        fleet: FleetSpec,
        clock: Clock,
        metrics: PrometheusMetrics,
        subcluster: InPlaceSubcluster,
        lease: Lease | None,
        store: Store,
        state: Path,
        asked: AskedFleet,
        publisher: Publisher | None,
    ) -> None:
        """Act only while `lease` is held; None = nothing is ever written, so nobody need lead.

        Args:
            state: folder of the journal, and of a file that freezes the fleet while it is there.
            publisher: tells resources what became of them; None = nobody is told.
        """
        self._fleet = fleet
        self._asked = asked
        self._publisher = publisher
        self._freeze = state / FREEZE_FILE
        self._approvals = Approvals()
        #: what is asked for, before anybody froze it
        self._wanted = fleet
        self._clock = clock
        self._metrics = metrics
        self._subcluster = subcluster
        self._lease = lease
        self._store = store
        self._journal = state / JOURNAL_FOLDER
        self._figures = OwnMetrics(fleet)
        self._health = Health(steady_s, fleet.interval_s)
        self._said: frozenset[str] = frozenset()
        #: services that the planner has any memory of
        self._remembered: Collection[str] = ()

    def run(
        self,
        stop: Event,
        told: Callable[[TickReport], None] = lambda _: None,
        most: int | None = None,
    ) -> None:
        """Tick at whole multiples of the interval until told to stop, whenever we lead.

        Args:
            told: is shown each tick.
            most: stop by itself after so many ticks; None = never.
        """
        done = 0
        while not stop.is_set() and done != most:
            self._health.moved()
            if not self._leads(_WAIT_S):
                continue
            with self._loop() as loop:
                while loop is not None and self._leads() and not stop.is_set() and done != most:
                    told(self._tick(loop))
                    done += 1
                    if done != most:
                        interval_s = self._fleet.interval_s
                        stop.wait(interval_s - self._clock.now_s() % interval_s)
            if loop is None:
                stop.wait(_WAIT_S)
            elif not self._leads():
                self._figures.forget()
                _log.warning("another may lead now: nothing is changed any more")

    def pages(self) -> Mapping[str, Callable[[], Page]]:
        """Return what is answered over HTTP, by path; safe to call from any thread."""
        return {
            "/metrics": lambda: Page(text=self._metrics_text(), content_type=CONTENT_TYPE),
            "/healthz": lambda: _told(self._health.hanging()),
            "/readyz": lambda: _told(self.unready()),
        }

    def unready(self) -> tuple[str, ...]:
        """Return why this controller cannot act, or could not take over, in words."""
        reasons = [*self._health.hanging()]
        age_s = self._subcluster.age_s()
        if age_s > self._fleet.stale_s:
            fault = self._subcluster.fault() or "not listed yet"
            reasons.append(f"sub-cluster {self._subcluster.name} is not current: {fault}")
        unknown = self._asked.unknown()
        if unknown:
            reasons.append(f"ScaledServices are not known: {unknown}")
        if self._lease is not None and self._lease.fault:
            reasons.append(f"lease: {self._lease.fault}")
        if self._leads():
            reasons += self._health.late()
        return tuple(reasons)

    def _tick(self, loop: ControlLoop) -> TickReport:
        self._health.moved()
        began_s = steady_s()
        self._reload(loop)
        asked, now_s = self._asked.sorted_out.asked, self._clock.now_s()
        standing = self._approvals.standing(asked.values(), now_s)
        for service, plan in standing.items():
            loop.approve(service, plan)
        report = loop.tick()
        self._approvals.carried_out(standing, report)
        self._remembered = report.state.services.keys()
        if self._publisher is not None:
            self._publisher.tell(
                report,
                self._asked,
                self._subcluster,
                {one.spec.name: self._approvals.in_words(one, now_s) for one in asked.values()},
                frozen=self._fleet.freeze,
            )
        self._figures.take(report, steady_s() - began_s)
        self._health.ticked()
        log_tick(report, self._said)
        amiss = (*self._asked.notices(), *(self._publisher.notices() if self._publisher else ()))
        for notice in amiss:
            if notice not in self._said:
                _log.warning("%s", notice)
        self._said = frozenset((*report.notices, *amiss))
        self._figures.count_resources(self._asked.sorted_out.by_fate())
        return report

    def _reload(self, loop: ControlLoop) -> None:
        """Let the loop look after what is asked for by now, frozen or not."""
        wanted = self._asked.now(self._remembered)
        frozen = wanted.freeze or self._freeze.exists()
        frozen = frozen or (self._lease is not None and self._lease.frozen)
        if wanted is self._wanted and frozen == self._fleet.freeze:
            return
        if frozen != self._fleet.freeze:
            _log.warning("the fleet is %s", "frozen" if frozen else "no longer frozen")
        self._wanted, self._fleet = wanted, dataclasses.replace(wanted, freeze=frozen)
        self._figures.look_after(self._fleet)
        loop.reload(self._fleet)

    def _metrics_text(self) -> str:
        ages_s = {self._subcluster.name: self._subcluster.age_s()}
        leads = self._lease is not None and self._leads()
        contested = tuple(self._subcluster.contested)
        return self._figures.text(leads=leads, ages_s=ages_s, contested=contested)

    def _leads(self, limit_s: float = 0.0) -> bool:
        return self._lease is None or self._lease.wait(limit_s)

    @contextmanager
    def _loop(self) -> Iterator[ControlLoop | None]:
        """Yield a loop that goes on from what was remembered; None = that cannot be read now."""
        with JournalFolder(self._journal) as journal:
            self._subcluster.wait_until_filled(self._fleet.interval_s)
            unknown = self._asked.settle(self._fleet.interval_s)
            if unknown:
                self._say(f"nothing is done before every ScaledService is known: {unknown}")
                yield None
                return
            try:
                loop = ControlLoop(
                    self._fleet,
                    self._clock,
                    self._metrics,
                    (Finishing(self._subcluster, self._clock, self._metrics.busy),),
                    self._store,
                    Recorder(journal),
                )
            except SubclusterUnavailable as error:
                self._say(f"nothing is done without memory: {error}")
                yield None
                return
            if self._lease is not None:
                _log.info("we lead")
            yield loop

    def _say(self, amiss: str) -> None:
        """Log what keeps us from beginning, once."""
        if amiss not in self._said:
            _log.warning("%s", amiss)
        self._said = frozenset({amiss})


def load_files(services: Path, cluster: Path) -> tuple[FleetSpec, ClusterFile]:
    """Return a services file and the cluster file that names their workloads.

    Raises:
        ConfigError: with every problem of the first file that has one, or between them.
    """
    fleet, workloads = load_fleet(services), load_cluster(cluster)
    problems = tuple(
        dataclasses.replace(problem, file=str(cluster))
        for problem in unknown_names(workloads, fleet)
    )
    if not (fleet.services or workloads.namespaces):
        rule = "must have at least 1 entry where the cluster file names no namespaces"
        problems = (Problem(path="services", rule=rule, file=str(services)), *problems)
    if problems:
        raise ConfigError(problems)
    return fleet, workloads


def engines_of(
    file: ClusterFile, clock: Clock, kubeconfig: Path | None
) -> Mapping[ObjectKey, Instance]:
    """Return each pod's instance as it is now; none where the cluster does not answer in time."""
    subcluster = InPlaceSubcluster(
        file, ApiServer(clock, kubeconfig=kubeconfig), clock, writes=False
    )
    try:
        return subcluster.engines() if subcluster.wait_until_filled(_LISTED_S) else {}
    finally:
        subcluster.close()


@contextmanager
def controller(files: Files, clock: Clock, *, observe: bool) -> Iterator[Controller]:
    """Yield a controller on a real cluster, its watches open.

    Args:
        observe: whether every service is only looked at, whatever its mode, and no Lease taken.

    Raises:
        ConfigError: with every problem of the first file that has one, or between them.
    """
    fleet, cluster = load_files(files.services, files.cluster)
    signals = load_metrics(files.metrics)
    fleet = _observed(fleet) if observe else fleet
    with ExitStack() as opened:
        lease = None if observe else _lease(files, clock, cluster.lease)
        if lease is not None:
            opened.callback(lease.close)
        may_change_s = _never if lease is None else lease.left_s
        api = ApiServer(clock, kubeconfig=files.kubeconfig, may_change_s=may_change_s)
        subcluster = InPlaceSubcluster(cluster, api, clock, writes=not observe)
        opened.callback(subcluster.close)
        metrics = PrometheusMetrics(signals, pods=subcluster.engines)
        opened.callback(metrics.close)
        api = ApiServer(clock, kubeconfig=files.kubeconfig, may_change_s=may_change_s)
        asked = AskedFleet(
            cluster,
            fleet,
            api,
            clock,
            subcluster,
            observe=observe,
        )
        opened.callback(asked.close)
        publisher = None
        if lease is not None and cluster.namespaces:
            publisher = Publisher(api, clock, lease.identity)
            opened.callback(publisher.close)
        store = _store(files, clock, cluster.lease, api, lease)
        parts = (clock, metrics, subcluster, lease, store, files.state, asked, publisher)
        yield Controller(fleet, *parts)


def log_tick(report: TickReport, said: Set[str] = frozenset()) -> None:
    """Log what a tick sent, what became of it, and what went wrong.

    Args:
        said: what went wrong in the tick before, and is not said again.
    """
    tick = report.tick
    for notice in report.notices:
        if notice not in said:
            _log.warning("tick %d: %s", tick, notice, extra={"fields": {"tick": tick}})
    for service, error in report.excluded.items():
        fields = {"tick": tick, "service": service}
        _log.error("tick %d: %s is left out: %s", tick, service, error, extra={"fields": fields})
    for action, outcome in zip(report.sent, report.outcomes, strict=True):
        detail = f" ({outcome.detail})" if outcome.detail else ""
        fields = {
            "tick": tick,
            "service": action.service,
            "action": dataclasses.asdict(action),
            "outcome": outcome.kind.value,
            "detail": outcome.detail,
        }
        text = f"tick {tick}: {action.service}: {_in_words(action)}: {outcome.kind}{detail}"
        _log.info("%s", text, extra={"fields": fields})


def _in_words(action: Action) -> str:
    if isinstance(action, RotationAction):
        return f"{action.uid} to {action.to}"
    change = f"{action.expected_replicas} → {action.replicas}"
    return f"{action.role} on {action.accelerator} in {action.group} {change}"


def _told(faults: Sequence[str]) -> Page:
    return Page(
        status=503 if faults else 200, text="".join(f"{one}\n" for one in faults or ("ok",))
    )


def _observed(fleet: FleetSpec) -> FleetSpec:
    services = tuple(dataclasses.replace(spec, mode=Mode.OBSERVE) for spec in fleet.services)
    return dataclasses.replace(fleet, services=services)


def _lease(files: Files, clock: Clock, section: LeaseSection) -> Lease:
    """Begin to try for the Lease, over a connection of its own."""
    api = ApiServer(clock, kubeconfig=files.kubeconfig, limit_s=section.duration_s / 3.0)
    return Lease(
        api,
        clock,
        steady_s,
        namespace=section.namespace or api.namespace,
        name=section.name,
        identity=f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}",
        duration_s=section.duration_s,
    )


def _store(
    files: Files, clock: Clock, section: LeaseSection, api: ApiServer, lease: Lease | None
) -> Store:
    """Return where memory is: in the cluster for whoever leads, here for who only looks."""
    if lease is None:
        return FileStore(files.state / STATE_FILE)
    return ConfigMapStore(
        api,
        clock,
        namespace=section.namespace or api.namespace,
        name=memory_of(section),
        writer=lease.identity,
    )


def _never() -> float:
    return 0.0
