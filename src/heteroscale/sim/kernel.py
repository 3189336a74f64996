"""The event loop: lets one serving plane run until a time, and reads it there.

Events happen in the order (time, kind, id): ends of decode runs, of prefill batches, KV that has
arrived, last bytes on shared uplinks, then requests that arrive. No float and no random draw comes
near it. It returns early when Python must hand it arrivals or room; called again, it goes on as if
it had never stopped.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined, njit
from heteroscale.sim.kernel_cache import know_blocks
from heteroscale.sim.kernel_decode import (
    count_steps,
    end_run,
    end_transfer,
    steps_within,
    time_of_steps,
)
from heteroscale.sim.kernel_heap import drop_event, take_slot
from heteroscale.sim.kernel_links import end_sending
from heteroscale.sim.kernel_measure import write_log
from heteroscale.sim.kernel_prefill import (
    end_batch,
    place_prefill,
    place_waiting_prefill,
    refused,
)
from heteroscale.sim.kernel_route import place_waiting_decode
from heteroscale.sim.kernel_state import (
    DECODE,
    DONE,
    G_ARRIVALS,
    G_ARRIVED,
    G_ARRIVED_INPUT,
    G_ARRIVED_OUTPUT,
    G_BLOCK_TOKENS,
    G_BUDGET,
    G_CACHED,
    G_CHANGED,
    G_CLOSED,
    G_EVENTS,
    G_FREE_SLOT,
    G_GROWS,
    G_LIVE,
    G_LOGGED,
    G_LOGGING,
    G_MAX_BATCH,
    G_NEXT_ARRIVAL,
    G_NEXT_REQUEST,
    G_NEXT_SENT,
    G_NOW,
    G_REFUSED,
    G_REFUSED_INPUT,
    G_REFUSED_OUTPUT,
    G_WAITING,
    I_BUSY,
    I_EXTRA,
    I_GROWTH,
    I_HELD,
    I_HOST,
    I_HOST_TIME,
    I_IN_ROTATION,
    I_KV_CAPACITY,
    I_OUTSTANDING,
    I_QUEUED,
    I_RESERVED,
    I_ROLE,
    I_RUNNING,
    I_START,
    I_STEP_TIME,
    I_STEPS,
    I_TOKENS,
    I_VERSION,
    KIND_BATCH_END,
    KIND_BOUNDARY,
    KIND_SHIFT,
    LOG_ARRIVED,
    LOG_REFUSED,
    NEED_ARRIVALS,
    NEED_EVENTS,
    NEED_LOG,
    NEED_SLOTS,
    NEVER,
    NONE,
    R_ARRIVAL,
    R_BLOCK,
    R_CACHED,
    R_FIRST,
    R_INPUT,
    R_OUTPUT,
    R_REQUEST,
    V_BUSY,
    V_CAPACITY,
    V_COLUMNS,
    V_HOST,
    V_IN_ROTATION,
    V_INSTANCES,
    V_OUTSTANDING,
    V_RESERVED,
    V_RUNNING,
    V_TOKENS,
    V_USED,
    V_WAITING,
    State,
)


@inlined
def arrive(state: State) -> None:
    """Let the next request of the chunk arrive; a slot is free."""
    now = state.arrival[state.scalars[G_NEXT_ARRIVAL]]
    slot = admit(state, now)
    if slot != NONE:
        place_prefill(state, slot, now)


@inlined
def admit(state: State, now: int) -> int:
    """Return the slot of the next request of the chunk, −1 where it is refused."""
    scalars = state.scalars
    at = scalars[G_NEXT_ARRIVAL]
    scalars[G_NEXT_ARRIVAL] = at + 1
    inputs = int(state.input_tokens[at])
    outputs = int(state.output_tokens[at])
    request = scalars[G_NEXT_REQUEST]
    scalars[G_NEXT_REQUEST] = request + 1
    scalars[G_NOW] = now
    scalars[G_ARRIVED] += 1
    scalars[G_ARRIVED_INPUT] += inputs
    scalars[G_ARRIVED_OUTPUT] += outputs
    if refused(scalars, inputs + outputs):
        scalars[G_REFUSED] += 1
        scalars[G_REFUSED_INPUT] += inputs
        scalars[G_REFUSED_OUTPUT] += outputs
        write_log(state.log, scalars, now, LOG_REFUSED, request, NONE)
        return NONE
    slots = state.slots
    slot = take_slot(slots, scalars)
    slots[slot, R_REQUEST] = request
    slots[slot, R_ARRIVAL] = state.arrival[at]
    slots[slot, R_INPUT] = inputs
    slots[slot, R_OUTPUT] = outputs
    slots[slot, R_CACHED] = min(inputs - 1, inputs * scalars[G_CACHED] // 1000)
    slots[slot, R_FIRST] = NONE
    slots[slot, R_BLOCK] = NONE
    if scalars[G_BLOCK_TOKENS] > 0:
        know_blocks(state, slot, at)
    scalars[G_WAITING] += 1
    write_log(state.log, scalars, now, LOG_ARRIVED, request, NONE)
    return slot


@inlined
def happen(state: State) -> None:
    """Let the first event of the heap happen."""
    scalars = state.scalars
    events = state.events
    now = events[0, 0]
    key = events[0, 1]
    payload = events[0, 2]
    drop_event(events, scalars)
    kind = key >> KIND_SHIFT
    if kind == KIND_BOUNDARY:
        if state.instances[key, I_VERSION] == payload:
            scalars[G_NOW] = now
            end_run(state, key, now)
        return
    scalars[G_NOW] = now
    if kind == KIND_BATCH_END:
        end_batch(state, key - (KIND_BATCH_END << KIND_SHIFT), now)
    else:
        end_transfer(state, payload, now)


@inlined
def lacks_room(state: State) -> int:
    """Return what the next event might not fit into: NEED_EVENTS, NEED_LOG, or DONE for nothing."""
    scalars = state.scalars
    # A batch sends at most one transfer per request, and a request has at least one token.
    batch = min(scalars[G_BUDGET], scalars[G_LIVE]) + 4
    if scalars[G_EVENTS] + batch > state.events.shape[0]:
        return NEED_EVENTS
    rows = 2 * batch + 3 * scalars[G_MAX_BATCH]
    if scalars[G_LOGGING] != 0 and scalars[G_LOGGED] + rows > state.log.shape[0]:
        return NEED_LOG
    return DONE


@njit
def run(state: State, until: int) -> int:
    """Let everything up to and including `until` happen; return DONE or what is needed first."""
    scalars = state.scalars
    if scalars[G_CHANGED] != 0:
        scalars[G_CHANGED] = 0
        place_waiting_prefill(state, scalars[G_NOW])
        place_waiting_decode(state, scalars[G_NOW])
    while True:
        lacking = lacks_room(state)
        if lacking != DONE:
            return lacking
        at = scalars[G_NEXT_ARRIVAL]
        arrival = NEVER
        if at < scalars[G_ARRIVALS]:
            arrival = state.arrival[at]
        elif scalars[G_CLOSED] == 0:
            return NEED_ARRIVALS
        event = NEVER
        if scalars[G_EVENTS] > 0:
            event = state.events[0, 0]
        sent = scalars[G_NEXT_SENT]
        if min(event, sent, arrival) > until:
            scalars[G_NOW] = until
            return DONE
        if sent < event and sent <= arrival:
            scalars[G_NOW] = sent
            end_sending(state, sent)
        elif event <= arrival:
            happen(state)
        elif scalars[G_FREE_SLOT] == NONE:
            return NEED_SLOTS
        else:
            arrive(state)


@inlined
def read_instance(state: State, i: int, now: int) -> None:
    """Write one instance's counters as of now into its row of `readings`."""
    instances = state.instances
    readings = state.readings
    running = instances[i, I_RUNNING]
    used = 0
    since = instances[i, I_START]
    if instances[i, I_ROLE] == DECODE:
        used = instances[i, I_HELD]
        if running > 0:
            first = instances[i, I_STEP_TIME]
            growth = instances[i, I_GROWTH]
            extra = instances[i, I_EXTRA]
            done = steps_within(first, growth, instances[i, I_STEPS], max(0, now - since - extra))
            count_steps(state, i, done)
            if done > 0:
                since += extra + time_of_steps(first, growth, done)
            used += running * done
    elapsed = now - since if running > 0 else 0
    host = min(elapsed, instances[i, I_HOST])
    readings[i, V_TOKENS] = instances[i, I_TOKENS]
    readings[i, V_BUSY] = instances[i, I_BUSY] + elapsed - host
    readings[i, V_HOST] = instances[i, I_HOST_TIME] + host
    readings[i, V_WAITING] = instances[i, I_QUEUED]
    readings[i, V_RUNNING] = running
    readings[i, V_OUTSTANDING] = instances[i, I_OUTSTANDING]
    readings[i, V_RESERVED] = used if state.scalars[G_GROWS] != 0 else instances[i, I_RESERVED]
    readings[i, V_USED] = used
    readings[i, V_CAPACITY] = instances[i, I_KV_CAPACITY]
    readings[i, V_IN_ROTATION] = instances[i, I_IN_ROTATION]
    readings[i, V_INSTANCES] = 1


@njit
def measure(state: State) -> None:
    """Write every instance's and role's counters as of now; nothing else changes."""
    instances = state.instances
    readings = state.readings
    totals = state.totals
    totals[:, :] = 0
    for i in range(instances.shape[0]):
        role = instances[i, I_ROLE]
        if role == NONE:
            continue
        read_instance(state, i, state.scalars[G_NOW])
        for column in range(V_COLUMNS):
            if column != V_CAPACITY or instances[i, I_IN_ROTATION] == 1:
                totals[role, column] += readings[i, column]
