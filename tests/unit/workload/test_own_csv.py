from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.errors import ConfigError
from heteroscale.workload.arrivals import ArrivalChunk
from heteroscale.workload.loaders import open_trace
from heteroscale.workload.own_csv import write_csv


def chunk(rows: list[tuple[int, int, int]]) -> ArrivalChunk:
    times, inputs, outputs = zip(*rows, strict=True)
    return ArrivalChunk(
        arrival_ps=np.array(times, dtype=np.int64),
        input_tokens=np.array(inputs, dtype=np.int32),
        output_tokens=np.array(outputs, dtype=np.int32),
    )


LENGTH = st.integers(1, 10_000_000)
ROWS = st.lists(st.tuples(st.integers(0, 8_640_000 * 10**12), LENGTH, LENGTH), min_size=1)


@settings(max_examples=40)
@given(rows=ROWS, suffix=st.sampled_from([".csv", ".csv.gz"]))
def test_what_is_written_is_read_back_to_the_picosecond(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]], suffix: str
) -> None:
    rows.sort(key=lambda row: row[0])
    first_ps = rows[0][0]
    path = tmp_path_factory.mktemp("csv") / f"trace{suffix}"
    assert write_csv(path, iter([chunk(rows)])) == len(rows)
    (back,) = open_trace(path)
    assert back.arrival_ps.tolist() == [time - first_ps for time, _, _ in rows]
    assert back.input_tokens.tolist() == [row[1] for row in rows]
    assert back.output_tokens.tolist() == [row[2] for row in rows]


def test_the_text_is_plain(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    write_csv(path, iter([chunk([(0, 5, 6)]), chunk([(1_500_000_000_001, 7, 8)])]))
    assert path.read_text() == (
        "arrival_s,input_tokens,output_tokens\n0.000000000000,5,6\n1.500000000001,7,8\n"
    )


def test_equal_requests_give_equal_gzip_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv.gz", tmp_path / "b.csv.gz"]
    for path in paths:
        write_csv(path, iter([chunk([(0, 5, 6)])]))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_nothing_is_left_of_a_source_that_fails(tmp_path: Path) -> None:
    def failing() -> Iterator[ArrivalChunk]:
        yield chunk([(0, 5, 6)])
        raise ConfigError([])

    with pytest.raises(ConfigError):
        write_csv(tmp_path / "trace.csv", failing())
    assert list(tmp_path.iterdir()) == []
