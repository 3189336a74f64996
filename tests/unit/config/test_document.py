from __future__ import annotations

import math
from pathlib import Path

import pytest

from heteroscale.config.document import MAX_DEPTH, dotted, parse_document, read_text, scalar
from heteroscale.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("22:00", "22:00", id="a time is text, not a number in base 60"),
        pytest.param("no", "no", id="no is text"),
        pytest.param("on", "on", id="on is text"),
        pytest.param("2025-06-02", "2025-06-02", id="a date is text"),
        pytest.param("1e-3", 0.001, id="an exponent needs no point"),
        pytest.param("010", 10, id="a leading zero is not octal"),
        pytest.param("-5", -5, id="negative"),
        pytest.param(".5", 0.5, id="no digit before the point"),
        pytest.param("1_000", "1_000", id="underscores are text"),
        pytest.param("9" * 30, 10**30 - 1, id="more digits than any bound"),
        pytest.param("1e999", math.inf, id="too large for a float"),
        pytest.param("true", True, id="true"),
        pytest.param("FALSE", False, id="false"),
        pytest.param("~", None, id="null"),
        pytest.param("", None, id="nothing"),
        pytest.param("-.inf", -math.inf, id="minus infinity"),
        pytest.param("decode", "decode", id="text"),
    ],
)
def test_an_unquoted_scalar_means(text: str, value: object) -> None:
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_nan() -> None:
    found = scalar(".nan")
    assert isinstance(found, float)
    assert math.isnan(found)


def test_values_and_the_lines_they_stand_on() -> None:
    document = parse_document('a:\n  - 1\n  - "2"\nb: {c: !!str x, d: [y]}\n', "f.yaml")
    assert document.value == {"a": (1, "2"), "b": {"c": "x", "d": ("y",)}}
    assert document.problems == ()
    assert document.lines == {
        (): 1,
        ("a",): 1,
        ("a", 0): 2,
        ("a", 1): 3,
        ("b",): 4,
        ("b", "c"): 4,
        ("b", "d"): 4,
        ("b", "d", 0): 4,
    }


def test_a_fault_of_something_absent_stands_where_it_is_missing() -> None:
    document = parse_document("a:\n  - x: 1\n", "f.yaml")
    assert str(document.problem(("a", 0, "y", "z"), "is required")) == (
        "f.yaml:2: a[0].y.z: is required"
    )


def test_an_alias_is_read_as_what_it_stands_for() -> None:
    document = parse_document("a: &x {b: 1}\nc: *x\n", None)
    assert document.value == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("", "must not be empty", id="empty"),
        pytest.param("~", "must be a mapping of keys to values", id="null"),
        pytest.param("a", "must be a mapping of keys to values", id="one word"),
        pytest.param("a: *x", "must be valid YAML: found undefined alias 'x'", id="no such alias"),
        pytest.param("a: &x [*x]", f"at most {MAX_DEPTH} levels deep", id="an alias to itself"),
        pytest.param("a: " + "[" * 2000, "must nest at most", id="deeper than the parser goes"),
        pytest.param("a: \x00", "must be valid YAML: unacceptable character", id="control byte"),
        pytest.param(
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{k}: &{k} [{','.join([f'*{chr(ord(k) - 1)}'] * 10)}]\n" for k in "bcdefg"),
            "must hold at most 500,000 values",
            id="aliases that multiply",
        ),
    ],
)
def test_a_text_that_holds_no_usable_document(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "f.yaml")
    assert len(caught.value.problems) == 1
    assert told in str(caught.value)
    assert str(caught.value).startswith("f.yaml")


def test_keys_that_are_not_text_are_reported_beside_the_rest() -> None:
    document = parse_document("? [a]\n: 1\nb: 2\nb: 3\n", "f.yaml")
    assert document.value == {"b": 2}
    assert [str(problem) for problem in document.problems] == [
        "f.yaml:1: must have plain text as keys",
        "f.yaml:4: b: is written twice, first on line 3",
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(None, "No such file or directory", id="absent"),
        pytest.param(b"name: \xff", "must be UTF-8 text: byte 6 is not", id="not UTF-8"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "f.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_text(path)
    assert str(caught.value).startswith(f"{path}: must be ")
    assert told in str(caught.value)


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(path) == "a: 1"


def test_places_are_written_with_dots_and_brackets() -> None:
    assert dotted(("services", 0, "slo", "ttft_s")) == "services[0].slo.ttft_s"
    assert dotted(()) == ""
