"""Lengths drawn again from a real trace's."""

from __future__ import annotations

import numpy as np

from heteroscale.workload.lengths import EmpiricalLengths, sample_lengths

REAL = EmpiricalLengths(tokens=np.array([7, 7, 7, 100], dtype=np.int32))


def test_only_lengths_of_the_trace_come_in_its_shares() -> None:
    drawn = sample_lengths(REAL, np.random.default_rng(1), 40_000)
    assert drawn.dtype == np.int32
    tokens, counts = np.unique(drawn, return_counts=True)
    assert tokens.tolist() == [7, 100]
    assert abs(counts[0] - 30_000) < 500


def test_a_scale_multiplies_and_is_cut_at_the_longest() -> None:
    drawn = sample_lengths(REAL, np.random.default_rng(1), 1000, np.full(1000, 2.0))
    assert np.unique(drawn).tolist() == [14, 100]
    tiny = sample_lengths(REAL, np.random.default_rng(1), 1000, 0.001)
    assert np.unique(tiny).tolist() == [1]
