"""Prefill: admission, the queues before it, and FCFS batches with a token budget.

Batches hold whole prompts, or chunks of them: then each but the last is filled to the token, and
the prompt that was cut goes on first in the next.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined, outlined
from heteroscale.sim.kernel_cache import keep_blocks, look_up, take_cached
from heteroscale.sim.kernel_choice import choose_instance
from heteroscale.sim.kernel_heap import push_event, queue_slot
from heteroscale.sim.kernel_measure import bucket_of, write_log
from heteroscale.sim.kernel_requests import complete
from heteroscale.sim.kernel_route import (
    choose_group,
    place_decode,
    wait_for_decode,
    wait_in,
)
from heteroscale.sim.kernel_state import (
    G_BUDGET,
    G_CHUNKED,
    G_FIRST_TOKENS,
    G_IN_ROTATION,
    G_LARGEST_KV,
    G_LIMIT,
    G_PREFILL_COUNT,
    G_PREFILL_HEAD,
    G_PREFILL_TAIL,
    G_ROUTING,
    G_WAITING,
    I_BASE,
    I_BATCH_HEAD,
    I_BUSY,
    I_HELD,
    I_HOST,
    I_HOST_TIME,
    I_OUTSTANDING,
    I_PARTIAL,
    I_PER_REQUEST,
    I_PER_UNIT,
    I_PER_UNIT2,
    I_QUEUE_HEAD,
    I_QUEUED,
    I_RUNNING,
    I_START,
    I_STEP_TIME,
    I_TOKENS,
    KIND_BATCH_END,
    KIND_SHIFT,
    LOG_FIRST_TOKEN,
    NONE,
    PREFILL,
    PREFIX_AWARE,
    R_ARRIVAL,
    R_BEGUN,
    R_BLOCK,
    R_CACHED,
    R_COMPUTED,
    R_DONE,
    R_FIRST,
    R_INPUT,
    R_LAST,
    R_NEXT,
    R_OUTPUT,
    R_PREFILL,
    R_REQUEST,
    Int64Array,
    State,
)


@inlined
def refused(scalars: Int64Array, tokens: int) -> bool:
    """Tell whether a request of so many tokens (input + output) is turned away now."""
    if 0 < scalars[G_LARGEST_KV] < tokens:
        return True
    limit: int = scalars[G_LIMIT] * max(1, scalars[G_IN_ROTATION])
    waiting: int = scalars[G_WAITING]
    return waiting >= limit


@inlined
def place_prefill(state: State, slot: int, now: int) -> None:
    """Route an admitted request, or let it wait for the first instance that comes."""
    # Where a prefix is kept matters more than the order of the groups.
    group = NONE if state.scalars[G_ROUTING] == PREFIX_AWARE else choose_group(state)
    if state.scalars[G_IN_ROTATION] == 0:
        wait_for_prefill(state, slot)
    else:
        queue_prefill(state, slot, choose_instance(state, PREFILL, group, slot), now)


@inlined
def wait_for_prefill(state: State, slot: int) -> None:
    """Append a request to the service-level queue."""
    wait_in(state, slot, G_PREFILL_HEAD, G_PREFILL_TAIL, G_PREFILL_COUNT)


@outlined
def place_waiting_prefill(state: State, now: int) -> None:
    """Route the service-level queue, in order, once an instance is in rotation."""
    scalars = state.scalars
    if scalars[G_IN_ROTATION] == 0:
        return
    slot = scalars[G_PREFILL_HEAD]
    left = scalars[G_PREFILL_COUNT]
    scalars[G_PREFILL_COUNT] = 0
    for _ in range(left):
        following = state.slots[slot, R_NEXT]
        place_prefill(state, slot, now)
        slot = following


@inlined
def queue_prefill(state: State, slot: int, i: int, now: int) -> None:
    """Append a request to an instance's queue; an idle instance starts at once."""
    slots = state.slots
    instances = state.instances
    slots[slot, R_PREFILL] = i
    slots[slot, R_CACHED] = look_up(state, i, slot)
    state.load[i] += slots[slot, R_INPUT] - slots[slot, R_CACHED]
    instances[i, I_OUTSTANDING] += 1
    queue_slot(slots, instances, i, slot)
    if instances[i, I_RUNNING] == 0:
        start_batch(state, i, now)


@inlined
def start_batch(state: State, i: int, now: int) -> None:
    """Start what comes next of the queue, as far as the budget goes."""
    instances = state.instances
    if state.scalars[G_CHUNKED] != 0:
        fill_with_chunks(state, i, now)
    else:
        fill_with_prompts(state, i, now)
    instances[i, I_START] = now
    end = now + instances[i, I_STEP_TIME]
    push_event(state.events, state.scalars, end, (KIND_BATCH_END << KIND_SHIFT) + i, 0)


