"""Exact parsing of trace fields. Text in, integers out; a fault is a BadField, never a guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from heteroscale.workload.arrivals import PS_PER_S

#: (time in ps on the trace's own clock, input tokens, output tokens, ids of its prefix blocks)
Row: TypeAlias = tuple[int, int, int, Sequence[int]]

#: Above the longest context window offered today (10 million tokens) a length is a fault of the
#: file; below it the square of a length times any attention coefficient stays inside an int64.
MAX_TOKENS = 10_000_000
TOKENS_RULE = f"must be a whole number from 1 to {MAX_TOKENS}"
#: More digits than any length or time has; keeps int() linear.
_MAX_DIGITS = 15
_FRACTION_DIGITS = 12


class BadField(ValueError):
    """A field is not what its format allows; caught where the line number is known."""

    def __init__(self, path: str, rule: str, value: object) -> None:
        self.path, self.rule, self.value = path, rule, value
        super().__init__(f"{path}: {rule}")


def shown(field: bytes) -> str:
    """Return a field as an operator should see it, at most 80 characters."""
    text = field.decode("utf-8", "backslashreplace")
    return text if len(text) <= 80 else text[:77] + "..."


def tokens(field: bytes, path: str) -> int:
    """Return a token count."""
    if field.isdigit() and len(field) <= _MAX_DIGITS and 1 <= (count := int(field)) <= MAX_TOKENS:
        return count
    raise BadField(path, TOKENS_RULE, shown(field))


def csv_row(
    line: bytes, names: tuple[str, str, str], time_ps: Callable[[bytes], int], time_rule: str
) -> Row:
    """Return the row of a line of three fields: time, input and output tokens.

    Args:
        names: of the fields, for the reader of a fault.
        time_ps: reads the first field; ValueError = it breaks `time_rule`.

    Raises:
        BadField: the line is not of this form.
    """
    fields = line.split(b",")
    if len(fields) != 3:
        raise BadField("line", f"must have the 3 fields {','.join(names)}", shown(line))
    try:
        at_ps = time_ps(fields[0])
    except ValueError:
        raise BadField(names[0], time_rule, shown(fields[0])) from None
    return at_ps, tokens(fields[1], names[1]), tokens(fields[2], names[2]), ()


def fraction_ps(digits: bytes) -> int:
    """Return picoseconds of the decimal fraction of a second written with these digits.

    Raises:
        ValueError: not 1 to 12 digits.
    """
    if not digits.isdigit() or len(digits) > _FRACTION_DIGITS:
        raise ValueError(digits)
    return int(digits.ljust(_FRACTION_DIGITS, b"0"))


def seconds_ps(field: bytes) -> int:
    """Return decimal seconds as picoseconds, without a float in between.

    Raises:
        ValueError: not plain decimal digits, or finer than a picosecond.
    """
    whole, point, fraction = field.partition(b".")
    if not whole.isdigit() or len(whole) > _MAX_DIGITS:
        raise ValueError(field)
    return int(whole) * PS_PER_S + (fraction_ps(fraction) if point else 0)
