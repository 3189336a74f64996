"""Which readings may be believed, and what the believed ones say about latency and idleness.

A value that cannot be trusted becomes its cause, so nothing further on can mistake it for 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from heteroscale.entities.policy import PolicySpec, TrustSpec
from heteroscale.entities.service import RolePath, Slo
from heteroscale.entities.snapshot import Reading, Signal, UnknownCause

_NO_EVENTS = UnknownCause.NO_EVENTS
_MISSING = UnknownCause.MISSING
_INVALID = UnknownCause.INVALID

#: A sample may seem to come from as far in the future: the clocks of two machines differ.
CLOCK_SKEW_S = 1.0
#: Means that are shares of one. As rates over a window they are measured up to this much above it.
SHARES = (Signal.UTILIZATION, Signal.SM_ACTIVITY, Signal.KV_USAGE)
SHARE_SLACK = 0.01

#: A value, or why there is none.
Judged = float | UnknownCause
#: signal → role → value or cause; what is absent altogether is MISSING
Signals = Mapping[Signal, Mapping[RolePath, Judged]]

_NOTHING: Mapping[RolePath, Judged] = {}


class Latency(NamedTuple):
    """The worst of one latency signal over the roles that report it."""

    #: share of its SLO; None = no role has a value
    ratio: float | None
    #: the role behind it
    role: RolePath
    #: why some role has no value; None = all have one, and never None without a `ratio`
    cause: UnknownCause | None
    #: the role behind that
    cause_role: RolePath


def judge(reading: Reading, trust: TrustSpec) -> Judged:
    """Return the value to believe, or why there is none.

    "No events" is believed under the same conditions as a value: fresh and widely covered.
    """
    value, cause = reading.value, reading.cause
    if cause is not None and cause is not _NO_EVENTS:
        return cause
    if value is None and cause is None:
        return _MISSING
    # Written so that NaN is not believed.
    if not (reading.age_s >= -CLOCK_SKEW_S and reading.coverage >= 0.0):
        return _INVALID
    if reading.age_s > trust.stale_s:
        return UnknownCause.STALE
    if reading.coverage < trust.min_coverage:
        return UnknownCause.THIN
    if cause is not None or value is None:
        return _NO_EVENTS
    most = 1.0 + SHARE_SLACK if reading.signal in SHARES else math.inf
    return value if 0.0 <= value <= most and value != math.inf else _INVALID


def judged(readings: Iterable[Reading], trust: TrustSpec) -> Signals:
    """Return every reading over all accelerators of its role, judged.

    Readings of a single accelerator are for the reader, not for sizing: targets are per unit.
    """
    signals: dict[Signal, dict[RolePath, Judged]] = {}
    for reading in readings:
        if reading.accelerator is not None:
            continue
        by_role = signals.get(reading.signal)
        if by_role is None:
            by_role = signals[reading.signal] = {}
        verdict = judge(reading, trust)
        if reading.role in by_role:
            verdict = _safer(by_role[reading.role], verdict)
        by_role[reading.role] = verdict
    return signals


def _safer(one: Judged, other: Judged) -> Judged:
    """Return which of two readings of one thing to go by, whatever their order."""
    unknown = [verdict for verdict in (one, other) if isinstance(verdict, UnknownCause)]
    return min(unknown) if unknown else max(one, other)


def lookup(signals: Signals, signal: Signal, role: RolePath) -> Judged:
    """Return one signal of one role."""
    return signals.get(signal, _NOTHING).get(role, _MISSING)


def latency(signals: Signals, signal: Signal, slo: Slo) -> Latency:
    """Return the worst reading of TTFT or TBT against its SLO.

    A role without events beside one with a value adds nothing; a role that is unknown for any
    other reason leaves `cause` set.
    """
    limit_s = slo.ttft_s if signal is Signal.TTFT else slo.tbt_s
    by_role = signals.get(signal, _NOTHING)
    worst: float | None = None
    cause: UnknownCause | None = None
    worst_role = cause_role = ""
    for role in sorted(by_role) if len(by_role) > 1 else by_role:
        verdict = by_role[role]
        if isinstance(verdict, UnknownCause):
            if cause is None or cause is _NO_EVENTS:
                cause, cause_role = verdict, role
        elif worst is None or verdict > worst:
            worst, worst_role = verdict, role
    if worst is None:
        return Latency(None, "", cause or _MISSING, cause_role or "any role")
    if cause is _NO_EVENTS:
        cause = None
    return Latency(worst / limit_s, worst_role, cause, cause_role)


def latencies(signals: Signals, slo: Slo) -> Mapping[Signal, Latency]:
    """Return the worst reading of each latency signal against its SLO."""
    return {signal: latency(signals, signal, slo) for signal in (Signal.TTFT, Signal.TBT)}


def worst_latency(
    signals: Signals, slo: Slo, policy: PolicySpec | None = None
) -> tuple[float | None, bool]:
    """Return the worst share of its SLO over TTFT and TBT, and whether both are known.

    No events beside a known-zero load are known and fine. So is a service that cannot use metrics:
    one whose policy reads none and which reports neither.

    Args:
        policy: None = one that reads metrics.
    """
    both = latencies(signals, slo).values()
    ratios = [one.ratio for one in both if one.ratio is not None]
    unmetered = policy is not None and not (policy.proportional or policy.feedback)
    if unmetered and not ratios and all(one.cause is _MISSING for one in both):
        return None, True
    quiet = idle(signals)
    known = all(one.cause is None or (one.cause is _NO_EVENTS and quiet) for one in both)
    return max(ratios, default=None), known


def idle(signals: Signals) -> bool:
    """Return whether the load is known to be zero: some load is reported and none is above 0.

    Requests that wait are load too: a stuck engine serves nothing and has no events either.
    """
    loads = [
        *signals.get(Signal.TPS, _NOTHING).values(),
        *signals.get(Signal.OFFERED_TPS, _NOTHING).values(),
    ]
    waiting = signals.get(Signal.QUEUE_LENGTH, _NOTHING).values()
    return bool(loads) and all(verdict == 0.0 for verdict in (*loads, *waiting))
