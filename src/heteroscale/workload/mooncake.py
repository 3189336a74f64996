"""Mooncake traces: a JSON object a line: timestamp (ms), input_length, output_length, hash_ids.

`hash_ids` name the blocks of 512 tokens of the prompt, the last one cut where the prompt ends; two
blocks of one id are equal, and so is all before them.
"""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import msgspec

from heteroscale.workload.trace_fields import MAX_TOKENS, TOKENS_RULE, BadField, Row, shown

_PS_PER_MS = 1_000_000_000
#: A century: anything later is not a time in milliseconds.
_MAX_MS = 3_155_760_000_000
#: So that 10,000 copies of a trace have ids of their own in 64 bits.
_MAX_ID = 10**12


def _time_ps(value: object) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_MS:
        return round(Fraction(value) * _PS_PER_MS)
    raise BadField("timestamp", "must be milliseconds >= 0", value)


def _tokens(row: dict[str, object], name: str) -> int:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TOKENS:
        return value
    raise BadField(name, TOKENS_RULE, value)


def _blocks(row: dict[str, object]) -> list[int]:
    """Return the ids of a prompt's blocks; none where the trace has none."""
    ids = row.get("hash_ids", [])
    if not isinstance(ids, list):
        raise BadField("hash_ids", "must be a list", ids)
    for at, one in enumerate(cast(list[object], ids)):
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= _MAX_ID:
            rule = f"must be a whole number from 0 to {_MAX_ID}"
            raise BadField(f"hash_ids[{at}]", rule, one)
    return cast(list[int], ids)


def parse_line(line: bytes) -> Row:
    """Return time, input and output tokens, and prefix blocks, of one line.

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
    time_ps = _time_ps(row.get("timestamp"))
    return time_ps, _tokens(row, "input_length"), _tokens(row, "output_length"), _blocks(row)
