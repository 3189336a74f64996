"""What scrapes of single instances come to: arrays with a column per instance.

Compiled, because every scrape looks at every sample in the window; `scrapes.py` says what for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from heteroscale.sim.jit import inlined, njit
from heteroscale.sim.kernel_state import Int64Array
from heteroscale.workload.arrivals import PS_PER_S

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Rows of one scrape in the window; of an instance that did not report, all but the first are as
# it reported last. What its counters grew by is counted since any former time.
K_TOLD = 0
K_AT = 1
K_READY = 2
K_TOKENS = 3
K_BUSY = 4
K_RESERVED = 5
K_CAPACITY = 6
K_GROWN_TOKENS = 7
K_GROWN_BUSY = 8
K_ROWS = 9

# Columns of what samples in the window come to in a role: of those with two …
R_OBSERVED = 0
# … of those in rotation by their newest sample …
R_RESERVED = 1
R_CAPACITY = 2
# … and of those in rotation by now: all, and those with two samples.
R_READY = 3
R_COVERED = 4
R_COLUMNS = 5

# Columns of what is no whole number, in a role: of those with two samples, busy time in ps, that
# weighted with the occupancy, and tokens/s.
T_BUSY = 0
T_ACTIVE = 1
T_TPS = 2
T_COLUMNS = 3

#: a gap at the edge of the window is bridged up to so many scrape intervals, else by half of one
BRIDGED_INTERVALS = 1.1


@njit
def note(kept: Int64Array, columns: Int64Array, told: BoolArray, said: Int64Array) -> None:
    """Write the newest scrape, which so far is a copy of the one before it.

    Args:
        kept: [scrape, K_…, instance].
        columns: of the instances that were asked.
        told: whether each of them reported.
        said: rows K_AT to K_CAPACITY of each of them.
    """
    newest = kept[len(kept) - 1]
    for column in range(newest.shape[1]):
        newest[K_TOLD, column] = 0
    for asked in range(len(columns)):
        if told[asked]:
            column = columns[asked]
            for counter, grown in ((K_TOKENS, K_GROWN_TOKENS), (K_BUSY, K_GROWN_BUSY)):
                more = said[counter, asked] - newest[counter, column]
                # One that fell began anew, from 0.
                newest[grown, column] += more if more >= 0 else said[counter, asked]
            for row in range(K_AT, K_CAPACITY + 1):
                newest[row, column] = said[row, asked]
            newest[K_TOLD, column] = 1


@njit
def sum_up(
    kept: Int64Array,
    now_ps: int,
    window_ps: int,
    role_of: Int64Array,
    ready: BoolArray,
    occupancy: Float64Array,
    sums: Int64Array,
    times: Float64Array,
) -> None:
    """Write what the scrapes in the window say of every role.

    Args:
        kept: [scrape, K_…, instance].
        now_ps: time of the newest scrape, with which the window ends.
        window_ps: length of the window.
        role_of: index of each instance's role.
        ready: whether each instance is in rotation by now.
        occupancy: of each instance, SM activity ÷ utilization.
        sums: [role, R_…].
        times: [role, T_…].
    """
    last = len(kept) - 1
    sums[:] = 0
    times[:] = 0.0
    for column in range(len(role_of)):
        first = last
        samples = 0
        for scrape in range(last, -1, -1):
            if kept[scrape, K_TOLD, column]:
                first = scrape
                samples += 1
        role = role_of[column]
        if samples and kept[last, K_READY, column]:
            sums[role, R_RESERVED] += kept[last, K_RESERVED, column]
            sums[role, R_CAPACITY] += kept[last, K_CAPACITY, column]
        sums[role, R_READY] += ready[column]
        if samples > 1:
            sums[role, R_COVERED] += ready[column]
            first_ps = kept[first, K_AT, column]
            last_ps = kept[last, K_AT, column]
            sums[role, R_OBSERVED] += last_ps - first_ps
            busy = kept[last, K_GROWN_BUSY, column] - kept[first, K_GROWN_BUSY, column]
            times[role, T_BUSY] += float(busy)
            times[role, T_ACTIVE] += float(busy) * occupancy[column]
            times[role, T_TPS] += _rate_tps(
                samples,
                float(first_ps - (now_ps - window_ps)),
                float(last_ps - first_ps),
                float(now_ps - last_ps),
                float(kept[first, K_TOKENS, column]),
                float(kept[last, K_GROWN_TOKENS, column] - kept[first, K_GROWN_TOKENS, column]),
            )


@inlined
def _rate_tps(
    samples: int,
    before_ps: float,
    span_ps: float,
    after_ps: float,
    first_tokens: float,
    grown_tokens: float,
) -> float:
    """Return the tokens/s over the whole window of one with two samples, as `rate` would.

    What lies between the window's edges and the samples is filled in at the same pace, as far as
    the gap is no longer than a scrape would explain, and never back beyond a count of 0.

    Args:
        samples: of it in the window.
        before_ps: from the window's beginning to the first sample.
        span_ps: from the first to the last.
        after_ps: from there to the window's end.
        first_tokens: its count at the first.
        grown_tokens: by how much that grew.
    """
    if grown_tokens == 0.0:
        return 0.0
    window_ps = before_ps + span_ps + after_ps
    interval_ps = span_ps / (samples - 1)
    if before_ps >= BRIDGED_INTERVALS * interval_ps:
        before_ps = interval_ps / 2
    if after_ps >= BRIDGED_INTERVALS * interval_ps:
        after_ps = interval_ps / 2
    before_ps = min(before_ps, span_ps * first_tokens / grown_tokens)
    return grown_tokens * (before_ps + span_ps + after_ps) / span_ps / (window_ps / PS_PER_S)
