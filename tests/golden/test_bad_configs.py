"""Every planted fault is reported in exactly the words beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heteroscale.config.check import check_file
from heteroscale.errors import ConfigError

FOLDER = Path(__file__).parent / "bad_configs"
BAD = sorted(path.name for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", BAD)
def test_says_what_is_wrong_and_where(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)  # so that problems name the file as it lies there
    with pytest.raises(ConfigError) as caught:
        check_file(Path(name))
    told = f"{caught.value}\n"
    expected = FOLDER / Path(name).with_suffix(".txt")
    if os.environ.get("HETEROSCALE_GOLDEN") == "rewrite":
        expected.write_text(told, encoding="utf-8")
    assert told == expected.read_text(encoding="utf-8")


def test_enough_faults_are_planted_and_every_text_has_its_file() -> None:
    assert len(BAD) >= 25
    assert [f"{path.stem}.yaml" for path in sorted(FOLDER.glob("*.txt"))] == BAD


def test_no_text_leaks_the_words_of_a_library() -> None:
    told = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.txt"))
    leaks = ("Input should", "pydantic", "NoneType", "dict", "tuple", "Section", "valid string")
    assert [word for word in leaks if word in told] == []
