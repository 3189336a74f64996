"""Whether the signals permit a scale-in: everything known, nothing waiting, latency low.

A served throughput is only a lower bound of demand while the service is saturated: capacity
censors it, and decode's even falls when prefill is the bottleneck. So it must show more than an
uncensored signal before it may argue for less.
"""

from __future__ import annotations

from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.policy import FeedbackSpec
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.snapshot import Signal, UnknownCause
from heteroscale.policy.signal import idle
from heteroscale.policy.situation import Situation

#: Share of the SLO at or below which latency is low where no feedback configures another.
DEFAULT_LOW = FeedbackSpec(signal=Signal.TTFT).low

_MISSING = UnknownCause.MISSING


def why_not_in(situation: Situation, *, served: bool) -> Reason | None:
    """Return what forbids a scale-in; None = nothing does.

    Args:
        situation: what is known of the service.
        served: the load is a served throughput, censored by capacity, so latency and queues must
            be low; otherwise it is enough that they are not above their limits.
    """
    return (
        _latency_forbids(situation, Signal.TTFT, served=served)
        or _latency_forbids(situation, Signal.TBT, served=served)
        or _queues_forbid(situation, served=served)
        or (_kv_forbids(situation) if served else None)
    )


def unknown(signal: Signal, role: str, cause: UnknownCause) -> Reason:
    """Return the reason for holding on a signal without a value."""
    figures = {"signal": signal, "role": role, "cause": cause}
    return Reason(step=Step.SIGNAL, code=ReasonCode.UNKNOWN, figures=figures)


def low_limit(situation: Situation, signal: Signal) -> float:
    """Return the share of the SLO at or below which a latency is low."""
    for feedback in situation.spec.policy.feedback:
        if feedback.signal is signal:
            return feedback.low
    return DEFAULT_LOW


def _latency_forbids(situation: Situation, signal: Signal, *, served: bool) -> Reason | None:
    worst = situation.latencies[signal]
    if worst.ratio is None or worst.cause is not None:
        if worst.cause is UnknownCause.NO_EVENTS and idle(situation.signals):
            return None
        return unknown(signal, worst.cause_role, worst.cause or _MISSING)
    if not served:
        return _above(signal, worst.role, worst.ratio, limit=1.0)
    # TTFT counts the time in prefill's queue, so it tells of saturation; TBT has no such limit.
    high = situation.spec.policy.trust.ttft_high if signal is Signal.TTFT else None
    return _above(signal, worst.role, worst.ratio, low_limit(situation, signal), high)


def _queues_forbid(situation: Situation, *, served: bool) -> Reason | None:
    """Every top-level role must report a queue in one of its leaves, and every reported one count.

    Where nothing of a role is ready, what waits for it counts as waiting for one instance.
    """
    trust = situation.spec.policy.trust
    queues = situation.signals.get(Signal.QUEUE_LENGTH, {})
    ready = situation.tally.ready_replicas
    limit = trust.queue_low if served else trust.queue_high
    for top in situation.spec.group.roles:
        reported = False
        for leaf in (top,) if top.is_leaf else top.leaves():
            waiting = queues.get(leaf.path, _MISSING)
            if waiting is _MISSING:
                continue
            if isinstance(waiting, UnknownCause):
                return unknown(Signal.QUEUE_LENGTH, leaf.path, waiting)
            reported = True
            per_instance = waiting / max(1, ready[leaf.path])
            if per_instance > limit:
                high = trust.queue_high if served else None
                return _above(Signal.QUEUE_LENGTH, leaf.path, per_instance, limit, high)
        if not reported:
            return unknown(Signal.QUEUE_LENGTH, top.path, _MISSING)
    return None


def _kv_forbids(situation: Situation) -> Reason | None:
    """KV usage need not be reported; but what is reported must be known and not above its limit."""
    high = situation.spec.policy.trust.kv_high
    usage = situation.signals.get(Signal.KV_USAGE, {})
    for role in sorted(usage):
        value = usage[role]
        if isinstance(value, UnknownCause):
            if value is not _MISSING:
                return unknown(Signal.KV_USAGE, role, value)
        elif value > high:
            return _above(Signal.KV_USAGE, role, value, high, high)
    return None


def _above(
    signal: Signal, role: str, value: float, limit: float, high: float | None = None
) -> Reason | None:
    """Return why a value above `limit` forbids scale-in; above `high` the load is censored."""
    if value <= limit:
        return None
    censored = high is not None and value > high
    return Reason(
        step=Step.SIGNAL,
        code=ReasonCode.CENSORED if censored else ReasonCode.NOT_LOW,
        figures={
            "signal": signal,
            "role": role,
            "value": value,
            "limit": high if censored and high is not None else limit,
        },
    )
