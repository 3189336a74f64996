"""Decode: continuous batching, with the steps between two changes of a batch taken at once.

While a batch of n sequences stays the same, each step takes n × per-KV-token longer than the last,
so s steps take s · first + growth · s (s − 1) / 2: exact in integers. Such a run of steps ends when
its first sequence ends. A request that may join cuts the run at the end of the step under way.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined
from heteroscale.sim.kernel_heap import drop_finish, push_event, push_finish
from heteroscale.sim.kernel_measure import bucket_of, count_ramp, write_log
from heteroscale.sim.kernel_requests import complete
from heteroscale.sim.kernel_state import (
    G_IN_TRANSFER,
    G_MAX_BATCH,
    I_BASE,
    I_BATCH_HEAD,
    I_BUSY,
    I_COUNTED,
    I_GROWTH,
    I_HELD,
    I_HOST,
    I_HOST_TIME,
    I_JOINERS,
    I_KV_CAPACITY,
    I_OUTSTANDING,
    I_PER_UNIT,
    I_PER_UNIT2,
    I_QUEUE_HEAD,
    I_QUEUE_TAIL,
    I_QUEUED,
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
    NONE,
    R_DECODE,
    R_FIRST,
    R_INPUT,
    R_NEXT,
    R_OUTPUT,
    R_PREFILL,
    R_REQUEST,
    Int64Array,
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
    takes = time_of_steps(first, growth, steps)
    host = instances[i, I_HOST] * steps
    instances[i, I_COUNTED] = upto
    instances[i, I_TOKENS] += running * steps
    instances[i, I_HOST_TIME] += host
    instances[i, I_BUSY] += takes - host
    if done == 0 and instances[i, I_JOINERS] > 0:
        # The newcomers' second token closes a gap that holds the transfer and the queue as well.
        joiners = instances[i, I_JOINERS]
        end = instances[i, I_START] + first
        slot = instances[i, I_BATCH_HEAD]
        for _ in range(joiners):
            state.tbt[bucket_of(end - state.slots[slot, R_FIRST])] += 1
            slot = state.slots[slot, R_NEXT]
        instances[i, I_JOINERS] = 0
        state.tbt[bucket_of(first)] += running - joiners
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
    push_event(state.events, state.scalars, instances[i, I_START] + takes, key, version)


@inlined
def fits(instances: Int64Array, scalars: Int64Array, i: int, tokens: int) -> bool:
    """Tell whether a sequence of so many tokens in the end can join the batch as it is."""
    room: int = instances[i, I_KV_CAPACITY] - instances[i, I_RESERVED]
    places: int = scalars[G_MAX_BATCH] - instances[i, I_RUNNING]
    return tokens <= room and places > 0


@inlined
def start_run(state: State, i: int, now: int) -> None:
    """Let the head of the queue join while it fits, and run to the first end."""
    slots = state.slots
    instances = state.instances
    instances[i, I_JOINERS] = 0
    while instances[i, I_QUEUED] > 0:
        slot = instances[i, I_QUEUE_HEAD]
        tokens = slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
        if not fits(instances, state.scalars, i, tokens):
            break
        instances[i, I_QUEUE_HEAD] = slots[slot, R_NEXT]
        instances[i, I_QUEUED] -= 1
        instances[i, I_RESERVED] += tokens
        instances[i, I_HELD] += slots[slot, R_INPUT] + 1
        slots[slot, R_NEXT] = instances[i, I_BATCH_HEAD]
        instances[i, I_BATCH_HEAD] = slot
        instances[i, I_JOINERS] += 1
        end = instances[i, I_STEP] + slots[slot, R_OUTPUT] - 1
        push_finish(state.finish, slots, instances, i, end, slot)
        write_log(state.log, state.scalars, now, LOG_JOINED, slots[slot, R_REQUEST], i)
    running = instances[i, I_RUNNING]
    if running == 0:
        return
    per_token = instances[i, I_PER_UNIT2]
    instances[i, I_START] = now
    instances[i, I_COUNTED] = 0
    instances[i, I_STEPS] = state.finish[i, 0, 0] - instances[i, I_STEP]
    instances[i, I_GROWTH] = per_token * running
    instances[i, I_STEP_TIME] = (
        instances[i, I_BASE] + instances[i, I_PER_UNIT] * running + per_token * instances[i, I_HELD]
    )
    push_boundary(state, i)


@inlined
def end_run(state: State, i: int, now: int) -> None:
    """Close a run: those that have all their tokens leave, the next run starts."""
    slots = state.slots
    instances = state.instances
    steps = instances[i, I_STEPS]
    count_steps(state, i, steps)
    instances[i, I_STEP] += steps
    instances[i, I_HELD] += steps * instances[i, I_RUNNING]
    while instances[i, I_RUNNING] > 0 and state.finish[i, 0, 0] == instances[i, I_STEP]:
        slot = state.finish[i, 0, 1]
        tokens = slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
        drop_finish(state.finish, slots, instances, i)
        instances[i, I_RESERVED] -= tokens
        instances[i, I_HELD] -= tokens
        instances[i, I_OUTSTANDING] -= 1
        state.load[i] -= tokens
        complete(slots, state.scalars, state.log, slot, now, i)
    start_run(state, i, now)


@inlined
def end_transfer(state: State, slot: int, now: int) -> None:
    """Queue a request whose KV has arrived; if it can join, the run ends with the present step."""
    slots = state.slots
    instances = state.instances
    i = slots[slot, R_DECODE]
    state.scalars[G_IN_TRANSFER] -= 1
    instances[slots[slot, R_PREFILL], I_OUTSTANDING] -= 1
    write_log(state.log, state.scalars, now, LOG_KV_ARRIVED, slots[slot, R_REQUEST], i)
    slots[slot, R_NEXT] = NONE
    if instances[i, I_QUEUED] == 0:
        instances[i, I_QUEUE_HEAD] = slot
    else:
        slots[instances[i, I_QUEUE_TAIL], R_NEXT] = slot
    instances[i, I_QUEUE_TAIL] = slot
    instances[i, I_QUEUED] += 1
    if instances[i, I_RUNNING] == 0:
        start_run(state, i, now)
        return
    tokens = slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
    if instances[i, I_QUEUED] > 1 or not fits(instances, state.scalars, i, tokens):
        return
    elapsed = now - instances[i, I_START]
    first = instances[i, I_STEP_TIME]
    upto = 1 + steps_within(first, instances[i, I_GROWTH], instances[i, I_STEPS], elapsed)
    if upto < instances[i, I_STEPS]:
        instances[i, I_STEPS] = upto
        push_boundary(state, i)
