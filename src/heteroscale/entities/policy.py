"""What operators choose about scaling: signals, guards, ratio, schedules, lifecycle.

Defaults here are the shipped defaults: config, example and documentation are held to them by tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.entities.snapshot import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class ProportionalSpec:
    """Size a role so that a linear signal per capacity unit meets its target."""

    #: linear in load: tps, offered_tps, utilization, sm_activity, queue_length or kv_usage
    signal: Signal
    #: leaf role whose signal is read
    role: str
    #: wanted value per capacity unit (tokens/s per instance for *_tps; a share, 0-1, for means)
    target: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackTier:
    """At or above `ratio` of the SLO, grow by `step` of the supply."""

    ratio: float
    step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackSpec:
    """Negative feedback in fixed steps on one latency signal.

    Source: HeteroScale (arXiv:2508.19559), steps of 10 % and 20 %; the low side is ours.
    """

    #: ttft_s or tbt_s
    signal: Signal
    #: ascending by ratio; the highest one reached applies
    tiers: tuple[FeedbackTier, ...] = (
        FeedbackTier(ratio=1.1, step=0.1),
        FeedbackTier(ratio=1.2, step=0.2),
    )
    #: at or below this share of the SLO latency is low: scale-in is permitted
    low: float = 0.8
    #: share of the supply to give back after `low_for_s` of low latency; 0 = a safety net only
    step_in: float = 0.0
    low_for_s: float = 600.0
    #: a step that has not become ready by then no longer blocks the next one
    step_timeout_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """A recurring period with static counts and, optionally, its own ratio.

    The period starts on each of `days` at `start_s` local time and ends at the next `end_s`,
    which lies on the following day when `end_s` ≤ `start_s` (crossing midnight).
    """

    name: str
    #: IANA time zone of days and times, e.g. "Asia/Shanghai"
    timezone: str
    #: ISO weekdays on which the period starts, 1 = Monday
    days: tuple[int, ...]
    #: seconds after local midnight, 0 to 86,400
    start_s: int
    end_s: int
    #: leaf role → capacity units asked for in the period; empty = none asked
    replicas: Mapping[str, int] = field(default_factory=dict)
    #: top-level role → share in the period; empty = the service's own
    ratio: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSpec:
    """When a reading may be believed, and when a served throughput is only a lower bound."""

    #: an older reading is unknown
    stale_s: float = 60.0
    #: share of ready instances that must have reported
    min_coverage: float = 0.7
    #: requests waiting per ready instance of the role: above high the load is censored,
    #: at or below low scale-in is permitted
    queue_high: float = 4.0
    queue_low: float = 2.0
    #: share of KV memory in use above which the load is censored
    kv_high: float = 0.9
    #: TTFT over its SLO above which the load is censored
    ttft_high: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSpec:
    """What a recommendation must pass before it may change anything."""

    #: dead bands around the supply, shares of it
    tolerance_out: float = 0.1
    tolerance_in: float = 0.1
    #: look-back over recommendations; the highest in it is the one to scale in to
    stabilization_window_s: float = 300.0
    #: share of the asked change that is made, (0, 1]
    damping_out: float = 1.0
    damping_in: float = 1.0
    #: largest change in one action, shares of the supply; at least one capacity unit
    step_out: float = 0.5
    step_in: float = 0.1
    #: waits after an applied action
    cool_down_out_s: float = 180.0
    cool_down_in_s: float = 600.0
    #: consecutive restores double the scale-in wait up to this cap
    restore_wait_max_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineRatioSpec:
    """Follow the measured mix of input and output tokens with the ratio of the top-level roles."""

    #: top-level role → tokens/s one capacity unit sustains inside the SLO
    capacity_tps: Mapping[str, float]
    #: span over which the mix is measured
    window_s: float = 1800.0
    #: at most one share moves from one role to another per wait
    wait_s: float = 600.0
    #: shares are counted in this many parts, so one part is the smallest move
    parts: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioSpec:
    """How closely the counts follow the ratio, and whether the ratio follows the traffic."""

    #: a role is in tolerance within this share of its exact count, or within one instance of it,
    #: whichever is wider
    band: float = 0.1
    #: largest change of a role in one move towards a changed ratio, share of its supply; ≥ 1 unit
    max_move: float = 0.1
    online: OnlineRatioSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """How one service is sized."""

    #: leaf role whose capacity is the one number that is guarded
    anchor: str = "decode"
    proportional: tuple[ProportionalSpec, ...] = ()
    feedback: tuple[FeedbackSpec, ...] = ()
    schedules: tuple[ScheduleSpec, ...] = ()
    trust: TrustSpec = TrustSpec()
    guard: GuardSpec = GuardSpec()
    ratio: RatioSpec = RatioSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleSpec:
    """When an instance enters and leaves rotation."""

    #: withdrawn instances are watched this long, with every SLO signal known, before they drain
    observe_s: float = 300.0
    #: SLO signals unknown for this long restore what is withdrawn
    unknown_restore_s: float = 300.0
    #: latency over SLO at or above which withdrawn instances are restored at once
    restore_ratio: float = 1.0
    #: a draining instance that is not idle by then is terminated all the same
    drain_timeout_s: float = 600.0
    #: readiness gate: a role whose ready capacity leads its exact share by more than this holds
    gate_band: float = 0.5
    gate_timeout_s: float = 600.0
    #: an instance that gets no node by then is called off, and asked for again where there is room
    pending_timeout_s: float = 600.0
