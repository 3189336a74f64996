from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from heteroscale.errors import ConfigError, Problem
from heteroscale.workload import loaders
from heteroscale.workload.arrivals import ArrivalSource
from heteroscale.workload.loaders import detect_format, open_trace

AZURE = b"TIMESTAMP,ContextTokens,GeneratedTokens"
OWN = b"arrival_s,input_tokens,output_tokens"

Rows = list[tuple[int, int, int]]


def rows(source: ArrivalSource) -> Rows:
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


def write(folder: Path, *lines: bytes, end: bytes = b"\n") -> Path:
    path = folder / "trace"
    path.write_bytes(end.join(lines) + end)
    return path


def problems(source: ArrivalSource) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        rows(source)
    return caught.value.problems


@pytest.mark.parametrize(
    ("lines", "name", "expected"),
    [
        pytest.param(
            (AZURE, b"2023-11-16 23:59:59.9799601,4808,10", b"2023-11-17 00:00:00.0319600,3,8"),
            "azure",
            [(0, 4808, 10), (51_999_900_000, 3, 8)],
            id="azure 2023 over midnight, exact to 100 ns",
        ),
        pytest.param(
            (AZURE, b"2024-05-10 00:00:00.009930+00:00,1,2", b"2024-05-10 00:00:01+00:00,3,4"),
            "azure",
            [(0, 1, 2), (990_070_000_000, 3, 4)],
            id="azure 2024 with zone, and a whole second",
        ),
        pytest.param(
            (
                b'{"timestamp": 5, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}',
                b'{"timestamp": 3005.25, "input_length": 1, "output_length": 1}',
            ),
            "mooncake",
            [(0, 6758, 500), (3_000_250_000_000, 1, 1)],
            id="mooncake milliseconds",
        ),
        pytest.param(
            (OWN, b"10.000000000001,5,6", b"", b"10.1,7,8", b"11,9,10"),
            "csv",
            [(0, 5, 6), (99_999_999_999, 7, 8), (999_999_999_999, 9, 10)],
            id="own csv to the picosecond, blank lines skipped",
        ),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_every_format_starts_at_zero_and_is_exact(
    tmp_path: Path, lines: tuple[bytes, ...], name: str, expected: Rows, end: bytes
) -> None:
    path = write(tmp_path, *lines, end=end)
    assert detect_format(path) == name
    assert rows(open_trace(path)) == expected
    assert rows(open_trace(path, name)) == expected


def test_gzip_and_byte_order_mark_are_known_by_content(tmp_path: Path) -> None:
    path = tmp_path / "anything.txt"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + OWN + b"\n1,2,3\n"))
    assert rows(open_trace(path)) == [(0, 2, 3)]


@pytest.mark.parametrize(
    ("requests", "sizes"),
    [pytest.param(5, [2, 2, 1], id="a rest"), pytest.param(4, [2, 2], id="no rest")],
)
def test_chunks_have_fixed_size_and_exact_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(loaders, "CHUNK_ROWS", 2)
    path = write(tmp_path, OWN, *(b"%d,1,1" % i for i in range(requests)))
    chunks = list(open_trace(path))
    assert [len(chunk.arrival_ps) for chunk in chunks] == sizes
    assert [chunks[0].arrival_ps.dtype, chunks[0].input_tokens.dtype] == [
        np.dtype(np.int64),
        np.dtype(np.int32),
    ]


@pytest.mark.parametrize(
    ("speedup", "repeat", "expected_s"),
    [
        pytest.param(2.0, 1, [0, 1, 2], id="twice as fast"),
        pytest.param(0.1, 1, [0, 20, 40], id="ten times slower, decimal exact"),
        pytest.param(1.0, 2, [0, 2, 4, 6, 8, 10], id="a mean gap between copies"),
        pytest.param(2.0, 2, [0, 1, 2, 3, 4, 5], id="copies are sped up too"),
    ],
)
def test_speedup_and_repeat(
    tmp_path: Path, speedup: float, repeat: int, expected_s: list[int]
) -> None:
    path = write(tmp_path, OWN, b"7,1,1", b"9,1,1", b"11,1,1")
    got = rows(open_trace(path, speedup=speedup, repeat=repeat))
    assert [row[0] for row in got] == [s * 10**12 for s in expected_s]


