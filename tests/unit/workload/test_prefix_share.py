"""The share of prompts that a cache could have, worked out by hand and on the public trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from heteroscale.workload.arrivals import ArrivalChunk, PrefixBlocks
from heteroscale.workload.loaders import open_trace
from heteroscale.workload.prefix_share import cacheable_share


def asked(*rows: tuple[int, tuple[int, ...]]) -> Iterator[ArrivalChunk]:
    """Yield (input tokens, blocks), a request a chunk."""
    for inputs, blocks in rows:
        one = np.array([inputs], np.int32)
        yield ArrivalChunk(
            arrival_ps=np.zeros(1, np.int64),
            input_tokens=one,
            output_tokens=one,
            blocks=PrefixBlocks(
                starts=np.array([0, len(blocks)], np.int64), ids=np.array(blocks, np.int64)
            )
            if blocks
            else None,
        )


@pytest.mark.parametrize(
    ("rows", "capacity_tokens", "share"),
    [
        pytest.param([(10, ())], None, None, id="nothing is known"),
        pytest.param([(20, (1, 2)), (20, (1, 2))], None, 19 / 40, id="one token is computed"),
        pytest.param([(29, (1, 2, 3)), (29, (1, 2, 3))], None, 20 / 58, id="whole blocks only"),
        pytest.param([(30, (1, 2, 3)), (40, (1, 9, 3, 4))], None, 10 / 70, id="up to a difference"),
        pytest.param([(5, (1,)), (9, (1,)), (9, ())], None, 0.0, id="no block is filled"),
        pytest.param(
            [(20, (1, 2)), (20, (8, 9)), (25, (1, 2))], 39, 10 / 65, id="the end leaves first"
        ),
        pytest.param([(20, (1, 2)), (20, (1, 2))], 9, 0.0, id="no room for a block"),
    ],
)
def test_share_by_hand(
    rows: list[tuple[int, tuple[int, ...]]], capacity_tokens: int | None, share: float | None
) -> None:
    found = cacheable_share(asked(*rows), block_tokens=10, capacity_tokens=capacity_tokens)
    assert found == share


def test_the_share_of_the_public_conversation(traces: Path) -> None:
    path = traces / "mooncake_fast25_conversation.jsonl.gz"
    assert cacheable_share(open_trace(path), block_tokens=512) == pytest.approx(0.3734, abs=5e-5)
    smaller = [
        cacheable_share(open_trace(path), block_tokens=512, capacity_tokens=capacity)
        for capacity in (1_000_000, 10_000_000)
    ]
    assert smaller == pytest.approx([0.0559, 0.2976], abs=5e-5)
