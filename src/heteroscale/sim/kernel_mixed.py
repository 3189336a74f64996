"""The event loop of co-located serving: lets one pool of engines run until a time, and reads it.

Events happen in the order (time, kind, id): ends of runs of steps, then requests that come to a
queue. It returns early when Python must hand it arrivals or room; called again, it goes on.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined, njit
from heteroscale.sim.kernel import admit
from heteroscale.sim.kernel_choice import choose_instance
from heteroscale.sim.kernel_decode import steps_within, time_of_steps
from heteroscale.sim.kernel_heap import drop_event
from heteroscale.sim.kernel_mixed_step import count_mixed, end_steps, queue_request
from heteroscale.sim.kernel_state import (
    DECODE,
    DONE,
    G_ARRIVALS,
    G_CLOSED,
    G_EVENTS,
    G_FREE_SLOT,
    G_GROWS,
    G_INGRESS,
    G_LOGGED,
    G_LOGGING,
    G_MAX_BATCH,
    G_NEXT_ARRIVAL,
    G_NOW,
    I_BUSY,
    I_CLAIMED,
    I_COMPUTED,
    I_EXTRA,
    I_GROWTH,
    I_HELD,
    I_HOST,
    I_HOST_TIME,
    I_JOINERS,
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
    NEED_ARRIVALS,
    NEED_EVENTS,
    NEED_LOG,
    NEED_SLOTS,
    NEVER,
    NONE,
    V_BUSY,
    V_CAPACITY,
    V_COLUMNS,
    V_COMPUTED,
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
def come(state: State, now: int) -> None:
    """Let the next request of the chunk come to a queue; a slot is free."""
    slot = admit(state, now)
    if slot != NONE:
        queue_request(state, choose_instance(state, DECODE, NONE, slot), slot, now)


@inlined
def happen_mixed(state: State) -> None:
    """Let the first event of the heap happen."""
    now = state.events[0, 0]
    i = state.events[0, 1]
    version = state.events[0, 2]
    drop_event(state.events, state.scalars)
    if state.instances[i, I_VERSION] == version:
        state.scalars[G_NOW] = now
        end_steps(state, i, now)


@njit
def run_mixed(state: State, until: int) -> int:
    """Let everything up to and including `until` happen; return DONE or what is needed first."""
    scalars = state.scalars
    # Of one event: a first token and an end for each, and as many that are preempted or join.
    rows = 4 * scalars[G_MAX_BATCH] + 4
    while True:
        if scalars[G_EVENTS] == state.events.shape[0]:
            return NEED_EVENTS
        if scalars[G_LOGGING] != 0 and scalars[G_LOGGED] + rows > state.log.shape[0]:
            return NEED_LOG
        at = scalars[G_NEXT_ARRIVAL]
        arrival = NEVER
        if at < scalars[G_ARRIVALS]:
            arrival = state.arrival[at] + scalars[G_INGRESS]
        elif scalars[G_CLOSED] == 0:
            return NEED_ARRIVALS
        event = NEVER
        if scalars[G_EVENTS] > 0:
            event = state.events[0, 0]
        if min(event, arrival) > until:
            scalars[G_NOW] = until
            return DONE
        if event <= arrival:
            happen_mixed(state)
        elif scalars[G_FREE_SLOT] == NONE:
            return NEED_SLOTS
        else:
            come(state, arrival)


@inlined
def read_mixed(state: State, i: int, now: int) -> None:
    """Write one engine's counters as of now into its row of `readings`."""
    instances = state.instances
    readings = state.readings
    running = instances[i, I_RUNNING]
    prompts = instances[i, I_JOINERS]
    used = instances[i, I_HELD] + instances[i, I_CLAIMED]
    since = instances[i, I_START]
    elapsed = 0
    if running + prompts > 0:
        first = instances[i, I_STEP_TIME] + instances[i, I_EXTRA]
        growth = instances[i, I_GROWTH]
        done = steps_within(first, growth, instances[i, I_STEPS], now - since)
        count_mixed(state, i, done)
        since += time_of_steps(first, growth, done)
        used += running * done
        elapsed = now - since
    host = min(elapsed, instances[i, I_HOST])
    readings[i, V_TOKENS] = instances[i, I_TOKENS]
    readings[i, V_BUSY] = instances[i, I_BUSY] + elapsed - host
    readings[i, V_HOST] = instances[i, I_HOST_TIME] + host
    readings[i, V_WAITING] = instances[i, I_QUEUED]
    readings[i, V_RUNNING] = running + prompts
    readings[i, V_OUTSTANDING] = instances[i, I_OUTSTANDING]
    readings[i, V_RESERVED] = used if state.scalars[G_GROWS] != 0 else instances[i, I_RESERVED]
    readings[i, V_USED] = used
    readings[i, V_CAPACITY] = instances[i, I_KV_CAPACITY]
    readings[i, V_IN_ROTATION] = 1
    readings[i, V_INSTANCES] = 1
    readings[i, V_COMPUTED] = instances[i, I_COMPUTED]


@njit
def measure_mixed(state: State) -> None:
    """Write every engine's and the pool's counters as of now; nothing else changes."""
    state.totals[:, :] = 0
    for i in range(state.instances.shape[0]):
        if state.instances[i, I_ROLE] == NONE:
            continue
        read_mixed(state, i, state.scalars[G_NOW])
        for column in range(V_COLUMNS):
            state.totals[DECODE, column] += state.readings[i, column]
