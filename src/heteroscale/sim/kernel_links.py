"""KV transfers on the wire: how long one takes, alone or beside others on the same uplinks.

A transfer crosses an uplink of every level below the lowest one that both ends share, one out of
the source's domain and one into the sink's. Where links are shared fairly each transfer gets an
equal part of every uplink that it crosses, at most its own rate; what it cannot use of its part is
not given to others. Bytes are whole: when its rate changes, a byte under way starts again.
A new end is put into the heap and the old one becomes void.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined, njit
from heteroscale.sim.kernel_heap import push_event
from heteroscale.sim.kernel_state import (
    G_CROWDED,
    G_FLOWS,
    G_OVERLAP,
    G_SHARED,
    I_KV_BYTES,
    I_LINK,
    I_LOCATION,
    INWARD,
    KIND_SHIFT,
    KIND_TRANSFER_END,
    NONE,
    OUTWARD,
    R_DECODE,
    R_DUE,
    R_FLOW,
    R_INPUT,
    R_LEFT,
    R_PREFILL,
    R_REQUEST,
    R_SINCE,
    R_SLOW,
    Int64Array,
    State,
)

# Distances from which a transfer crosses an uplink of S0, and of every level.
CROSSING = 2
CROSSING_ALL = 4


@inlined
def distance(instances: Int64Array, a: int, b: int) -> int:
    """Return 0 for the same node, to 5 for different sub-clusters."""
    for level in range(5):
        if instances[a, I_LOCATION + level] != instances[b, I_LOCATION + level]:
            return 5 - level
    return 0


@inlined
def push_arrival(state: State, slot: int) -> None:
    """Put the end of a transfer at its present rate into the heap."""
    slots = state.slots
    left = slots[slot, R_LEFT]
    slow = slots[slot, R_SLOW]
    # In two parts, so that no product of bytes and time overflows.
    takes = left // 1000 * slow + (left % 1000 * slow + 999) // 1000
    due = slots[slot, R_SINCE] + takes
    slots[slot, R_DUE] = due
    key = (KIND_TRANSFER_END << KIND_SHIFT) + slots[slot, R_REQUEST]
    push_event(state.events, state.scalars, due, key, slot)


@inlined
def count_on_links(state: State, slot: int, far: int, more: int) -> None:
    """Count a transfer in (1) or out (−1) on its uplinks; tell whether any rate may change."""
    links = state.links
    instances = state.instances
    source = state.slots[slot, R_PREFILL]
    sink = state.slots[slot, R_DECODE]
    for level in range(min(far, CROSSING_ALL) - CROSSING + 1):
        out = instances[source, I_LINK + level]
        into = instances[sink, I_LINK + level]
        most = max(links[out, level, OUTWARD], links[into, level, INWARD])
        links[out, level, OUTWARD] += more
        links[into, level, INWARD] += more
        if (most + max(0, more)) * state.uplinks[0, level] > state.uplinks[1, level]:
            state.scalars[G_CROWDED] = 1


@inlined
def slowness(state: State, slot: int, far: int) -> int:
    """Return the time per byte of a transfer that crosses uplinks, fs."""
    source = state.slots[slot, R_PREFILL]
    sink = state.slots[slot, R_DECODE]
    instances = state.instances
    slow: int = state.network[1, far]
    for level in range(min(far, CROSSING_ALL) - CROSSING + 1):
        out = state.links[instances[source, I_LINK + level], level, OUTWARD]
        into = state.links[instances[sink, I_LINK + level], level, INWARD]
        slow = max(slow, max(out, into) * state.uplinks[0, level])
    return slow


@inlined
def begin_transfer(state: State, slot: int, now: int, prefill_time: int) -> None:
    """Put a request's KV, less what went ahead during its prefill, on the wire to its decode."""
    slots = state.slots
    scalars = state.scalars
    source = slots[slot, R_PREFILL]
    far = distance(state.instances, source, slots[slot, R_DECODE])
    left = slots[slot, R_INPUT] * state.instances[source, I_KV_BYTES]
    if scalars[G_OVERLAP] > 0:
        ahead = left * scalars[G_OVERLAP] // 1000
        alone = state.network[1, far]
        if alone > 0:
            ahead = min(ahead, prefill_time // alone * 1000 + prefill_time % alone * 1000 // alone)
        left -= ahead
    slots[slot, R_LEFT] = left
    slots[slot, R_SINCE] = now + state.network[0, far]
    slots[slot, R_SLOW] = state.network[1, far]
    slots[slot, R_FLOW] = NONE
    if scalars[G_SHARED] != 0 and far >= CROSSING:
        at = scalars[G_FLOWS]
        scalars[G_FLOWS] = at + 1
        state.flows[at, 0] = slot
        state.flows[at, 1] = far
        slots[slot, R_FLOW] = at
        count_on_links(state, slot, far, 1)
        slots[slot, R_SLOW] = slowness(state, slot, far)
    push_arrival(state, slot)


@inlined
def leave_links(state: State, slot: int) -> None:
    """Take a transfer off the wire: it has arrived or is given up."""
    slots = state.slots
    slots[slot, R_DUE] = NONE
    at = slots[slot, R_FLOW]
    if at == NONE:
        return
    flows = state.flows
    count_on_links(state, slot, flows[at, 1], -1)
    last = state.scalars[G_FLOWS] - 1
    state.scalars[G_FLOWS] = last
    flows[at, 0] = flows[last, 0]
    flows[at, 1] = flows[last, 1]
    slots[flows[at, 0], R_FLOW] = at


@njit
def share_links(state: State, now: int) -> None:
    """Give every transfer the rate that it has from now on."""
    slots = state.slots
    scalars = state.scalars
    scalars[G_CROWDED] = 0
    for at in range(scalars[G_FLOWS]):
        slot = state.flows[at, 0]
        slow = slowness(state, slot, state.flows[at, 1])
        before = slots[slot, R_SLOW]
        if slow == before:
            continue
        elapsed = now - slots[slot, R_SINCE]
        if elapsed > 0:
            sent = elapsed // before * 1000 + elapsed % before * 1000 // before
            slots[slot, R_LEFT] = max(0, slots[slot, R_LEFT] - sent)
            slots[slot, R_SINCE] = now
        slots[slot, R_SLOW] = slow
        push_arrival(state, slot)
