"""The search for the smallest fixed fleet: against brute force, and on a real run."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.app import assemble
from heteroscale.sim.result import Timeline
from heteroscale.sim.run import RunRecord
from heteroscale.sim.speed import performance_model
from heteroscale.sim.static_peak import busiest, find_static_peak, smallest_fleet
from heteroscale.workload.rate_curve import S_PER_HOUR
from tests.unit.sim.small import small

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

    # The search takes what "to spare" means from the guesses, so they must not be far too low.
    guess = (max(guesses[0], needed[0] / 1.6), max(guesses[1], (least_decode + 6) / 1.6))
    found = smallest_fleet(attains, guess, gpus)
    every = [(p, d) for p in range(1, MOST) for d in range(1, MOST) if attains((p, d))]
    assert found is not None
    assert attains(found)
    assert gpus(found) == min(map(gpus, every))


def test_no_fleet_attains_what_capacity_cannot_give() -> None:
    tried: list[tuple[int, int]] = []

    def attains(counts: tuple[int, int]) -> bool:
        tried.append(counts)
        return False

    assert smallest_fleet(attains, (5.0, 5.0), sum) is None
    assert len(tried) < 10


def record(prefill: list[float], decode: list[float]) -> RunRecord:
    """Return a run of which only the offered loads per half hour matter."""
    whole = assemble(small(duration_s=60.0), policy="static").go()
    timeline = Timeline(
        interval_s=S_PER_HOUR / 2,
        start_s=0.0,
        series={
            "prefill_offered_tps": tuple(prefill),
            "decode_offered_tps": tuple(decode),
        },
        instances={},
    )
    return RunRecord(
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
    model = performance_model(scenario.model)
    policy = assemble(scenario, policy="static").go()
    told: list[int] = []
    peak = find_static_peak(scenario, model, policy, told.append)
    assert peak is not None
    assert peak.attainment >= peak.policy_attainment > 0.99
    assert peak.gpus == 8 * sum(peak.replicas.values()) <= 72
    assert told == list(range(1, peak.runs + 1))
    for role in peak.replicas:
        fewer = {**peak.replicas, role: peak.replicas[role] - 1}
        if min(fewer.values()) == 0:
            continue
        rest = assemble(dataclasses.replace(scenario, initial=fewer), policy="static").go()
        assert sum(rest.attained) / sum(rest.ended) < peak.policy_attainment


def test_nothing_is_compared_when_no_request_ended() -> None:
    scenario = small(duration_s=60.0)
    model = performance_model(scenario.model)
    run = assemble(scenario, policy="static").go()
    none = dataclasses.replace(run, attained=(0,), ended=(0,))
    assert find_static_peak(scenario, model, none) is None
