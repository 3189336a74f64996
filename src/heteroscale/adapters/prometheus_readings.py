"""From the answers of one tick to readings: whose a figure is, what adds up, what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

from heteroscale.adapters.prometheus_http import Answer, NoAnswer
from heteroscale.adapters.prometheus_questions import Question, Told, Voice, Whose
from heteroscale.adapters.promql import STAT, VALUE, stat_of
from heteroscale.entities.service import RolePath, RoleSpec, ServiceSpec, Stage
from heteroscale.entities.snapshot import Reading, Signal, UnknownCause

LATENCIES = frozenset({Signal.TTFT, Signal.TBT})
SHARES = frozenset({Signal.UTILIZATION, Signal.SM_ACTIVITY, Signal.KV_USAGE})


class Tick:
    """What was asked and answered at one instant, and what used to be told before."""

    def __init__(
        self,
        questions: Sequence[Question],
        answers: Sequence[Answer | NoAnswer],
        told_of: dict[Question, frozenset[Whose]],
        by_pod: Callable[[Question, Answer], dict[Whose, Told]],
    ) -> None:
        """Sort the answers; remember in `told_of` whom each question was answered about.

        Args:
            by_pod: says whose the series of a source are that name their pods alone.
        """
        self._targets: dict[Voice, Mapping[Whose, Told]] = {}
        #: stage → signal → each rule's question with what was told, None where nobody answered
        self._heard: dict[Stage, dict[Signal, list[tuple[Question, Mapping[Whose, Told] | None]]]]
        self._heard = {}
        #: (stage, signal, of a gateway) → who is asked
        self._asked: dict[tuple[Stage, Signal, bool], set[Voice]] = {}
        self._told_of = told_of
        sorted_before: dict[tuple[Voice, str], dict[Whose, Told]] = {}
        for question, answer in zip(questions, answers, strict=True):
            told: dict[Whose, Told] | None = None
            if isinstance(answer, Answer):
                key = (question.voice, question.promql)
                told = sorted_before.get(key)
                if told is None:
                    sort = _by_role if question.source.pods is None else by_pod
                    told = sorted_before[key] = sort(question, answer)
            rule = question.rule
            if rule is None:
                self._targets[question.voice] = told or {}
                continue
            by_signal = self._heard.setdefault(rule.stage, {})
            by_signal.setdefault(rule.signal, []).append((question, told))
            kind = (rule.stage, rule.signal, question.of_gateway)
            self._asked.setdefault(kind, set()).add(question.voice)
            if told is not None:
                told_of[question] = frozenset(told)

    def readings(
        self, spec: ServiceSpec, expected: Mapping[Whose, int] | None
    ) -> Iterator[Reading]:
        """Yield every signal that some rule could tell of each leaf role of a service."""
        for leaf in spec.group.leaves():
            for signal in self._heard.get(leaf.stage, ()):
                yield self._reading(spec, leaf, signal, expected)

    def _reading(
        self,
        spec: ServiceSpec,
        leaf: RoleSpec,
        signal: Signal,
        expected: Mapping[Whose, int] | None,
    ) -> Reading:
        stat = stat_of(spec.slo.quantile) if signal in LATENCIES else VALUE
        of_engines: dict[Voice, Told] = {}
        of_gateways: dict[Voice, Told] = {}
        engines, gateways = (spec.name, leaf.path), (spec.name, "")
        silent = False
        for question, told in self._heard[leaf.stage][signal]:
            whose, voices = (
                (gateways, of_gateways) if question.of_gateway else (engines, of_engines)
            )
            if told is None:
                silent = silent or whose in self._told_of.get(question, (whose,))
                continue
            own = told.get(whose)
            if own is not None and stat in own.figures:
                voices.setdefault(question.voice, own)
        voices = of_gateways or of_engines
        if silent or not voices:
            return Reading(signal=signal, role=leaf.path, value=None, cause=UnknownCause.MISSING)
        whose = gateways if of_gateways else engines
        wanted = None if of_gateways or expected is None else expected.get(whose, 0)
        asked = self._asked[leaf.stage, signal, bool(of_gateways)]
        coverage = self._coverage(asked, voices.values(), whose, wanted)
        return _combined(signal, leaf.path, stat, tuple(voices.values()), coverage)

    def _coverage(
        self, asked: Set[Voice], heard: Iterable[Told], whose: Whose, wanted: float | None
    ) -> float:
        """Return the share that reports of what should; 1 where nobody can say what should."""
        reporting = sum(told.expected for told in heard)
        if wanted is None:
            targets = (self._targets.get(voice, {}).get(whose) for voice in asked)
            wanted = sum(told.figures[VALUE] for told in targets if told is not None)
        return min(1.0, reporting / wanted) if wanted > 0 else 1.0


def _by_role(question: Question, answer: Answer) -> dict[Whose, Told]:
    """Return what an answer says, by whose it is; series without our labels belong to nobody."""
    labels = question.source.labels
    figures: dict[Whose, dict[str, float]] = {}
    for point in answer.points:
        service = point.labels.get(labels.service, "")
        role = "" if question.of_gateway else point.labels.get(labels.role, "")
        if service and (role or question.of_gateway):
            whose = (labels.services.get(service, service), labels.roles.get(role, role))
            figures.setdefault(whose, {})[point.labels.get(STAT, VALUE)] = point.value
    return {whose: Told(figures[whose]) for whose in figures}


def _combined(
    signal: Signal, role: RolePath, stat: str, voices: Sequence[Told], coverage: float
) -> Reading:
    """Return one reading of several voices: sums of amounts, means of shares, the worst latency."""
    age_s = max(told.age_s for told in voices)
    figures = [told.figures.get(stat, math.nan) for told in voices]
    cause: UnknownCause | None = None
    if signal in LATENCIES:
        # A quantile of nothing is NaN: no token came, here or anywhere.
        seen = [figure for figure in figures if not math.isnan(figure)]
        value = max(seen, default=math.nan)
        cause = None if seen else UnknownCause.NO_EVENTS
    elif signal in SHARES:
        value = _mean(figures, [told.sources for told in voices])
    else:
        value = sum(figures)
    if not 0.0 <= age_s < math.inf:
        cause, age_s = cause or UnknownCause.INVALID, 0.0
    if cause is None and not (math.isfinite(value) and value >= 0.0):
        cause = UnknownCause.INVALID
    return Reading(
        signal=signal,
        role=role,
        value=None if cause else value,
        age_s=age_s,
        coverage=coverage,
        cause=cause,
    )


def _mean(figures: Sequence[float], weights: Sequence[float]) -> float:
    total = sum(weights)
    if total == 0:
        return math.nan
    return sum(figure * weight for figure, weight in zip(figures, weights, strict=True)) / total
