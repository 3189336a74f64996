"""The file format of performance tables: JSON, read with every fault named, and written.

The format is described for users in docs/performance.md.
"""

from __future__ import annotations

import importlib.resources
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from heteroscale.errors import ConfigError, Problem
from heteroscale.performance.fit import DecodePoint
from heteroscale.performance.table import Clock, LatencyTable, Source

FORMAT = "heteroscale-performance/1"

#: fewer measurements do not settle three coefficients
MIN_POINTS = 3

_TEXTS = ("model", "accelerator", "parallelism")
_COUNTS = ("gpus", "kv_bytes_per_token", "kv_capacity_tokens")
_KEYS = frozenset({*_TEXTS, *_COUNTS, "source", "clock", "prefill", "decode"})
#: written for the reader, recomputed from the figures when a table is used
_UNREAD = frozenset({"fit", "observed"})
#: no count comes near it
_LARGEST = 1e12
#: of a step, ms: beyond it times in ps would not fit their 64 bits
LONGEST_MS = 1e6
_SOURCE_KEYS = ("name", "version", "licence", "notes")

Shape: TypeAlias = tuple[str, int]


def shipped_models() -> tuple[str, ...]:
    """Return the models that have shipped tables."""
    return tuple(sorted({name.split("_")[0] for name in _shipped_names()}))


def shipped_tables(model: str, path: str) -> dict[Shape, LatencyTable]:
    """Return the shipped tables of a model.

    Args:
        path: where the model's name was written, for the error.

    Raises:
        ConfigError: there are none of that model.
    """
    names = [name for name in _shipped_names() if name.split("_")[0] == model]
    if not names:
        rule = f"must be one of {', '.join(shipped_models())}"
        raise ConfigError([Problem(path=path, rule=rule, value=model)])
    folder = importlib.resources.files("heteroscale.performance") / "tables"
    tables: dict[Shape, LatencyTable] = {}
    for name in names:
        tables |= parse_tables((folder / name).read_text(encoding="utf-8"), name)
    return tables


def _shipped_names() -> list[str]:
    folder = importlib.resources.files("heteroscale.performance") / "tables"
    return sorted(one.name for one in folder.iterdir() if one.name.endswith(".json"))


def load_tables(path: Path) -> dict[Shape, LatencyTable]:
    """Return the tables of a file.

    Raises:
        ConfigError: with every fault of the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        rule = f"must be a readable text file: {getattr(error, 'strerror', None) or error}"
        raise ConfigError([Problem(path=str(path), rule=rule, file=str(path))]) from error
    return parse_tables(text, str(path))


def parse_tables(text: str, file: str) -> dict[Shape, LatencyTable]:
    """Return (accelerator, GPUs) → table of a text; `file` is how problems name it.

    Raises:
        ConfigError: with every fault of the text.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = Problem(path=file, rule=f"must be JSON: {error}", file=file)
        raise ConfigError([problem]) from error
    faults = _Faults(file)
    tables: dict[Shape, LatencyTable] = {}
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        faults.add("format", f'must be "{FORMAT}"', found)
    entries = document.get("tables") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        faults.add("tables", "must be a list of at least one table")
        entries = []
    for place, entry in enumerate(entries):
        where = f"tables[{place}]"
        table = _table(entry, where, faults)
        if table is None:
            continue
        shape = (table.accelerator, table.gpus)
        if shape in tables:
            rule = f"must be the only table of {table.gpus} x {table.accelerator}"
            faults.add(where, rule)
        tables[shape] = table
    if len({table.model for table in tables.values()}) > 1:
        names = ", ".join(sorted({table.model for table in tables.values()}))
        faults.add("tables", "must all be of one model", names)
    faults.throw()
    return tables


