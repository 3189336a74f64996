"""Where a request goes: its group, its instances, and the time its KV takes between them.

Choices are made by integers only, so that a tie is a tie: group by smooth weighted round robin over
the prefill weight in rotation, instance by least assigned tokens per weight; a tie takes the lower
number.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined, njit
from heteroscale.sim.kernel_heap import push_event
from heteroscale.sim.kernel_state import (
    DECODE,
    G_DECODE_COUNT,
    G_DECODE_HEAD,
    G_DECODE_TAIL,
    G_GROUPS,
    G_IN_TRANSFER,
    I_GROUP,
    I_KV_BYTES,
    I_KV_CAPACITY,
    I_LOCATION,
    I_OUTSTANDING,
    KIND_SHIFT,
    KIND_TRANSFER_END,
    NONE,
    PREFILL,
    R_DECODE,
    R_INPUT,
    R_NEXT,
    R_OUTPUT,
    R_PREFILL,
    R_REQUEST,
    Int64Array,
    State,
)


@inlined
def choose_group(state: State) -> int:
    """Return the next group by smooth weighted round robin, or −1 with no prefill in rotation."""
    credit = state.credit
    weight = state.group_weight
    total = 0
    best = NONE
    for group in state.open_groups:
        total += weight[group]
        credit[group] += weight[group]
        if best == NONE or credit[group] > credit[best]:
            best = group
    if best != NONE:
        credit[best] -= total
    return best


@inlined
def choose_prefill(state: State, group: int) -> int:
    """Return the least loaded prefill instance of a group that has one in rotation."""
    load = state.load
    weight = state.weight
    route = state.route
    start = state.route_start[PREFILL, group]
    best: int = route[PREFILL, start]
    for at in range(start + 1, state.route_start[PREFILL, group + 1]):
        i = route[PREFILL, at]
        if load[i] * weight[best] < load[best] * weight[i]:
            best = i
    return best


@inlined
def least_loaded_decode(state: State, start: int, end: int, tokens: int) -> int:
    """Return the least loaded of a part of the decode route that can ever hold so many tokens."""
    load = state.load
    weight = state.weight
    route = state.route
    instances = state.instances
    best = NONE
    for at in range(start, end):
        i = route[DECODE, at]
        if instances[i, I_KV_CAPACITY] >= tokens:
            if best == NONE:
                best = i
            else:
                mine = load[i] * weight[best]
                others = load[best] * weight[i]
                if mine < others or (mine == others and i < best):
                    best = i
    return best


@inlined
def distance(instances: Int64Array, a: int, b: int) -> int:
    """Return 0 for the same node, to 5 for different sub-clusters."""
    for level in range(5):
        if instances[a, I_LOCATION + level] != instances[b, I_LOCATION + level]:
            return 5 - level
    return 0


@inlined
def place_decode(state: State, slot: int, now: int) -> bool:
    """Send a prefilled request to a decode instance; False when none in rotation can hold it."""
    slots = state.slots
    instances = state.instances
    scalars = state.scalars
    source = slots[slot, R_PREFILL]
    tokens = slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
    starts = state.route_start
    group = instances[source, I_GROUP]
    i = least_loaded_decode(state, starts[DECODE, group], starts[DECODE, group + 1], tokens)
    if i == NONE:
        i = least_loaded_decode(state, 0, starts[DECODE, scalars[G_GROUPS]], tokens)
    if i == NONE:
        return False
    slots[slot, R_DECODE] = i
    slots[slot, R_NEXT] = NONE
    state.load[i] += tokens
    instances[i, I_OUTSTANDING] += 1
    scalars[G_IN_TRANSFER] += 1
    far = distance(instances, source, i)
    kv_bytes = slots[slot, R_INPUT] * instances[source, I_KV_BYTES]
    takes = state.network[0, far] + (kv_bytes * state.network[1, far] + 999) // 1000
    key = (KIND_TRANSFER_END << KIND_SHIFT) + slots[slot, R_REQUEST]
    push_event(state.events, scalars, now + takes, key, slot)
    return True


@inlined
def wait_in(state: State, slot: int, head: int, tail: int, count: int) -> None:
    """Append a request to a service-level queue, given the scalars that hold it."""
    slots = state.slots
    scalars = state.scalars
    slots[slot, R_NEXT] = NONE
    if scalars[count] == 0:
        scalars[head] = slot
    else:
        slots[scalars[tail], R_NEXT] = slot
    scalars[tail] = slot
    scalars[count] += 1


@inlined
def wait_for_decode(state: State, slot: int) -> None:
    """Append a prefilled request to the service-level queue."""
    wait_in(state, slot, G_DECODE_HEAD, G_DECODE_TAIL, G_DECODE_COUNT)


@njit
def place_waiting_decode(state: State, now: int) -> None:
    """Offer every waiting prefilled request to the instances in rotation, in order of waiting."""
    scalars = state.scalars
    slot = scalars[G_DECODE_HEAD]
    left = scalars[G_DECODE_COUNT]
    scalars[G_DECODE_COUNT] = 0
    for _ in range(left):
        following = state.slots[slot, R_NEXT]
        if not place_decode(state, slot, now):
            wait_for_decode(state, slot)
        slot = following