def test_prefix_blocks_come_with_their_requests_and_are_new_in_each_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders, "CHUNK_ROWS", 2)
    line = b'{"timestamp": 5, "input_length": 6758, "output_length": 500, "hash_ids": %s}'
    path = write(tmp_path, *(line % ids for ids in (b"[0, 1]", b"[]", b"[0, 7, 2]")))
    blocks = [chunk.blocks for chunk in open_trace(path, repeat=2, speedup=2.0)]
    assert [one and (one.starts.tolist(), one.ids.tolist()) for one in blocks] == [
        ([0, 2, 2], [0, 1]),
        ([0, 3], [0, 7, 2]),
        ([0, 2, 2], [8, 9]),
        ([0, 3], [8, 15, 10]),
    ]


def test_copies_of_a_single_instant_are_a_second_apart(tmp_path: Path) -> None:
    path = write(tmp_path, OWN, b"7,1,1", b"7,2,2")
    got = rows(open_trace(path, repeat=2))
    assert got == [(0, 1, 1), (0, 2, 2), (10**12, 1, 1), (10**12, 2, 2)]


TOKENS = "must be a whole number from 1 to 10000000"
AZURE_TIME = "must be a UTC time like 2023-11-16 18:17:03.9799600"
OWN_TIME = "must be decimal seconds >= 0 with at most 12 fractional digits"


@pytest.mark.parametrize(
    ("first", "line", "path", "rule", "value"),
    [
        pytest.param(OWN, b"1,2", "line", f"must have the 3 fields {OWN.decode()}", "1,2", id="2"),
        pytest.param(OWN, b"-1,2,3", "arrival_s", OWN_TIME, "-1", id="negative time"),
        pytest.param(OWN, b"1e3,2,3", "arrival_s", OWN_TIME, "1e3", id="exponent"),
        pytest.param(OWN, b"nan,2,3", "arrival_s", OWN_TIME, "nan", id="nan"),
        pytest.param(OWN, b"1.,2,3", "arrival_s", OWN_TIME, "1.", id="no fraction digits"),
        pytest.param(
            OWN, b"1.0000000000001,2,3", "arrival_s", OWN_TIME, "1.0000000000001", id="13 digits"
        ),
        pytest.param(OWN, b"1,0,3", "input_tokens", TOKENS, "0", id="no input"),
        pytest.param(OWN, b"1,2,0", "output_tokens", TOKENS, "0", id="no output"),
        pytest.param(OWN, b"1,2,3.5", "output_tokens", TOKENS, "3.5", id="half a token"),
        pytest.param(OWN, b"1,1_0,3", "input_tokens", TOKENS, "1_0", id="underscore"),
        pytest.param(OWN, b"1,10000001,3", "input_tokens", TOKENS, "10000001", id="huge"),
        pytest.param(
            OWN, b"1," + b"9" * 99 + b",3", "input_tokens", TOKENS, "9" * 77 + "...", id="99"
        ),
        pytest.param(OWN, b"1,\xff,3", "input_tokens", TOKENS, "\\xff", id="not text"),
        pytest.param(
            OWN, OWN, "arrival_s", OWN_TIME, "arrival_s", id="a second header is a bad line"
        ),
        pytest.param(
            AZURE, b"x", "line", f"must have the 3 fields {AZURE.decode()}", "x", id="azure fields"
        ),
        *(
            pytest.param(AZURE, time + b",2,3", "TIMESTAMP", AZURE_TIME, time.decode(), id=name)
            for name, time in {
                "no such day": b"2023-02-30 00:00:00",
                "hour 24": b"2023-11-16 24:00:00",
                "minute 60": b"2023-11-16 00:60:00",
                "one-digit hour": b"2023-11-16 0:00:000",
                "signed second": b"2023-11-16 00:00:+1",
                "no separator": b"2023-11-16_00:00:00",
                "dots": b"2023-11-16 00.00.00",
                "comma fraction": b"2023-11-16 00:00:00;5",
                "other zone": b"2023-11-16 00:00:00.5+01:00",
                "empty": b"",
            }.items()
        ),
        pytest.param(b"", b"{", "line", "must be one JSON object", "{", id="broken JSON"),
        pytest.param(b"", b"{\xff}", "line", "must be one JSON object", "{\\xff}", id="JSON bytes"),
        pytest.param(b"", b"[1]", "line", "must be one JSON object", "[1]", id="JSON list"),
        pytest.param(
            b"",
            b'{"timestamp":true,"input_length":1,"output_length":1}',
            *("timestamp", "must be milliseconds >= 0", True),
            id="boolean time",
        ),
        pytest.param(
            b"",
            b'{"timestamp":-1,"input_length":1,"output_length":1}',
            *("timestamp", "must be milliseconds >= 0", -1),
            id="negative ms",
        ),
        pytest.param(
            b"",
            b'{"timestamp":9,"output_length":1}',
            *("input_length", TOKENS, None),
            id="absent length",
        ),
        pytest.param(
            b"",
            b'{"timestamp":9,"input_length":1,"output_length":true}',
            *("output_length", TOKENS, True),
            id="boolean length",
        ),
        pytest.param(
            b"",
            b'{"timestamp":9,"input_length":1,"output_length":1,"hash_ids":7}',
            *("hash_ids", "must be a list", 7),
            id="hash_ids",
        ),
        pytest.param(
            b"",
            b'{"timestamp":9,"input_length":1,"output_length":1,"hash_ids":[3,-1]}',
            *("hash_ids[1]", "must be a whole number from 0 to 1000000000000", -1),
            id="hash id below 0",
        ),
    ],
)
def test_a_bad_line_is_told_with_place_value_and_rule(
    tmp_path: Path, first: bytes, line: bytes, path: str, rule: str, value: object
) -> None:
    name = {OWN: "csv", AZURE: "azure", b"": "mooncake"}[first]
    file = write(tmp_path, first or b" ", line)
    expected = Problem(path=path, rule=rule, value=value, file=str(file), line=2)
    assert problems(open_trace(file, name)) == (expected,)


