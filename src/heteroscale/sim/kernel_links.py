"""KV transfers on the wire: how long one takes, alone or beside others on the same uplinks.

A transfer crosses an uplink of every level below the lowest one that both ends share, one out of
the source's domain and one into the sink's. It is on them while its bytes are sent, from when it
begins on; its KV has arrived once the distance's latency has passed after its last byte.

Where links are shared fairly each transfer gets an equal part of every uplink that it crosses, at
most its own rate; what it cannot use of its part is not given to others. So all transfers from one
S0 to one other have one rate, and `kernel_bundles` counts their bytes together. When a transfer
begins or ends, only the bundles on its uplinks are looked at, and only those whose rate changes
are touched: on an uplink that gets slower, those that were faster than it is now; on one that gets
faster, those that were as slow as it was.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined
from heteroscale.sim.kernel_bundles import (
    add_transfer,
    expect_end,
    free_bundle,
    settle,
    take_first,
)
from heteroscale.sim.kernel_heap import push_event
from heteroscale.sim.kernel_state import (
    B_AT,
    B_FAR,
    B_ROOT,
    B_SENT,
    B_SINCE,
    B_SLOW,
    B_UPLINK,
    G_BUNDLES,
    G_KV_PUT,
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
    R_INPUT,
    R_MARK,
    R_PREFILL,
    R_REQUEST,
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
def kv_bytes(state: State, slot: int) -> int:
    """Return the bytes of the KV that a request's prefill instance makes."""
    per_token: int = state.instances[state.slots[slot, R_PREFILL], I_KV_BYTES]
    return int(state.slots[slot, R_INPUT]) * per_token


@inlined
def ways_across(far: int) -> int:
    """Return how many uplinks a transfer crosses, two of each level: its ways 0, 1, ..."""
    return 2 * (min(far, CROSSING_ALL) - CROSSING + 1)


@inlined
def push_arrival(state: State, slot: int, due: int) -> None:
    """Put the arrival of a request's KV into the heap."""
    key = (KIND_TRANSFER_END << KIND_SHIFT) + state.slots[slot, R_REQUEST]
    push_event(state.events, state.scalars, due, key, slot)


@inlined
def slowness(state: State, bundle: int) -> int:
    """Return the time per byte that a bundle has by the counts on its uplinks, fs."""
    far = state.bundles[bundle, B_FAR]
    slow: int = state.network[1, far]
    for way in range(ways_across(far)):
        transfers = state.uplinks[state.bundles[bundle, B_UPLINK + way], way, 0]
        slow = max(slow, transfers * state.uplink_times[0, way >> 1])
    return slow


@inlined
def change_rate(state: State, bundle: int, slow: int, now: int) -> None:
    """Let a bundle go on at another time per byte."""
    settle(state.bundles, bundle, now)
    state.bundles[bundle, B_SLOW] = slow
    expect_end(state, bundle)


@inlined
def slow_down(state: State, bundle: int, now: int) -> None:
    """Count one more transfer on a bundle's uplinks."""
    bundles = state.bundles
    for way in range(ways_across(bundles[bundle, B_FAR])):
        number = bundles[bundle, B_UPLINK + way]
        transfers = state.uplinks[number, way, 0] + 1
        state.uplinks[number, way, 0] = transfers
        slow = transfers * state.uplink_times[0, way >> 1]
        if slow <= state.uplink_times[1, way >> 1]:
            continue
        other = state.uplinks[number, way, 1]
        while other != NONE:
            if bundles[other, B_SLOW] < slow:
                change_rate(state, other, slow, now)
            other = state.beside[other, way, 0]


@inlined
def speed_up(state: State, bundle: int, now: int) -> None:
    """Count one transfer less on a bundle's uplinks."""
    bundles = state.bundles
    for way in range(ways_across(bundles[bundle, B_FAR])):
        number = bundles[bundle, B_UPLINK + way]
        transfers = state.uplinks[number, way, 0]
        state.uplinks[number, way, 0] = transfers - 1
        before = transfers * state.uplink_times[0, way >> 1]
        if before <= state.uplink_times[1, way >> 1]:
            continue
        other = state.uplinks[number, way, 1]
        while other != NONE:
            if bundles[other, B_SLOW] == before:
                slow = slowness(state, other)
                if slow != before:
                    change_rate(state, other, slow, now)
            other = state.beside[other, way, 0]


