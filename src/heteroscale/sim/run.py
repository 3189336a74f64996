"""Drives a run: the kernel between boundaries, the production control loop at its ticks.

Order at one instant: arrivals and events, start-ups that end, faults, scrape, tick, end of an
interval.
A run ends at its duration, or, without one, at the first whole interval after the last arrival;
what still runs then counts as running.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from heteroscale.entities.service import ServiceSpec
from heteroscale.loop import TickReport
from heteroscale.sim.changes import ChangeLog, reversals
from heteroscale.sim.faults import Faults
from heteroscale.sim.plant import Plant
from heteroscale.sim.ports import SimSubcluster
from heteroscale.sim.result import Count, SimulationResult
from heteroscale.sim.sampling import quantile_s
from heteroscale.sim.serving import Counters
from heteroscale.sim.signals import SignalWindow
from heteroscale.sim.timeline import TimelineRecorder
from heteroscale.workload.arrivals import PS_PER_S

#: told (simulated seconds, seconds in all or None when the trace's end is not known yet)
Progress = Callable[[float, float | None], None]

#: of the random numbers of scrape times, beside the run's seed
_STREAM = 0x71E5
_GPU_HOUR_PS = 3600 * PS_PER_S


class Ticker(Protocol):
    """The control loop, or something that looks over its shoulder."""

    def tick(self) -> TickReport:
        """Observe, plan, record and act once."""
        ...


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
class RunRecord:
    """A result, and what a comparison over part of the same run needs."""

    result: SimulationResult
    #: per interval of the timeline: requests inside both limits, and requests completed or refused
    attained: tuple[int, ...]
    ended: tuple[int, ...]
    #: requests were still to come when the run ended
    cut: bool = False


class Run:
    """One run from start to end; used once."""

    def __init__(
        self,
        settings: RunSettings,
        spec: ServiceSpec,
        plant: Plant,
        window: SignalWindow,
        loop: Ticker | None,
        subclusters: Sequence[SimSubcluster],
        faults: Faults | None = None,
    ) -> None:
        """Take the parts; without a loop the fleet stays as it is, without faults it is whole."""
        self._settings = settings
        self._spec = spec
        self._plant = plant
        self._window = window
        self._loop = loop
        self._faults = faults
        self._log = ChangeLog(spec, subclusters)
        counters = plant.serving.counters(0)
        prefill, decode = counters.roles
        self._last = plant.sample()
        self._timeline = TimelineRecorder((prefill.role, decode.role), self._last)
        self._ended: list[tuple[int, int]] = []
        self._now_ps = 0
        # Not the stream that decides which scrapes fail: either may be on without the other.
        self._chance = np.random.default_rng([settings.seed, _STREAM])
        self._tick_ps = _ps(settings.tick_s)
        self._scrape_ps = _ps(settings.scrape_s)
        self._interval_ps = _ps(settings.interval_s)

    def go(self, progress: Progress | None = None) -> RunRecord:
        """Run to the end and return everything it is judged by."""
        settings = self._settings
        # The metrics server's clock is not in step with ours: its scrapes fall between ticks.
        regular = self._scrape_ps // 2
        next_scrape = regular + self._jitter_ps()
        next_tick = self._tick_ps
        next_interval = self._interval_ps
        while True:
            end_ps = self._end_ps()
            now_ps = min(next_scrape, next_tick, next_interval, self._next_fault_ps())
            if end_ps is not None:
                now_ps = min(now_ps, end_ps)
            self._plant.advance(now_ps)
            self._now_ps = now_ps
            # The end of the trace may have come up just now.
            end_ps = self._end_ps()
            if self._faults is not None:
                self._faults.strike(now_ps)
            if now_ps == next_scrape:
                regular += self._scrape_ps
                next_scrape = regular + self._jitter_ps()
                self._scrape()
            if now_ps == next_tick:
                next_tick += self._tick_ps
                self._tick()
            if now_ps in (next_interval, end_ps):
                next_interval += self._interval_ps
                self._close_interval()
                if progress is not None:
                    progress(now_ps / PS_PER_S, settings.duration_s)
            if now_ps == end_ps:
                return self._record()

    def _end_ps(self) -> int | None:
        """Return when the run ends; None = not known before the trace's end is seen."""
        if self._settings.duration_s is not None:
            return _ps(self._settings.duration_s)
        last_ps = self._plant.last_arrival_ps
        if last_ps is None:
            return None
        intervals = last_ps // self._interval_ps + 1
        return max(intervals * self._interval_ps, self._now_ps)

    def _next_fault_ps(self) -> int:
        """Return when a fault begins or ends next; without one, the next tick is soon enough."""
        due_ps = None if self._faults is None else self._faults.next_ps()
        return self._now_ps + self._tick_ps if due_ps is None else max(due_ps, self._now_ps)

    def _jitter_ps(self) -> int:
        """Return by how much the next scrape is early (negative) or late, drawn."""
        jitter_s = self._settings.jitter_s
        return _ps(float(self._chance.uniform(-jitter_s, jitter_s))) if jitter_s else 0

    def _scrape(self) -> None:
        if self._faults is None or not self._faults.blackout:
            asked = self._window.wants_instances
            self._window.scrape(
                self._plant.sample(), self._plant.instance_samples() if asked else ()
            )

    def _tick(self) -> None:
        if self._loop is not None:
            self._log.watch(self._loop.tick(), self._now_ps / PS_PER_S)

    def _close_interval(self) -> None:
        sample = self._plant.sample()
        self._timeline.record(sample, self._plant.states(), self._log.ratio_in_force)
        counters = sample.counters
        self._ended.append(
            (counters.attained, counters.completed.requests + counters.refused.requests)
        )
        self._last = sample

    def _record(self) -> RunRecord:
        sample, settings, slo = self._last, self._settings, self._spec.slo
        counters = sample.counters
        result = SimulationResult(
            scenario=settings.scenario,
            seed=settings.seed,
            policy=settings.policy,
            slo_ttft_s=slo.ttft_s,
            slo_tbt_s=slo.tbt_s,
            requests=_count(counters, "requests"),
            input_tokens=_count(counters, "input_tokens"),
            output_tokens=_count(counters, "output_tokens"),
            slo_attainment=self._attainment(counters),
            gpu_hours=self._plant.gpu_ps() / _GPU_HOUR_PS,
            gpu_hours_static_peak=None,
            static_peak={},
            ttft_p50_s=quantile_s(sample.ttft, 0.5),
            ttft_p99_s=quantile_s(sample.ttft, 0.99),
            tbt_p50_s=quantile_s(sample.tbt, 0.5),
            tbt_p99_s=quantile_s(sample.tbt, 0.99),
            actions=len(self._log.changes),
            reversals=reversals(self._log.changes),
            out_of_ratio_share=self._log.ticks_out_of_ratio / max(1, self._log.ticks),
            simulated_s=self._now_ps / PS_PER_S,
            ticks=self._log.ticks,
            ticks_not_sent=self._log.ticks_not_sent,
            timeline=self._timeline.timeline(settings.interval_s, settings.start_s),
            changes=self._log.changes,
            faults=None if self._faults is None else self._faults.notes,
        )
        starts = [(0, 0), *self._ended[:-1]]
        pairs = list(zip(starts, self._ended, strict=True))
        return RunRecord(
            result=result,
            attained=tuple(after[0] - before[0] for before, after in pairs),
            ended=tuple(after[1] - before[1] for before, after in pairs),
            cut=self._plant.last_arrival_ps is None,
        )

    def _attainment(self, counters: Counters) -> float | None:
        """Return attained ÷ judged; what still runs inside both limits is not judged."""
        misses = self._plant.serving.running_misses(self._now_ps)
        judged = counters.completed.requests + counters.refused.requests + misses
        return counters.attained / judged if judged else None


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


def _ps(seconds: float) -> int:
    return round(seconds * PS_PER_S)
