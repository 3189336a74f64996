"""YAML and JSON text as plain values, plus the line of each: the only place that knows how to read.

Plain scalars follow the YAML 1.2 core rules: `22:00`, `no` and `2025-06-02` are text, `1e-3` is a
number. Tags are refused, so nothing but mappings, lists and scalars can be built.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from heteroscale.errors import ConfigError, Problem

#: Where a value stands: mapping keys and list positions from the top.
Place = tuple[str | int, ...]

#: Real files stay far below both; they bound what nested aliases can expand to.
MAX_DEPTH = 40
MAX_VALUES = 500_000

#: wider than any bound, so that a number beyond one is told as it was written
_INT = re.compile(r"[-+]?[0-9]{1,60}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_DEFAULT_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document: mappings as dict, lists as tuple."""

    #: as it is named in problems; None = text without a file
    file: str | None
    value: object
    #: 1-based line of the key or list item of each value; empty = not known
    lines: Mapping[Place, int]
    #: faults of the text itself that still left values to look at, e.g. a key written twice
    problems: tuple[Problem, ...] = ()

    def problem(self, place: Place, rule: str, value: object = None) -> Problem:
        """Return a problem at a place; the line is that of the nearest thing written around it."""
        nearest = place
        while nearest and nearest not in self.lines:
            nearest = nearest[:-1]
        return Problem(
            path=dotted(place) or self.file or "document",
            rule=rule,
            value=value,
            file=self.file,
            line=self.lines.get(nearest),
        )


def dotted(place: Place) -> str:
    """Return `services[0].slo.ttft_s` for ("services", 0, "slo", "ttft_s")."""
    parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return "".join(parts).removeprefix(".")


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        ConfigError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror or str(error)
        raise _fault(str(path), f"must be a readable file: {reason}") from error
    except UnicodeDecodeError as error:
        rule = f"must be UTF-8 text: byte {error.start} is not"
        raise _fault(str(path), rule) from error


def parse_document(text: str, file: str | None) -> Document:
    """Return the one mapping that a YAML text holds.

    Raises:
        ConfigError: not YAML, empty, several documents, or not a mapping.
    """
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        column = f" (column {mark.column + 1})" if mark else ""
        said = ", ".join(filter(None, (error.context, error.problem)))
        rule = f"must be valid YAML: {said}{column}"
        raise _fault(file, rule, mark.line + 1 if mark else None) from error
    except yaml.YAMLError as error:
        raise _fault(file, f"must be valid YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise _fault(file, f"must nest at most {MAX_DEPTH} levels deep") from error
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
        raise _fault(file, "must not be empty")
    if not isinstance(root, yaml.MappingNode):
        raise _fault(file, "must be a mapping of keys to values", root.start_mark.line + 1)
    reading = _Reading(file=file)
    value = reading.value(root, ())
    return Document(file=file, value=value, lines=reading.lines, problems=tuple(reading.problems))


def parse_json(text: str, file: str | None) -> Document:
    """Return the one mapping that a JSON text holds, without lines: large files are read fast.

    Raises:
        ConfigError: not JSON, or not a mapping.
    """
    problems: list[Problem] = []

    def mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(
                key for key, times in Counter(key for key, _ in pairs).items() if times > 1
            )
            problems.append(Problem(path=twice, rule="is written twice", file=file))
        return found

    try:
        value = tuples(json.loads(text, object_pairs_hook=mapping))
    except json.JSONDecodeError as error:
        rule = f"must be valid JSON: {error.msg} (column {error.colno})"
        raise _fault(file, rule, error.lineno) from error
    except ValueError as error:
        raise _fault(file, "must hold numbers of at most a few thousand digits") from error
    except RecursionError as error:
        raise _fault(file, f"must nest at most {MAX_DEPTH} levels deep") from error
    if not isinstance(value, dict):
        raise _fault(file, "must be a mapping of keys to values")
    return Document(file=file, value=value, lines={}, problems=tuple(problems))


def tuples(value: object) -> object:
    """Return a JSON value with its lists as tuples, which nothing can change."""
    if isinstance(value, dict):
        return {key: tuples(child) for key, child in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def _fault(file: str | None, rule: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem(path=file or "document", rule=rule, file=file, line=line)])


@dataclass(slots=True)
class _Reading:
    """One walk over a node tree; collects lines and faults on the way."""

    file: str | None
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    values: int = 0

    def value(self, node: yaml.Node, place: Place) -> object:
        """Return the plain value of a node."""
        self.values += 1
        line = node.start_mark.line + 1
        if len(place) > MAX_DEPTH:
            raise _fault(self.file, f"must nest at most {MAX_DEPTH} levels deep", line)
        if self.values > MAX_VALUES:
            raise _fault(self.file, f"must hold at most {MAX_VALUES:,} values", line)
        self.lines.setdefault(place, line)
        if node.tag not in _DEFAULT_TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self._add(place, line, f"must not carry a tag, got {tag}")
        if isinstance(node, yaml.MappingNode):
            return {key: self.value(child, (*place, key)) for key, child in self._keys(node, place)}
        if isinstance(node, yaml.SequenceNode):
            return tuple(
                self.value(child, (*place, index)) for index, child in enumerate(node.value)
            )
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return scalar(node.value) if plain else str(node.value)

    def _keys(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, yaml.Node]]:
        """Yield each key once, the first time it is written."""
        first: dict[str, int] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._add(place, line, "must have plain text as keys")
                continue
            key = str(key_node.value)
            if key in first:
                self._add((*place, key), line, f"is written twice, first on line {first[key]}")
                continue
            first[key] = line
            self.lines[(*place, key)] = line
            yield key, child

    def _add(self, place: Place, line: int, rule: str) -> None:
        path = dotted(place) or self.file or "document"
        self.problems.append(Problem(path=path, rule=rule, file=self.file, line=line))


def scalar(text: str) -> object:
    """Return the value of an unquoted scalar: None, true/false, a number, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
