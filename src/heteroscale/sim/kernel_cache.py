"""Prefix cache: which blocks of prompts a prefill instance has kept, least recently used out first.

Each prefill instance keeps up to so many whole blocks of tokens. A request finds its leading blocks
up to the first that is not there, and at least one of its tokens is computed in any case. It looks
when it is assigned, for the load that routing sees, and again when its batch starts, for what is
computed. When the batch ends, the blocks of its requests become the most recently used ones, in
order of the requests, each one's last block first: of a prompt the end goes before the beginning.

Blocks of one instance are nodes of a list from the newest to the oldest; a table with open
addressing, at most half full, finds a block's node.
"""

from __future__ import annotations

from heteroscale.sim.jit import inlined, outlined
from heteroscale.sim.kernel_hash import LOW, mixed
from heteroscale.sim.kernel_state import (
    G_BLOCK_TOKENS,
    G_HIT,
    G_LOOKED_UP,
    I_CACHE_BLOCKS,
    I_CACHE_MASK,
    I_CACHED,
    I_NEWEST,
    I_OLDEST,
    NODE_BLOCK,
    NODE_NEWER,
    NODE_OLDER,
    NONE,
    R_BLOCK,
    R_BLOCK_COUNT,
    R_CACHED,
    R_INPUT,
    State,
)


@inlined
def home_of(block: int, mask: int) -> int:
    """Return where a block's entry stands in a table unless others were there first."""
    return mixed((block ^ (block >> 32)) & LOW) & mask


@inlined
def find_block(state: State, i: int, block: int) -> int:
    """Return the node that holds a block, or −1."""
    mask = state.instances[i, I_CACHE_MASK]
    at = home_of(block, mask)
    while True:
        node: int = state.cache_table[i, at] - 1
        if node == NONE or state.cache_nodes[i, node, NODE_BLOCK] == block:
            return node
        at = (at + 1) & mask


@inlined
def know_blocks(state: State, slot: int, at: int) -> None:
    """Note where the blocks of an arriving request are, the chunk's request `at`."""
    slots = state.slots
    first = state.block_starts[at]
    count = state.block_starts[at + 1] - first
    if count > 0:
        slots[slot, R_BLOCK] = first
        slots[slot, R_BLOCK_COUNT] = min(
            count, slots[slot, R_INPUT] // state.scalars[G_BLOCK_TOKENS]
        )
        slots[slot, R_CACHED] = 0


@inlined
def cached_tokens(state: State, i: int, slot: int) -> int:
    """Return how many tokens of a request an instance would not compute, as its cache is now."""
    slots = state.slots
    first = slots[slot, R_BLOCK]
    if first == NONE:
        share: int = slots[slot, R_CACHED]
        return share
    count = slots[slot, R_BLOCK_COUNT]
    found = 0
    while found < count and find_block(state, i, state.blocks[first + found]) != NONE:
        found += 1
    whole: int = found * state.scalars[G_BLOCK_TOKENS]
    most: int = slots[slot, R_INPUT] - 1
    return min(whole, most)


@inlined
def look_up(state: State, i: int, slot: int) -> int:
    """Return `cached_tokens`, quickly where no blocks are known."""
    if state.slots[slot, R_BLOCK] == NONE:
        share: int = state.slots[slot, R_CACHED]
        return share
    return search_cache(state, i, slot)


@outlined
def search_cache(state: State, i: int, slot: int) -> int:
    """Return `cached_tokens`, compiled on its own: a loop in a hot caller would slow the rest."""
    return cached_tokens(state, i, slot)


@inlined
def take_cached(state: State, i: int, slot: int, cached: int) -> None:
    """Let so many tokens of a request, which an instance has assigned, not be computed there."""
    state.load[i] += state.slots[slot, R_CACHED] - cached
    state.slots[slot, R_CACHED] = cached


@inlined
def take_out(state: State, i: int, node: int) -> None:
    """Take a node out of the list."""
    instances = state.instances
    nodes = state.cache_nodes
    newer = nodes[i, node, NODE_NEWER]
    older = nodes[i, node, NODE_OLDER]
    if newer == NONE:
        instances[i, I_NEWEST] = older
    else:
        nodes[i, newer, NODE_OLDER] = older
    if older == NONE:
        instances[i, I_OLDEST] = newer
    else:
        nodes[i, older, NODE_NEWER] = newer


@inlined
def put_first(state: State, i: int, node: int) -> None:
    """Make a node that is not in the list its newest."""
    instances = state.instances
    nodes = state.cache_nodes
    older = instances[i, I_NEWEST]
    nodes[i, node, NODE_NEWER] = NONE
    nodes[i, node, NODE_OLDER] = older
    if older == NONE:
        instances[i, I_OLDEST] = node
    else:
        nodes[i, older, NODE_NEWER] = node
    instances[i, I_NEWEST] = node


@inlined
def enter(state: State, i: int, node: int) -> None:
    """Write a node's block into the table, where it is not yet."""
    mask = state.instances[i, I_CACHE_MASK]
    at = home_of(state.cache_nodes[i, node, NODE_BLOCK], mask)
    while state.cache_table[i, at] != 0:
        at = (at + 1) & mask
    state.cache_table[i, at] = node + 1


@inlined
def erase(state: State, i: int, node: int) -> None:
    """Take a node's block out of the table; entries after it move up, so that none is cut off."""
    table = state.cache_table
    nodes = state.cache_nodes
    mask = state.instances[i, I_CACHE_MASK]
    gap = home_of(nodes[i, node, NODE_BLOCK], mask)
    while table[i, gap] != node + 1:
        gap = (gap + 1) & mask
    at = gap
    while True:
        at = (at + 1) & mask
        entry = table[i, at]
        if entry == 0:
            break
        home = home_of(nodes[i, entry - 1, NODE_BLOCK], mask)
        if (at - home) & mask >= (at - gap) & mask:
            table[i, gap] = entry
            gap = at
    table[i, gap] = 0


@outlined
def keep_blocks(state: State, i: int, slot: int) -> None:
    """Make a request's blocks the most recently used ones of an instance, its first block last."""
    instances = state.instances
    scalars = state.scalars
    scalars[G_LOOKED_UP] += state.slots[slot, R_INPUT]
    scalars[G_HIT] += state.slots[slot, R_CACHED]
    if instances[i, I_CACHE_BLOCKS] == 0:
        return
    first = state.slots[slot, R_BLOCK]
    for at in range(first + state.slots[slot, R_BLOCK_COUNT] - 1, first - 1, -1):
        block = state.blocks[at]
        node = find_block(state, i, block)
        if node != NONE:
            take_out(state, i, node)
        else:
            if instances[i, I_CACHED] == instances[i, I_CACHE_BLOCKS]:
                node = instances[i, I_OLDEST]
                take_out(state, i, node)
                erase(state, i, node)
            else:
                node = instances[i, I_CACHED]
                instances[i, I_CACHED] += 1
            state.cache_nodes[i, node, NODE_BLOCK] = block
            enter(state, i, node)
        put_first(state, i, node)
