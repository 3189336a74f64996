"""Signals of a fleet, read from Prometheus servers in a fixed number of grouped queries a tick.

Every rule of every source is one query for all services; all of a tick's queries are evaluated at
one instant. What engines say of themselves adds up over sources and servers; what a gateway says of
a service takes the place of what its engines say. While a server that has told of a role does not
answer, that role's signals are unknown: a part of a sum is not the sum.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from heteroscale.adapters.prometheus_http import Answer, NoAnswer, PrometheusServer
from heteroscale.adapters.prometheus_pods import Load, PodKey, Pods, Roster, joined, loads_of
from heteroscale.adapters.prometheus_questions import Question, Told, Whose
from heteroscale.adapters.prometheus_readings import Tick
from heteroscale.adapters.promql import Spans, busy_query, rule_query, spans_of, target_query
from heteroscale.config.metrics_sections import MetricsFile
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import Reading
from heteroscale.errors import ConfigError, MetricsUnavailable, Problem

#: queries under way at once, over all servers
_AT_ONCE = 8
#: different quantiles that one fleet's SLOs may have: each is worth a query of every histogram
MOST_QUANTILES = 3

_log = logging.getLogger(__name__)


class PrometheusMetrics:
    """The metrics source of production."""

    def __init__(
        self,
        file: MetricsFile,
        *,
        pods: Callable[[], Pods] | None = None,
    ) -> None:
        """Open no connection yet.

        Args:
            pods: the pods that are engines, of which the ready ones should report; None = nobody
                knows pods, and as many should report as Prometheus has targets for (`up`).

        Raises:
            OSError: a certificate file cannot be read.
        """
        self._file = file
        keep_s = max(file.window_s, file.latency_window_s)
        self._roster = None if pods is None else Roster(pods, keep_s)
        self._servers = {one.name: PrometheusServer(one) for one in file.servers}
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prometheus")
        self._quantiles: tuple[float, ...] = ()
        self._questions: tuple[Question, ...] = ()
        self._told_of: dict[Question, frozenset[Whose]] = {}
        #: what went wrong in the last tick, each once
        self.notices: tuple[str, ...] = ()

    def read(self, fleet: FleetSpec, now_s: float) -> Mapping[str, tuple[Reading, ...]]:
        """Return service → readings of every signal that a source has a rule for.

        Raises:
            MetricsUnavailable: no query was answered.
            ConfigError: the services' SLOs have too many different quantiles.
        """
        questions = self.questions(fleet)
        # Rules of several stages may read one metric: it is asked for once.
        waiting = {
            (server, promql): self._threads.submit(self._servers[server].query, promql, now_s)
            for server, promql in dict.fromkeys((one.voice[0], one.promql) for one in questions)
        }
        # While Prometheus works it is looked whose pods are.
        pods = {} if self._roster is None else self._roster.at(now_s)
        answers = tuple(waiting[one.voice[0], one.promql].result() for one in questions)
        self._notice(answers)
        if not any(isinstance(answer, Answer) for answer in answers):
            raise MetricsUnavailable("; ".join(self.notices))

        def by_pod(question: Question, answer: Answer) -> dict[Whose, Told]:
            return {} if self._roster is None else joined(question, answer, pods, self._roster)

        tick = Tick(questions, answers, self._told_of, by_pod)
        expected = None if self._roster is None else self._roster.expected()
        return {spec.name: tuple(tick.readings(spec, expected)) for spec in fleet.services}

    def busy(self, now_s: float) -> Mapping[PodKey, Load]:
        """Return what the engines have to do, of every pod that a source tells of.

        Nothing is known of any pod while a server that may tell of it does not answer.
        """
        asked = [
            (server.name, source, busy_query(dialect, source))
            for server in self._file.servers
            for source in server.sources
            if source.pods is not None and (dialect := self._file.dialects[source.dialect]).busy
        ]
        waiting = [
            self._threads.submit(self._servers[name].query, promql, now_s)
            for name, _, promql in asked
        ]
        answers = [one.result() for one in waiting]
        if not all(isinstance(answer, Answer) for answer in answers):
            return {}
        return loads_of(
            (source.pods, answer)
            for (_, source, _), answer in zip(asked, answers, strict=True)
            if isinstance(answer, Answer) and source.pods is not None
        )

    def questions(self, fleet: FleetSpec) -> tuple[Question, ...]:
        """Return the queries of a tick; they depend on nothing of a fleet but its quantiles."""
        quantiles = tuple(sorted({spec.slo.quantile for spec in fleet.services}))
        if len(quantiles) > MOST_QUANTILES:
            shown = ", ".join(f"{quantile:g}" for quantile in quantiles)
            rule = f"must have at most {MOST_QUANTILES} values over all services, got {shown}"
            raise ConfigError([Problem(path="services[].slo.quantile", rule=rule)])
        if quantiles != self._quantiles or not self._questions:
            self._quantiles = quantiles
            self._questions = tuple(_questions(self._file, spans_of(self._file, quantiles)))
            self._told_of = {}
        return self._questions

    def close(self) -> None:
        """Close every connection."""
        self._threads.shutdown()
        for server in self._servers.values():
            server.close()

    def _notice(self, answers: Sequence[Answer | NoAnswer]) -> None:
        """Keep what went wrong, and log what did not already go wrong in the tick before."""
        said: dict[str, None] = {}
        for answer in answers:
            found = (answer.reason,) if isinstance(answer, NoAnswer) else answer.warnings
            said.update(dict.fromkeys(found))
        for notice in said:
            if notice not in self.notices:
                _log.warning("%s", notice)
        self.notices = tuple(said)


def _questions(file: MetricsFile, spans: Spans) -> Iterator[Question]:
    for server in file.servers:
        for at, source in enumerate(server.sources):
            dialect = file.dialects[source.dialect]
            # Whose pods should report, their cluster knows.
            counted = (None,) if source.pods is None else ()
            for rule in (*dialect.rules, *counted):
                query = (
                    target_query(dialect, source)
                    if rule is None
                    else rule_query(rule, dialect, source, spans)
                )
                yield Question(
                    voice=(server.name, at),
                    source=source,
                    dialect=dialect,
                    rule=rule,
                    promql=query,
                    quantiles=spans.quantiles,
                )
