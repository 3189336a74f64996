"""A prefix cache holds what an ordered dictionary would, and finds it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.sim.kernel_cache import cached_tokens, keep_blocks
from heteroscale.sim.kernel_cache_memory import write_blocks, write_cache
from heteroscale.sim.kernel_memory import empty_state
from heteroscale.sim.kernel_state import (
    G_BLOCK_TOKENS,
    I_NEWEST,
    NODE_BLOCK,
    NODE_OLDER,
    NONE,
    R_BLOCK,
    R_BLOCK_COUNT,
    R_INPUT,
    R_REQUEST,
    State,
)
from heteroscale.workload.arrivals import ArrivalChunk
from tests.unit.sim.scenarios import NETWORK, prefix_blocks
from tests.unit.sim.twin_cache import TwinCache

TOKENS = 4
#: ids far apart share homes in a small table as often as neighbours do
prompts = st.lists(st.integers(0, 30) | st.sampled_from([1 << 33, 1 << 40]), max_size=12)


def state_of(prompts: list[tuple[int, ...]]) -> State:
    """Return a plane whose slots are requests with these prompts, and nothing of it cached."""
    state = empty_state((NETWORK.latency_ps, NETWORK.fs_per_byte), 1)
    state.scalars[G_BLOCK_TOKENS] = TOKENS
    lengths = np.array([TOKENS * len(prompt) + 1 for prompt in prompts], np.int32)
    times = np.zeros(len(prompts), np.int64)
    blocks = prefix_blocks(prompts)
    state = write_blocks(
        state,
        ArrivalChunk(arrival_ps=times, input_tokens=lengths, output_tokens=lengths, blocks=blocks),
    )
    for slot, prompt in enumerate(prompts):
        state.slots[slot, R_REQUEST] = slot
        state.slots[slot, R_INPUT] = lengths[slot]
        state.slots[slot, R_BLOCK] = blocks.starts[slot]
        state.slots[slot, R_BLOCK_COUNT] = len(prompt)
    return state


def newest_first(state: State, handle: int) -> list[int]:
    node, blocks = int(state.instances[handle, I_NEWEST]), []
    while node != NONE:
        blocks.append(int(state.cache_nodes[handle, node, NODE_BLOCK]))
        node = int(state.cache_nodes[handle, node, NODE_OLDER])
    return blocks


@settings(max_examples=150, deadline=None)
@given(st.lists(prompts.map(tuple), min_size=1, max_size=30), st.integers(0, 20))
def test_the_least_recently_used_block_leaves_first(
    prompts: list[tuple[int, ...]], capacity: int
) -> None:
    state = write_cache(state_of(prompts), 1, TOKENS * capacity + 1)
    oracle = TwinCache(TOKENS * capacity + 1, TOKENS)
    for slot, prompt in enumerate(prompts):
        keep_blocks(state, 1, slot)
        oracle.keep(TOKENS * len(prompt) + 1, prompt)
        assert newest_first(state, 1) == [*reversed(oracle.kept)]
        for other, there in enumerate(prompts):
            found = cached_tokens(state, 1, other)
            assert found == oracle.found(TOKENS * len(there) + 1, there)


def test_a_larger_cache_leaves_the_others_as_they_are_and_an_empty_one_forgets() -> None:
    state = write_cache(state_of([(1, 2, 3)]), 0, 3 * TOKENS)
    keep_blocks(state, 0, 0)
    state = write_cache(state, 1, 1_000 * TOKENS)
    assert newest_first(state, 0) == [1, 2, 3]
    assert (cached_tokens(state, 0, 0), cached_tokens(state, 1, 0)) == (3 * TOKENS, 0)
    state = write_cache(state, 0, 3 * TOKENS)
    assert cached_tokens(state, 0, 0) == 0


def test_the_blocks_of_live_requests_outlive_their_chunk() -> None:
    state = state_of([(1, 2), (3,), (4, 5, 6)])
    state.slots[1, R_REQUEST] = NONE
    none = np.zeros(0, np.int64)
    lengths = none.astype(np.int32)
    state = write_blocks(
        state, ArrivalChunk(arrival_ps=none, input_tokens=lengths, output_tokens=lengths)
    )
    assert state.blocks.tolist() == [1, 2, 4, 5, 6]
    assert state.slots[[0, 2], R_BLOCK].tolist() == [0, 2]
