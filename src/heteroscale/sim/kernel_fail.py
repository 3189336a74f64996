"""Takes its requests from an instance that goes at once; they start over. Rare, so not compiled."""

from __future__ import annotations

import numpy as np

from heteroscale.sim.kernel_bundles import add_transfer
from heteroscale.sim.kernel_links import kv_bytes, leave_uplinks, speed_up
from heteroscale.sim.kernel_measure import write_log
from heteroscale.sim.kernel_memory import more_log
from heteroscale.sim.kernel_prefill import wait_for_prefill
from heteroscale.sim.kernel_route import wait_for_decode
from heteroscale.sim.kernel_state import (
    B_ROOT,
    G_CHANGED,
    G_DECODE_COUNT,
    G_DECODE_HEAD,
    G_EVENTS,
    G_IN_TRANSFER,
    G_KV_LOST,
    G_LOGGED,
    G_LOGGING,
    G_NOW,
    G_WAITING,
    I_BATCH_HEAD,
    I_OUTSTANDING,
    I_QUEUE_HEAD,
    I_QUEUED,
    I_ROLE,
    I_RUNNING,
    KIND_BATCH_END,
    KIND_BOUNDARY,
    KIND_SHIFT,
    KIND_TRANSFER_END,
    LOG_RESTARTED,
    NONE,
    PREFILL,
    R_BUNDLE,
    R_DECODE,
    R_FIRST,
    R_INPUT,
    R_NEXT,
    R_OUTPUT,
    R_PREFILL,
    R_REQUEST,
    State,
)


def start_over(state: State, handle: int) -> State:
    """Return the state with an instance's requests back in the service-level prefill queue.

    Requests keep their arrival and their number, by which they queue again; the instance's events
    and transfers, to it or from it, are void.
    """
    prefill = state.instances[handle, I_ROLE] == PREFILL
    owed = _take_transfers(state, handle, R_PREFILL if prefill else R_DECODE)
    owed += _chain(state, state.instances[handle, I_QUEUE_HEAD], state.instances[handle, I_QUEUED])
    running = int(state.instances[handle, I_RUNNING])
    scalars = state.scalars
    if prefill:
        scalars[G_WAITING] -= state.instances[handle, I_QUEUED]
        owed += _chain(state, state.instances[handle, I_BATCH_HEAD], running)
        owed += _take_waiting(state, handle)
    else:
        owed += state.finish[handle, :running, 1].tolist()
    if scalars[G_LOGGING] != 0:
        while scalars[G_LOGGED] + len(owed) > len(state.log):
            state = more_log(state)
    for slot in sorted(owed, key=lambda slot: int(state.slots[slot, R_REQUEST])):
        state.slots[slot, R_FIRST] = NONE
        request = state.slots[slot, R_REQUEST]
        write_log(state.log, scalars, scalars[G_NOW], LOG_RESTARTED, request, handle)
        wait_for_prefill(state, slot)
        scalars[G_WAITING] += 1
    scalars[G_CHANGED] = 1
    return state


def _chain(state: State, head: int, count: int) -> list[int]:
    """Return the slots of a linked list."""
    slots: list[int] = []
    slot = int(head)
    for _ in range(count):
        slots.append(slot)
        slot = int(state.slots[slot, R_NEXT])
    return slots


def _take_waiting(state: State, handle: int) -> list[int]:
    """Take the requests whose KV an instance holds out of the service-level decode queue."""
    scalars = state.scalars
    waiting = _chain(state, scalars[G_DECODE_HEAD], scalars[G_DECODE_COUNT])
    scalars[G_DECODE_COUNT] = 0
    taken = []
    for slot in waiting:
        if state.slots[slot, R_PREFILL] == handle:
            taken.append(slot)
        else:
            wait_for_decode(state, slot)
    return taken


def _take_transfers(state: State, handle: int, side: int) -> list[int]:
    """Take an instance's events out of the heap; return the requests of its transfers."""
    scalars = state.scalars
    events = state.events[: scalars[G_EVENTS]]
    moved = events[:, 1] >> KIND_SHIFT == KIND_TRANSFER_END
    moved[moved] = state.slots[events[moved, 2], side] == handle
    taken: list[int] = events[moved, 2].tolist()
    own = [(kind << KIND_SHIFT) + handle for kind in (KIND_BOUNDARY, KIND_BATCH_END)]
    kept = events[~(moved | np.isin(events[:, 1], own))]
    # Sorted rows are a heap.
    state.events[: len(kept)] = kept[np.lexsort((kept[:, 1], kept[:, 0]))]
    scalars[G_EVENTS] = len(kept)
    taken += _take_sending(state, handle, side)
    scalars[G_IN_TRANSFER] -= len(taken)
    for slot in taken:
        request = state.slots[slot]
        scalars[G_KV_LOST] += kv_bytes(state, slot)
        if side == R_PREFILL:
            state.load[request[R_DECODE]] -= request[R_INPUT] + request[R_OUTPUT]
            state.instances[request[R_DECODE], I_OUTSTANDING] -= 1
        else:
            state.instances[request[R_PREFILL], I_OUTSTANDING] -= 1
    return taken


def _take_sending(state: State, handle: int, side: int) -> list[int]:
    """Take an instance's transfers off their uplinks; return their requests."""
    slots = state.slots
    now = state.scalars[G_NOW]
    mine = (slots[:, R_BUNDLE] != NONE) & (slots[:, side] == handle)
    leaving = slots[mine, R_BUNDLE]
    slots[mine, R_BUNDLE] = NONE
    # Thousands may be under way: each bundle's heap is made anew once, not once a transfer.
    for bundle, count in zip(*np.unique(leaving, return_counts=True), strict=True):
        state.bundles[bundle, B_ROOT] = NONE
        for other in np.flatnonzero(slots[:, R_BUNDLE] == bundle).tolist():
            add_transfer(state, bundle, other)
        leave_uplinks(state, bundle, now)
        for _ in range(count - 1):
            speed_up(state, bundle, now)
    taken: list[int] = np.flatnonzero(mine).tolist()
    return taken
