"""Decode: continuous batching, with the steps between two changes of a batch taken at once.

While a batch of n sequences stays the same, each step takes n × per-KV-token longer than the last,
so s steps take s · first + growth · s (s − 1) / 2: exact in integers. Such a run of steps ends when
its first sequence ends, where KV grows also when another step would not fit, and where step times
have pieces also when the KV tokens reach another piece. A request that may join cuts the run at the
end of the step under way.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined
from heteroscale.sim.kernel_heap import (
    drop_finish,
    push_event,
    push_finish,
    queue_slot,
    queue_slot_first,
)
from heteroscale.sim.kernel_links import kv_bytes
from heteroscale.sim.kernel_measure import bucket_of, count_ramp, write_log
from heteroscale.sim.kernel_requests import complete
from heteroscale.sim.kernel_state import (
    G_GROWS,
    G_IN_TRANSFER,
    G_JOINS,
    G_KV_DELIVERED,
    G_MAX_BATCH,
    G_PREEMPTED,
    I_BASE,
    I_BATCH_HEAD,
    I_BUSY,
    I_COUNTED,
    I_EXTRA,
    I_GROWTH,
    I_HELD,
    I_HOST,
    I_HOST_TIME,
    I_JOINERS,
    I_KV_CAPACITY,
    I_OUTSTANDING,
    I_PER_UNIT,
    I_PER_UNIT2,
    I_PIECES,
    I_QUEUE_HEAD,
    I_QUEUED,
    I_REDO,
    I_REDO2,
    I_RESERVED,
    I_RUNNING,
    I_START,
    I_STEP,
    I_STEP_TIME,
    I_STEPS,
    I_TOKENS,
    I_VERSION,
    KIND_BOUNDARY,
    KIND_SHIFT,
    LOG_JOINED,
    LOG_KV_ARRIVED,
    LOG_PREEMPTED,
    NEVER,
    P_BASE,
    P_KV_TOKENS,
    P_PER_KV_TOKEN,
    P_PER_SEQUENCE,
    P_SEQUENCES,
    R_DECODE,
    R_DONE,
    R_INPUT,
    R_LAST,
    R_NEXT,
    R_ORDER,
    R_OUTPUT,
    R_PREFILL,
    R_REQUEST,
    State,
)


@inlined
def time_of_steps(first: int, growth: int, steps: int) -> int:
    """Return how long the first so many steps of a run take together."""
    return steps * first + growth * (steps * (steps - 1) // 2)


@inlined
def steps_within(first: int, growth: int, steps: int, elapsed: int) -> int:
    """Return how many of a run's steps have ended when so much time has passed."""
    low = elapsed // (first + growth * (steps - 1))
    high = min(steps, elapsed // first)
    while low < high:
        middle = (low + high + 1) >> 1
        if time_of_steps(first, growth, middle) <= elapsed:
            low = middle
        else:
            high = middle - 1
    return min(low, steps)


@inlined
def count_steps(state: State, i: int, upto: int) -> None:
    """Bring an instance's counters to the end of the run's step `upto`."""
    instances = state.instances
    done = instances[i, I_COUNTED]
    steps = upto - done
    if steps <= 0:
        return
    running = instances[i, I_RUNNING]
    growth = instances[i, I_GROWTH]
    first = instances[i, I_STEP_TIME] + growth * done
    extra = instances[i, I_EXTRA] if done == 0 else 0
    takes = extra + time_of_steps(first, growth, steps)
    host = instances[i, I_HOST] * steps
    instances[i, I_COUNTED] = upto
    instances[i, I_TOKENS] += running * steps
    instances[i, I_HOST_TIME] += host
    instances[i, I_BUSY] += takes - host
    if done == 0 and instances[i, I_JOINERS] > 0:
        # The newcomers' next token closes a gap that holds the transfer and the queue as well.
        joiners = instances[i, I_JOINERS]
        end = instances[i, I_START] + extra + first
        slot = instances[i, I_BATCH_HEAD]
        for _ in range(joiners):
            state.tbt[bucket_of(end - state.slots[slot, R_LAST])] += 1
            slot = state.slots[slot, R_NEXT]
        instances[i, I_JOINERS] = 0
        state.tbt[bucket_of(extra + first)] += running - joiners
        first += growth
        steps -= 1
    count_ramp(state.tbt, state.edges, first, growth, steps, running)


@inlined
def push_boundary(state: State, i: int) -> None:
    """Put the end of the run into the heap; older ends become void."""
    instances = state.instances
    version = instances[i, I_VERSION] + 1
    instances[i, I_VERSION] = version
    takes = time_of_steps(instances[i, I_STEP_TIME], instances[i, I_GROWTH], instances[i, I_STEPS])
    key = (KIND_BOUNDARY << KIND_SHIFT) + i
    end = instances[i, I_START] + instances[i, I_EXTRA] + takes
    push_event(state.events, state.scalars, end, key, version)


@inlined
def fits(state: State, i: int, slot: int, steps: int) -> bool:
    """Tell whether a sequence can join the batch as it is so many steps into the run."""
    request = state.slots[slot]
    instance = state.instances[i]
    running = instance[I_RUNNING]
    if running >= state.scalars[G_MAX_BATCH]:
        return False
    if state.scalars[G_GROWS] != 0:
        held = instance[I_HELD] + running * steps + request[R_INPUT] + request[R_DONE]
        return bool(held + running + 1 <= instance[I_KV_CAPACITY])
    reserved = instance[I_RESERVED] + request[R_INPUT] + request[R_OUTPUT]
    return bool(reserved <= instance[I_KV_CAPACITY])


@inlined
def preempt_newest(state: State, i: int, now: int) -> None:
    """Send the sequence that joined last back to the head of the queue, without its KV."""
    slots = state.slots
    instances = state.instances
    at = 0
    for other in range(1, instances[i, I_RUNNING]):
        newest = state.finish[i, at, 1]
        if slots[state.finish[i, other, 1], R_ORDER] > slots[newest, R_ORDER]:
            at = other
    slot = state.finish[i, at, 1]
    left = state.finish[i, at, 0] - instances[i, I_STEP]
    drop_finish(state.finish, slots, instances, i, at)
    slots[slot, R_DONE] = slots[slot, R_OUTPUT] - left
    slots[slot, R_LAST] = now
    instances[i, I_RESERVED] -= slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
    instances[i, I_HELD] -= slots[slot, R_INPUT] + slots[slot, R_DONE]
    queue_slot_first(slots, instances, i, slot)
    state.scalars[G_PREEMPTED] += 1
    write_log(state.log, state.scalars, now, LOG_PREEMPTED, slots[slot, R_REQUEST], i)


@inlined
def join_batch(state: State, i: int, now: int) -> None:
    """Let the head of the queue join while it fits."""
    slots = state.slots
    instances = state.instances
    instances[i, I_JOINERS] = 0
    instances[i, I_EXTRA] = 0
    while instances[i, I_QUEUED] > 0:
        slot = instances[i, I_QUEUE_HEAD]
        if not fits(state, i, slot, 0):
            break
        instances[i, I_QUEUE_HEAD] = slots[slot, R_NEXT]
        instances[i, I_QUEUED] -= 1
        done = slots[slot, R_DONE]
        present = slots[slot, R_INPUT] + done
        if done > 1:
            redo = instances[i, I_REDO] + instances[i, I_REDO2] * present
            instances[i, I_EXTRA] += redo * present
        instances[i, I_RESERVED] += slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
        instances[i, I_HELD] += present
        slots[slot, R_ORDER] = state.scalars[G_JOINS]
        state.scalars[G_JOINS] += 1
        slots[slot, R_NEXT] = instances[i, I_BATCH_HEAD]
        instances[i, I_BATCH_HEAD] = slot
        instances[i, I_JOINERS] += 1
        end = instances[i, I_STEP] + slots[slot, R_OUTPUT] - done
        push_finish(state.finish, slots, instances, i, end, slot)
        write_log(state.log, state.scalars, now, LOG_JOINED, slots[slot, R_REQUEST], i)


@inlined
def take_piece(state: State, i: int, held: int) -> int:
    """Write the coefficients of the batch's piece; return the steps before KV reaches another."""
    instances = state.instances
    running = instances[i, I_RUNNING]
    piece = instances[i, I_PIECES] - 1
    steps = NEVER
    while True:
        limits = state.pieces[i, piece]
        if limits[P_SEQUENCES] <= running:
            missing = limits[P_KV_TOKENS] - held
            if missing <= 0:
                break
            if running > 0:
                steps = min(steps, (missing + running - 1) // running)
        piece -= 1
    instances[i, I_BASE] = state.pieces[i, piece, P_BASE]
    instances[i, I_PER_UNIT] = state.pieces[i, piece, P_PER_SEQUENCE]
    instances[i, I_PER_UNIT2] = state.pieces[i, piece, P_PER_KV_TOKEN]
    return steps


@inlined
def start_run(state: State, i: int, now: int) -> None:
    """Make room for a step, let the queue join, and run to the first end or to the last of KV."""
    instances = state.instances
    grows = state.scalars[G_GROWS] != 0
    capacity = instances[i, I_KV_CAPACITY]
    while grows and instances[i, I_HELD] + instances[i, I_RUNNING] > capacity:
        preempt_newest(state, i, now)
    join_batch(state, i, now)
    running = instances[i, I_RUNNING]
    if running == 0:
        return
    held = instances[i, I_HELD]
    steps = state.finish[i, 0, 0] - instances[i, I_STEP]
    if grows:
        steps = min(steps, (capacity - held) // running)
    if instances[i, I_PIECES] > 1:
        steps = min(steps, take_piece(state, i, held))
    per_token = instances[i, I_PER_UNIT2]
    instances[i, I_START] = now
    instances[i, I_COUNTED] = 0
    instances[i, I_STEPS] = steps
    instances[i, I_GROWTH] = per_token * running
    instances[i, I_STEP_TIME] = (
        instances[i, I_BASE] + instances[i, I_PER_UNIT] * running + per_token * held
    )
    push_boundary(state, i)


@inlined
def end_run(state: State, i: int, now: int) -> None:
    """Close a run: those that have all their tokens leave, the next run starts."""
    count_steps(state, i, state.instances[i, I_STEPS])
    leave_batch(state, i, now)
    start_run(state, i, now)


@inlined
def leave_batch(state: State, i: int, now: int) -> None:
    """Take the steps of a run for done; those that have all their tokens leave."""
    slots = state.slots
    instances = state.instances
    steps = instances[i, I_STEPS]
    instances[i, I_STEP] += steps
    instances[i, I_HELD] += steps * instances[i, I_RUNNING]
    while instances[i, I_RUNNING] > 0 and state.finish[i, 0, 0] == instances[i, I_STEP]:
        slot = state.finish[i, 0, 1]
        tokens = slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
        drop_finish(state.finish, slots, instances, i, 0)
        instances[i, I_RESERVED] -= tokens
        instances[i, I_HELD] -= tokens
        instances[i, I_OUTSTANDING] -= 1
        state.load[i] -= tokens
        complete(slots, state.scalars, state.log, slot, now, i)


@inlined
def end_transfer(state: State, slot: int, now: int) -> None:
    """Queue a request whose KV has arrived; if it can join, the run ends with the present step."""
    slots = state.slots
    instances = state.instances
    i = slots[slot, R_DECODE]
    state.scalars[G_IN_TRANSFER] -= 1
    state.scalars[G_KV_DELIVERED] += kv_bytes(state, slot)
    instances[slots[slot, R_PREFILL], I_OUTSTANDING] -= 1
    write_log(state.log, state.scalars, now, LOG_KV_ARRIVED, slots[slot, R_REQUEST], i)
    queue_slot(slots, instances, i, slot)
    if instances[i, I_RUNNING] == 0:
        start_run(state, i, now)
        return
    if instances[i, I_QUEUED] > 1 or not fits(state, i, slot, 0):
        return
    elapsed = max(0, now - instances[i, I_START] - instances[i, I_EXTRA])
    first = instances[i, I_STEP_TIME]
    upto = 1 + steps_within(first, instances[i, I_GROWTH], instances[i, I_STEPS], elapsed)
    if upto < instances[i, I_STEPS] and fits(state, i, slot, upto):
        instances[i, I_STEPS] = upto
        push_boundary(state, i)
