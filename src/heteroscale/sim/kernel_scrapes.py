"""What scrapes of single instances come to: arrays with a column per instance.

Compiled, because every scrape looks at every sample in the window; `scrapes.py` says what for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from heteroscale.sim.jit import njit
from heteroscale.sim.kernel_state import Int64Array

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

# Rows of what an instance's samples in the window come to.
S_SAMPLES = 0
S_FIRST_AT = 1
S_FIRST_TOKENS = 2
S_LAST_AT = 3
S_GROWN_TOKENS = 4
S_ROWS = 5

# Columns of what they come to in a role: of those with two samples …
R_OBSERVED = 0
# … of those in rotation by their newest sample …
R_RESERVED = 1
R_CAPACITY = 2
# … and of those in rotation by now: all, and those with two samples.
R_READY = 3
R_COVERED = 4
R_COLUMNS = 5


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
    role_of: Int64Array,
    ready: BoolArray,
    occupancy: Float64Array,
    series: Int64Array,
    sums: Int64Array,
    times: Float64Array,
) -> None:
    """Write what the scrapes in the window say of every instance and of every role.

    Args:
        kept: [scrape, K_…, instance].
        role_of: index of each instance's role.
        ready: whether each instance is in rotation by now.
        occupancy: of each instance, SM activity ÷ utilization.
        series: [S_…, instance].
        sums: [role, R_…].
        times: [role, (busy ps, that weighted with the occupancy)] of those with two samples.
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
        series[S_SAMPLES, column] = samples
        series[S_FIRST_AT, column] = kept[first, K_AT, column]
        series[S_FIRST_TOKENS, column] = kept[first, K_TOKENS, column]
        series[S_LAST_AT, column] = kept[last, K_AT, column]
        grown = kept[last, K_GROWN_TOKENS, column] - kept[first, K_GROWN_TOKENS, column]
        series[S_GROWN_TOKENS, column] = grown
        if samples and kept[last, K_READY, column]:
            sums[role, R_RESERVED] += kept[last, K_RESERVED, column]
            sums[role, R_CAPACITY] += kept[last, K_CAPACITY, column]
        sums[role, R_READY] += ready[column]
        if samples > 1:
            sums[role, R_COVERED] += ready[column]
            sums[role, R_OBSERVED] += kept[last, K_AT, column] - kept[first, K_AT, column]
            busy = kept[last, K_GROWN_BUSY, column] - kept[first, K_GROWN_BUSY, column]
            times[role, 0] += float(busy)
            times[role, 1] += float(busy) * occupancy[column]
