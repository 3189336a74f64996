"""Azure LLM inference traces: `TIMESTAMP,ContextTokens,GeneratedTokens`.

The 2023 files write seven fractional digits; the 2024 files append `+00:00`. Both are exact here.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache

from heteroscale.workload.arrivals import PS_PER_S
from heteroscale.workload.trace_fields import Row, csv_row, fraction_ps

_NAMES = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
HEADER = ",".join(_NAMES).encode()
_RULE = "must be a UTC time like 2023-11-16 18:17:03.9799600"
_S_PER_DAY = 86_400


@lru_cache(maxsize=64)
def _second_ps(text: bytes) -> int:
    """Return ps of `YYYY-MM-DD hh:mm:ss` since year 1; neighbours share the second, so cached."""
    clock = text[11:13], text[14:16], text[17:19]
    if text[10:11] not in (b" ", b"T") or text[13:14] + text[16:17] != b"::":
        raise ValueError(text)
    if not all(part.isdigit() and len(part) == 2 for part in clock):
        raise ValueError(text)
    hour, minute, second = map(int, clock)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(text)
    days = date.fromisoformat(text[:10].decode("ascii")).toordinal()
    return (days * _S_PER_DAY + hour * 3600 + minute * 60 + second) * PS_PER_S


def _time_ps(field: bytes) -> int:
    text = field.removesuffix(b"+00:00").removesuffix(b"Z")
    fraction = text[19:]
    if not fraction:
        return _second_ps(text)
    if fraction[:1] != b".":
        raise ValueError(field)
    return _second_ps(text[:19]) + fraction_ps(fraction[1:])


def parse_line(line: bytes) -> Row:
    """Return time, input and output tokens of one line.

    Raises:
        BadField: the line is not in this format.
    """
    return csv_row(line, _NAMES, _time_ps, _RULE)
