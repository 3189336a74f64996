"""Makes the kernel's arrays and makes them larger, between two calls of the kernel."""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from heteroscale.errors import InvariantViolation
from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.kernel_hash import LOW, mixed
from heteroscale.sim.kernel_measure import BUCKETS, bucket_edges
from heteroscale.sim.kernel_options import KvAdmission, Routing, ServingOptions
from heteroscale.sim.kernel_state import (
    B_COLUMNS,
    DECODE,
    G_BLOCK_TOKENS,
    G_BUDGET,
    G_CACHED,
    G_CHUNKED,
    G_COLUMNS,
    G_DECODE_HEAD,
    G_DECODE_ROUTING,
    G_EVENTS,
    G_FREE_SLOT,
    G_GROUPS,
    G_GROWS,
    G_IN_ROTATION,
    G_LIVE,
    G_NEXT_SENT,
    G_OVERLAP,
    G_PREFILL_HEAD,
    G_ROUTING,
    G_SEED,
    G_SHARED,
    I_BASE,
    I_COLUMNS,
    I_GROUP,
    I_HIDDEN,
    I_HIDDEN_TOKENS,
    I_HOST,
    I_KV_BYTES,
    I_KV_CAPACITY,
    I_LINK,
    I_LOCATION,
    I_PARTIAL,
    I_PER_REQUEST,
    I_PER_UNIT,
    I_PER_UNIT2,
    I_PIECES,
    I_REDO,
    I_REDO2,
    I_ROLE,
    I_VERSION,
    NEVER,
    NODE_COLUMNS,
    NONE,
    P_COLUMNS,
    PREFILL,
    R_BUNDLE,
    R_COLUMNS,
    R_NEXT,
    R_REQUEST,
    V_COLUMNS,
    Int64Array,
    State,
)

# First sizes; each doubles when it is full.
SLOTS = 1024
INSTANCES = 16
EVENTS = 1024
LOG = 1024


def empty_state(network: tuple[tuple[int, ...], tuple[int, ...]], max_batch: int) -> State:
    """Return a plane without instances at time 0; settings are still to be written."""
    scalars = np.zeros(G_COLUMNS, np.int64)
    scalars[[G_FREE_SLOT, G_PREFILL_HEAD, G_DECODE_HEAD]] = NONE
    scalars[G_NEXT_SENT] = NEVER
    instances = np.zeros((INSTANCES, I_COLUMNS), np.int64)
    instances[:, I_ROLE] = NONE
    state = State(
        scalars=scalars,
        slots=np.zeros((0, R_COLUMNS), np.int64),
        instances=instances,
        load=np.zeros(INSTANCES, np.int64),
        weight=np.ones(INSTANCES, np.int64),
        pieces=np.zeros((INSTANCES, 0, P_COLUMNS), np.int64),
        finish=np.zeros((INSTANCES, max_batch, 2), np.int64),
        open_groups=np.zeros(0, np.int64),
        credit=np.zeros(0, np.int64),
        group_weight=np.zeros(0, np.int64),
        route_start=np.zeros((2, 1), np.int64),
        route=np.zeros((2, 0), np.int64),
        turn=np.zeros((2, 1), np.int64),
        network=np.array(network, np.int64),
        uplink_times=np.zeros((2, 3), np.int64),
        uplinks=_empty_uplinks(INSTANCES),
        bundles=np.zeros((0, B_COLUMNS), np.int64),
        beside=np.zeros((0, 6, 2), np.int64),
        soonest=np.zeros(0, np.int64),
        events=np.zeros((EVENTS, 3), np.int64),
        edges=bucket_edges(),
        ttft=np.zeros(BUCKETS, np.int64),
        tbt=np.zeros(BUCKETS, np.int64),
        log=np.zeros((LOG, 4), np.int64),
        readings=np.zeros((INSTANCES, V_COLUMNS), np.int64),
        totals=np.zeros((2, V_COLUMNS), np.int64),
        arrival=np.zeros(0, np.int64),
        input_tokens=np.zeros(0, np.int32),
        output_tokens=np.zeros(0, np.int32),
        block_starts=np.zeros(1, np.int64),
        blocks=np.zeros(0, np.int64),
        cache_table=np.zeros((INSTANCES, 1), np.int64),
        cache_nodes=np.zeros((INSTANCES, 0, NODE_COLUMNS), np.int64),
    )
    return more_slots(state)


