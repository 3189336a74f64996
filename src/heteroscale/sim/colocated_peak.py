"""The smallest fixed pool of co-located engines that attains as much as a policy did on P/D.

Compared over the same hours and requests as the static peak. The engines are decode's instances,
with chunked prefill; they keep no prefix cache, whatever the scenario's prefill instances do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from heteroscale.config.scenario import Scenario
from heteroscale.performance.model import PerformanceModel, StepCoefficients
from heteroscale.sim.colocated import ColocatedServing, EngineSettings
from heteroscale.sim.course import ServiceRecord
from heteroscale.sim.fleet_search import smallest_pool
from heteroscale.sim.kernel_options import Routing, ServingOptions
from heteroscale.sim.result import ColocatedPeak, Search
from heteroscale.sim.stages import stage_roles
from heteroscale.sim.static_peak import Hours, compared_hours, needed_instances
from heteroscale.sim.world import serving_options, stage_speeds
from heteroscale.workload.arrivals import PS_PER_S


def find_colocated_peak(
    scenario: Scenario,
    model: PerformanceModel,
    policy: ServiceRecord,
    progress: Callable[[int], None] | None = None,
) -> ColocatedPeak:
    """Return the fewest co-located engines that attain what the policy attained, or why none do.

    Args:
        scenario: of one service, with a token budget for co-located engines.
        model: how fast its engines are.
        policy: the service's record of the policy's run of this scenario.
        progress: told how many pools have been simulated.
    """
    hours, wanted = compared_hours(scenario, policy)
    if wanted[1] == 0:
        return ColocatedPeak(search=Search.NOTHING_ENDED)
    leaves = {leaf.path: leaf.accelerators[0] for leaf in scenario.service.group.leaves()}
    option = leaves[stage_roles(scenario.service)[1]]
    gpus = option.gpus * option.nodes
    trial = _Trial(scenario, stage_speeds(scenario, model)[1], hours, wanted, progress)
    replicas = smallest_pool(trial.attains, sum(needed_instances(scenario, model, hours)))
    if replicas is None:
        return ColocatedPeak(search=Search.NONE_ATTAINS)
    attained, ended = trial.ended(replicas)
    return ColocatedPeak(
        search=Search.FOUND,
        replicas=replicas,
        gpus=replicas * gpus,
        attainment=attained / ended if ended else 0.0,
    )


class _Trial:
    """Simulates pools over the busy hours, each at most once."""

    def __init__(
        self,
        scenario: Scenario,
        speed: StepCoefficients,
        hours: Sequence[Hours],
        wanted: tuple[int, int],
        progress: Callable[[int], None] | None,
    ) -> None:
        self._scenario = scenario
        self._speed = speed
        self._hours = hours
        self._wanted = wanted
        self._progress = progress
        self._known: dict[int, tuple[int, int]] = {}

    def attains(self, replicas: int) -> bool:
        """Return whether a pool attains at least as much as the policy did."""
        attained, ended = self.ended(replicas)
        return attained * self._wanted[1] >= self._wanted[0] * ended

    def ended(self, replicas: int) -> tuple[int, int]:
        """Return the requests of the compared hours that a pool (attained, ended)."""
        if replicas not in self._known:
            spans = [self._run(replicas, span) for span in self._hours]
            self._known[replicas] = (sum(span[0] for span in spans), sum(span[1] for span in spans))
            if self._progress is not None:
                self._progress(len(self._known))
        return self._known[replicas]

    def _run(self, replicas: int, span: Hours) -> tuple[int, int]:
        interval_ps = round(self._scenario.timeline_interval_s * PS_PER_S)
        pool = self._pool(replicas)
        pool.feed(span.requests)
        pool.close_arrivals()
        marks = []
        for intervals in (span.warm_up, span.warm_up + span.last - span.first):
            pool.advance(intervals * interval_ps)
            counters = pool.counters(intervals * interval_ps)
            ended = counters.completed.requests + counters.refused.requests
            marks.append((counters.attained, ended))
        (before, before_ended), (after, after_ended) = marks
        return after - before, after_ended - before_ended

    def _pool(self, replicas: int) -> ColocatedServing:
        serving, slo = self._scenario.own.serving, self._scenario.service.slo
        budget = self._scenario.static_peak.colocated_token_budget or 1
        return ColocatedServing(
            [self._speed] * replicas,
            EngineSettings(
                token_budget=budget, max_sequences=min(budget, serving.decode_max_batch)
            ),
            admission_limit=serving.admission_limit,
            slo_ttft_ps=round(slo.ttft_s * PS_PER_S),
            slo_tbt_ps=round(slo.tbt_s * PS_PER_S),
            options=_pool_options(self._scenario),
        )


def _pool_options(scenario: Scenario) -> ServingOptions:
    """Return the scenario's choices as far as one pool has them."""
    options = serving_options(scenario)
    aware = options.routing is Routing.PREFIX_AWARE
    return dataclasses.replace(
        options,
        routing=Routing.LEAST_LOADED if aware else options.routing,
        decode_routing=None,
        prefix_cache=None,
    )