@inlined
def write_batch(state: State, i: int, ended: int, tokens: int, pairs: int) -> None:
    """Note a batch's tokens and time, of which so many requests have their first token."""
    instances = state.instances
    instances[i, I_HELD] = tokens
    instances[i, I_STEP_TIME] = (
        instances[i, I_BASE]
        + instances[i, I_PER_REQUEST] * ended
        + instances[i, I_PER_UNIT] * tokens
        + instances[i, I_PER_UNIT2] * pairs
    )


@outlined
def fill_with_chunks(state: State, i: int, now: int) -> None:
    """Fill a batch to the token: the prompt that was cut, then the queue."""
    slots = state.slots
    instances = state.instances
    left = state.scalars[G_BUDGET]
    slot = instances[i, I_PARTIAL]
    last = NONE
    count = 0
    tokens = 0
    pairs = 0
    while left > 0:
        if slot == NONE:
            if instances[i, I_QUEUED] == 0:
                break
            slot = instances[i, I_QUEUE_HEAD]
            instances[i, I_QUEUE_HEAD] = slots[slot, R_NEXT]
            instances[i, I_QUEUED] -= 1
            state.scalars[G_WAITING] -= 1
            cached = look_up(state, i, slot)
            take_cached(state, i, slot, cached)
            slots[slot, R_COMPUTED] = cached
            slots[slot, R_BEGUN] = now
        before = slots[slot, R_COMPUTED]
        chunk = min(left, slots[slot, R_INPUT] - before)
        slots[slot, R_COMPUTED] = before + chunk
        left -= chunk
        tokens += chunk
        pairs += chunk * (chunk + 2 * before)
        if last == NONE:
            instances[i, I_BATCH_HEAD] = slot
        else:
            slots[last, R_NEXT] = slot
        last = slot
        count += 1
        slot = NONE
    cut = slots[last, R_COMPUTED] < slots[last, R_INPUT]
    instances[i, I_PARTIAL] = last if cut else NONE
    instances[i, I_RUNNING] = count
    write_batch(state, i, count - 1 if cut else count, tokens, pairs)


@inlined
def fill_with_prompts(state: State, i: int, now: int) -> None:
    """Take the longest prefix of the queue that fits the budget; its first request always runs."""
    slots = state.slots
    instances = state.instances
    scalars = state.scalars
    head = instances[i, I_QUEUE_HEAD]
    queued = instances[i, I_QUEUED]
    cached = look_up(state, i, head)
    take_cached(state, i, head, cached)
    slots[head, R_BEGUN] = now
    tokens = slots[head, R_INPUT] - cached
    pairs = tokens * (tokens + 2 * cached)
    last = head
    count = 1
    while count < queued:
        slot = slots[last, R_NEXT]
        cached = look_up(state, i, slot)
        length = slots[slot, R_INPUT] - cached
        if tokens + length > scalars[G_BUDGET]:
            break
        take_cached(state, i, slot, cached)
        slots[slot, R_BEGUN] = now
        tokens += length
        pairs += length * (length + 2 * cached)
        last = slot
        count += 1
    instances[i, I_QUEUE_HEAD] = slots[last, R_NEXT]
    instances[i, I_QUEUED] = queued - count
    scalars[G_WAITING] -= count
    instances[i, I_BATCH_HEAD] = head
    instances[i, I_RUNNING] = count
    write_batch(state, i, count, tokens, pairs)


@inlined
def end_batch(state: State, i: int, now: int) -> None:
    """Give each complete prompt of the batch its first token, send it on; start the next batch."""
    slots = state.slots
    instances = state.instances
    scalars = state.scalars
    host = instances[i, I_HOST]
    instances[i, I_TOKENS] += instances[i, I_HELD]
    instances[i, I_BUSY] += instances[i, I_STEP_TIME] - host
    instances[i, I_HOST_TIME] += host
    state.load[i] -= instances[i, I_HELD]
    slot = instances[i, I_BATCH_HEAD]
    partial = instances[i, I_PARTIAL]
    # A prompt that was cut is the last of its batch.
    ended = instances[i, I_RUNNING] - 1 if partial != NONE else instances[i, I_RUNNING]
    scalars[G_FIRST_TOKENS] += ended
    for _ in range(ended):
        following = slots[slot, R_NEXT]
        if slots[slot, R_BLOCK] != NONE:
            keep_blocks(state, i, slot)
        slots[slot, R_FIRST] = now
        slots[slot, R_LAST] = now
        slots[slot, R_DONE] = 1
        state.ttft[bucket_of(now - slots[slot, R_ARRIVAL])] += 1
        write_log(state.log, scalars, now, LOG_FIRST_TOKEN, slots[slot, R_REQUEST], i)
        if slots[slot, R_OUTPUT] == 1:
            instances[i, I_OUTSTANDING] -= 1
            complete(slots, scalars, state.log, slot, now, i)
        elif not place_decode(state, slot, now, now - slots[slot, R_BEGUN]):
            wait_for_decode(state, slot)
        slot = following
    instances[i, I_RUNNING] = 0
    if partial != NONE or instances[i, I_QUEUED] > 0:
        start_batch(state, i, now)
