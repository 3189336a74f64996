"""The search for the smallest fixed fleet: against brute force, and on a real run."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.app import assemble
from heteroscale.config.scenario_sections import BurstSection
from heteroscale.sim.course import ServiceRecord
from heteroscale.sim.fleet_search import smallest_fleet
from heteroscale.sim.result import Search, Timeline
from heteroscale.sim.speed import performance_model
from heteroscale.sim.static_peak import busiest, find_static_peak
from heteroscale.workload.rate_curve import S_PER_HOUR
from tests.unit.sim.small import changed, small

#: more instances of a role than any fleet of the search needs
MOST = 40


@settings(max_examples=150)
@given(
    floors=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    least_decode=st.integers(1, 8),
    guesses=st.tuples(st.floats(0.1, 20.0), st.floats(0.1, 20.0)),
    sizes=st.tuples(st.sampled_from([1, 2, 8]), st.sampled_from([1, 2, 8])),
)
def test_no_fleet_that_attains_has_fewer_gpus(
    floors: list[int],
    least_decode: int,
    guesses: tuple[float, float],
    sizes: tuple[int, int],
) -> None:
    # Prefill that is enough with so much decode beyond the least: it falls, then stays.
    needed = sorted(floors, reverse=True)

    def attains(counts: tuple[int, int]) -> bool:
        prefill, decode = counts
        if decode < least_decode:
            return False
        return prefill >= needed[min(decode - least_decode, len(needed) - 1)]

    def gpus(counts: tuple[int, int]) -> int:
        return counts[0] * sizes[0] + counts[1] * sizes[1]

    # The search takes what "to spare" means from the guesses, so they must not be too low.
    guess = (max(guesses[0], needed[0] / 1.6), max(guesses[1], (least_decode + 6) / 1.6))
    found = smallest_fleet(attains, guess, gpus)
    every = [(p, d) for p in range(1, MOST) for d in range(1, MOST) if attains((p, d))]
    assert found is not None
    assert attains(found)
    assert gpus(found) == min(map(gpus, every))


@settings(max_examples=150)
@given(
    odd=st.sets(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=40),
    least=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    guess=st.tuples(st.floats(0.1, 12.0), st.floats(0.1, 12.0)),
)
def test_what_is_found_attains_and_one_less_does_not_also_where_more_is_not_better(
    odd: set[tuple[int, int]], least: tuple[int, int], guess: tuple[float, float]
) -> None:
    # Of the fleets that are large enough the odd ones do not attain, of the others they do.
    def attains(counts: tuple[int, int]) -> bool:
        return (counts[0] >= least[0] and counts[1] >= least[1]) != (counts in odd)

    found = smallest_fleet(attains, guess, sum)
    if found is None:
        return
    prefill, decode = found
    assert attains(found)
    assert not any(
        attains(fewer) for fewer in ((prefill - 1, decode), (prefill, decode - 1)) if min(fewer) > 0
    )


def test_no_fleet_attains_what_capacity_cannot_give() -> None:
    tried: list[tuple[int, int]] = []

    def attains(counts: tuple[int, int]) -> bool:
        tried.append(counts)
        return False

    assert smallest_fleet(attains, (5.0, 5.0), sum) is None
    assert len(tried) < 10


def record(prefill: list[float], decode: list[float]) -> ServiceRecord:
    """Return a run of which only the offered loads per half hour matter."""
    whole = assemble(small(duration_s=60.0), policy="static").go().only
    timeline = Timeline(
        interval_s=S_PER_HOUR / 2,
        start_s=0.0,
        series={
            "prefill_offered_tps": tuple(prefill),
            "decode_offered_tps": tuple(decode),
        },
        instances={},
    )
    return ServiceRecord(
        result=dataclasses.replace(whole.result, timeline=timeline),
        attained=(0,) * len(prefill),
        ended=(0,) * len(prefill),
    )


@pytest.mark.parametrize(
    ("prefill", "decode", "hours", "expected"),
    [
        pytest.param([1, 1, 9, 9, 2, 2], [1, 1, 3, 3, 2, 2], 1.0, ((2, 4),), id="one hour"),
        pytest.param(
            [9, 9, 1, 1, 2, 2], [1, 1, 3, 3, 9, 9], 2.0, ((0, 2), (4, 6)), id="a peak of each role"
        ),
        pytest.param([1, 1, 9, 9, 8, 8], [0] * 6, 2.0, ((2, 6),), id="neighbours are one span"),
        pytest.param([5, 5, 5, 5], [1] * 4, 1.0, ((0, 2),), id="of equal hours the earlier"),
        pytest.param([1, 1, 9], [0, 0, 0], 1.0, ((2, 3),), id="a last hour that is cut short"),
        pytest.param([0, 0], [0, 0], 3.0, ((0, 2),), id="fewer hours than asked for, no load"),
    ],
)
def test_busiest_hours(
    prefill: list[float],
    decode: list[float],
    hours: float,
    expected: tuple[tuple[int, int], ...],
) -> None:
    assert busiest(record(prefill, decode), hours) == expected


def test_the_fleet_that_is_found_attains_and_one_less_of_either_does_not() -> None:
    scenario = small(initial={"prefill": 5, "decode": 4}, duration_s=900.0)
    model = performance_model(scenario.own.model)
    policy = assemble(scenario, policy="static").go().only
    told: list[int] = []
    peak = find_static_peak(scenario, model, policy, told.append)
    assert peak.search is Search.FOUND
    assert peak.attainment is not None
    assert peak.policy_attainment is not None
    assert peak.attainment >= peak.policy_attainment > 0.99
    assert peak.gpus == 8 * sum(peak.replicas.values()) <= 72
    assert told == list(range(1, peak.runs + 1))
    for role in peak.replicas:
        fewer = {**peak.replicas, role: peak.replicas[role] - 1}
        if min(fewer.values()) == 0:
            continue
        rest = assemble(changed(scenario, initial=fewer), policy="static").go().only
        assert sum(rest.attained) / sum(rest.ended) < peak.policy_attainment


def test_nothing_is_compared_when_no_request_ended() -> None:
    scenario = small(duration_s=60.0)
    model = performance_model(scenario.own.model)
    run = assemble(scenario, policy="static").go().only
    none = dataclasses.replace(run, attained=(0,), ended=(0,))
    peak = find_static_peak(scenario, model, none)
    assert (peak.search, peak.replicas, peak.policy_attainment) == (Search.NOTHING_ENDED, {}, None)


def test_a_fleet_is_found_for_a_burst_that_the_mean_of_the_hour_hides() -> None:
    # Eight times the load for two minutes of the hour: the mean is 1.2 times the rest's.
    scenario = small(duration_s=3600.0)
    generator = scenario.own.traffic.generator
    assert generator is not None
    bursts = (BurstSection(at_s=1800.0, duration_s=120.0, factor=8.0),)
    traffic = scenario.own.traffic.model_copy(
        update={"generator": generator.model_copy(update={"bursts": bursts})}
    )
    scenario = changed(scenario, traffic=traffic)
    model = performance_model(scenario.own.model)
    run = assemble(scenario, policy="static").go().only
    # No policy attains all of this; it is what a fixed fleet is to be found for.
    demanded = dataclasses.replace(run, attained=tuple(round(0.99 * n) for n in run.ended))
    peak = find_static_peak(scenario, model, demanded)
    assert peak.search is Search.FOUND
    assert peak.attainment is not None
    assert peak.policy_attainment is not None
    assert peak.attainment >= peak.policy_attainment > 0.98
    assert peak.runs < 60


def test_what_no_fleet_attains_is_said_with_what_the_policy_attained() -> None:
    # The limit on the first token is shorter than its prefill takes on an idle instance.
    scenario = small(duration_s=300.0)
    service = scenario.service
    slo = dataclasses.replace(service.slo, ttft_s=1e-4)
    fleet = dataclasses.replace(scenario.fleet, services=(dataclasses.replace(service, slo=slo),))
    scenario = dataclasses.replace(scenario, fleet=fleet)
    model = performance_model(scenario.own.model)
    run = assemble(scenario, policy="static").go().only
    peak = find_static_peak(scenario, model, dataclasses.replace(run, attained=run.ended))
    assert (peak.search, peak.replicas, peak.gpus) == (Search.NONE_ATTAINS, {}, 0)
    assert (peak.attainment, peak.policy_attainment) == (None, 1.0)
    assert peak.runs == 4


def test_a_cheaper_fleet_that_attains_where_more_prefill_does_not_is_taken() -> None:
    # More than five prefill instances flood eight decode instances; two more decode bear it.
    def attains(counts: tuple[int, int]) -> bool:
        prefill, decode = counts
        return prefill >= 4 and decode >= (6 if prefill <= 5 else 8 if prefill < 9 else 10)

    assert smallest_fleet(attains, (8.0, 8.0), sum) == (4, 6)


def test_one_instance_less_is_tried_of_either_role_in_the_end() -> None:
    # Four decode instances do with exactly five prefill: no step that trusts "more" finds them.
    def attains(counts: tuple[int, int]) -> bool:
        prefill, decode = counts
        return prefill >= 5 and (decode >= 6 or (prefill == 5 and decode in (4, 5)))

    assert smallest_fleet(attains, (6.0, 6.0), sum) == (5, 4)
