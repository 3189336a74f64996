"""Where a request goes: its group and its instances.

The group is chosen by smooth weighted round robin over the prefill weight in rotation; a tie takes
the lower number. Which of its instances is `kernel_choice`'s to say.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined, outlined
from heteroscale.sim.kernel_choice import choose_instance
from heteroscale.sim.kernel_links import begin_transfer
from heteroscale.sim.kernel_state import (
    DECODE,
    G_DECODE_COUNT,
    G_DECODE_HEAD,
    G_DECODE_TAIL,
    G_IN_TRANSFER,
    I_GROUP,
    I_OUTSTANDING,
    NONE,
    R_DECODE,
    R_INPUT,
    R_NEXT,
    R_OUTPUT,
    R_PREFILL,
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
def place_decode(state: State, slot: int, now: int, prefill_time: int) -> bool:
    """Send a prefilled request to a decode instance; False when none in rotation can hold it.

    `prefill_time`: how long its KV could go ahead, layer by layer; 0 where it had to wait for an
    instance to go to.
    """
    slots = state.slots
    instances = state.instances
    scalars = state.scalars
    source = slots[slot, R_PREFILL]
    i = NONE
    group = instances[source, I_GROUP]
    for part in (group, NONE):
        i = choose_instance(state, DECODE, part, slot)
        if i != NONE:
            break
    if i == NONE:
        return False
    slots[slot, R_DECODE] = i
    slots[slot, R_NEXT] = NONE
    state.load[i] += slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
    instances[i, I_OUTSTANDING] += 1
    scalars[G_IN_TRANSFER] += 1
    begin_transfer(state, slot, now, prefill_time)
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


@outlined
def place_waiting_decode(state: State, now: int) -> None:
    """Offer every waiting prefilled request to the instances in rotation, in order of waiting."""
    scalars = state.scalars
    slot = scalars[G_DECODE_HEAD]
    left = scalars[G_DECODE_COUNT]
    scalars[G_DECODE_COUNT] = 0
    for _ in range(left):
        following = state.slots[slot, R_NEXT]
        if not place_decode(state, slot, now, 0):
            wait_for_decode(state, slot)
        slot = following
