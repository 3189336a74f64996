from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.errors import ConfigError
from heteroscale.performance.roofline import Efficiency
from heteroscale.performance.table_file import (
    load_tables,
    parse_tables,
    shipped_tables,
    tables_text,
)
from tests.unit.performance.tables import TABLE, entry, text


def told(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_tables(text, "p.json")
    return [str(problem) for problem in caught.value.problems]


def test_a_table_is_read() -> None:
    assert parse_tables(text(entry()), "p.json") == {("H100", 2): TABLE}


def test_what_is_written_is_read_back_with_the_error_of_its_fit() -> None:
    observed = {"decode_utilization": [[0.9, 0.9]]}
    written = tables_text([TABLE], {("H100", 2): observed})
    assert parse_tables(written, "p.json") == {("H100", 2): TABLE}
    raw = json.loads(written)["tables"][0]
    assert raw["observed"] == observed
    assert raw["fit"] == {
        "prefill": {"median_error": 0.0, "max_error": 0.0},
        "decode": {"median_error": 0.0, "max_error": 0.0},
    }


def test_shipped_files_are_as_they_would_be_written_today() -> None:
    for table in shipped_tables("qwen3-30b-a3b", "model.table").values():
        name = f"{table.model}_{table.accelerator}_{table.gpus}.json"
        path = Path("src/heteroscale/performance/tables") / name
        root = Path(__file__).resolve().parents[3]
        assert (root / path).read_text(encoding="utf-8") == tables_text([table])


def test_a_model_without_tables() -> None:
    with pytest.raises(ConfigError) as caught:
        shipped_tables("gpt", "model.table")
    assert str(caught.value) == (
        "model.table: must be one of llama-3.1-70b, llama-3.1-8b, qwen3-30b-a3b, qwen3-32b,"
        " got 'gpt'"
    )


def without(key: str) -> dict[str, Any]:
    table = entry()
    del table[key]
    return table


@pytest.mark.parametrize(
    ("written", "faults"),
    [
        pytest.param("{", ["p.json: must be JSON: "], id="no JSON"),
        pytest.param(
            "[]",
            [
                'p.json: format: must be "heteroscale-performance/1"',
                "p.json: tables: must be a list of at least one table",
            ],
            id="not a mapping",
        ),
        pytest.param(
            text(entry(), entry()),
            ["p.json: tables[1]: must be the only table of 2 x H100"],
            id="one shape twice",
        ),
        pytest.param(
            text(entry(), entry(model="n", gpus=4)),
            ["p.json: tables: must all be of one model, got 'm, n'"],
            id="two models",
        ),
        pytest.param(
            text(entry(gpus=0, clock="sun", colour=1), without("source")),
            [
                "p.json: tables[0].colour: must be one of accelerator, clock, ",
                "p.json: tables[0].gpus: must be a whole number >= 1, got 0",
                "p.json: tables[0].clock: must be one of kernels, engine, got 'sun'",
                "p.json: tables[1].source: must be a mapping of name, version, licence, notes",
            ],
            id="all faults of all tables at once",
        ),
        pytest.param(
            text(entry(prefill={"tokens": [100, 100, 200], "ms": [1, 2, -3]})),
            [
                "p.json: tables[0].prefill.tokens: must be a list of rising numbers > 0, got",
                "p.json: tables[0].prefill.ms: must be numbers > 0 and < 1e+06, in ms, got -3",
            ],
            id="lengths out of order and a negative time",
        ),
        pytest.param(
            text(entry(prefill={"tokens": [100, 200], "ms": [1, 2]})),
            ["p.json: tables[0].prefill: must have at least 3 lengths, got 2"],
            id="too few lengths to fit",
        ),
        pytest.param(
            text(entry(prefill={"tokens": [100, 200, 300], "ms": [1, 2]})),
            ["p.json: tables[0].prefill.ms: must be a list of 3 times, one for each of tokens"],
            id="a time is missing",
        ),
        pytest.param(
            text(entry(decode={"batch": [1, 2], "context": [10], "ms": [[1.0], [1.0, 2.0]]})),
            ["p.json: tables[0].decode.ms: must be 2 rows (batch) of 1 times (context), null"],
            id="a ragged grid",
        ),
        pytest.param(
            text(entry(decode={"batch": [1, 2], "context": [10], "ms": [[1.0], [None]]})),
            ["p.json: tables[0].decode: must have at least 3 times, got 1"],
            id="too few steps to fit",
        ),
    ],
)
def test_every_fault_is_named(written: str, faults: list[str]) -> None:
    found = told(written)
    assert len(found) == len(faults)
    for one, expected in zip(found, faults, strict=True):
        assert one.startswith(expected)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted(entry())), JUNK, st.sampled_from(["tokens", "batch", "ms", ""]))
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_a_file_it_is_read_or_every_fault_is_told(
    key: str, junk: Any, part: str
) -> None:
    inner = entry()[key]
    changed = {**inner, part: junk} if part and isinstance(inner, dict) else junk
    with contextlib.suppress(ConfigError):
        for table in parse_tables(text(entry(**{key: changed})), "p.json").values():
            table.coefficients(Efficiency())


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(ConfigError, match="must be a readable text file"):
            load_tables(path)
