"""Whether Prometheus has what a fleet's signals are read from: in words, down to what to add."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from heteroscale.adapters.prometheus_http import Answer, NoAnswer, PrometheusServer
from heteroscale.adapters.prometheus_pods import PodKey, Pods, pod_of
from heteroscale.adapters.promql import group_labels, selector
from heteroscale.config.metrics_sections import (
    DialectSection,
    MetricsFile,
    Origin,
    RuleSection,
    ServerSection,
    SourceSection,
)
from heteroscale.entities.finding import Finding
from heteroscale.entities.service import FleetSpec, ServiceSpec, Stage
from heteroscale.entities.snapshot import InstanceState, Signal
from heteroscale.ports import Clock

#: ages of samples are taken against the server's clock
_SKEW_S = 5.0

#: pods of one role that are named where they do not report
_SHOWN_PODS = 3
_NO_PODS: Pods = {}
#: labels that name a series' pod: the engine's where an exporter is the target, else the target's
_POD_LABELS = (("exported_namespace", "exported_pod"), ("namespace", "pod"))

#: (service, role); of a gateway the role is ""
Whose = tuple[str, str]


def ways(file: MetricsFile) -> Iterator[str]:
    """Yield how it is told whose the series of each source are."""
    for server in file.servers:
        for source in server.sources:
            by = group_labels(file.dialects[source.dialect], source)
            said = (
                f"prometheus {server.name}: dialect {source.dialect}: series are told apart by {by}"
            )
            yield f"{said}, and the cluster knows whose a pod is" if source.pods else said


@dataclass(frozen=True, slots=True, kw_only=True)
class _Voice:
    """One source on one server, to be asked at one instant."""

    server: PrometheusServer
    dialect: DialectSection
    source: SourceSection
    where: str
    at_s: float
    #: whose each pod is
    pods: Pods

    def asked(self, promql: str) -> Answer | NoAnswer:
        """Return the server's answer at the voice's instant."""
        return self.server.query(promql, self.at_s)


def metrics_findings(
    file: MetricsFile, fleet: FleetSpec, clock: Clock, pods: Pods = _NO_PODS
) -> Iterator[Finding]:
    """Yield what is amiss on the servers of a metrics file, for the services of a fleet.

    Args:
        pods: the pods that are engines, for series that name nothing else.
    """
    told: dict[tuple[Stage, Signal], set[Whose]] = {}
    silent = False
    for section in file.servers:
        with closing(PrometheusServer(section)) as server:
            answer = server.query("vector(1)", clock.now_s())
            if isinstance(answer, Answer):
                yield from _server_findings(file, section, server, clock, pods, told)
                continue
        silent = True
        yield Finding(
            where=f"prometheus {section.name}",
            what=f"it gives no answer ({answer.reason})",
            mend="check its address, credentials and certificates in the metrics file",
        )
    if not silent:
        for spec in fleet.services:
            yield from _service_findings(spec, told)


def _server_findings(
    file: MetricsFile,
    section: ServerSection,
    server: PrometheusServer,
    clock: Clock,
    pods: Pods,
    told: dict[tuple[Stage, Signal], set[Whose]],
) -> Iterator[Finding]:
    where = f"prometheus {section.name}"
    theirs_s, ours_s = server.clock_s(), clock.now_s()
    if theirs_s is not None and abs(theirs_s - ours_s) > _SKEW_S:
        yield Finding(
            where=where,
            what=f"its clock is {theirs_s - ours_s:+.0f} s from ours",
            mend="set both by NTP: samples look stale or come from the future otherwise",
        )
    for source in section.sources:
        voice = _Voice(
            server=server,
            dialect=file.dialects[source.dialect],
            source=source,
            where=f"{where}: dialect {source.dialect}",
            at_s=ours_s,
            pods=pods,
        )
        yield from _source_findings(file, voice, told)


def _source_findings(
    file: MetricsFile, voice: _Voice, told: dict[tuple[Stage, Signal], set[Whose]]
) -> Iterator[Finding]:
    by_signal: dict[tuple[Stage, Signal], list[RuleSection]] = {}
    for rule in voice.dialect.rules:
        by_signal.setdefault((rule.stage, rule.signal), []).append(rule)
    bare, labelled = "", dict[str, None]()
    for key, rules in by_signal.items():
        there = [one for rule in rules for one in _metrics_of(rule) if _count(voice, one, rule)]
        if not there:
            names = " nor ".join(dict.fromkeys(one for rule in rules for one in _metrics_of(rule)))
            yield Finding(
                where=voice.where,
                what=f"{key[1]} of {key[0]}: there is no series of {names}{_spelled(names)}",
                mend="check that these engines are scraped, and which names their version has; a "
                "dialect of your own takes the shipped one's place",
                note=True,
            )
            continue
        for rule in rules:
            whose = _whose(voice, rule)
            told.setdefault(key, set()).update(whose)
            labelled.update(dict.fromkeys(_metrics_of(rule)[:1] if whose else ()))
        bare = bare or (there[0] if not told.get(key) else "")
    if bare:
        yield _unlabelled(voice, bare)
    if labelled:
        first = next(iter(labelled))
        if voice.source.pods is None:
            yield from _stray_findings(voice, first)
            yield from _target_findings(voice)
        else:
            yield from _pod_findings(voice, tuple(labelled))
        yield from _window_findings(file, voice, first)


def _metrics_of(rule: RuleSection) -> tuple[str, ...]:
    """Return the series that a rule cannot do without."""
    if rule.histogram is not None:
        return (f"{rule.histogram}_bucket",)
    if rule.arrivals is not None:
        return rule.arrivals, f"{rule.lengths}_sum"
    named = rule.counter or rule.gauge or rule.mean or ""
    return (named,) if rule.less is None else (named, rule.less)


def _spelled(names: str) -> str:
    return " (nor with _ in place of the colon)" if ":" in names else ""


def _count(voice: _Voice, metric: str, rule: RuleSection) -> bool:
    """Return whether a metric has any series."""
    series = selector(metric, {**voice.source.match, **rule.where})
    answer = voice.asked(f"count({series})")
    return isinstance(answer, Answer) and bool(answer.points)


def _whose(voice: _Voice, rule: RuleSection) -> set[Whose]:
    """Return whom every metric of a rule has labelled series of."""
    found: set[Whose] | None = None
    for metric in _metrics_of(rule):
        series = selector(metric, {**voice.source.match, **rule.where})
        by = group_labels(voice.dialect, voice.source)
        answer = voice.asked(f"count by ({by}) ({series})")
        named = _named(voice, answer) if isinstance(answer, Answer) else set()
        found = named if found is None else found & named
    return found or set()


def _named(voice: _Voice, answer: Answer) -> set[Whose]:
    labels = voice.source.labels
    if voice.source.pods is not None:
        instances = (voice.pods.get(pod) for pod in _pods_in(voice, answer))
        return {(one.service, one.role) for one in instances if one is not None}
    gateway = voice.dialect.origin is Origin.GATEWAY
    named: set[Whose] = set()
    for point in answer.points:
        service = point.labels.get(labels.service, "")
        role = "" if gateway else point.labels.get(labels.role, "")
        if service and (role or gateway):
            named.add((labels.services.get(service, service), labels.roles.get(role, role)))
    return named


def _pods_in(voice: _Voice, answer: Answer) -> Iterator[PodKey]:
    assert voice.source.pods is not None
    for point in answer.points:
        yield pod_of(point.labels, voice.source.pods)


def _unlabelled(voice: _Voice, metric: str) -> Finding:
    if voice.source.pods is not None:
        return _podless(voice, metric)
    labels = voice.source.labels
    wanted = [labels.service]
    if voice.dialect.origin is Origin.PODS:
        wanted.append(labels.role)
    return Finding(
        where=voice.where,
        what=f"{metric} has series, and none with the label{'s' * (len(wanted) > 1)} "
        f"{' and '.join(wanted)}: nobody knows whose they are",
        mend=f"add to the scrape job, with your own pod labels as sources: {_relabelling(wanted)}"
        + _or_by_pod(voice, metric),
    )


def _or_by_pod(voice: _Voice, metric: str) -> str:
    """Return how to do without relabelling, where series name their pods."""
    if voice.dialect.origin is Origin.GATEWAY:
        return ""
    for namespace, pod in _POD_LABELS:
        series = selector(metric, {**voice.source.match, namespace: ".+", pod: ".+"})
        answer = voice.asked(f"count({series})")
        if isinstance(answer, Answer) and answer.points:
            written = "{}" if pod == "pod" else f"{{namespace: {namespace}, pod: {pod}}}"
            return f"; or write `pods: {written}` for this source: they name their pods"
    return ""


def _podless(voice: _Voice, metric: str) -> Finding:
    """Return that no series of a metric is of a pod that we know."""
    names = voice.source.pods
    assert names is not None
    by = f"{names.namespace} and {names.pod}"
    series = selector(metric, {**voice.source.match, names.namespace: ".+", names.pod: ".+"})
    answer = voice.asked(f"count({series})")
    if isinstance(answer, Answer) and answer.points:
        return Finding(
            where=voice.where,
            what=f"{metric} has series with the labels {by}, and none of a pod of these workloads",
            mend="check the workloads of the cluster file, and that this Prometheus scrapes this "
            "cluster; where pods of an exporter are named and the engine's as exported_pod, write "
            "`pods: {namespace: exported_namespace, pod: exported_pod}`",
        )
    rules = (
        f"{{source_labels: [__meta_kubernetes_namespace], target_label: {names.namespace}}}",
        f"{{source_labels: [__meta_kubernetes_pod_name], target_label: {names.pod}}}",
    )
    return Finding(
        where=voice.where,
        what=f"{metric} has series, and none with the labels {by}: nobody knows whose they are",
        mend=f"add to the scrape job: relabel_configs: [{', '.join(rules)}]",
    )


def _pod_findings(voice: _Voice, metrics: Sequence[str]) -> Iterator[Finding]:
    """Yield which pods of the roles that are told of say nothing, and how many are strangers."""
    by = group_labels(voice.dialect, voice.source)
    reporting: set[PodKey] = set()
    for metric in metrics:
        answer = voice.asked(f"count by ({by}) ({selector(metric, voice.source.match)})")
        if isinstance(answer, Answer):
            reporting.update(_pods_in(voice, answer))
    known = {(one.service, one.role) for key, one in voice.pods.items() if key in reporting}
    silent: dict[Whose, list[str]] = {}
    for (namespace, name), one in sorted(voice.pods.items()):
        if one.state is InstanceState.READY and (namespace, name) not in reporting:
            silent.setdefault((one.service, one.role), []).append(f"{namespace}/{name}")
    for whose in sorted(known & silent.keys()):
        names = silent[whose]
        more = ", ..." if len(names) > _SHOWN_PODS else ""
        yield Finding(
            where=voice.where,
            what=f"{len(names)} ready pods of {'/'.join(whose)} report nothing: "
            f"{', '.join(names[:_SHOWN_PODS])}{more}",
            mend="check that every pod of it is scraped: of too few, signals are unknown",
        )
    strangers = len(reporting - voice.pods.keys())
    if strangers:
        yield Finding(
            where=voice.where,
            what=f"{strangers} pods that report are no engines of these workloads",
            mend="leave them if they are not of these services; else name their workloads in the "
            "cluster file",
            note=True,
        )


def _stray_findings(voice: _Voice, metric: str) -> Iterator[Finding]:
    """Yield that some series of a metric are nobody's."""
    label = voice.source.labels.service
    strays = selector(metric, {**voice.source.match, label: ""})
    answer = voice.asked(f"count({strays})")
    if isinstance(answer, Answer) and answer.points:
        yield Finding(
            where=voice.where,
            what=f"{answer.points[0].value:g} series of {metric} lack the label {label}",
            mend="leave them if they are not of these services; else relabel their job, too",
            note=True,
        )


