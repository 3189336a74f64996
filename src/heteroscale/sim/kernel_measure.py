"""Histograms with integer logarithmic buckets, and the log.

128 equal buckets an octave, at most 0.8 % wide, over the 24 octaves from 2^26 ps (67 µs) to 2^50 ps
(1,126 s); one bucket below and one above. A bucket follows from a value by shifts alone.
"""

from __future__ import annotations

import numpy as np

from heteroscale.sim.jit import inlined, njit
from heteroscale.sim.kernel_state import G_LOGGED, G_LOGGING, Int64Array

LOWEST_BIT = 26
HIGHEST_BIT = 50
BUCKET_BITS = 7
BUCKETS = ((HIGHEST_BIT - LOWEST_BIT) << BUCKET_BITS) + 2


def bucket_edges() -> Int64Array:
    """Return the lower edge of every bucket, ps; a bucket ends where the next begins."""
    edges = [0]
    for bit in range(LOWEST_BIT, HIGHEST_BIT):
        shift = bit - BUCKET_BITS
        edges += [(1 << BUCKET_BITS | m) << shift for m in range(1 << BUCKET_BITS)]
    return np.array([*edges, 1 << HIGHEST_BIT], dtype=np.int64)


@inlined
def bucket_of(value: int) -> int:
    """Return the index of the bucket that holds a value ≥ 0."""
    if value < 1 << LOWEST_BIT:
        return 0
    if value >= 1 << HIGHEST_BIT:
        return BUCKETS - 1
    bit = LOWEST_BIT
    rest = value >> LOWEST_BIT
    if rest >= 1 << 16:
        bit += 16
        rest >>= 16
    if rest >= 1 << 8:
        bit += 8
        rest >>= 8
    if rest >= 1 << 4:
        bit += 4
        rest >>= 4
    if rest >= 1 << 2:
        bit += 2
        rest >>= 2
    if rest >= 1 << 1:
        bit += 1
    within = (value >> (bit - BUCKET_BITS)) - (1 << BUCKET_BITS)
    return 1 + ((bit - LOWEST_BIT) << BUCKET_BITS) + within


@njit
def quantile_of(counts: Int64Array, edges: Int64Array, quantile: float) -> float:
    """Return a quantile of a histogram, ps, linear inside its bucket; -1.0 of an empty one.

    The last bucket has no upper edge: what falls there answers with its lower one.
    """
    total = 0
    for bucket in range(len(counts)):
        total += counts[bucket]
    rank = quantile * float(total)
    before = 0
    for bucket in range(len(counts)):
        held = counts[bucket]
        if held > 0 and float(before + held) >= rank:
            low = float(edges[bucket])
            if bucket + 1 == len(edges):
                return low
            share = max(0.0, (rank - float(before)) / float(held))
            return low + (float(edges[bucket + 1]) - low) * share
        before += held
    return -1.0


@inlined
def count_ramp(
    histogram: Int64Array, edges: Int64Array, first: int, growth: int, steps: int, weight: int
) -> None:
    """Count first, first + growth, … (steps values), each weight times, bucket by bucket."""
    value = first
    left = steps
    bucket = bucket_of(first)
    while left > 0:
        inside = left
        if growth > 0 and bucket < BUCKETS - 1:
            inside = min(left, (edges[bucket + 1] - value + growth - 1) // growth)
        histogram[bucket] += weight * inside
        left -= inside
        value += growth * inside
        if left > 0:
            bucket = bucket_of(value)


@inlined
def write_log(
    log: Int64Array, scalars: Int64Array, time: int, kind: int, request: int, instance: int
) -> None:
    """Append a row if a log is kept; the kernel has made sure that there is room."""
    if scalars[G_LOGGING] == 0:
        return
    row = scalars[G_LOGGED]
    scalars[G_LOGGED] = row + 1
    log[row, 0] = time
    log[row, 1] = kind
    log[row, 2] = request
    log[row, 3] = instance
