"""The queries of a dialect: one per rule, grouped over every service, whatever their number.

A query answers with several figures per service and role, told apart by the label `stat`: the value
(`value`, or `q0.9` for each quantile), the sources that report it (`sources`), and the age of the
newest sample (`age_s`). Where series name their pod alone, it answers by pod with the parts that
these figures are made of. All are PromQL of early 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from heteroscale.config.metrics_sections import (
    DialectSection,
    MetricsFile,
    Origin,
    RuleSection,
    SourceSection,
)

STAT = "stat"
VALUE = "value"
SOURCES = "sources"
AGE = "age_s"
#: of the sources, those that should report
EXPECTED = "expected"
#: parts of a value, where it is made of what pods say
LESS = "less"
SERIES = "series"
BUCKETS = "buckets"
ARRIVALS, TOKENS, REQUESTS = "arrivals", "tokens", "requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """How far back a query looks, in PromQL's own words, and which quantiles it takes."""

    rate: str
    latency: str
    #: ascending
    quantiles: tuple[float, ...]


def spans_of(file: MetricsFile, quantiles: Sequence[float]) -> Spans:
    """Return the spans of a metrics file for a fleet's quantiles."""
    return Spans(
        rate=_duration(file.window_s),
        latency=_duration(file.latency_window_s),
        quantiles=tuple(sorted(set(quantiles))),
    )


@cache
def stat_of(quantile: float) -> str:
    """Return how a quantile's figure is labelled."""
    return f"q{quantile!r}"


def rule_query(
    rule: RuleSection, dialect: DialectSection, source: SourceSection, spans: Spans
) -> str:
    """Return the query that answers one rule for every service that speaks the dialect."""
    if source.pods is not None:
        return _pod_query(rule, dialect, source, spans)
    where = {**source.match, **rule.where}
    by = group_labels(dialect, source)
    figures: dict[str, str] = {}
    if rule.counter is not None:
        figures[VALUE] = _rate(rule.counter, where, spans.rate, by)
        if rule.less is not None:
            taken = _rate(rule.less, where, spans.rate, by)
            figures[VALUE] = f"clamp_min({figures[VALUE]} - {taken}, 0)"
        seen = selector(rule.counter, where)
    elif rule.gauge is not None:
        seen = selector(rule.gauge, where)
        figures[VALUE] = f"sum by ({by}) ({seen})"
    elif rule.mean is not None:
        seen = selector(rule.mean, where)
        figures[VALUE] = f"avg by ({by}) ({seen})"
    elif rule.arrivals is not None:
        lengths = rule.lengths or ""
        arrivals = _rate(rule.arrivals, where, spans.rate, by)
        tokens = _rate(f"{lengths}_sum", where, spans.rate, by)
        requests = _rate(f"{lengths}_count", where, spans.rate, by)
        # Where nothing arrives nothing is asked for, whatever the length of nothing.
        figures[VALUE] = f"({arrivals} * {tokens} / ({requests} > 0)) or ({arrivals} == 0)"
        seen = selector(rule.arrivals, where)
    else:
        buckets = selector(f"{rule.histogram}_bucket", where)
        merged = f"sum by ({by}, le) (rate({buckets}[{spans.latency}]))"
        for quantile in spans.quantiles:
            figures[stat_of(quantile)] = f"histogram_quantile({quantile!r}, {merged})"
        seen = selector(f"{rule.histogram}_count", where)
    if rule.scale != 1.0:
        figures = {stat: f"({query}) * {rule.scale!r}" for stat, query in figures.items()}
    figures[SOURCES] = f"count by ({by}) (count by ({by}, {source.labels.source}) ({seen}))"
    figures[AGE] = f"min by ({by}) (time() - timestamp({seen}))"
    return " or ".join(_labelled(query, stat) for stat, query in figures.items())


def _pod_query(
    rule: RuleSection, dialect: DialectSection, source: SourceSection, spans: Spans
) -> str:
    """Return the query that answers one rule for every pod, in parts that add up over pods."""
    where = {**source.match, **rule.where}
    by = group_labels(dialect, source)
    figures: dict[str, str] = {}
    if rule.counter is not None:
        figures[VALUE] = _rate(rule.counter, where, spans.rate, by)
        if rule.less is not None:
            figures[LESS] = _rate(rule.less, where, spans.rate, by)
        seen = selector(rule.counter, where)
    elif rule.gauge is not None or rule.mean is not None:
        seen = selector(rule.gauge or rule.mean or "", where)
        figures[VALUE] = f"sum by ({by}) ({seen})"
        if rule.mean is not None:
            figures[SERIES] = f"count by ({by}) ({seen})"
    elif rule.arrivals is not None:
        for stat, metric in (
            (ARRIVALS, rule.arrivals),
            (TOKENS, f"{rule.lengths}_sum"),
            (REQUESTS, f"{rule.lengths}_count"),
        ):
            figures[stat] = _rate(metric, where, spans.rate, by)
        seen = selector(rule.arrivals, where)
    else:
        buckets = f"{rule.histogram}_bucket"
        figures[BUCKETS] = _rate(buckets, where, spans.latency, f"{by}, le")
        seen = selector(f"{rule.histogram}_count", where)
    figures[AGE] = f"min by ({by}) (time() - timestamp({seen}))"
    return " or ".join(_labelled(query, stat) for stat, query in figures.items())


def target_query(dialect: DialectSection, source: SourceSection) -> str:
    """Return the query that counts what should report, whether or not it does."""
    by = group_labels(dialect, source)
    up = selector("up", source.match)
    return f"count by ({by}) (count by ({by}, {source.labels.source}) ({up}))"


def busy_query(dialect: DialectSection, source: SourceSection) -> str:
    """Return the query that tells by pod what its engine has to do, and the age of the first gauge.

    Time stamps of several metrics at once have no names left to tell them apart.
    """
    by = group_labels(dialect, source)
    names = "|".join(name.replace(":", "[:_]") for name in dialect.busy)
    series = _matching({"__name__": names, **source.match})
    value = _labelled(f"sum by ({by}) ({series})", VALUE)
    ages = (
        _labelled(f"time() - max by ({by}) (timestamp({selector(name, source.match)}))", AGE)
        for name in dialect.busy
    )
    return " or ".join((value, *ages))


def group_labels(dialect: DialectSection, source: SourceSection) -> str:
    """Return the labels that tell services, and of engines also roles, apart, or pods."""
    if source.pods is not None:
        return f"{source.pods.namespace}, {source.pods.pod}"
    labels = source.labels
    if dialect.origin is Origin.GATEWAY:
        return labels.service
    return f"{labels.service}, {labels.role}"


def selector(metric: str, where: Mapping[str, str]) -> str:
    """Return the series of a metric; a colon in its name may have been made an underscore."""
    if ":" in metric:
        return _matching({"__name__": metric.replace(":", "[:_]"), **where})
    return f"{metric}{_matching(where)}" if where else metric


def _matching(where: Mapping[str, str]) -> str:
    matchers = (f"{label}=~{_quoted(value)}" for label, value in sorted(where.items()))
    return f"{{{', '.join(matchers)}}}"


def _rate(metric: str, where: Mapping[str, str], span: str, by: str) -> str:
    return f"sum by ({by}) (rate({selector(metric, where)}[{span}]))"


def _labelled(query: str, stat: str) -> str:
    return f'label_replace({query}, "{STAT}", "{stat}", "", "")'


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
