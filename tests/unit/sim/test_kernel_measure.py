"""Buckets, and runs of growing durations counted bucket by bucket."""

from __future__ import annotations

import bisect
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.sim.kernel_decode import steps_within, time_of_steps
from heteroscale.sim.kernel_measure import BUCKETS, bucket_edges, bucket_of, count_ramp

EDGES = bucket_edges()
EDGE_LIST = [int(edge) for edge in EDGES]


def slow_bucket(value: int) -> int:
    return bisect.bisect_right(EDGE_LIST, value) - 1


def test_edges_rise_by_at_most_one_percent_from_100_us_to_1000_s() -> None:
    inside = [edge for edge in EDGE_LIST if 10**8 <= edge <= 10**15]
    assert len(EDGE_LIST) == BUCKETS
    assert sorted(set(EDGE_LIST)) == EDGE_LIST
    assert inside[0] < 1.01 * 10**8
    assert inside[-1] > 0.99 * 10**15
    assert all(100 * (b - a) <= a for a, b in itertools.pairwise(inside))


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_a_bucket_begins_exactly_at_its_edge(offset: int) -> None:
    for bucket in range(1, BUCKETS):
        value = EDGE_LIST[bucket] + offset
        assert bucket_of(value) == slow_bucket(value) == bucket - (offset < 0)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**62))
def test_bucket_of_is_the_search_among_the_edges(value: int) -> None:
    assert bucket_of(value) == slow_bucket(value)


@settings(max_examples=100, deadline=None)
@given(
    first=st.integers(0, 2**51),
    growth=st.one_of(st.just(0), st.integers(1, 2**44)),
    steps=st.integers(0, 300),
    weight=st.integers(1, 512),
)
def test_a_ramp_is_counted_as_its_values_one_by_one(
    first: int, growth: int, steps: int, weight: int
) -> None:
    fast = np.zeros(BUCKETS, np.int64)
    count_ramp(fast, EDGES, first, growth, steps, weight)
    slow = np.zeros(BUCKETS, np.int64)
    for step in range(steps):
        slow[slow_bucket(first + growth * step)] += weight
    assert fast.tolist() == slow.tolist()


@settings(max_examples=200, deadline=None)
@given(
    first=st.integers(1, 2**40),
    growth=st.one_of(st.just(0), st.integers(0, 2**36)),
    steps=st.integers(1, 400),
    at=st.integers(0, 400),
    offset=st.integers(-1, 1),
)
def test_steps_within_inverts_the_sum_of_steps(
    first: int, growth: int, steps: int, at: int, offset: int
) -> None:
    ends = [sum(first + growth * k for k in range(n)) for n in range(steps + 1)]
    assert time_of_steps(first, growth, steps) == ends[-1]
    elapsed = max(0, ends[min(at, steps)] + offset)
    assert steps_within(first, growth, steps, elapsed) == bisect.bisect_right(ends, elapsed) - 1
