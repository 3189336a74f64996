"""A request's beginning and end: what is counted, and whether it kept its limits."""

from __future__ import annotations

from heteroscale.sim.jit import inlined, njit
from heteroscale.sim.kernel_heap import free_slot
from heteroscale.sim.kernel_measure import write_log
from heteroscale.sim.kernel_state import (
    G_ATTAINED,
    G_COMPLETED,
    G_COMPLETED_INPUT,
    G_COMPLETED_OUTPUT,
    G_SLO_TBT,
    G_SLO_TTFT,
    LOG_FINISHED,
    NONE,
    R_ARRIVAL,
    R_FIRST,
    R_INPUT,
    R_OUTPUT,
    R_REQUEST,
    Int64Array,
)


@inlined
def mean_gap_over(span: int, output: int, limit: int) -> bool:
    """Tell whether span ÷ (output − 1) exceeds a limit, without a product that could overflow."""
    return output > 1 and (span + output - 2) // (output - 1) > limit


@inlined
def complete(
    slots: Int64Array, scalars: Int64Array, log: Int64Array, slot: int, now: int, instance: int
) -> None:
    """Count a finished request and free its slot."""
    scalars[G_COMPLETED] += 1
    scalars[G_COMPLETED_INPUT] += slots[slot, R_INPUT]
    scalars[G_COMPLETED_OUTPUT] += slots[slot, R_OUTPUT]
    first = slots[slot, R_FIRST]
    late = first - slots[slot, R_ARRIVAL] > scalars[G_SLO_TTFT]
    if not late and not mean_gap_over(now - first, slots[slot, R_OUTPUT], scalars[G_SLO_TBT]):
        scalars[G_ATTAINED] += 1
    write_log(log, scalars, now, LOG_FINISHED, slots[slot, R_REQUEST], instance)
    free_slot(slots, scalars, slot)


@njit
def misses_so_far(slots: Int64Array, scalars: Int64Array, now: int) -> int:
    """Count live requests that are past a limit already, whatever happens next."""
    missed = 0
    for slot in range(slots.shape[0]):
        if slots[slot, R_REQUEST] == NONE:
            continue
        first = slots[slot, R_FIRST]
        shown = now if first == NONE else first
        late = shown - slots[slot, R_ARRIVAL] > scalars[G_SLO_TTFT]
        if first != NONE and not late:
            late = mean_gap_over(now - first, slots[slot, R_OUTPUT], scalars[G_SLO_TBT])
        if late:
            missed += 1
    return missed
