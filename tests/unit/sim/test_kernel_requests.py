"""Limits are kept or broken by whole picoseconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.sim.kernel_requests import mean_gap_over


@given(output=st.integers(2, 5_000), limit=st.integers(0, 2**50), offset=st.integers(-1, 1))
def test_the_mean_gap_is_over_exactly_when_the_span_is_over_the_sum_of_gaps(
    output: int, limit: int, offset: int
) -> None:
    span = max(0, limit * (output - 1) + offset)
    assert mean_gap_over(span, output, limit) == (span > limit * (output - 1))


@pytest.mark.parametrize("span", [0, 2**60])
def test_one_token_has_no_gap(span: int) -> None:
    assert not mean_gap_over(span, 1, 0)