@inlined
def bundle_between(state: State, source: int, sink: int, far: int, now: int) -> int:
    """Return the bundle of the transfers between two instances, a new one if there is none."""
    bundles = state.bundles
    out = state.instances[source, I_LINK]
    into = state.instances[sink, I_LINK]
    bundle: int = state.uplinks[out, OUTWARD, 1]
    while bundle != NONE:
        if bundles[bundle, B_UPLINK + INWARD] == into:
            return bundle
        bundle = state.beside[bundle, OUTWARD, 0]
    at = state.scalars[G_BUNDLES]
    state.scalars[G_BUNDLES] = at + 1
    bundle = state.soonest[at]
    bundles[bundle, B_AT] = at
    bundles[bundle, B_FAR] = far
    bundles[bundle, B_ROOT] = NONE
    bundles[bundle, B_SENT] = 0
    bundles[bundle, B_SINCE] = now
    bundles[bundle, B_SLOW] = state.network[1, far]
    for way in range(ways_across(far)):
        end = source if way & 1 == OUTWARD else sink
        number = state.instances[end, I_LINK + (way >> 1)]
        bundles[bundle, B_UPLINK + way] = number
        head = state.uplinks[number, way, 1]
        state.beside[bundle, way, 0] = head
        state.beside[bundle, way, 1] = NONE
        if head != NONE:
            state.beside[head, way, 1] = bundle
        state.uplinks[number, way, 1] = bundle
    return bundle


@inlined
def close_bundle(state: State, bundle: int) -> None:
    """Take a bundle without transfers off its uplinks."""
    for way in range(ways_across(state.bundles[bundle, B_FAR])):
        following = state.beside[bundle, way, 0]
        former = state.beside[bundle, way, 1]
        if former == NONE:
            state.uplinks[state.bundles[bundle, B_UPLINK + way], way, 1] = following
        else:
            state.beside[former, way, 0] = following
        if following != NONE:
            state.beside[following, way, 1] = former
    free_bundle(state, bundle)


@inlined
def enter_uplinks(state: State, slot: int, far: int, left: int, now: int) -> None:
    """Let a transfer send its bytes beside others."""
    slots = state.slots
    bundle = bundle_between(state, slots[slot, R_PREFILL], slots[slot, R_DECODE], far, now)
    settle(state.bundles, bundle, now)
    slots[slot, R_MARK] = state.bundles[bundle, B_SENT] + left
    add_transfer(state, bundle, slot)
    expect_end(state, bundle)
    slow_down(state, bundle, now)


@inlined
def leave_uplinks(state: State, bundle: int, now: int) -> None:
    """Let a bundle go on with one transfer less, which is out of its heap already."""
    if state.bundles[bundle, B_ROOT] == NONE:
        close_bundle(state, bundle)
    else:
        settle(state.bundles, bundle, now)
        expect_end(state, bundle)
    speed_up(state, bundle, now)


@inlined
def end_sending(state: State, now: int) -> None:
    """Take the transfer whose last byte is sent off its uplinks; it arrives a latency later."""
    bundle = state.soonest[0]
    slot = take_first(state, bundle)
    leave_uplinks(state, bundle, now)
    push_arrival(state, slot, now + state.network[0, state.bundles[bundle, B_FAR]])


@inlined
def begin_transfer(state: State, slot: int, now: int, prefill_time: int) -> None:
    """Put a request's KV, less what went ahead during its prefill, on the wire to its decode."""
    slots = state.slots
    scalars = state.scalars
    source = slots[slot, R_PREFILL]
    far = distance(state.instances, source, slots[slot, R_DECODE])
    left = kv_bytes(state, slot)
    scalars[G_KV_PUT] += left
    alone = state.network[1, far]
    if scalars[G_OVERLAP] > 0:
        ahead = left * scalars[G_OVERLAP] // 1000
        if alone > 0:
            ahead = min(ahead, prefill_time // alone * 1000 + prefill_time % alone * 1000 // alone)
        left -= ahead
    if scalars[G_SHARED] != 0 and far >= CROSSING:
        enter_uplinks(state, slot, far, left, now)
        return
    # In two parts, so that no product of bytes and time overflows.
    takes = left // 1000 * alone + (left % 1000 * alone + 999) // 1000
    push_arrival(state, slot, now + takes + state.network[0, far])