def _relabelling(labels: Sequence[str]) -> str:
    """Return the relabel rules that put labels on targets, as a scrape job takes them."""
    sources = ("app_kubernetes_io_part_of", "llm_d_ai_role")
    rules = [
        f"{{source_labels: [__meta_kubernetes_pod_label_{pod_label}], target_label: {label}}}"
        for label, pod_label in zip(labels, sources, strict=False)
    ]
    return f"relabel_configs: [{', '.join(rules)}]"


def _target_findings(voice: _Voice) -> Iterator[Finding]:
    """Yield that targets lack our labels while their series have them."""
    by = group_labels(voice.dialect, voice.source)
    answer = voice.asked(f"count by ({by}) ({selector('up', voice.source.match)})")
    if isinstance(answer, Answer) and not _named(voice, answer):
        yield Finding(
            where=voice.where,
            what="the series `up` lacks the labels that its other series have: engines that do "
            "not answer cannot be told",
            mend="put the labels on targets (relabel_configs), not on samples "
            "(metric_relabel_configs)",
            note=True,
        )


def _window_findings(file: MetricsFile, voice: _Voice, metric: str) -> Iterator[Finding]:
    """Yield that not even two scrapes fall into a window."""
    series = selector(metric, voice.source.match)
    for key, window_s in (
        ("window_s", file.window_s),
        ("latency_window_s", file.latency_window_s),
    ):
        span = f"{round(window_s * 1000)}ms"
        answer = voice.asked(f"max(count_over_time({series}[{span}]))")
        if not isinstance(answer, Answer):
            continue
        most = max((one.value for one in answer.points), default=0.0)
        if most < 2.0:
            yield Finding(
                where=voice.where,
                what=f"{key} of {window_s:g} s holds fewer than two scrapes of {metric}: no rate",
                mend=f"make {key} at least two scrape intervals long, better four",
            )