def write_options(state: State, options: ServingOptions) -> None:
    """Turn the names of choices into the kernel's numbers."""
    scalars = state.scalars
    _write_routing(scalars, options)
    if options.prefix_cache is not None:
        if options.prefix_cache.block_tokens < 1:
            raise InvariantViolation(
                f"block_tokens: must be ≥ 1, got {options.prefix_cache.block_tokens}"
            )
        scalars[G_BLOCK_TOKENS] = options.prefix_cache.block_tokens
    scalars[G_SEED] = mixed(options.seed & LOW)
    for name, column in (("overlap_permille", G_OVERLAP), ("cached_permille", G_CACHED)):
        share = getattr(options, name)
        if not 0 <= share <= 1000:
            raise InvariantViolation(f"{name}: must be 0 to 1000, got {share}")
        scalars[column] = share
    if options.uplink_fs_per_byte is not None:
        if min(options.uplink_fs_per_byte) < 1:
            raise InvariantViolation(
                f"uplink_fs_per_byte: each must be ≥ 1, got {options.uplink_fs_per_byte}"
            )
        scalars[G_SHARED] = 1
        state.uplink_times[0] = options.uplink_fs_per_byte
        state.uplink_times[1] = [state.network[1, 2 + level :].min() for level in range(3)]
    scalars[G_GROWS] = list(KvAdmission).index(options.kv_admission)
    scalars[G_CHUNKED] = int(options.chunked_prefill)


def _write_routing(scalars: Int64Array, options: ServingOptions) -> None:
    prefill, decode = options.routing, options.decode_routing
    if decode is None:
        decode = Routing.LEAST_LOADED if prefill is Routing.PREFIX_AWARE else prefill
    if prefill is Routing.PREFIX_AWARE and options.prefix_cache is None:
        raise InvariantViolation("routing: PREFIX_AWARE needs a prefix cache")
    if prefill is Routing.TOPOLOGY_AWARE or decode is Routing.PREFIX_AWARE:
        raise InvariantViolation(
            "routing: TOPOLOGY_AWARE is for decode and PREFIX_AWARE for prefill, "
            f"got {prefill.value} for prefill, {decode.value} for decode"
        )
    scalars[G_ROUTING] = list(Routing).index(prefill)
    scalars[G_DECODE_ROUTING] = list(Routing).index(decode)


def _larger(array: Int64Array, length: int) -> Int64Array:
    """Return a copy with more rows, the new ones zero."""
    larger = np.zeros((length, *array.shape[1:]), np.int64)
    larger[: len(array)] = array
    return larger


def _empty_uplinks(count: int) -> Int64Array:
    """Return the uplinks of so many domains of each level, without transfers."""
    uplinks = np.zeros((count, 6, 2), np.int64)
    uplinks[:, :, 1] = NONE
    return uplinks


def pushes_at_once(scalars: Int64Array) -> int:
    """Return the most events that one event can put into the heap."""
    return int(min(scalars[G_BUDGET], scalars[G_LIVE])) + 4


def more_slots(state: State) -> State:
    """Return the state with twice the slots, the new ones first in the free list."""
    old = len(state.slots)
    new = max(SLOTS, 2 * old)
    slots = _larger(state.slots, new)
    slots[old:, R_REQUEST] = NONE
    slots[old:, R_BUNDLE] = NONE
    slots[old : new - 1, R_NEXT] = np.arange(old + 1, new)
    slots[new - 1, R_NEXT] = state.scalars[G_FREE_SLOT]
    state.scalars[G_FREE_SLOT] = old
    # Each bundle in use has a transfer.
    return state._replace(
        slots=slots,
        bundles=_larger(state.bundles, new),
        beside=_larger(state.beside, new),
        soonest=np.concatenate((state.soonest, np.arange(old, new))),
    )