def test_time_never_goes_backwards_and_equal_times_are_fine(tmp_path: Path) -> None:
    file = write(tmp_path, OWN, b"2,1,1", b"2,1,1", b"1.5,1,1", b"3,1,1")
    (problem,) = problems(open_trace(file))
    assert (problem.line, problem.path, problem.value) == (4, "time", "1.5,1,1")
    assert problem.rule == "must not be earlier than the line before, by 500000000000 ps"


def test_every_bad_line_is_found_and_the_list_is_bounded(tmp_path: Path) -> None:
    file = write(tmp_path, OWN, b"1,1,1", *[b"x,1,1"] * 25, b"2,1,1")
    found = problems(open_trace(file))
    assert [problem.line for problem in found] == [*range(3, 23), None]
    assert str(found[-1]) == f"{file}: trace: and 5 more bad lines"


def test_no_request_comes_after_a_bad_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "CHUNK_ROWS", 1)
    source = open_trace(write(tmp_path, OWN, b"1,1,1", b"2,x,1", b"3,3,3"))
    assert len(next(source).arrival_ps) == 1
    with pytest.raises(ConfigError, match="trace:3: input_tokens: must be a whole number"):
        next(source)


def test_a_trace_longer_than_the_clock_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, OWN, b"0,1,1", b"8640001,1,1")
    (problem,) = problems(open_trace(file))
    assert problem.rule == "must end within 100 days of its first request"
    assert len(rows(open_trace(file, speedup=2.0))) == 2


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        pytest.param(b"", "must start with a JSON object or with one of the headers", id="empty"),
        pytest.param(b"a,b\n1,2\n", "must start with a JSON object or", id="unknown header"),
        pytest.param(OWN + b"\n", "must hold at least one request", id="header only"),
        pytest.param(gzip.compress(OWN + b"\n1,2,3\n")[:-9], "must be a whole gzip file", id="cut"),
        pytest.param(b"\x1f\x8bnonsense", "must be a whole gzip file", id="not gzip after all"),
    ],
)
def test_a_file_that_is_no_trace(tmp_path: Path, content: bytes, rule: str) -> None:
    file = tmp_path / "trace"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        rows(open_trace(file))
    (problem,) = caught.value.problems
    assert problem.rule.startswith(rule)
    assert problem.file == str(file)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a readable file: No such file"):
        open_trace(tmp_path / "absent")
    with pytest.raises(ConfigError, match="must be a readable file: Is a directory"):
        open_trace(tmp_path)


def test_bad_arguments_are_told_together_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_trace(tmp_path / "absent", "parquet", speedup=0.0, repeat=0)
    assert [str(problem) for problem in caught.value.problems] == [
        "speedup: must be > 0, got 0.0",
        "repeat: must be >= 1, got 0",
        "format: must be one of auto, azure, mooncake, csv, got 'parquet'",
    ]
