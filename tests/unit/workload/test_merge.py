"""Merging keeps every request, in order, whatever the chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.workload.arrivals import ArrivalChunk, PrefixBlocks, in_one
from heteroscale.workload.merge import merged


def chunks(times: list[int], size: int, tokens: int) -> Iterator[ArrivalChunk]:
    for first in range(0, len(times), size):
        part = np.array(times[first : first + size], dtype=np.int64)
        lengths = np.full(len(part), tokens, dtype=np.int32)
        yield ArrivalChunk(arrival_ps=part, input_tokens=lengths, output_tokens=lengths + 1)


def rows(source: Iterator[ArrivalChunk]) -> list[tuple[int, int, int]]:
    return [
        row
        for chunk in source
        for row in zip(
            chunk.arrival_ps.tolist(),
            chunk.input_tokens.tolist(),
            chunk.output_tokens.tolist(),
            strict=True,
        )
    ]


@settings(max_examples=60)
@given(
    streams=st.lists(
        st.tuples(st.lists(st.integers(0, 30), max_size=25).map(sorted), st.integers(1, 7)),
        max_size=4,
    )
)
def test_every_request_comes_once_and_in_order(streams: list[tuple[list[int], int]]) -> None:
    together = rows(
        merged([chunks(times, size, 10 * n + 1) for n, (times, size) in enumerate(streams)])
    )
    assert [time for time, *_ in together] == sorted(time for times, _ in streams for time in times)
    for n, (times, _) in enumerate(streams):
        mine = [(time, out) for time, tokens, out in together if tokens == 10 * n + 1]
        assert mine == [(time, 10 * n + 2) for time in times]


def test_prefix_blocks_stay_with_their_requests() -> None:
    def told() -> Iterator[ArrivalChunk]:
        blocks = PrefixBlocks(
            starts=np.array([0, 2, 2, 3], np.int64), ids=np.array([7, 8, 9], np.int64)
        )
        for chunk in chunks([2, 4, 6], 3, 1):
            yield replace(chunk, blocks=blocks)

    together = in_one(list(merged([chunks([1, 5], 2, 5), told(), chunks([7], 1, 5)])))
    assert together.arrival_ps.tolist() == [1, 2, 4, 5, 6, 7]
    assert together.blocks is not None
    assert together.blocks.starts.tolist() == [0, 0, 2, 2, 2, 3, 3]
    assert together.blocks.ids.tolist() == [7, 8, 9]


def test_a_chunk_is_asked_for_only_when_it_is_needed() -> None:
    asked: list[int] = []

    def counted() -> Iterator[ArrivalChunk]:
        for chunk in chunks([0, 1, 2, 3, 50, 51], 2, 1):
            asked.append(int(chunk.arrival_ps[0]))
            yield chunk

    source = merged([counted(), chunks([1, 60], 2, 5)])
    assert asked == []
    assert next(source).arrival_ps.tolist() == [0, 1, 1]
    assert asked == [0, 2]
