"""Bundles: the transfers on shared uplinks that go from one S0 to one other, and so at one rate.

A bundle counts the bytes that it has sent for each of its transfers since it began. A transfer is
given a mark when it joins: that count plus its own bytes; it has ended when the count reaches the
mark. A change of the rate thus touches the bundle and none of its transfers. Bytes are whole: when
the rate changes, or a transfer joins or leaves, the byte under way starts again, for each of them.

The marks of a bundle form a skew heap, linked through `slots`; the bundles form a binary heap by
their next ends, in which each knows its position.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined
from heteroscale.sim.kernel_state import (
    B_AT,
    B_DUE,
    B_ROOT,
    B_SENT,
    B_SINCE,
    B_SLOW,
    G_BUNDLES,
    G_NEXT_SENT,
    NEVER,
    NONE,
    R_BUNDLE,
    R_LEFT,
    R_MARK,
    R_REQUEST,
    R_RIGHT,
    Int64Array,
    State,
)

# Times below this, 2.5 hours, may be multiplied by a thousand.
FACTOR_FITS = 1 << 53


@inlined
def settle(bundles: Int64Array, bundle: int, now: int) -> None:
    """Count what a bundle has sent until now at its present rate."""
    elapsed = now - bundles[bundle, B_SINCE]
    if elapsed > 0:
        slow = bundles[bundle, B_SLOW]
        if elapsed < FACTOR_FITS:
            sent = elapsed * 1000 // slow
        else:
            sent = elapsed // slow * 1000 + elapsed % slow * 1000 // slow
        bundles[bundle, B_SENT] += sent
        bundles[bundle, B_SINCE] = now


@inlined
def marked_before(slots: Int64Array, a: int, b: int) -> bool:
    """Tell which of two transfers ends first: order is (mark, request)."""
    if slots[a, R_MARK] != slots[b, R_MARK]:
        return bool(slots[a, R_MARK] < slots[b, R_MARK])
    return bool(slots[a, R_REQUEST] < slots[b, R_REQUEST])


@inlined
def merged(slots: Int64Array, a: int, b: int) -> int:
    """Return the first of two skew heaps of transfers made one; −1 is an empty one."""
    if a == NONE:
        return b
    if b == NONE:
        return a
    if marked_before(slots, b, a):
        a, b = b, a
    first = a
    while True:
        rest = slots[a, R_RIGHT]
        slots[a, R_RIGHT] = slots[a, R_LEFT]
        if rest == NONE:
            slots[a, R_LEFT] = b
            return first
        if marked_before(slots, b, rest):
            rest, b = b, rest
        slots[a, R_LEFT] = rest
        a = rest


@inlined
def add_transfer(state: State, bundle: int, slot: int) -> None:
    """Put a transfer that has its mark into a bundle's heap."""
    slots = state.slots
    slots[slot, R_BUNDLE] = bundle
    slots[slot, R_LEFT] = NONE
    slots[slot, R_RIGHT] = NONE
    state.bundles[bundle, B_ROOT] = merged(slots, state.bundles[bundle, B_ROOT], slot)


@inlined
def take_first(state: State, bundle: int) -> int:
    """Take the transfer that ends first out of a bundle."""
    slots = state.slots
    slot: int = state.bundles[bundle, B_ROOT]
    rest = merged(slots, slots[slot, R_LEFT], slots[slot, R_RIGHT])
    state.bundles[bundle, B_ROOT] = rest
    slots[slot, R_BUNDLE] = NONE
    return slot


@inlined
def due_before(state: State, a: int, b: int) -> bool:
    """Tell which of two bundles has the next end; order is (time, request)."""
    bundles = state.bundles
    if bundles[a, B_DUE] != bundles[b, B_DUE]:
        return bool(bundles[a, B_DUE] < bundles[b, B_DUE])
    slots = state.slots
    mine = slots[bundles[a, B_ROOT], R_REQUEST]
    return bool(mine < slots[bundles[b, B_ROOT], R_REQUEST])


@inlined
def place_bundle(state: State, bundle: int) -> None:
    """Move a bundle to where its next end belongs in the heap; its position there is free."""
    bundles = state.bundles
    soonest = state.soonest
    at = bundles[bundle, B_AT]
    while at > 0:
        above = soonest[(at - 1) >> 1]
        if due_before(state, above, bundle):
            break
        soonest[at] = above
        bundles[above, B_AT] = at
        at = (at - 1) >> 1
    last = state.scalars[G_BUNDLES]
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        if child + 1 < last and due_before(state, soonest[child + 1], soonest[child]):
            child += 1
        below = soonest[child]
        if due_before(state, bundle, below):
            break
        soonest[at] = below
        bundles[below, B_AT] = at
        at = child
    soonest[at] = bundle
    bundles[bundle, B_AT] = at
    state.scalars[G_NEXT_SENT] = bundles[soonest[0], B_DUE]


@inlined
def expect_end(state: State, bundle: int) -> None:
    """Work out a settled bundle's next end anew."""
    bundles = state.bundles
    # More than its bytes may have been sent where several take less than a picosecond.
    left = max(0, state.slots[bundles[bundle, B_ROOT], R_MARK] - bundles[bundle, B_SENT])
    slow = bundles[bundle, B_SLOW]
    takes = left // 1000 * slow + (left % 1000 * slow + 999) // 1000
    bundles[bundle, B_DUE] = bundles[bundle, B_SINCE] + takes
    place_bundle(state, bundle)


@inlined
def free_bundle(state: State, bundle: int) -> None:
    """Take an empty bundle out of the heap; `soonest` keeps the free ones behind those in use."""
    last = state.scalars[G_BUNDLES] - 1
    state.scalars[G_BUNDLES] = last
    moved = state.soonest[last]
    state.soonest[last] = bundle
    if last == 0:
        state.scalars[G_NEXT_SENT] = NEVER
    elif moved != bundle:
        state.bundles[moved, B_AT] = state.bundles[bundle, B_AT]
        place_bundle(state, moved)
