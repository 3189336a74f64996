"""How much of a trace's prompts a prefix cache could have: what `cached_share` stands for."""

from __future__ import annotations

from collections import OrderedDict

from heteroscale.workload.arrivals import ArrivalSource


def cacheable_share(
    source: ArrivalSource, *, block_tokens: int, capacity_tokens: int | None = None
) -> float | None:
    """Return the share of input tokens that one cache in front of all requests would have.

    Requests come one after another, each when the one before is computed, with the rules of the
    simulator's caches: whole blocks, the least recently used out first, one token always computed.

    Args:
        source: only requests that name their blocks are looked at.
        block_tokens: length of a block, ≥ 1.
        capacity_tokens: None = the cache is endless, and no other way to serve can have more.

    Returns:
        0 to 1; None = no request names its blocks.
    """
    blocks = None if capacity_tokens is None else capacity_tokens // block_tokens
    kept: OrderedDict[int, None] = OrderedDict()
    tokens = cached = 0
    for chunk in source:
        if chunk.blocks is None:
            continue
        starts, ids = chunk.blocks.starts.tolist(), chunk.blocks.ids.tolist()
        for row, inputs in enumerate(chunk.input_tokens.tolist()):
            prompt = ids[starts[row] : starts[row + 1]]
            if not prompt:
                continue
            whole = prompt[: inputs // block_tokens]
            found = next((at for at, one in enumerate(whole) if one not in kept), len(whole))
            tokens += inputs
            cached += min(found * block_tokens, inputs - 1)
            for block in reversed(whole):
                kept[block] = None
                kept.move_to_end(block)
            while blocks is not None and len(kept) > blocks:
                kept.popitem(last=False)
    return cached / tokens if tokens else None