def more_events(state: State) -> State:
    """Return the state with room for twice the events and for those of one event besides."""
    room = 2 * len(state.events) + pushes_at_once(state.scalars)
    return state._replace(events=_larger(state.events, room))


def more_log(state: State) -> State:
    """Return the state with room for twice the log and for a batch of each role besides."""
    scalars = state.scalars
    rows = 2 * pushes_at_once(scalars) + 3 * state.finish.shape[1]
    return state._replace(log=_larger(state.log, 2 * len(state.log) + rows))


def more_instances(state: State) -> State:
    """Return the state with room for twice the instances."""
    old = len(state.instances)
    instances = _larger(state.instances, 2 * old)
    instances[old:, I_ROLE] = NONE
    return state._replace(
        instances=instances,
        load=_larger(state.load, 2 * old),
        weight=_larger(state.weight, 2 * old),
        pieces=_larger(state.pieces, 2 * old),
        finish=_larger(state.finish, 2 * old),
        uplinks=np.concatenate((state.uplinks, _empty_uplinks(old))),
        cache_table=_larger(state.cache_table, 2 * old),
        cache_nodes=_larger(state.cache_nodes, 2 * old),
        readings=_larger(state.readings, 2 * old),
    )


def write_instance(
    state: State,
    handle: int,
    role: int,
    coefficients: StepCoefficients,
    group: int,
    location: tuple[int, int, int, int, int],
    capacity: int,
) -> State:
    """Return the state with the row of a new, idle instance filled.

    Raises:
        InvariantViolation: its steps could take no time, or less than their host part.
    """
    times: tuple[int, int, int, int]
    if role == PREFILL:
        times = (
            coefficients.prefill_base_ps,
            coefficients.prefill_per_token_ps,
            coefficients.prefill_per_token2_ps,
            coefficients.prefill_host_ps,
        )
    else:
        times = (
            coefficients.decode_base_ps,
            coefficients.decode_per_sequence_ps,
            coefficients.decode_per_kv_token_ps,
            coefficients.decode_host_ps,
        )
        _check_pieces(coefficients)
    base, per_unit, per_unit2, host = times
    per_request = coefficients.prefill_per_request_ps
    if not 0 <= host <= base or base < 1 or min(per_unit, per_unit2, per_request) < 0:
        raise InvariantViolation(
            "coefficients: base must be > 0 and hold the host part, none negative, "
            f"got {times}, per request {per_request}"
        )
    if group < 0 or capacity < 1:
        raise InvariantViolation(f"group must be ≥ 0, capacity ≥ 1, got {group}, {capacity}")
    links = _link_numbers(state.instances, location)
    row = state.instances[handle]
    version = row[I_VERSION]  # goes on, so that no old event is taken for a new one
    row[:] = 0
    row[I_VERSION] = version
    row[I_PARTIAL] = NONE
    row[I_ROLE] = role
    row[I_GROUP] = group
    row[I_LOCATION : I_LOCATION + 5] = location
    row[I_LINK : I_LINK + 3] = links
    row[I_BASE] = base
    row[I_PER_UNIT] = per_unit
    row[I_PER_UNIT2] = per_unit2
    row[I_PER_REQUEST] = per_request
    row[I_HOST] = host
    row[I_KV_CAPACITY] = coefficients.kv_capacity_tokens if role == DECODE else 0
    row[I_KV_BYTES] = coefficients.kv_bytes_per_token
    row[I_REDO] = coefficients.prefill_per_token_ps
    row[I_REDO2] = coefficients.prefill_per_token2_ps
    row[I_HIDDEN_TOKENS] = coefficients.hidden_tokens
    row[I_HIDDEN] = coefficients.hidden_per_token_ps
    state.load[handle] = 0
    state.weight[handle] = capacity
    return state if role == PREFILL else _with_pieces(state, handle, coefficients)


