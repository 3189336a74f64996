"""Request traces from files, streamed: any known format, plain or gzip, in chunks of fixed size.

Formats are one file each; this one knows files, line numbers, order and time scaling.
"""

from __future__ import annotations

import gzip
import math
import zlib
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from heteroscale.errors import ConfigError, Problem
from heteroscale.workload import azure, mooncake, own_csv
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk, ArrivalSource, PrefixBlocks
from heteroscale.workload.trace_fields import BadField, Row

CHUNK_ROWS = 65_536
#: Bad lines told one by one; the rest are counted.
MAX_PROBLEMS = 20
#: int64 picoseconds end after 106 days.
MAX_RUN_S = 100 * 86_400
_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
#: The longest line of a public trace is under 4 kB; a file without line ends stops here.
_MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """One way to write a trace."""

    #: the first line, or None when every line is a request
    header: bytes | None
    parse_line: Callable[[bytes], Row]


FORMATS: dict[str, TraceFormat] = {
    "azure": TraceFormat(azure.HEADER, azure.parse_line),
    "mooncake": TraceFormat(None, mooncake.parse_line),
    "csv": TraceFormat(own_csv.HEADER, own_csv.parse_line),
}


def _fault(path: Path, rule: str, value: object = None) -> ConfigError:
    return ConfigError([Problem(path="trace", rule=rule, value=value, file=str(path))])


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open plain or gzip by content, not by name; every reading fault is the operator's to fix."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _fault(path, f"must be a whole gzip file: {error}") from error
    except OSError as error:
        raise _fault(path, f"must be a readable file: {error.strerror or error}") from error


def _numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, stripped, with their 1-based number."""
    number = 0
    while line := file.readline(_MAX_LINE_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if line := line.strip():
            yield number, line


def _without_header(
    lines: Iterator[tuple[int, bytes]], header: bytes | None
) -> Iterator[tuple[int, bytes]]:
    """Skip the header where it belongs, on the first line; a second one is a bad line."""
    for position, (number, line) in enumerate(lines):
        if position or line != header:
            yield number, line


def detect_format(path: Path) -> str:
    """Return the name in FORMATS that the first line of a file belongs to.

    Raises:
        ConfigError: the file cannot be read, is empty or of no known format.
    """
    with _opened(path) as file:
        first = next((line for _, line in _numbered_lines(file)), b"")
    if first.startswith(b"{"):
        return "mooncake"
    for name, form in FORMATS.items():
        if form.header == first:
            return name
    headers = [f.header.decode() for f in FORMATS.values() if f.header]
    rule = "must start with a JSON object or with one of the headers " + " | ".join(headers)
    raise _fault(path, rule, first[:80].decode("utf-8", "backslashreplace"))


class _Pending:
    """Requests that are read and not yet handed on, numbers only."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int]] = []
        self._block_starts = array("q", [0])
        self._blocks = array("q")

    def add(self, time_ps: int, tokens_in: int, tokens_out: int, blocks: Sequence[int]) -> None:
        """Append a request."""
        self.rows.append((time_ps, tokens_in, tokens_out))
        self._blocks.extend(blocks)
        self._block_starts.append(len(self._blocks))

    def blocks(self, first_id: int) -> PrefixBlocks | None:
        """Return the blocks of all requests, ids counted from one on; None = there are none."""
        if not self._blocks:
            return None
        return PrefixBlocks(
            starts=np.array(self._block_starts, np.int64),
            ids=np.array(self._blocks, np.int64) + first_id,
        )