def _service_findings(
    spec: ServiceSpec, told: dict[tuple[Stage, Signal], set[Whose]]
) -> Iterator[Finding]:
    """Yield the signals of a service's policy that nobody tells."""
    for leaf in spec.group.leaves():
        for signal in sorted(set(_signals_of(spec, leaf.path, leaf.stage))):
            known = told.get((leaf.stage, signal), set())
            if (spec.name, leaf.path) in known or (spec.name, "") in known:
                continue
            others = ", ".join(sorted({f"{service}/{role}" for service, role in known}))
            yield Finding(
                where=f"service {spec.name}",
                what=f"nobody tells {signal} of {leaf.path}, which its policy reads"
                + (f"; it is told of {others}" if others else ""),
                mend="check the values of the labels: they must be the service's name and the "
                "role's path, or stand under labels.services and labels.roles; of a source with "
                "`pods`, that its pods are ready and scraped",
            )


def _signals_of(spec: ServiceSpec, role: str, stage: Stage) -> Iterable[Signal]:
    for proportional in spec.policy.proportional:
        if proportional.role == role:
            yield proportional.signal
    for feedback in spec.policy.feedback:
        of_prefill = feedback.signal is Signal.TTFT
        if of_prefill == (stage is Stage.PREFILL):
            yield feedback.signal