def _check_pieces(coefficients: StepCoefficients) -> None:
    """Raise InvariantViolation where a piece's shortest step could not hold its host part."""
    for piece in coefficients.decode_pieces:
        limits = (piece.from_sequences, piece.from_kv_tokens)
        factors = (piece.per_sequence_ps, piece.per_kv_token_ps)
        shortest_ps = piece.step_ps(*limits)
        if min(*limits, *factors) < 0 or shortest_ps < max(1, coefficients.decode_host_ps):
            raise InvariantViolation(
                "decode_pieces: none but a base may be negative, and the shortest step must be > 0 "
                f"and hold the host part, got {piece}"
            )


def _with_pieces(state: State, handle: int, coefficients: StepCoefficients) -> State:
    """Return the state with the pieces of an instance's decode step times."""
    pieces = coefficients.all_decode_pieces
    state.instances[handle, I_PIECES] = len(pieces)
    if len(pieces) == 1:
        return state
    if len(pieces) > state.pieces.shape[1]:
        wider = np.zeros((len(state.pieces), len(pieces), P_COLUMNS), np.int64)
        wider[:, : state.pieces.shape[1]] = state.pieces
        state = state._replace(pieces=wider)
    for place, piece in enumerate(pieces):
        state.pieces[handle, place] = (
            piece.from_sequences,
            piece.from_kv_tokens,
            piece.base_ps,
            piece.per_sequence_ps,
            piece.per_kv_token_ps,
        )
    return state


def _link_numbers(
    instances: Int64Array, location: tuple[int, int, int, int, int]
) -> tuple[int, ...]:
    """Return the numbers of a location's S0, S1 and S2: those in use there, else free ones."""
    existing = instances[instances[:, I_ROLE] != NONE]
    numbers = []
    for level in range(3):
        depth = 4 - level
        places = existing[:, I_LOCATION : I_LOCATION + depth]
        taken = existing[:, I_LINK + level]
        here = taken[np.all(places == location[:depth], axis=1)]
        free = np.setdiff1d(np.arange(len(taken) + 1), taken)
        numbers.append(int(here[0] if len(here) else free[0]))
    return tuple(numbers)


def write_routes(state: State, rotation: Set[int]) -> State:
    """Return the state with routes for the instances in rotation, and room to send what waits."""
    instances = state.instances
    exists = instances[:, I_ROLE] != NONE
    groups = int(instances[exists, I_GROUP].max(initial=-1)) + 1
    groups = max(groups, len(state.credit))
    credit = _larger(state.credit, groups)
    turn = np.zeros((2, groups + 1), np.int64)
    turn[:, : state.turn.shape[1]] = state.turn
    group_weight = np.zeros(groups, np.int64)
    start = np.zeros((2, groups + 1), np.int64)
    route = np.zeros((2, len(instances)), np.int64)
    for role in (PREFILL, DECODE):
        chosen = sorted(
            (int(instances[i, I_GROUP]), i) for i in rotation if instances[i, I_ROLE] == role
        )
        for position, (group, handle) in enumerate(chosen):
            route[role, position] = handle
            start[role, group + 1] += 1
            if role == PREFILL:
                group_weight[group] += state.weight[handle]
        start[role] = np.cumsum(start[role])
    credit[group_weight == 0] = 0
    scalars = state.scalars
    scalars[G_GROUPS] = groups
    scalars[G_IN_ROTATION] = start[PREFILL, groups]
    room = int(scalars[G_EVENTS] + scalars[G_LIVE]) + len(instances)
    return state._replace(
        open_groups=np.flatnonzero(group_weight),
        credit=credit,
        group_weight=group_weight,
        route_start=start,
        route=route,
        turn=turn,
        events=_larger(state.events, max(len(state.events), room)),
    )