class _Faults:
    """Collects what is wrong with one file."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.problems: list[Problem] = []

    def add(self, path: str, rule: str, value: object = None) -> None:
        """Note one fault."""
        self.problems.append(Problem(path=path, rule=rule, value=value, file=self._file))

    def throw(self) -> None:
        """Raise ConfigError if there was any fault."""
        if self.problems:
            raise ConfigError(self.problems)


def _table(entry: object, where: str, faults: _Faults) -> LatencyTable | None:
    """Return one table; None = it has faults, which were added."""
    if not isinstance(entry, dict):
        faults.add(where, "must be a mapping", entry)
        return None
    before = len(faults.problems)
    for key in sorted(set(entry) - _KEYS - _UNREAD):
        faults.add(f"{where}.{key}", f"must be one of {', '.join(sorted(_KEYS | _UNREAD))}")
    for key in _TEXTS:
        if not isinstance(entry.get(key), str) or not entry[key]:
            faults.add(f"{where}.{key}", "must be a text", entry.get(key))
    for key in _COUNTS:
        if not _is_count(entry.get(key)):
            faults.add(f"{where}.{key}", "must be a whole number >= 1", entry.get(key))
    clocks = [clock.value for clock in Clock]
    if entry.get("clock") not in clocks:
        faults.add(f"{where}.clock", f"must be one of {', '.join(clocks)}", entry.get("clock"))
    source = _source(entry.get("source"), f"{where}.source", faults)
    prefill = _prefill(entry.get("prefill"), f"{where}.prefill", faults)
    decode = _decode(entry.get("decode"), f"{where}.decode", faults)
    if len(faults.problems) > before or source is None:
        return None
    return LatencyTable(
        **{key: entry[key] for key in (*_TEXTS, *_COUNTS)},
        source=source,
        clock=Clock(entry["clock"]),
        prefill=prefill,
        decode=decode,
    )


def _source(entry: object, where: str, faults: _Faults) -> Source | None:
    if not isinstance(entry, dict):
        faults.add(where, f"must be a mapping of {', '.join(_SOURCE_KEYS)}", entry)
        return None
    texts: dict[str, str] = {"notes": ""}
    for key in _SOURCE_KEYS:
        text = entry.get(key, texts.get(key))
        if isinstance(text, str):
            texts[key] = text
        else:
            faults.add(f"{where}.{key}", "must be a text", text)
    return Source(**texts) if len(texts) == len(_SOURCE_KEYS) else None


def _prefill(entry: object, where: str, faults: _Faults) -> tuple[tuple[float, float], ...]:
    if not isinstance(entry, dict):
        faults.add(where, "must be a mapping of tokens and ms", entry)
        return ()
    tokens = _axis(entry.get("tokens"), f"{where}.tokens", faults)
    times = entry.get("ms")
    if not tokens:
        return ()
    if not isinstance(times, list) or len(times) != len(tokens):
        faults.add(f"{where}.ms", f"must be a list of {len(tokens)} times, one for each of tokens")
        return ()
    _check_times(times, f"{where}.ms", faults)
    if len(tokens) < MIN_POINTS:
        faults.add(where, f"must have at least {MIN_POINTS} lengths", len(tokens))
    return tuple(zip(tokens, times, strict=True))


def _decode(entry: object, where: str, faults: _Faults) -> tuple[DecodePoint, ...]:
    if not isinstance(entry, dict):
        faults.add(where, "must be a mapping of batch, context and ms", entry)
        return ()
    batches = _axis(entry.get("batch"), f"{where}.batch", faults)
    contexts = _axis(entry.get("context"), f"{where}.context", faults)
    rows = entry.get("ms")
    if not batches or not contexts:
        return ()
    wanted = f"{len(batches)} rows (batch) of {len(contexts)} times (context)"
    shaped = isinstance(rows, list) and len(rows) == len(batches)
    if (
        not isinstance(rows, list)
        or not shaped
        or any(not isinstance(row, list) or len(row) != len(contexts) for row in rows)
    ):
        faults.add(f"{where}.ms", f"must be {wanted}, null where nothing was measured")
        return ()
    for place, row in enumerate(rows):
        _check_times([ms for ms in row if ms is not None], f"{where}.ms[{place}]", faults)
    points = tuple(
        DecodePoint(batch, context, ms)
        for batch, row in zip(batches, rows, strict=True)
        for context, ms in zip(contexts, row, strict=True)
        if ms is not None
    )
    if len(points) < MIN_POINTS:
        faults.add(where, f"must have at least {MIN_POINTS} times", len(points))
    return points


def _axis(values: object, where: str, faults: _Faults) -> list[float]:
    rule = "must be a list of rising numbers > 0"
    if (
        not isinstance(values, list)
        or not values
        or not all(_is_positive(one, _LARGEST) for one in values)
    ):
        faults.add(where, rule, values)
        return []
    if any(later <= earlier for earlier, later in itertools.pairwise(values)):
        faults.add(where, rule, values)
    return values


def _check_times(times: Sequence[object], where: str, faults: _Faults) -> None:
    for ms in times:
        if not _is_positive(ms, LONGEST_MS):
            faults.add(where, f"must be numbers > 0 and < {LONGEST_MS:g}, in ms", ms)


def _is_positive(value: object, limit: float) -> bool:
    # The limit keeps out infinity too, and whole numbers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < limit


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < _LARGEST


def tables_text(
    tables: Sequence[LatencyTable], observed: Mapping[Shape, Mapping[str, Any]] | None = None
) -> str:
    """Return tables as the text of a file, with the error of each fit beside its figures.

    Args:
        observed: (accelerator, GPUs) → what else was seen at the points; nothing reads it back.
    """
    entries = []
    for table in tables:
        entry = _entry(table)
        seen = (observed or {}).get((table.accelerator, table.gpus))
        entries.append(entry if seen is None else {**entry, "observed": dict(seen)})
    lines = [f'{{"format": "{FORMAT}", "tables": [']
    for place, entry in enumerate(entries):
        fields = [f" {json.dumps(key)}: {_value(value)}" for key, value in entry.items()]
        lines += ["{", ",\n".join(fields), "}" + ("," if place < len(entries) - 1 else "")]
    return "\n".join([*lines, "]}", ""])


def _value(value: Any) -> str:
    """Return JSON with one line for each row of a grid."""
    if isinstance(value, dict) and isinstance(value.get("ms"), list):
        return "{" + ",\n  ".join(_field(key, one) for key, one in value.items()) + "}"
    return json.dumps(value)


def _field(key: str, value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list):
        return f"{json.dumps(key)}: [\n   " + ",\n   ".join(map(json.dumps, value)) + "]"
    return f"{json.dumps(key)}: {json.dumps(value)}"


def _entry(table: LatencyTable) -> dict[str, Any]:
    batches = sorted({point.batch for point in table.decode})
    contexts = sorted({point.context for point in table.decode})
    times = {(point.batch, point.context): point.ms for point in table.decode}
    return {
        "model": table.model,
        "accelerator": table.accelerator,
        "gpus": table.gpus,
        "parallelism": table.parallelism,
        "source": {key: getattr(table.source, key) for key in _SOURCE_KEYS},
        "clock": table.clock.value,
        "kv_bytes_per_token": table.kv_bytes_per_token,
        "kv_capacity_tokens": table.kv_capacity_tokens,
        "prefill": {
            "tokens": [tokens for tokens, _ in table.prefill],
            "ms": [ms for _, ms in table.prefill],
        },
        "decode": {
            "batch": batches,
            "context": contexts,
            "ms": [[times.get((batch, context)) for context in contexts] for batch in batches],
        },
        "fit": {
            stage: {"median_error": round(error.median, 4), "max_error": round(error.max, 4)}
            for stage, error in _errors(table)
        },
    }


def _errors(table: LatencyTable) -> Iterator[tuple[str, Any]]:
    yield "prefill", table.prefill_error
    yield "decode", table.decode_error
