"""The search for the smallest pool of co-located engines, on real runs."""

from __future__ import annotations

import dataclasses
import math
import operator
from functools import partial

import pytest

from heteroscale.app import assemble, simulate
from heteroscale.config.scenario import Scenario
from heteroscale.config.scenario_sections import (
    PrefixCacheSection,
    RoutingName,
    ServingSection,
    StaticPeakSection,
)
from heteroscale.sim.colocated_peak import find_colocated_peak
from heteroscale.sim.course import ServiceRecord
from heteroscale.sim.fleet_search import smallest_pool
from heteroscale.sim.result import ColocatedPeak, Search
from heteroscale.sim.speed import performance_model
from tests.unit.sim.small import small

COMPARED = StaticPeakSection(colocated_token_budget=2_048)


def run(scenario: Scenario) -> ServiceRecord:
    """Return the record of a fixed P/D fleet."""
    return assemble(scenario, policy="static").go().services[scenario.service.name]


def less(record: ServiceRecord, share: float) -> ServiceRecord:
    """Return a record that attained a share of what ended."""
    return dataclasses.replace(record, attained=tuple(int(share * ended) for ended in record.ended))


def found(scenario: Scenario, record: ServiceRecord) -> ColocatedPeak:
    (alone,) = scenario.alone()
    return find_colocated_peak(alone, performance_model(alone.own.model), record)


def test_the_fewest_engines_that_attain_are_found() -> None:
    scenario = small(static_peak=COMPARED, initial={"prefill": 5, "decode": 4}, duration_s=600.0)
    # Of the longest prompts some miss their limit on any pool: their chunks read the weights again.
    record = less(run(scenario), 0.99)
    told: list[int] = []
    (alone,) = scenario.alone()
    peak = find_colocated_peak(alone, performance_model(alone.own.model), record, told.append)
    assert peak.search is Search.FOUND
    assert peak.gpus == 8 * peak.replicas > 0
    assert (peak.attainment or 0.0) >= sum(record.attained) / sum(record.ended) > 0.98
    better = dataclasses.replace(record, attained=record.ended)
    assert found(scenario, better) == ColocatedPeak(search=Search.NONE_ATTAINS)
    assert told == list(range(1, len(told) + 1))


def test_a_pool_is_found_where_prefill_instances_keep_a_cache_and_route_by_it() -> None:
    serving = ServingSection(routing=RoutingName.PREFIX_AWARE, prefix_cache=PrefixCacheSection())
    scenario = small(static_peak=COMPARED, serving=serving, duration_s=300.0)
    assert found(scenario, less(run(scenario), 0.9)).search is Search.FOUND


def test_nothing_is_compared_when_no_request_ended() -> None:
    scenario = small(static_peak=COMPARED, duration_s=60.0)
    none = dataclasses.replace(run(scenario), attained=(0,), ended=(0,))
    assert found(scenario, none) == ColocatedPeak(search=Search.NOTHING_ENDED)


def test_a_report_tells_it_only_when_asked() -> None:
    asked = simulate(small(static_peak=COMPARED, duration_s=300.0)).only
    assert asked.colocated_peak is not None
    assert asked.colocated_peak.search is not Search.NOT_SEARCHED
    assert simulate(small(duration_s=60.0)).only.colocated_peak is None


@pytest.mark.parametrize("guess", [0.1, 3.0, 30.0])
def test_the_smallest_pool_is_the_first_that_attains(guess: float) -> None:
    for least in range(1, math.floor(guess * 1.6 * 8) + 2):
        assert smallest_pool(partial(operator.le, least), guess) == least


def test_a_pool_far_too_large_is_given_up() -> None:
    tried: list[int] = []

    def attains(count: int) -> bool:
        tried.append(count)
        return False

    assert smallest_pool(attains, 5.0) is None
    assert len(tried) == 4
