"""The project's own trace format: header `arrival_s,input_tokens,output_tokens`, plain decimals.

Times are decimal seconds with up to 12 fractional digits, so a picosecond survives a round trip.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO, cast

from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk, ArrivalSource
from heteroscale.workload.trace_fields import Row, csv_row, seconds_ps

_NAMES = ("arrival_s", "input_tokens", "output_tokens")
HEADER = ",".join(_NAMES).encode()
_RULE = "must be decimal seconds >= 0 with at most 12 fractional digits"


def parse_line(line: bytes) -> Row:
    """Return time, input and output tokens of one line.

    Raises:
        BadField: the line is not in this format.
    """
    return csv_row(line, _NAMES, seconds_ps, _RULE)


def _lines(chunk: ArrivalChunk) -> bytes:
    columns = (chunk.arrival_ps, chunk.input_tokens, chunk.output_tokens)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return b"".join(
        b"%d.%012d,%d,%d\n" % (ps // PS_PER_S, ps % PS_PER_S, tokens_in, tokens_out)
        for ps, tokens_in, tokens_out in rows
    )


def write_csv(path: Path, source: ArrivalSource) -> int:
    """Write every request of a source and return how many; `.gz` compresses.

    The file appears under its name only when it is complete.
    """
    part = path.with_name(path.name + ".part")
    count = 0
    try:
        with part.open("wb") as raw:
            # Without name and time in its header equal requests give equal bytes.
            packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else None
            out = cast(BinaryIO, packed or raw)
            out.write(HEADER + b"\n")
            for chunk in source:
                out.write(_lines(chunk))
                count += len(chunk.arrival_ps)
            if packed:
                packed.close()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count
