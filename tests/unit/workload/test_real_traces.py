"""The public traces themselves, where their folder is present: totals as their publishers state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heteroscale.workload.loaders import detect_format, open_trace


@pytest.mark.parametrize(
    ("file", "name", "requests", "tokens", "minutes"),
    [
        pytest.param(
            *("azure2023_conv.csv.gz", "azure", 19_366, (22_361_870, 4_088_665), 58.4),
            id="azure conversation",
        ),
        pytest.param(
            *("azure2023_code.csv.gz", "azure", 8_819, (18_059_974, 245_896), 57.3),
            id="azure code",
        ),
        pytest.param(
            *("mooncake_fast25_conversation.jsonl.gz", "mooncake", 12_031),
            *((144_793_823, 4_122_048), 59.0),
            id="mooncake conversation",
        ),
    ],
)
def test_totals(
    traces: Path, file: str, name: str, requests: int, tokens: tuple[int, int], minutes: float
) -> None:
    path = traces / file
    assert detect_format(path) == name
    chunks = list(open_trace(path))
    arrival_ps = np.concatenate([chunk.arrival_ps for chunk in chunks])
    assert len(arrival_ps) == requests
    assert arrival_ps[0] == 0
    assert arrival_ps[-1] / 60e12 == pytest.approx(minutes, abs=0.06)
    assert (
        sum(int(chunk.input_tokens.sum()) for chunk in chunks),
        sum(int(chunk.output_tokens.sum()) for chunk in chunks),
    ) == tokens
