"""The `policy` and `lifecycle` sections of a service: how it is sized, and when instances move."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from heteroscale.config.fields import (
    TIME_OF_DAY,
    TIME_OF_DAY_END,
    Band,
    Count,
    Name,
    NonNegative,
    Part,
    Positive,
    Section,
    Share,
    Text,
    broken,
    default_of,
    given,
    need,
    optional,
)
from heteroscale.entities.policy import (
    FeedbackSpec,
    FeedbackTier,
    GuardSpec,
    LifecycleSpec,
    OnlineRatioSpec,
    PolicySpec,
    ProportionalSpec,
    RatioSpec,
    ScheduleSpec,
    TrustSpec,
)
from heteroscale.entities.snapshot import Signal

LATENCIES = (Signal.TTFT, Signal.TBT)
LINEAR_SIGNALS = tuple(signal for signal in Signal if signal not in LATENCIES)
#: linear signals that are shares of one instance, so their target is at most 1
SHARE_SIGNALS = (Signal.UTILIZATION, Signal.SM_ACTIVITY, Signal.KV_USAGE)


class Day(StrEnum):
    """Days of the week in ISO order."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


def _linear(signal: Signal) -> Signal:
    if signal not in LINEAR_SIGNALS:
        names = ", ".join(LINEAR_SIGNALS)
        raise broken(f"must grow with the load ({names}); latencies belong under feedback")
    return signal


def _latency(signal: Signal) -> Signal:
    if signal not in LATENCIES:
        names = " or ".join(LATENCIES)
        raise broken(f"must be a latency ({names}); other signals belong under proportional")
    return signal


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise broken("must be an IANA time zone such as Europe/Berlin") from error
    return name


def seconds_of_day(time: str) -> int:
    """Return seconds after midnight for "HH:MM"."""
    hours, minutes = time.split(":")
    return int(hours) * 3600 + int(minutes) * 60


class ProportionalSection(Section):
    """Sizes the service so that a linear signal per capacity unit meets its target."""

    signal: Annotated[Signal, Field(strict=False), AfterValidator(_linear)] = need(
        "what is measured: tps (served tokens/s), offered_tps (arrivals × recent lengths),"
        " utilization, sm_activity, queue_length or kv_usage"
    )
    role: Text = need("leaf role whose signal is read")
    target: Positive = need(
        "wanted value per capacity unit: tokens/s for *tps, requests for queue_length, a share"
        " for the others (at most 1)"
    )

    def entity(self) -> ProportionalSpec:
        """Return the frozen entity."""
        return ProportionalSpec(signal=self.signal, role=self.role, target=self.target)


class TierSection(Section):
    """At or above `ratio` of the SLO, grow by `step` of the supply."""

    ratio: Positive = need("latency over its SLO; ascending from tier to tier, the first above low")
    step: Part = need("growth, share of the supply")


class FeedbackSection(Section):
    """Negative feedback in fixed steps on one latency."""

    signal: Annotated[Signal, Field(strict=False), AfterValidator(_latency)] = need(
        "ttft_s or tbt_s, at the SLO quantile; each at most once"
    )
    tiers: Annotated[tuple[TierSection, ...], Field(min_length=1)] = optional(
        tuple(
            TierSection(ratio=tier.ratio, step=tier.step)
            for tier in default_of(FeedbackSpec, "tiers")
        ),
        "steps out; the highest tier reached applies",
    )
    low: Positive = given(FeedbackSpec, "low", "at or below this share of the SLO latency is low")
    step_in: Share = given(
        FeedbackSpec, "step_in", "share of the supply given back after low latency; 0 = never"
    )
    low_for_s: NonNegative = given(
        FeedbackSpec, "low_for_s", "latency must have been low this long before a step in"
    )
    step_timeout_s: NonNegative = given(
        FeedbackSpec, "step_timeout_s", "a step not ready by then no longer blocks the next one"
    )

    def entity(self) -> FeedbackSpec:
        """Return the frozen entity."""
        return FeedbackSpec(
            signal=self.signal,
            tiers=tuple(FeedbackTier(ratio=tier.ratio, step=tier.step) for tier in self.tiers),
            low=self.low,
            step_in=self.step_in,
            low_for_s=self.low_for_s,
            step_timeout_s=self.step_timeout_s,
        )