@dataclass(frozen=True, slots=True)
class _Copies:
    """How the trace's clock becomes the run's."""

    path: Path
    form: TraceFormat
    speedup: Fraction

    def chunk(self, pending: _Pending, start_ps: int, first_id: int) -> ArrivalChunk:
        """Return rows (times since the trace's first) as a chunk that starts `start_ps` in."""
        divisor, factor = self.speedup.numerator, self.speedup.denominator
        times, inputs, outputs = zip(*pending.rows, strict=True)
        arrival_ps = [(start_ps + time) * factor // divisor for time in times]
        if arrival_ps[-1] > MAX_RUN_S * PS_PER_S:
            days = arrival_ps[-1] / PS_PER_S / 86_400
            raise _fault(self.path, "must end within 100 days of its first request", f"{days:.1f}")
        return ArrivalChunk(
            arrival_ps=np.array(arrival_ps, dtype=np.int64),
            input_tokens=np.array(inputs, dtype=np.int32),
            output_tokens=np.array(outputs, dtype=np.int32),
            blocks=pending.blocks(first_id),
        )

    def one_pass(
        self, start_ps: int, first_id: int
    ) -> Generator[ArrivalChunk, None, tuple[int, int, int]]:
        """Yield one copy's chunks; return (last time since the first, requests, next block id)."""
        faults = _Faults(str(self.path))
        pending = _Pending()
        first_ps = last_ps = count = 0
        next_id = first_id
        with _opened(self.path) as file:
            for number, line in _without_header(_numbered_lines(file), self.form.header):
                try:
                    time_ps, tokens_in, tokens_out, blocks = self.form.parse_line(line)
                    if count and time_ps < last_ps:
                        rule = (
                            f"must not be earlier than the line before, by {last_ps - time_ps} ps"
                        )
                        raise BadField("time", rule, line[:40].decode("utf-8", "replace"))
                except BadField as fault:
                    faults.add(number, fault)
                    continue
                first_ps = first_ps if count else time_ps
                last_ps = time_ps
                count += 1
                # A faulty file gives no more requests; the rest is read for its faults only.
                if faults.count:
                    continue
                pending.add(time_ps - first_ps, tokens_in, tokens_out, blocks)
                if blocks:
                    next_id = max(next_id, first_id + max(blocks) + 1)
                if len(pending.rows) == CHUNK_ROWS:
                    yield self.chunk(pending, start_ps, first_id)
                    pending = _Pending()
        faults.raise_if_any()
        if not count:
            raise _fault(self.path, "must hold at least one request")
        if pending.rows:
            yield self.chunk(pending, start_ps, first_id)
        return last_ps - first_ps, count, next_id


class _Faults:
    """Bad lines of one file, the first few in full."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._problems: list[Problem] = []
        self.count = 0

    def add(self, line: int, fault: BadField) -> None:
        """Keep one fault, or only count it."""
        self.count += 1
        if self.count <= MAX_PROBLEMS:
            problem = Problem(
                path=fault.path, rule=fault.rule, value=fault.value, file=self._file, line=line
            )
            self._problems.append(problem)

    def raise_if_any(self) -> None:
        """Tell all of them in one ConfigError."""
        more = self.count - len(self._problems)
        if more:
            rule = f"and {more} more bad lines"
            self._problems.append(Problem(path="trace", rule=rule, file=self._file))
        if self._problems:
            raise ConfigError(self._problems)


def _replay(copies: _Copies, repeat: int) -> ArrivalSource:
    start_ps = next_id = 0
    for _ in range(repeat):
        # A copy has block ids of its own: it would find the one before it in a cache.
        span_ps, count, next_id = yield from copies.one_pass(start_ps, next_id)
        # The next copy starts one mean gap after the last request, so the mean rate is kept.
        start_ps += span_ps + (span_ps // (count - 1) if span_ps else PS_PER_S)


def open_trace(
    path: Path,
    format: str = "auto",  # noqa: A002 - the word its users look for
    *,
    speedup: float = 1.0,
    repeat: int = 1,
) -> ArrivalSource:
    """Return a trace file's requests, the first at t = 0, with their real gaps.

    Args:
        path: plain or gzip (known by content).
        format: a name in FORMATS, or "auto" for the one the first line shows.
        speedup: arrival times are divided by it (exact for a decimal number, rounded down to 1 ps).
        repeat: copies played one after another, one mean gap apart, each with prefix blocks of its
            own.

    Raises:
        ConfigError: at once for a file of no known format or a bad argument; while iterating, at
            the end of the file, for every bad line (the first MAX_PROBLEMS in full).
    """
    problems = []
    if not (math.isfinite(speedup) and speedup > 0):
        problems.append(Problem(path="speedup", rule="must be > 0", value=speedup))
    if repeat < 1:
        problems.append(Problem(path="repeat", rule="must be >= 1", value=repeat))
    if format != "auto" and format not in FORMATS:
        rule = "must be one of " + ", ".join(("auto", *FORMATS))
        problems.append(Problem(path="format", rule=rule, value=format))
    if problems:
        raise ConfigError(problems)
    name = detect_format(path) if format == "auto" else format
    return _replay(_Copies(path, FORMATS[name], Fraction(str(speedup))), repeat)
