"""A validation library's errors in the project's own words, with the nearest known key or value.

Nothing of the library's wording reaches an operator, not even from an error type that is missing
in the table below.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from heteroscale.config.document import Document, Place
from heteroscale.config.fields import PATTERNS, RULE, Section
from heteroscale.errors import Problem

#: marks a fault of a mapping's key, not of what stands under it
KEY = "[key]"

_QUOTED = re.compile(r"'([^']*)'")
_RULES: Mapping[str, str] = {
    RULE: "{rule}",
    "missing": "is required",
    "greater_than": "must be > {gt:,.9g}",
    "greater_than_equal": "must be ≥ {ge:,.9g}",
    "less_than": "must be < {lt:,.9g}",
    "less_than_equal": "must be ≤ {le:,.9g}",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "mapping_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "too_short": "must have at least {min_length} entry",
}


def problems_of(
    error: ValidationError, document: Document, section: type[Section]
) -> tuple[Problem, ...]:
    """Return one problem per fault that pydantic found in a document."""
    faults = error.errors(include_url=False)
    return tuple(_problem(fault, document, section) for fault in faults if not _echo(fault))


def _echo(fault: ErrorDetails) -> bool:
    """Return whether a list only counts as too short because its entries have faults."""
    return fault["type"] == "too_short" and len(fault["input"]) >= fault["ctx"]["min_length"]


def _problem(fault: ErrorDetails, document: Document, section: type[Section]) -> Problem:
    place: Place = tuple(key for key in fault["loc"] if key != KEY)
    rule = _rule(fault, section)
    value = fault["input"]
    if fault["type"] in {"missing", "extra_forbidden", "too_short"}:
        return document.problem(place, rule)
    return document.problem(place, *got(rule, value))


def got(rule: str, value: object) -> tuple[str, object]:
    """Return rule and value to show; what has no short form is named instead of printed."""
    match value:
        case None:
            return f"{rule}, got nothing", None
        case dict():
            return f"{rule}, got a mapping", None
        case tuple():
            return f"{rule}, got a list", None
    return rule, value


def _rule(fault: ErrorDetails, section: type[Section]) -> str:
    context = fault.get("ctx", {})
    match fault["type"]:
        case "extra_forbidden":
            return unknown_key(str(fault["loc"][-1]), _known_keys(section, fault["loc"][:-1]))
        case "enum" | "literal_error":
            return f"must be one of {', '.join(_QUOTED.findall(context['expected']))}"
        case "string_pattern_mismatch":
            return PATTERNS[context["pattern"]]
    return _RULES.get(fault["type"], "is not allowed here").format(**context)


def unknown_key(key: str, known: Iterable[str], thing: str = "key") -> str:
    """Return the rule for a name that does not exist, with the one that was probably meant."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known {thing}s: {', '.join(names)}"
    return f"is not a known {thing}; {hint}"


def _known_keys(section: type[Section], place: tuple[str | int, ...]) -> list[str]:
    """Return the keys of the section that stands at a place."""
    current: Any = section
    for key in place:
        current = _step(current, key)
    return list(current.model_fields)


def _step(annotation: Any, key: str | int) -> Any:
    """Return what is expected under one key or list position."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return bare(annotation.model_fields[str(key)].annotation)
    # tuple[X, ...] has its X first, Mapping[str, X] last
    position = 0 if get_origin(annotation) is tuple else -1
    return bare(get_args(annotation)[position])


def bare(annotation: Any) -> Any:
    """Return an annotation without `| None` and without its constraints."""
    if get_origin(annotation) in {Union, UnionType}:
        annotation = next(arg for arg in get_args(annotation) if arg is not type(None))
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
