"""What one service goes through in a run: scrapes, ticks, and what each interval came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heteroscale.entities.decision import Direction
from heteroscale.entities.service import ServiceSpec
from heteroscale.loop import TickReport
from heteroscale.sim.changes import ChangeLog, reversals
from heteroscale.sim.ports import SimSubcluster
from heteroscale.sim.result import Count, FaultNote, PrefixHits, SimulationResult
from heteroscale.sim.sampling import quantile_s
from heteroscale.sim.service import SimService
from heteroscale.sim.serving import Counters
from heteroscale.sim.signals import SignalWindow
from heteroscale.sim.stages import unit_shares
from heteroscale.sim.timeline import TimelineRecorder
from heteroscale.workload.arrivals import PS_PER_S

_GPU_HOUR_PS = 3600 * PS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """When things happen in a run, and what it is called."""

    scenario: str
    seed: int
    policy: str
    #: epoch time at which the run starts
    start_s: float
    #: None = as long as the trace
    duration_s: float | None
    tick_s: float
    scrape_s: float
    #: a scrape comes at most so much early or late; below half of `scrape_s`
    jitter_s: float = 0.0
    #: length of one entry of the timeline
    interval_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """A service's result, and what a comparison over part of the same run needs."""

    result: SimulationResult
    #: per interval of the timeline: requests inside both limits, and requests completed or refused
    attained: tuple[int, ...]
    ended: tuple[int, ...]
    #: requests were still to come when the run ended
    cut: bool = False


class Course:
    """One service's way through a run; used once."""

    def __init__(
        self,
        settings: RunSettings,
        spec: ServiceSpec,
        service: SimService,
        window: SignalWindow,
        subclusters: Sequence[SimSubcluster],
    ) -> None:
        """Take the service as asked for and as simulated, and where its scrapes go."""
        self.name = spec.name
        self._settings = settings
        self._spec = spec
        self._service = service
        self._window = window
        self._log = ChangeLog(spec, subclusters)
        self._last = service.sample()
        self._timeline = TimelineRecorder(unit_shares(spec), self._last)
        self._ended: list[tuple[int, int]] = []

    def scrape(self) -> None:
        """Let a scraper read its counters now."""
        asked = self._window.wants_instances
        instances = self._service.instance_samples() if asked else None
        self._window.scrape(self._service.sample(), instances)

    def watch(self, report: TickReport, directions: Sequence[Direction], at_s: float) -> None:
        """Take in a tick that has just acted, and which ways it moved this service."""
        self._log.watch(report, directions, at_s)

    def close_interval(self) -> None:
        """Keep what the interval that ends now came to."""
        sample = self._service.sample()
        self._timeline.record(sample, self._service.states(), self._log.ratio_in_force)
        counters = sample.counters
        self._ended.append(
            (counters.attained, counters.completed.requests + counters.refused.requests)
        )
        self._last = sample

    def record(self, now_ps: int, faults: tuple[FaultNote, ...] | None) -> ServiceRecord:
        """Return everything the service is judged by, as of the interval just closed."""
        sample, settings, slo = self._last, self._settings, self._spec.slo
        counters, gpu_ps = sample.counters, self._service.gpu_ps()
        result = SimulationResult(
            scenario=settings.scenario,
            seed=settings.seed,
            policy=settings.policy,
            slo_ttft_s=slo.ttft_s,
            slo_tbt_s=slo.tbt_s,
            requests=_count(counters, "requests"),
            input_tokens=_count(counters, "input_tokens"),
            output_tokens=_count(counters, "output_tokens"),
            slo_attainment=self._attainment(counters, now_ps),
            gpu_hours=sum(gpu_ps.values()) / _GPU_HOUR_PS,
            gpu_hours_by_accelerator={
                accelerator: held_ps / _GPU_HOUR_PS for accelerator, held_ps in gpu_ps.items()
            },
            gpu_hours_static_peak=None,
            static_peak={},
            ttft_p50_s=quantile_s(sample.ttft, 0.5),
            ttft_p99_s=quantile_s(sample.ttft, 0.99),
            tbt_p50_s=quantile_s(sample.tbt, 0.5),
            tbt_p99_s=quantile_s(sample.tbt, 0.99),
            actions=len(self._log.changes),
            reversals=reversals(self._log.changes),
            out_of_ratio_share=self._log.ticks_out_of_ratio / max(1, self._log.ticks),
            simulated_s=now_ps / PS_PER_S,
            ticks=self._log.ticks,
            ticks_not_sent=self._log.ticks_not_sent,
            timeline=self._timeline.timeline(settings.interval_s, settings.start_s),
            changes=self._log.changes,
            faults=faults,
            prefix_cache=_prefix_hits(counters),
        )
        starts = [(0, 0), *self._ended[:-1]]
        pairs = list(zip(starts, self._ended, strict=True))
        return ServiceRecord(
            result=result,
            attained=tuple(after[0] - before[0] for before, after in pairs),
            ended=tuple(after[1] - before[1] for before, after in pairs),
            cut=self._service.last_arrival_ps is None,
        )

    def _attainment(self, counters: Counters, now_ps: int) -> float | None:
        """Return attained ÷ judged; what still runs inside both limits is not judged."""
        misses = self._service.serving.running_misses(now_ps)
        judged = counters.completed.requests + counters.refused.requests + misses
        return counters.attained / judged if judged else None


def _prefix_hits(counters: Counters) -> PrefixHits | None:
    if counters.prefix_lookup_tokens == 0:
        return None
    return PrefixHits(
        lookup_tokens=counters.prefix_lookup_tokens, hit_tokens=counters.prefix_hit_tokens
    )


def _count(counters: Counters, quantity: str) -> Count:
    arrived: int = getattr(counters.arrived, quantity)
    completed: int = getattr(counters.completed, quantity)
    refused: int = getattr(counters.refused, quantity)
    return Count(
        arrived=arrived,
        completed=completed,
        running=arrived - completed - refused,
        refused=refused,
    )
