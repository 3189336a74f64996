"""Series that name their pod alone: the watch cache tells whose it is, and pods add up here.

What Prometheus would have added up by service and role is added up in the same way: rates and
gauges are summed, means taken over all series, and quantiles of buckets that were merged first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from heteroscale.adapters.histogram import quantile_of
from heteroscale.adapters.prometheus_http import Answer
from heteroscale.adapters.prometheus_questions import Question, Told, Whose
from heteroscale.adapters.promql import (
    AGE,
    ARRIVALS,
    BUCKETS,
    EXPECTED,
    LESS,
    REQUESTS,
    SERIES,
    SOURCES,
    STAT,
    TOKENS,
    VALUE,
    stat_of,
)
from heteroscale.config.metrics_sections import PodLabelsSection
from heteroscale.entities.snapshot import Instance, InstanceState

#: (namespace, name)
PodKey = tuple[str, str]
#: what a cluster's cache holds: each pod that is an engine, as the instance it is
Pods = Mapping[PodKey, Instance]


#: what an engine has to do, and how old its newest sample is in seconds
Load = tuple[float, float]


class Roster:
    """Whose each pod is; one that is gone stays known while a rate's window may still hold it."""

    def __init__(self, pods: Callable[[], Pods], keep_s: float) -> None:
        """Ask `pods` at each tick; keep the departed for so long."""
        self._pods = pods
        self._keep_s = keep_s
        self._present: Pods = {}
        #: pods that are gone, and until when they are known
        self._gone: dict[PodKey, tuple[Instance, float]] = {}

    def at(self, now_s: float) -> Pods:
        """Return whose pods are; those that should report are the ready ones of `present`."""
        present = self._pods()
        if present is not self._present:
            for key, instance in self._present.items():
                if key not in present:
                    self._gone[key] = (instance, now_s + self._keep_s)
            self._present = present
        # a clock that was set back must not keep anything for ever
        self._gone = {
            key: (instance, until_s)
            for key, (instance, until_s) in self._gone.items()
            if key not in present and 0.0 < until_s - now_s <= self._keep_s
        }
        if not self._gone:
            return present
        return {**{key: instance for key, (instance, _) in self._gone.items()}, **present}

    def expected(self) -> Mapping[Whose, int]:
        """Return (service, role) → engines in rotation at the last tick: they should report."""
        counts: dict[Whose, int] = {}
        for instance in self._present.values():
            if instance.state is InstanceState.READY:
                whose = (instance.service, instance.role)
                counts[whose] = counts.get(whose, 0) + 1
        return counts

    def expects(self, pod: PodKey) -> bool:
        """Return whether a pod should report."""
        instance = self._present.get(pod)
        return instance is not None and instance.state is InstanceState.READY


class _Sum:
    """What the pods of one role say together."""

    __slots__ = ("age_s", "buckets", "expected", "figures", "sources")

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.buckets: dict[str, float] = {}
        self.age_s = math.inf
        self.sources = self.expected = 0

    def add(self, stat: str, edge: str, value: float) -> None:
        """Add one pod's figure to the others'."""
        if stat == BUCKETS:
            self.buckets[edge] = self.buckets.get(edge, 0.0) + value
        else:
            self.figures[stat] = self.figures.get(stat, 0.0) + value


def joined(question: Question, answer: Answer, pods: Pods, roster: Roster) -> dict[Whose, Told]:
    """Return what an answer by pod says, by whose pods they are; other pods are nobody's.

    Args:
        pods: as the roster has them at the answer's instant.
    """
    labels = question.source.pods
    assert labels is not None
    sums: dict[Whose, _Sum] = {}
    for point in answer.points:
        own = point.labels
        key = pod_of(own, labels)
        instance = pods.get(key)
        if instance is None:
            continue
        whose = (instance.service, instance.role)
        role = sums.get(whose)
        if role is None:
            role = sums[whose] = _Sum()
        stat = own[STAT]
        if stat == AGE:
            role.age_s = min(role.age_s, point.value)
            role.sources += 1
            role.expected += roster.expects(key)
        else:
            role.add(stat, own.get("le", ""), point.value)
    return {whose: Told(_figures(question, one)) for whose, one in sums.items()}


def loads_of(told: Iterable[tuple[PodLabelsSection, Answer]]) -> dict[PodKey, Load]:
    """Return what answers say that pods have to do; one without a number is not known."""
    values: dict[PodKey, float] = {}
    ages_s: dict[PodKey, float] = {}
    for labels, answer in told:
        for point in answer.points:
            key = pod_of(point.labels, labels)
            if point.labels[STAT] == AGE:
                ages_s[key] = max(point.value, ages_s.get(key, 0.0))
            else:
                values[key] = values.get(key, 0.0) + point.value
    return {
        key: (value, ages_s[key])
        for key, value in values.items()
        if key in ages_s and math.isfinite(value)
    }


def pod_of(labels: Mapping[str, str], names: PodLabelsSection) -> PodKey:
    """Return which pod a series is of; what it does not say is ""."""
    return labels.get(names.namespace, ""), labels.get(names.pod, "")


def _figures(question: Question, one: _Sum) -> dict[str, float]:
    """Return the figures that PromQL gives where it groups by service and role itself."""
    figures: dict[str, float] = {}
    rule = question.rule
    assert rule is not None
    if rule.histogram is not None and one.buckets:
        for quantile in question.quantiles:
            figures[stat_of(quantile)] = rule.scale * quantile_of(quantile, one.buckets)
    value = _value(rule.less is not None, one.figures)
    if value is not None:
        figures[VALUE] = rule.scale * value
    if one.sources:
        figures |= {SOURCES: one.sources, EXPECTED: one.expected, AGE: one.age_s}
    return figures


def _value(less: bool, figures: Mapping[str, float]) -> float | None:
    """Return what the parts of a value make together; None = one that is needed is missing."""
    if ARRIVALS in figures:
        arrivals, requests = figures[ARRIVALS], figures.get(REQUESTS, 0.0)
        if arrivals == 0.0:
            return 0.0
        return arrivals * figures[TOKENS] / requests if requests > 0.0 else None
    if SERIES in figures:
        return figures[VALUE] / figures[SERIES]
    if less:
        both = VALUE in figures and LESS in figures
        return max(0.0, figures[VALUE] - figures[LESS]) if both else None
    return figures.get(VALUE)
