"""Signals as a metrics server would answer them: scraped now and then, rates over a window.

Counters are read only at scrapes; a reading covers the window that ends at the newest scrape and
says how old that is. What two scrapes in the window cannot tell is missing, never zero.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from heteroscale.entities.snapshot import Reading, Signal, UnknownCause
from heteroscale.sim.sampling import RoleIndex, Sample, Span
from heteroscale.sim.scrapes import InstanceSamples, InstanceSeries, scrape_chance
from heteroscale.workload.arrivals import PS_PER_S

#: signal, role, value, why there is none, and the share of instances behind it
_Value: TypeAlias = tuple[Signal, str, float | None, UnknownCause | None, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSettings:
    """How one service is measured."""

    #: names of the prefill and the decode role
    roles: tuple[str, str]
    #: the roles inside prefill's, which report in its place; () = it has none
    parts: tuple[str, ...] = ()
    #: the SLO's quantile, at which latencies are reported
    quantile: float
    #: rates and latencies look back this far from the newest scrape; at least one interval
    window_s: float
    #: recent output lengths look back this far
    lengths_window_s: float = 300.0
    #: share of an instance's scrapes that fail; None = instances are not scraped one by one
    missing_share: float | None = None
    seed: int = 0

    @property
    def leaves(self) -> tuple[tuple[RoleIndex, str], ...]:
        """Every role that reports, with its stage."""
        prefill, decode = self.roles
        return (
            *((RoleIndex.PREFILL, part) for part in self.parts or (prefill,)),
            (RoleIndex.DECODE, decode),
        )


class SignalWindow:
    """The scrapes of one service that its readings are made of."""

    def __init__(self, settings: SignalSettings) -> None:
        self._settings = settings
        self._window_ps = round(settings.window_s * PS_PER_S)
        self._keep_ps = max(self._window_ps, round(settings.lengths_window_s * PS_PER_S))
        self._samples: deque[Sample] = deque()
        self._instances: InstanceSeries | None = None
        if settings.missing_share is not None:
            chance = scrape_chance(settings.seed)
            self._instances = InstanceSeries(self._window_ps, settings.missing_share, chance)
        self._leaves = settings.leaves
        self._values: tuple[_Value, ...] = self._missing()

    @property
    def wants_instances(self) -> bool:
        """Whether a scrape asks every instance."""
        return self._instances is not None

    def scrape(self, sample: Sample, instances: InstanceSamples | None = None) -> None:
        """Keep one more sample, later than all before it, and evaluate every signal.

        Args:
            sample: of the service as a whole.
            instances: of each running instance, where they are asked for (`wants_instances`).
        """
        if self._instances is not None and instances is not None:
            self._instances.scrape(instances)
        self._samples.append(sample)
        while self._samples[0].at_ps < sample.at_ps - self._keep_ps:
            self._samples.popleft()
        span = self._span(self._window_ps)
        self._values = self._missing() if span is None else self._known(span)

    def readings(self, now_ps: int) -> tuple[Reading, ...]:
        """Return every signal of both roles, over the window that ends at the newest scrape."""
        age_s = (now_ps - self._samples[-1].at_ps) / PS_PER_S if self._samples else 0.0
        return tuple(
            [
                Reading(
                    signal=signal,
                    role=role,
                    value=value,
                    age_s=age_s,
                    coverage=coverage,
                    cause=cause,
                )
                for signal, role, value, cause, coverage in self._values
            ]
        )

    def _span(self, window_ps: int) -> Span | None:
        last = self._samples[-1]
        first = next(one for one in self._samples if one.at_ps >= last.at_ps - window_ps)
        return None if first is last else Span(first, last)

    def _missing(self) -> tuple[_Value, ...]:
        return tuple(
            (signal, role, None, UnknownCause.MISSING, 1.0)
            for index, role in self._leaves
            for signal in _SIGNALS[index]
        )

    def _known(self, span: Span) -> tuple[_Value, ...]:
        lengths = self._span(self._keep_ps)
        values: list[_Value] = []
        for index, role in self._leaves:
            known = 1.0 if self._instances is None else self._instances.coverage(role)
            for signal in _SIGNALS[index]:
                value = self._value(signal, index, role, span, lengths)
                cause = None
                if value is None:
                    latency = signal in (Signal.TTFT, Signal.TBT)
                    cause = UnknownCause.NO_EVENTS if latency else UnknownCause.MISSING
                # What arrives is counted in front of the instances.
                coverage = 1.0 if signal is Signal.OFFERED_TPS else known
                values.append((signal, role, value, cause, coverage))
        return tuple(values)

    def _value(
        self, signal: Signal, role: RoleIndex, name: str, span: Span, lengths: Span | None
    ) -> float | None:
        if self._instances is not None and signal in _FROM_INSTANCES:
            return _of_instances(self._instances, signal, name)
        part = name if name in self._settings.parts else None
        match signal:
            case Signal.TPS:
                return span.tps(role)
            case Signal.OFFERED_TPS:
                return _offered_tps(role, span, lengths)
            case Signal.UTILIZATION:
                return span.utilization(role, part)
            case Signal.SM_ACTIVITY:
                return span.sm_activity(role, part)
            case Signal.TTFT:
                return span.ttft_s(self._settings.quantile)[0]
            case Signal.TBT:
                return span.tbt_s(self._settings.quantile)[0]
            case Signal.QUEUE_LENGTH:
                return float(self._samples[-1].counters.roles[role].waiting)
            case Signal.KV_USAGE:
                return kv_usage(self._samples[-1])


def _of_instances(series: InstanceSeries, signal: Signal, role: str) -> float | None:
    match signal:
        case Signal.TPS:
            return series.tps(role)
        case Signal.UTILIZATION:
            return series.utilization(role)
        case Signal.SM_ACTIVITY:
            return series.sm_activity(role)
        case _:
            return series.kv_usage(role)


#: what is summed from instances; waiting and latency are only counted for the service as a whole
_FROM_INSTANCES = frozenset({Signal.TPS, Signal.UTILIZATION, Signal.SM_ACTIVITY, Signal.KV_USAGE})
_BOTH = (
    Signal.TPS,
    Signal.OFFERED_TPS,
    Signal.UTILIZATION,
    Signal.SM_ACTIVITY,
    Signal.QUEUE_LENGTH,
)
_SIGNALS: tuple[tuple[Signal, ...], tuple[Signal, ...]] = (
    (*_BOTH, Signal.TTFT),
    (*_BOTH, Signal.TBT, Signal.KV_USAGE),
)


def kv_usage(sample: Sample) -> float | None:
    """Return the share of decode KV memory that is reserved; None when nothing is in rotation.

    Engines here reserve a request's whole length on admission, so this is what blocks the next
    one. Instances leaving rotation still hold some: the share is cut at 1.
    """
    decode = sample.counters.roles[RoleIndex.DECODE]
    if decode.kv_capacity_tokens == 0:
        return None
    return min(1.0, decode.kv_reserved_tokens / decode.kv_capacity_tokens)


def _offered_tps(role: RoleIndex, span: Span, lengths: Span | None) -> float | None:
    """Return the tokens/s asked for: arrivals × recent lengths.

    An output's length is known only when it ends, so decode uses the requests completed lately.
    """
    if role is RoleIndex.PREFILL:
        return span.arrived_input_tps()
    arrived_rps = span.arrived_rps()
    if arrived_rps == 0.0:
        return 0.0
    mean_tokens = None if lengths is None else lengths.mean_decode_tokens()
    return None if mean_tokens is None else arrived_rps * mean_tokens
