"""Which of the instances in rotation takes a request: integers only, so that a tie is a tie.

Candidates are a part of a role's route, `start` to `end`. A decode instance must be able to hold
the request's tokens, input and output; a request that none can hold gets none.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined, outlined
from heteroscale.sim.kernel_cache import cached_tokens
from heteroscale.sim.kernel_hash import LOW, mixed
from heteroscale.sim.kernel_links import distance
from heteroscale.sim.kernel_state import (
    DECODE,
    G_DECODE_ROUTING,
    G_GROUPS,
    G_ROUTING,
    G_SEED,
    I_KV_CAPACITY,
    LEAST_LOADED,
    NONE,
    PREFILL,
    PREFIX_AWARE,
    R_INPUT,
    R_OUTPUT,
    R_PREFILL,
    R_REQUEST,
    ROUND_ROBIN,
    TOPOLOGY_AWARE,
    Int64Array,
    State,
)

# What tells a role's picks, and a request's second pick, from the first ones of prefill.
ROLE_SALT = 0x5BD1E995
PICK_SALT = 0x2545F491
# A nearer decode instance may have a quarter more load than the least loaded. Ours, a placeholder.
SLACK = 4


@inlined
def less_loaded(load: Int64Array, weight: Int64Array, a: int, b: int) -> int:
    """Return the one of two instances with fewer assigned tokens per weight, then the lower."""
    mine = load[b] * weight[a]
    others = load[a] * weight[b]
    if mine < others or (mine == others and b < a):
        return b
    return a


@inlined
def least_loaded(state: State, role: int, start: int, end: int, tokens: int) -> int:
    """Return the least loaded of a part of a route, by a look at each."""
    load = state.load
    weight = state.weight
    best = NONE
    for at in range(start, end):
        i = state.route[role, at]
        if role == PREFILL or state.instances[i, I_KV_CAPACITY] >= tokens:
            if best == NONE:
                best = i
            else:
                mine = load[i] * weight[best]
                others = load[best] * weight[i]
                # A group's handles ascend; only over all groups may a later one be lower.
                if mine < others or (role != PREFILL and mine == others and i < best):
                    best = i
    return best


@inlined
def first_able(state: State, role: int, start: int, end: int, offset: int, tokens: int) -> int:
    """Return the offset of the first that can hold so many tokens, from one on, around the end."""
    length = end - start
    for ahead in range(length):
        at = (offset + ahead) % length
        i = state.route[role, start + at]
        if role == PREFILL or state.instances[i, I_KV_CAPACITY] >= tokens:
            return at
    return NONE


@inlined
def next_in_turn(state: State, role: int, part: int, start: int, end: int, tokens: int) -> int:
    """Return the next of a part of a route; one that cannot hold the tokens is passed over."""
    turn = state.turn
    at = first_able(state, role, start, end, turn[role, part], tokens)
    if at == NONE:
        return NONE
    turn[role, part] = at + 1
    i: int = state.route[role, start + at]
    return i


@inlined
def better_of_two(state: State, role: int, start: int, end: int, slot: int, tokens: int) -> int:
    """Return the less loaded of two different picks; each moves on to the first that is able."""
    length = end - start
    bits = state.scalars[G_SEED] ^ (state.slots[slot, R_REQUEST] & LOW)
    bits = mixed(bits ^ ROLE_SALT if role != PREFILL else bits)
    one = (bits * length) >> 32
    other = (mixed(bits ^ PICK_SALT) * (length - 1)) >> 32
    if other >= one and length > 1:
        other += 1
    one = first_able(state, role, start, end, one, tokens)
    if one == NONE:
        return NONE
    other = first_able(state, role, start, end, other, tokens)
    route = state.route
    return less_loaded(
        state.load, state.weight, route[role, start + one], route[role, start + other]
    )


@outlined
def least_to_compute(state: State, start: int, end: int, slot: int) -> int:
    """Return where the least is left to compute with the request, per weight; then the lower.

    Counted are the tokens assigned and the request's own, less its cached prefix there.
    """
    best = NONE
    least = 0
    for at in range(start, end):
        i = state.route[PREFILL, at]
        mine = state.load[i] + state.slots[slot, R_INPUT] - cached_tokens(state, i, slot)
        if best != NONE:
            ahead = mine * state.weight[best] - least * state.weight[i]
            if ahead > 0 or (ahead == 0 and i > best):
                continue
        best = i
        least = mine
    return best


@outlined
def nearest_of_less_loaded(state: State, start: int, end: int, slot: int, tokens: int) -> int:
    """Return the decode instance nearest to the KV; of equally near ones the less loaded.

    Only those are looked at that have at most as many tokens assigned per weight as the least
    loaded one would have with a quarter more of them and the request.
    """
    instances = state.instances
    load = state.load
    weight = state.weight
    least = least_loaded(state, DECODE, start, end, tokens)
    if least == NONE:
        return NONE
    bound = load[least] + load[least] // SLACK + tokens
    source = state.slots[slot, R_PREFILL]
    best = least
    nearest = distance(instances, source, least)
    for at in range(start, end):
        i = state.route[DECODE, at]
        if instances[i, I_KV_CAPACITY] < tokens or load[i] * weight[least] > bound * weight[i]:
            continue
        far = distance(instances, source, i)
        if far < nearest or (far == nearest and less_loaded(load, weight, best, i) == i):
            best = i
            nearest = far
    return best


@inlined
def choose_instance(state: State, role: int, group: int, slot: int) -> int:
    """Return the instance of a group, or of all groups for −1, that takes a request; −1 = none."""
    starts = state.route_start
    start = 0 if group == NONE else starts[role, group]
    end = starts[role, state.scalars[G_GROUPS] if group == NONE else group + 1]
    if start == end:
        return NONE
    tokens = state.slots[slot, R_INPUT] + state.slots[slot, R_OUTPUT]
    routing = state.scalars[G_ROUTING if role == PREFILL else G_DECODE_ROUTING]
    if routing == LEAST_LOADED:
        return least_loaded(state, role, start, end, tokens)
    if routing == ROUND_ROBIN:
        return next_in_turn(state, role, group + 1, start, end, tokens)
    if routing == PREFIX_AWARE:
        return least_to_compute(state, start, end, slot)
    if routing == TOPOLOGY_AWARE:
        return nearest_of_less_loaded(state, start, end, slot, tokens)
    return better_of_two(state, role, start, end, slot, tokens)
