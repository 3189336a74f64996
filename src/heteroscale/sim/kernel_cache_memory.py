"""Room for the prefix caches, and for the blocks of requests that are still served."""

from __future__ import annotations

import numpy as np

from heteroscale.errors import InvariantViolation
from heteroscale.sim.kernel_state import (
    G_BLOCK_TOKENS,
    I_CACHE_BLOCKS,
    I_CACHE_MASK,
    I_NEWEST,
    I_OLDEST,
    NODE_COLUMNS,
    NONE,
    R_BLOCK,
    R_BLOCK_COUNT,
    R_REQUEST,
    State,
)
from heteroscale.workload.arrivals import ArrivalChunk, PrefixBlocks


def write_cache(state: State, handle: int, capacity_tokens: int) -> State:
    """Return the state with an empty cache of so many tokens for an instance; 0 = none."""
    row = state.instances[handle]
    row[[I_NEWEST, I_OLDEST]] = NONE
    tokens = int(state.scalars[G_BLOCK_TOKENS])
    blocks = capacity_tokens // tokens if tokens else 0
    state.cache_table[handle] = 0
    if blocks == 0:
        return state
    # At most half full, so that a search ends soon.
    entries = 1 << (2 * blocks - 1).bit_length()
    row[I_CACHE_BLOCKS] = blocks
    row[I_CACHE_MASK] = entries - 1
    rows, old_entries = state.cache_table.shape
    old_blocks = state.cache_nodes.shape[1]
    if blocks > old_blocks:
        table = np.zeros((rows, entries), np.int64)
        table[:, :old_entries] = state.cache_table
        nodes = np.zeros((rows, blocks, NODE_COLUMNS), np.int64)
        nodes[:, :old_blocks] = state.cache_nodes
        state = state._replace(cache_table=table, cache_nodes=nodes)
    return state


def write_blocks(state: State, chunk: ArrivalChunk) -> State:
    """Return the state with the blocks of a new chunk behind those of the live requests.

    Raises:
        InvariantViolation: the chunk's blocks are not those of its requests.
    """
    if state.scalars[G_BLOCK_TOKENS] == 0:
        return state
    new = chunk.blocks or PrefixBlocks(
        starts=np.zeros(len(chunk.arrival_ps) + 1, np.int64), ids=np.zeros(0, np.int64)
    )
    ordered = np.all(np.diff(new.starts) >= 0) and new.starts[0] == 0
    if not (len(new.starts) == len(chunk.arrival_ps) + 1 and ordered):
        raise InvariantViolation("arrivals: blocks must have a start for each request and an end")
    if new.starts[-1] != len(new.ids) or np.any(new.ids < 0):
        raise InvariantViolation("arrivals: blocks must end with their ids, each ≥ 0")
    slots = state.slots
    live = np.flatnonzero((slots[:, R_REQUEST] != NONE) & (slots[:, R_BLOCK] != NONE))
    counts, firsts = slots[live, R_BLOCK_COUNT], slots[live, R_BLOCK]
    ends = np.cumsum(counts)
    places = np.repeat(firsts - (ends - counts), counts) + np.arange(counts.sum())
    slots[live, R_BLOCK] = ends - counts
    kept = state.blocks[places]
    return state._replace(
        block_starts=np.asarray(new.starts, np.int64) + len(kept),
        blocks=np.concatenate((kept, np.asarray(new.ids, np.int64))),
    )
