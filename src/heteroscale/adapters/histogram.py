"""The quantile of merged buckets, by the rules of PromQL's `histogram_quantile`.

Source: Prometheus, promql/quantile.go (`bucketQuantile`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

#: a bucket that holds less than the one before it by no more than this share of both is one whose
#: floating-point sums were added in another order
_SMALL_DELTA = 1e-12


def quantile_of(quantile: float, buckets: Mapping[str, float]) -> float:
    """Return the quantile of events, in the unit of the edges; NaN where it cannot be told.

    Between two edges events are taken to be spread evenly; those above the last finite edge count
    as being there. NaN: no event, no bucket without an upper edge, or no other one.

    Args:
        quantile: above 0 and below 1.
        buckets: upper edge as it is spelled → rate of events at or below it, merged over series.
    """
    merged: dict[float, float] = {}
    for edge, rate in buckets.items():
        upper = float(edge)
        merged[upper] = merged.get(upper, 0.0) + rate
    edges = sorted(merged)
    if len(edges) < 2 or edges[-1] != math.inf:
        return math.nan
    counts = list(itertools.accumulate((merged[edge] for edge in edges), _monotonic))
    if not counts[-1] > 0.0:
        return math.nan
    rank = quantile * counts[-1]
    at = next(
        index for index, count in enumerate(counts) if index == len(counts) - 1 or count >= rank
    )
    if at == len(counts) - 1:
        return edges[-2]
    if at == 0:
        return edges[0] if edges[0] <= 0.0 else edges[0] * (rank / counts[0])
    below = counts[at - 1]
    share = (rank - below) / (counts[at] - below)
    return edges[at - 1] + (edges[at] - edges[at - 1]) * share


def _monotonic(before: float, count: float) -> float:
    if abs(count - before) <= _SMALL_DELTA * (abs(before) + abs(count)):
        return before
    return max(before, count)
