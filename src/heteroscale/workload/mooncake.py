"""Mooncake traces: a JSON object a line: timestamp (ms), input_length, output_length, hash_ids.

`hash_ids` name 512-token prefix blocks; they must be a list, and are not used.
"""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import msgspec

from heteroscale.workload.trace_fields import MAX_TOKENS, TOKENS_RULE, BadField, Row, shown

_PS_PER_MS = 1_000_000_000
#: A century: anything later is not a time in milliseconds.
_MAX_MS = 3_155_760_000_000


def _time_ps(value: object) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_MS:
        return round(Fraction(value) * _PS_PER_MS)
    raise BadField("timestamp", "must be milliseconds >= 0", value)


def _tokens(row: dict[str, object], name: str) -> int:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TOKENS:
        return value
    raise BadField(name, TOKENS_RULE, value)


def parse_line(line: bytes) -> Row:
    """Return time, input and output tokens of one line.

    Raises:
        BadField: the line is not in this format.
    """
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadField("line", "must be one JSON object", shown(line)) from None
    if not isinstance(row, dict):
        raise BadField("line", "must be one JSON object", shown(line))
    row = cast(dict[str, object], row)
    if not isinstance(row.get("hash_ids", []), list):
        raise BadField("hash_ids", "must be a list", row["hash_ids"])
    time_ps = _time_ps(row.get("timestamp"))
    return time_ps, _tokens(row, "input_length"), _tokens(row, "output_length")
