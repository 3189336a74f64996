"""Co-located engines: prompts are computed in the steps of those that decode, up to a budget.

A step gives one token to every decoding sequence and computes prompts, or chunks of them, with what
is left of the token budget; at its end each prompt that is complete has its next token and decodes
from then on. Steps without prompts are taken at once, as `kernel_decode` does it; a request that
may join cuts such a run at the end of the step under way, or of the next where steps are made up
ahead.

KV of a whole prompt and of the token it ends with is claimed when its first chunk is. So only
decoding can outgrow the KV: the newest is preempted then, a prompt under way before all others.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined
from heteroscale.sim.kernel_decode import (
    leave_batch,
    preempt_newest,
    push_boundary,
    steps_within,
    take_piece,
    time_of_steps,
)
from heteroscale.sim.kernel_heap import push_finish, queue_slot, queue_slot_first
from heteroscale.sim.kernel_measure import bucket_of, count_ramp, write_log
from heteroscale.sim.kernel_requests import complete
from heteroscale.sim.kernel_state import (
    G_AHEAD,
    G_BUDGET,
    G_CHUNKED,
    G_FIRST_TOKENS,
    G_GROWS,
    G_INGRESS,
    G_JOINS,
    G_MAX_BATCH,
    G_PREEMPTED,
    G_WAITING,
    I_BASE,
    I_BATCH_HEAD,
    I_BUSY,
    I_CHUNK,
    I_CLAIMED,
    I_COMPUTED,
    I_COUNTED,
    I_EXTRA,
    I_GROWTH,
    I_HELD,
    I_HIDDEN,
    I_HIDDEN_TOKENS,
    I_HOST,
    I_HOST_TIME,
    I_JOINERS,
    I_KV_CAPACITY,
    I_OUTSTANDING,
    I_PARTIAL,
    I_PER_REQUEST,
    I_PER_UNIT,
    I_PER_UNIT2,
    I_PIECES,
    I_QUEUE_HEAD,
    I_QUEUED,
    I_REDO,
    I_REDO2,
    I_RESERVED,
    I_RUNNING,
    I_SCHEDULED,
    I_START,
    I_STEP,
    I_STEP_TIME,
    I_STEPS,
    I_TOKENS,
    LOG_FIRST_TOKEN,
    LOG_JOINED,
    LOG_PREEMPTED,
    NONE,
    R_ARRIVAL,
    R_CACHED,
    R_COMPUTED,
    R_DECODE,
    R_DONE,
    R_FIRST,
    R_INPUT,
    R_LAST,
    R_NEXT,
    R_ORDER,
    R_OUTPUT,
    R_REQUEST,
    State,
)


@inlined
def can_join(state: State, i: int, slot: int, steps: int, prompts: int) -> bool:
    """Tell whether a request fits beside so many prompts, so many steps into the run."""
    request = state.slots[slot]
    instance = state.instances[i]
    running = instance[I_RUNNING]
    if running + prompts >= state.scalars[G_MAX_BATCH]:
        return False
    if state.scalars[G_GROWS] != 0:
        held = instance[I_HELD] + instance[I_CLAIMED] + running * steps
        needed = request[R_INPUT] + request[R_DONE] + 1 + running
        return bool(held + needed <= instance[I_KV_CAPACITY])
    reserved = instance[I_RESERVED] + request[R_INPUT] + request[R_OUTPUT]
    return bool(reserved <= instance[I_KV_CAPACITY])


@inlined
def came_in_time(state: State, i: int, slot: int) -> bool:
    """Tell whether a request was there when the next step was made up."""
    queued = state.slots[slot, R_ARRIVAL] + state.scalars[G_INGRESS]
    return bool(queued <= state.instances[i, I_SCHEDULED])


@inlined
def drop_partial(state: State, i: int, now: int) -> None:
    """Send the prompt under way back to the head of the queue, without its KV."""
    slots = state.slots
    instances = state.instances
    slot = instances[i, I_PARTIAL]
    instances[i, I_PARTIAL] = NONE
    instances[i, I_CLAIMED] = 0
    instances[i, I_RESERVED] -= slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
    queue_slot_first(slots, instances, i, slot)
    state.scalars[G_PREEMPTED] += 1
    write_log(state.log, state.scalars, now, LOG_PREEMPTED, slots[slot, R_REQUEST], i)


@inlined
def make_room(state: State, i: int, now: int) -> None:
    """Preempt the newest until a step of those that decode fits."""
    instances = state.instances
    capacity = instances[i, I_KV_CAPACITY]
    while True:
        needed = instances[i, I_HELD] + instances[i, I_CLAIMED] + instances[i, I_RUNNING]
        if needed <= capacity:
            return
        state.scalars[G_WAITING] += 1
        if instances[i, I_PARTIAL] != NONE:
            drop_partial(state, i, now)
        else:
            preempt_newest(state, i, now)


@inlined
def take_head(state: State, i: int, now: int) -> int:
    """Take the head of the queue into the engine and return it; its prompt is still to compute."""
    slots = state.slots
    instances = state.instances
    slot = instances[i, I_QUEUE_HEAD]
    instances[i, I_QUEUE_HEAD] = slots[slot, R_NEXT]
    instances[i, I_QUEUED] -= 1
    state.scalars[G_WAITING] -= 1
    instances[i, I_CLAIMED] += slots[slot, R_INPUT] + slots[slot, R_DONE] + 1
    instances[i, I_RESERVED] += slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
    slots[slot, R_COMPUTED] = slots[slot, R_CACHED]
    slots[slot, R_ORDER] = state.scalars[G_JOINS]
    state.scalars[G_JOINS] += 1
    write_log(state.log, state.scalars, now, LOG_JOINED, slots[slot, R_REQUEST], i)
    return int(slot)


@inlined
def next_prompt(state: State, i: int, prompts: int, left: int, now: int) -> int:
    """Return the prompt that the step computes after so many others; −1 = none.

    `left`: what is left of the token budget.
    """
    slots = state.slots
    instances = state.instances
    slot = instances[i, I_PARTIAL]
    if slot != NONE:
        # It counts among the sequences, of which there are at most as many as tokens: one is left.
        instances[i, I_PARTIAL] = NONE
        return int(slot)
    if instances[i, I_QUEUED] == 0:
        return NONE
    slot = instances[i, I_QUEUE_HEAD]
    whole = slots[slot, R_INPUT] + slots[slot, R_DONE] - slots[slot, R_CACHED]
    if state.scalars[G_CHUNKED] != 0:
        if left <= 0:
            return NONE
    elif prompts > 0 and whole > left:
        return NONE
    if not came_in_time(state, i, slot) or not can_join(state, i, slot, 0, prompts):
        return NONE
    return take_head(state, i, now)


@inlined
def fill_step(state: State, i: int, now: int) -> None:
    """Choose the prompts of the next step, in order, and write what they add to its time."""
    slots = state.slots
    instances = state.instances
    chunked = state.scalars[G_CHUNKED] != 0
    left = state.scalars[G_BUDGET] - instances[i, I_RUNNING]
    instances[i, I_JOINERS] = 0
    last = NONE
    prompts = 0
    tokens = 0
    pairs = 0
    complete_ones = 0
    while True:
        slot = next_prompt(state, i, prompts, left, now)
        if slot == NONE:
            break
        before = slots[slot, R_COMPUTED]
        whole = slots[slot, R_INPUT] + slots[slot, R_DONE] - before
        chunk = min(whole, left) if chunked else whole
        slots[slot, R_COMPUTED] = before + chunk
        left -= chunk
        tokens += chunk
        pairs += chunk * (chunk + 2 * before)
        complete_ones += chunk == whole
        if last == NONE:
            instances[i, I_BATCH_HEAD] = slot
        else:
            slots[last, R_NEXT] = slot
        last = slot
        prompts += 1
    instances[i, I_JOINERS] = prompts
    instances[i, I_CHUNK] = tokens
    hidden = min(tokens, max(0, instances[i, I_HIDDEN_TOKENS] - instances[i, I_RUNNING]))
    instances[i, I_EXTRA] = (
        instances[i, I_REDO] * tokens
        - instances[i, I_HIDDEN] * hidden
        + instances[i, I_REDO2] * pairs
        + instances[i, I_PER_REQUEST] * complete_ones
    )


@inlined
def start_steps(state: State, i: int, now: int) -> None:
    """Start one step with prompts, or a run without, up to the first end or to the last of KV."""
    instances = state.instances
    grows = state.scalars[G_GROWS] != 0
    if grows:
        make_room(state, i, now)
    fill_step(state, i, now)
    running = instances[i, I_RUNNING]
    steps = 1
    if instances[i, I_JOINERS] == 0:
        if running == 0:
            return
        steps = state.finish[i, 0, 0] - instances[i, I_STEP]
        if instances[i, I_QUEUED] > 0:
            head = instances[i, I_QUEUE_HEAD]
            if not came_in_time(state, i, head) and can_join(state, i, head, 1, 0):
                steps = 1
        if grows:
            free = instances[i, I_KV_CAPACITY] - instances[i, I_HELD] - instances[i, I_CLAIMED]
            steps = min(steps, free // running)
    if instances[i, I_PIECES] > 1:
        steps = min(steps, take_piece(state, i, instances[i, I_HELD]))
    per_token = instances[i, I_PER_UNIT2]
    instances[i, I_START] = now
    instances[i, I_COUNTED] = 0
    instances[i, I_STEPS] = steps
    instances[i, I_GROWTH] = per_token * running
    instances[i, I_STEP_TIME] = (
        instances[i, I_BASE] + instances[i, I_PER_UNIT] * running + per_token * instances[i, I_HELD]
    )
    push_boundary(state, i)


@inlined
def count_mixed(state: State, i: int, upto: int) -> None:
    """Bring an instance's counters to the end of the run's step `upto`."""
    instances = state.instances
    done = instances[i, I_COUNTED]
    steps = upto - done
    if steps <= 0:
        return
    running = instances[i, I_RUNNING]
    growth = instances[i, I_GROWTH]
    # A step with prompts is a run of its own: what it takes longer is in its only step.
    first = instances[i, I_STEP_TIME] + growth * done + instances[i, I_EXTRA]
    host = instances[i, I_HOST] * steps
    instances[i, I_COUNTED] = upto
    instances[i, I_TOKENS] += running * steps
    instances[i, I_COMPUTED] += instances[i, I_CHUNK]
    instances[i, I_HOST_TIME] += host
    instances[i, I_BUSY] += time_of_steps(first, growth, steps) - host
    count_ramp(state.tbt, state.edges, first, growth, steps, running)


@inlined
def give_token(state: State, i: int, slot: int, now: int) -> None:
    """Give a request the token that its complete prompt ends with; it decodes from now on."""
    slots = state.slots
    instances = state.instances
    scalars = state.scalars
    held = slots[slot, R_INPUT] + slots[slot, R_DONE] + 1
    instances[i, I_CLAIMED] -= held
    instances[i, I_TOKENS] += 1
    if slots[slot, R_FIRST] == NONE:
        slots[slot, R_FIRST] = now
        scalars[G_FIRST_TOKENS] += 1
        state.ttft[bucket_of(now - slots[slot, R_ARRIVAL])] += 1
        write_log(state.log, scalars, now, LOG_FIRST_TOKEN, slots[slot, R_REQUEST], i)
    else:
        state.tbt[bucket_of(now - slots[slot, R_LAST])] += 1
    slots[slot, R_DONE] += 1
    left = slots[slot, R_OUTPUT] - slots[slot, R_DONE]
    if left > 0:
        instances[i, I_HELD] += held
        push_finish(state.finish, slots, instances, i, instances[i, I_STEP] + left, slot)
        return
    tokens = slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
    instances[i, I_RESERVED] -= tokens
    instances[i, I_OUTSTANDING] -= 1
    state.load[i] -= tokens
    complete(slots, scalars, state.log, slot, now, i)


@inlined
def end_steps(state: State, i: int, now: int) -> None:
    """Close a run: the finished leave, complete prompts have their token, the next run starts."""
    slots = state.slots
    instances = state.instances
    steps = instances[i, I_STEPS]
    count_mixed(state, i, steps)
    leave_batch(state, i, now)
    slot = instances[i, I_BATCH_HEAD]
    for _ in range(instances[i, I_JOINERS]):
        following = slots[slot, R_NEXT]
        if slots[slot, R_COMPUTED] == slots[slot, R_INPUT] + slots[slot, R_DONE]:
            give_token(state, i, slot, now)
        else:
            instances[i, I_PARTIAL] = slot
        slot = following
    instances[i, I_SCHEDULED] = now
    # A step that would be empty is not made up ahead.
    if state.scalars[G_AHEAD] != 0 and (
        instances[i, I_RUNNING] > 0 or instances[i, I_PARTIAL] != NONE
    ):
        last = instances[i, I_STEP_TIME] + instances[i, I_EXTRA]
        instances[i, I_SCHEDULED] -= last + instances[i, I_GROWTH] * (steps - 1)
    start_steps(state, i, now)


@inlined
def queue_request(state: State, i: int, slot: int, now: int) -> None:
    """Queue a request at an engine; if it can join, the run ends with the present step."""
    slots = state.slots
    instances = state.instances
    slots[slot, R_DECODE] = i
    slots[slot, R_DONE] = 0
    state.load[i] += slots[slot, R_INPUT] + slots[slot, R_OUTPUT]
    instances[i, I_OUTSTANDING] += 1
    queue_slot(slots, instances, i, slot)
    running = instances[i, I_RUNNING]
    if running + instances[i, I_JOINERS] == 0:
        instances[i, I_SCHEDULED] = now
        start_steps(state, i, now)
        return
    if instances[i, I_QUEUED] > 1 or instances[i, I_JOINERS] > 0:
        return
    first = instances[i, I_STEP_TIME]
    elapsed = now - instances[i, I_START]
    upto = 1 + steps_within(first, instances[i, I_GROWTH], instances[i, I_STEPS], elapsed)
    upto += state.scalars[G_AHEAD]
    if upto < instances[i, I_STEPS] and can_join(state, i, slot, upto, 0):
        instances[i, I_STEPS] = upto
        push_boundary(state, i)
