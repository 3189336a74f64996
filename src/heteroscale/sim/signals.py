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
from heteroscale.workload.arrivals import PS_PER_S

#: signal, role, value, and why there is none
_Value: TypeAlias = tuple[Signal, str, float | None, UnknownCause | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSettings:
    """How one service is measured."""

    #: names of the prefill and the decode role
    roles: tuple[str, str]
    #: the SLO's quantile, at which latencies are reported
    quantile: float
    #: rates and latencies look back this far from the newest scrape; at least one interval
    window_s: float
    #: recent output lengths look back this far
    lengths_window_s: float = 300.0


class SignalWindow:
    """The scrapes of one service that its readings are made of."""

    def __init__(self, settings: SignalSettings) -> None:
        self._settings = settings
        self._window_ps = round(settings.window_s * PS_PER_S)
        self._keep_ps = max(self._window_ps, round(settings.lengths_window_s * PS_PER_S))
        self._samples: deque[Sample] = deque()
        self._values: tuple[_Value, ...] = self._missing()

    def scrape(self, sample: Sample) -> None:
        """Keep one more sample, later than all before it, and evaluate every signal."""
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
                Reading(signal=signal, role=role, value=value, age_s=age_s, cause=cause)
                for signal, role, value, cause in self._values
            ]
        )

    def _span(self, window_ps: int) -> Span | None:
        last = self._samples[-1]
        first = next(one for one in self._samples if one.at_ps >= last.at_ps - window_ps)
        return None if first is last else Span(first, last)

    def _missing(self) -> tuple[_Value, ...]:
        return tuple(
            (signal, role, None, UnknownCause.MISSING)
            for index, role in zip(RoleIndex, self._settings.roles, strict=True)
            for signal in _SIGNALS[index]
        )

    def _known(self, span: Span) -> tuple[_Value, ...]:
        lengths = self._span(self._keep_ps)
        values: list[_Value] = []
        for index, role in zip(RoleIndex, self._settings.roles, strict=True):
            for signal in _SIGNALS[index]:
                value = self._value(signal, index, span, lengths)
                cause = None
                if value is None:
                    latency = signal in (Signal.TTFT, Signal.TBT)
                    cause = UnknownCause.NO_EVENTS if latency else UnknownCause.MISSING
                values.append((signal, role, value, cause))
        return tuple(values)

    def _value(
        self, signal: Signal, role: RoleIndex, span: Span, lengths: Span | None
    ) -> float | None:
        match signal:
            case Signal.TPS:
                return span.tps(role)
            case Signal.OFFERED_TPS:
                return _offered_tps(role, span, lengths)
            case Signal.UTILIZATION:
                return span.utilization(role)
            case Signal.SM_ACTIVITY:
                return span.sm_activity(role)
            case Signal.TTFT:
                return span.ttft_s(self._settings.quantile)
            case Signal.TBT:
                return span.tbt_s(self._settings.quantile)
            case Signal.QUEUE_LENGTH:
                return float(self._samples[-1].counters.roles[role].waiting)
            case Signal.KV_USAGE:
                return kv_usage(self._samples[-1])


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
