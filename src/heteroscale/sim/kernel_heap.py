"""Binary heaps in arrays, and linked lists of queued and free slots. Knows orders, not meanings."""

from __future__ import annotations

from heteroscale.sim.jit import inlined
from heteroscale.sim.kernel_state import (
    G_EVENTS,
    G_FREE_SLOT,
    G_LIVE,
    I_QUEUE_HEAD,
    I_QUEUE_TAIL,
    I_QUEUED,
    I_RUNNING,
    NONE,
    R_NEXT,
    R_REQUEST,
    Int64Array,
)


@inlined
def push_event(events: Int64Array, scalars: Int64Array, time: int, key: int, payload: int) -> None:
    """Add an event; order is (time, key)."""
    at = scalars[G_EVENTS]
    scalars[G_EVENTS] = at + 1
    while at > 0:
        parent = (at - 1) >> 1
        above = events[parent, 0]
        if above < time or (above == time and events[parent, 1] <= key):
            break
        events[at, 0] = above
        events[at, 1] = events[parent, 1]
        events[at, 2] = events[parent, 2]
        at = parent
    events[at, 0] = time
    events[at, 1] = key
    events[at, 2] = payload


@inlined
def drop_event(events: Int64Array, scalars: Int64Array) -> None:
    """Remove the first event."""
    last = scalars[G_EVENTS] - 1
    scalars[G_EVENTS] = last
    time = events[last, 0]
    key = events[last, 1]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        first = events[child, 0]
        right = child + 1
        if right < last:
            other = events[right, 0]
            if other < first or (other == first and events[right, 1] < events[child, 1]):
                child = right
                first = other
        if time < first or (time == first and key <= events[child, 1]):
            break
        events[at, 0] = first
        events[at, 1] = events[child, 1]
        events[at, 2] = events[child, 2]
        at = child
    events[at, 0] = time
    events[at, 1] = key
    events[at, 2] = events[last, 2]


@inlined
def push_finish(
    finish: Int64Array, slots: Int64Array, instances: Int64Array, i: int, step: int, slot: int
) -> None:
    """Add a sequence to a decode instance; order is (finish step, request)."""
    at = instances[i, I_RUNNING]
    instances[i, I_RUNNING] = at + 1
    request = slots[slot, R_REQUEST]
    while at > 0:
        parent = (at - 1) >> 1
        above = finish[i, parent, 0]
        if above < step:
            break
        if above == step and slots[finish[i, parent, 1], R_REQUEST] < request:
            break
        finish[i, at, 0] = above
        finish[i, at, 1] = finish[i, parent, 1]
        at = parent
    finish[i, at, 0] = step
    finish[i, at, 1] = slot


@inlined
def drop_finish(
    finish: Int64Array, slots: Int64Array, instances: Int64Array, i: int, at: int
) -> None:
    """Remove the sequence at a position of a decode instance's heap; 0 is the first to end."""
    last = instances[i, I_RUNNING] - 1
    instances[i, I_RUNNING] = last
    step = finish[i, last, 0]
    slot = finish[i, last, 1]
    request = slots[slot, R_REQUEST]
    while at > 0:
        parent = (at - 1) >> 1
        above = finish[i, parent, 0]
        if above < step:
            break
        if above == step and slots[finish[i, parent, 1], R_REQUEST] <= request:
            break
        finish[i, at, 0] = above
        finish[i, at, 1] = finish[i, parent, 1]
        at = parent
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        first = finish[i, child, 0]
        right = child + 1
        if right < last:
            other = finish[i, right, 0]
            if other < first or (
                other == first
                and slots[finish[i, right, 1], R_REQUEST] < slots[finish[i, child, 1], R_REQUEST]
            ):
                child = right
                first = other
        if step < first or (step == first and request < slots[finish[i, child, 1], R_REQUEST]):
            break
        finish[i, at, 0] = first
        finish[i, at, 1] = finish[i, child, 1]
        at = child
    finish[i, at, 0] = step
    finish[i, at, 1] = slot


@inlined
def queue_slot(slots: Int64Array, instances: Int64Array, i: int, slot: int) -> None:
    """Append a request to an instance's queue."""
    slots[slot, R_NEXT] = NONE
    if instances[i, I_QUEUED] == 0:
        instances[i, I_QUEUE_HEAD] = slot
    else:
        slots[instances[i, I_QUEUE_TAIL], R_NEXT] = slot
    instances[i, I_QUEUE_TAIL] = slot
    instances[i, I_QUEUED] += 1


@inlined
def queue_slot_first(slots: Int64Array, instances: Int64Array, i: int, slot: int) -> None:
    """Put a request before all others of an instance's queue."""
    slots[slot, R_NEXT] = instances[i, I_QUEUE_HEAD]
    instances[i, I_QUEUE_HEAD] = slot
    if instances[i, I_QUEUED] == 0:
        instances[i, I_QUEUE_TAIL] = slot
    instances[i, I_QUEUED] += 1


@inlined
def take_slot(slots: Int64Array, scalars: Int64Array) -> int:
    """Return a free slot; there must be one."""
    slot: int = scalars[G_FREE_SLOT]
    scalars[G_FREE_SLOT] = slots[slot, R_NEXT]
    scalars[G_LIVE] += 1
    return slot


@inlined
def free_slot(slots: Int64Array, scalars: Int64Array, slot: int) -> None:
    """Give a slot back."""
    slots[slot, R_REQUEST] = NONE
    slots[slot, R_NEXT] = scalars[G_FREE_SLOT]
    scalars[G_FREE_SLOT] = slot
    scalars[G_LIVE] -= 1
