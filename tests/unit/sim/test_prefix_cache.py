"""What a serving plane does with prompts that begin alike, in figures by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heteroscale.errors import InvariantViolation
from heteroscale.sim.serving import PrefixCache, Routing, Serving, ServingOptions
from heteroscale.workload.arrivals import ArrivalChunk, PrefixBlocks
from heteroscale.workload.loaders import open_trace
from heteroscale.workload.prefix_share import cacheable_share
from tests.unit.sim.scenarios import prefix_blocks
from tests.unit.sim.test_serving import (
    HERE,
    MS,
    NETWORK,
    NEXT_NODE,
    SPEED,
    finish_times_ms,
    given_all,
    pair,
    plane,
    requests,
)
from tests.unit.sim.test_serving_options import FIRST_TOKEN, JOINED, handles_of

#: prefill takes 10 ms and 1 ms a token; a decode instance, and a prefill one, hold 100 tokens
CACHED = ServingOptions(prefix_cache=PrefixCache(block_tokens=5))

Asked = tuple[int, int, tuple[int, ...]]


def asked(serving: Serving, *rows: Asked) -> Serving:
    """Give all requests, (arrival in ms, input tokens, blocks), of one output token each."""
    chunk = requests(*((at_ms, inputs, 1) for at_ms, inputs, _ in rows))
    serving.feed(replace(chunk, blocks=prefix_blocks([blocks for _, _, blocks in rows])))
    serving.close_arrivals()
    return serving


def ends_ms(*rows: Asked, options: ServingOptions = CACHED, instances: int = 1) -> list[float]:
    """Return when the first token of each request comes."""
    serving = plane(limit=100, options=options)
    for _ in range(instances):
        serving.add_instance("prefill", SPEED, group=0, location=HERE, in_rotation=True)
    asked(serving, *rows).advance(10_000 * MS)
    return [at_ms for _, at_ms in sorted(finish_times_ms(serving).items())]


def test_blocks_up_to_the_first_unknown_one_are_not_computed_and_one_token_always_is() -> None:
    serving = plane(options=CACHED)
    pair(serving)
    prompts = ((0, 20, (1, 2, 3, 4)), (100, 20, (1, 2, 3, 4)), (200, 22, (1, 2, 9, 4, 7)))
    asked(serving, *prompts).advance(1_000 * MS)
    assert finish_times_ms(serving) == {0: 30.0, 1: 111.0, 2: 222.0}
    counters = serving.counters(1_000 * MS)
    assert (counters.prefix_lookup_tokens, counters.prefix_hit_tokens) == (62, 19 + 10)
    assert counters.roles[0].tokens == 62 - 29


def test_blocks_are_there_from_the_end_of_the_batch_on_and_looked_for_when_one_starts() -> None:
    # The second waits for the first and then finds it; the last two start in one batch.
    assert ends_ms((0, 15, (1, 2, 3)), (5, 15, (1, 2, 3))) == [25.0, 36.0]
    together = ((0, 5, (9,)), (1, 10, (1, 2)), (1, 10, (1, 2)))
    assert ends_ms(*together) == [15.0, 45.0, 45.0]


def test_a_block_that_is_not_whole_is_neither_kept_nor_found() -> None:
    assert ends_ms((0, 14, (1, 2, 3)), (100, 14, (1, 2, 3))) == [24.0, 114.0]


def test_what_was_used_longest_ago_leaves_and_of_a_prompt_the_end_first() -> None:
    small = ServingOptions(prefix_cache=PrefixCache(block_tokens=5, capacity_tokens=19))
    first, other = (1, 2), (8, 9)
    # Three blocks fit: the second prompt pushes out block 2, and block 1 is still found.
    assert ends_ms((0, 10, first), (100, 10, other), (200, 10, first), options=small) == [
        20.0,
        120.0,
        215.0,
    ]


def test_an_instance_that_comes_anew_knows_nothing() -> None:
    for removed in ("remove", "fail"):
        serving = plane(options=CACHED)
        prefill, _ = pair(serving)
        asked(serving, (0, 10, (1, 2)), (100, 10, (1, 2)))
        serving.advance(50 * MS)
        serving.set_rotation(prefill, False)
        getattr(serving, removed)(prefill)
        assert pair(serving)[0] == prefill
        serving.advance(1_000 * MS)
        assert finish_times_ms(serving) == {0: 20.0, 1: 120.0}


def test_a_share_is_cached_of_those_requests_only_whose_blocks_are_not_known() -> None:
    both = replace(CACHED, cached_permille=500)
    assert ends_ms((0, 20, ()), (100, 20, (1,)), options=both) == [20.0, 130.0]
    without = replace(both, prefix_cache=None)
    assert ends_ms((0, 20, ()), (100, 20, (1,)), options=without) == [20.0, 120.0]


def test_prefix_aware_weighs_what_is_cached_against_what_waits_in_any_group() -> None:
    serving = plane(limit=100, options=replace(CACHED, routing=Routing.PREFIX_AWARE))
    for group in (0, 1):
        serving.add_instance("prefill", SPEED, group=group, location=HERE, in_rotation=True)
    known, other = (1, 2, 3, 4), (6, 7, 8, 9)
    asked(
        serving,
        *((0, 20, known), (0, 20, other)),
        *((100, 20, other), (100, 20, other), (100, 20, known)),
        # The first goes to the lower handle. There the second would have to wait for 28 tokens and
        # one of its own; elsewhere it has ten of its own.
        *((300, 28, ()), (300, 10, known)),
    )
    serving.advance(1_000 * MS)
    assert handles_of(serving, FIRST_TOKEN) == [0, 1, 1, 1, 0, 0, 1]


def test_topology_aware_takes_the_nearest_that_is_not_much_more_loaded() -> None:
    serving = plane(limit=100, options=ServingOptions(decode_routing=Routing.TOPOLOGY_AWARE))
    serving.add_instance("prefill", SPEED, group=0, location=HERE, in_rotation=True)
    for place in (NEXT_NODE, HERE):
        serving.add_instance("decode", SPEED, group=0, location=place, in_rotation=True)
    given_all(serving, *[(0, 20, 60)] * 5)
    serving.advance(10_000 * MS)
    # Of 80 tokens each. The near one may hold 0 + 80, then 80 + 20 + 80, when the far one holds 80.
    assert handles_of(serving, JOINED) == [2, 2, 1, 2, 1]


def hit_tokens(chunks: Sequence[ArrivalChunk], capacity_tokens: int) -> int:
    """Return what one instance finds that computes one prompt after another."""
    serving = Serving(
        prefill_token_budget=1,
        decode_max_batch=1,
        admission_limit=10**9,
        slo_ttft_ps=MS,
        slo_tbt_ps=MS,
        network=NETWORK,
        options=ServingOptions(prefix_cache=PrefixCache(capacity_tokens=capacity_tokens)),
    )
    serving.add_instance("prefill", SPEED, group=0, location=HERE, in_rotation=True)
    for chunk in chunks:
        serving.advance(int(chunk.arrival_ps[0]))
        serving.feed(replace(chunk, output_tokens=np.ones_like(chunk.output_tokens)))
    serving.close_arrivals()
    # All prompts one after another take 1.5 · 10^17 ps, some 40 hours.
    serving.advance(1 << 61)
    assert serving.idle
    return serving.counters(1 << 61).prefix_hit_tokens


def repeated_tokens(chunks: Sequence[ArrivalChunk]) -> int:
    """Return the tokens of a trace's prompts that are in blocks which some prompt had before."""
    seen: set[int] = set()
    repeated = 0
    for chunk in chunks:
        assert chunk.blocks is not None
        bounds = zip(chunk.blocks.starts[:-1], chunk.blocks.starts[1:], strict=True)
        for (start, end), inputs in zip(bounds, chunk.input_tokens.tolist(), strict=True):
            blocks = chunk.blocks.ids[start:end].tolist()[: inputs // 512]
            # The ids form a tree: what was seen before is at the beginning.
            known = [block in seen for block in blocks]
            assert known == sorted(known, reverse=True)
            repeated += min(512 * sum(known), inputs - 1)
            seen.update(blocks)
    return repeated


def test_an_endless_cache_finds_all_that_the_public_trace_repeats(traces: Path) -> None:
    path = traces / "mooncake_fast25_conversation.jsonl.gz"
    chunks = list(open_trace(path))
    total = sum(int(chunk.input_tokens.sum()) for chunk in chunks)
    found = hit_tokens(chunks, 10**9)
    assert found == repeated_tokens(chunks)
    assert found / total == cacheable_share(iter(chunks), block_tokens=512)
    small = hit_tokens(chunks, 3_000_000)
    assert small / total == cacheable_share(
        iter(chunks), block_tokens=512, capacity_tokens=3_000_000
    )


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (ServingOptions(routing=Routing.PREFIX_AWARE), "needs a prefix cache"),
        (ServingOptions(routing=Routing.TOPOLOGY_AWARE), "is for decode"),
        (ServingOptions(decode_routing=Routing.PREFIX_AWARE), "PREFIX_AWARE for prefill"),
        (ServingOptions(prefix_cache=PrefixCache(block_tokens=0)), "block_tokens: must be ≥ 1"),
    ],
)
def test_options_that_contradict_are_turned_down(options: ServingOptions, rule: str) -> None:
    with pytest.raises(InvariantViolation, match=rule):
        plane(options=options)


@pytest.mark.parametrize(
    ("starts", "ids"),
    [([0, 1], [5]), ([0, 2, 1], [5]), ([0, 1, 1], [5, 6]), ([1, 1, 1], [5]), ([0, 0, 1], [-5])],
    ids=["a request too few", "backwards", "ids left over", "ids before", "below 0"],
)
def test_blocks_that_are_not_the_requests_are_turned_down(
    starts: list[int], ids: list[int]
) -> None:
    blocks = PrefixBlocks(starts=np.array(starts, np.int64), ids=np.array(ids, np.int64))
    with pytest.raises(InvariantViolation, match="arrivals: blocks must"):
        plane(options=CACHED).feed(replace(requests((0, 1, 1), (0, 1, 1)), blocks=blocks))