class ScheduleSection(Section):
    """A recurring period with counts, a ratio, or both; end ≤ start means the next day."""

    name: Name = need("unique in the service")
    timezone: Annotated[str, AfterValidator(_zone)] = need("IANA zone of days and times")
    days: Annotated[tuple[Annotated[Day, Field(strict=False)], ...], Field(min_length=1)] = need(
        "days on which the period starts: mon, tue, wed, thu, fri, sat, sun; each at most once"
    )
    start: Annotated[str, Field(pattern=TIME_OF_DAY)] = need("local time HH:MM, 00:00 to 23:59")
    end: Annotated[str, Field(pattern=TIME_OF_DAY_END)] = need("local time HH:MM, 00:00 to 24:00")
    replicas: Mapping[str, Count] = given(
        ScheduleSpec, "replicas", "leaf role → capacity units asked for in the period"
    )
    ratio: Mapping[str, Count] = given(
        ScheduleSpec, "ratio", "top-level role → share in the period, every role named"
    )

    def entity(self) -> ScheduleSpec:
        """Return the frozen entity."""
        order = tuple(Day)
        return ScheduleSpec(
            name=self.name,
            timezone=self.timezone,
            days=tuple(sorted(order.index(day) + 1 for day in self.days)),
            start_s=seconds_of_day(self.start),
            end_s=seconds_of_day(self.end),
            replicas=self.replicas,
            ratio=self.ratio,
        )


class TrustSection(Section):
    """When a reading may be believed, and when served throughput is only a lower bound."""

    stale_s: Positive = given(TrustSpec, "stale_s", "an older reading is unknown")
    min_coverage: Share = given(
        TrustSpec, "min_coverage", "share of ready instances that must have reported"
    )
    queue_high: NonNegative = given(
        TrustSpec, "queue_high", "waiting requests per ready instance above which load is censored"
    )
    queue_low: NonNegative = given(
        TrustSpec, "queue_low", "waiting requests per ready instance that permit scale-in"
    )
    kv_high: Part = given(
        TrustSpec, "kv_high", "share of KV memory in use above which load is censored"
    )
    ttft_high: Positive = given(
        TrustSpec, "ttft_high", "TTFT over its SLO above which load is censored"
    )

    def entity(self) -> TrustSpec:
        """Return the frozen entity."""
        return TrustSpec(**self.model_dump())


class GuardSection(Section):
    """What a recommendation must pass before it changes anything."""

    tolerance_out: Band = given(GuardSpec, "tolerance_out", "dead band above the supply, share")
    tolerance_in: Band = given(GuardSpec, "tolerance_in", "dead band below the supply, share")
    stabilization_window_s: NonNegative = given(
        GuardSpec, "stabilization_window_s", "scale-in goes to the highest demand of this window"
    )
    damping_out: Part = given(GuardSpec, "damping_out", "part of an asked scale-out that is made")
    damping_in: Part = given(GuardSpec, "damping_in", "part of an asked scale-in that is made")
    step_out: Part = given(GuardSpec, "step_out", "largest scale-out at once, share of the supply")
    step_in: Part = given(GuardSpec, "step_in", "largest scale-in at once, share of the supply")
    cool_down_out_s: NonNegative = given(
        GuardSpec, "cool_down_out_s", "wait after an applied scale-out before the next"
    )
    cool_down_in_s: NonNegative = given(
        GuardSpec, "cool_down_in_s", "wait after any applied change before a scale-in"
    )
    restore_wait_max_s: NonNegative = given(
        GuardSpec, "restore_wait_max_s", "consecutive restores double that wait up to this"
    )

    def entity(self) -> GuardSpec:
        """Return the frozen entity."""
        return GuardSpec(**self.model_dump())


class OnlineSection(Section):
    """Lets the ratio follow the measured mix of input and output tokens."""

    capacity_tps: Mapping[str, Positive] = need(
        "top-level role → tokens/s one capacity unit sustains inside the SLO, every role named"
    )
    window_s: Positive = given(OnlineRatioSpec, "window_s", "span over which the mix is measured")
    wait_s: NonNegative = given(
        OnlineRatioSpec, "wait_s", "at most one part moves from role to role per wait"
    )
    parts: Annotated[int, Field(ge=2, le=1024)] = given(
        OnlineRatioSpec, "parts", "parts the shares are counted in; one is the smallest move"
    )

    def entity(self) -> OnlineRatioSpec:
        """Return the frozen entity."""
        return OnlineRatioSpec(**self.model_dump())


class RatioSection(Section):
    """How closely the counts follow the ratio, and whether the ratio follows the traffic."""

    band: NonNegative = given(
        RatioSpec,
        "band",
        "tolerated distance from a role's exact count, share; one instance always is",
    )
    max_move: Part = given(
        RatioSpec,
        "max_move",
        "largest change of a role towards a changed ratio, share of its supply",
    )
    online: OnlineSection | None = given(
        RatioSpec, "online", "null = the ratio stays as configured"
    )

    def entity(self) -> RatioSpec:
        """Return the frozen entity."""
        online = self.online.entity() if self.online else None
        return RatioSpec(band=self.band, max_move=self.max_move, online=online)


class PolicySection(Section):
    """How one service is sized; at least one of proportional, feedback and schedules."""

    anchor: Text = given(PolicySpec, "anchor", "leaf role whose capacity is the guarded number")
    proportional: tuple[ProportionalSection, ...] = given(
        PolicySpec, "proportional", "targets per capacity unit"
    )
    feedback: tuple[FeedbackSection, ...] = given(PolicySpec, "feedback", "steps on latency")
    schedules: tuple[ScheduleSection, ...] = given(PolicySpec, "schedules", "recurring periods")
    trust: TrustSection = optional(TrustSection(), "when readings are believed")
    guard: GuardSection = optional(GuardSection(), "what every change must pass")
    ratio: RatioSection = optional(RatioSection(), "how the counts follow the ratio")

    def entity(self) -> PolicySpec:
        """Return the frozen entity."""
        return PolicySpec(
            anchor=self.anchor,
            proportional=tuple(section.entity() for section in self.proportional),
            feedback=tuple(section.entity() for section in self.feedback),
            schedules=tuple(section.entity() for section in self.schedules),
            trust=self.trust.entity(),
            guard=self.guard.entity(),
            ratio=self.ratio.entity(),
        )


class LifecycleSection(Section):
    """When an instance enters and leaves rotation."""

    observe_s: NonNegative = given(
        LifecycleSpec, "observe_s", "withdrawn instances are watched this long before they drain"
    )
    unknown_restore_s: NonNegative = given(
        LifecycleSpec, "unknown_restore_s", "SLO signals unknown this long restore the withdrawn"
    )
    restore_ratio: Positive = given(
        LifecycleSpec, "restore_ratio", "latency over SLO at which the withdrawn return at once"
    )
    drain_timeout_s: NonNegative = given(
        LifecycleSpec, "drain_timeout_s", "a draining instance not idle by then is terminated"
    )
    gate_band: NonNegative = given(
        LifecycleSpec, "gate_band", "readiness gate: lead of a role over its share that holds it"
    )
    gate_timeout_s: NonNegative = given(
        LifecycleSpec, "gate_timeout_s", "readiness gate: longest time newcomers are held"
    )
    pending_timeout_s: NonNegative = given(
        LifecycleSpec, "pending_timeout_s", "an instance without a node by then is called off"
    )

    def entity(self) -> LifecycleSpec:
        """Return the frozen entity."""
        return LifecycleSpec(**self.model_dump())
