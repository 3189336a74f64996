"""What cannot be read or written is one line on stderr, whichever command meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heteroscale.cli import main


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    words = [sys.executable, "-c", "from heteroscale.cli import main; main(['schema'])"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == "heteroscale: standard output: No space left on device\n"


FILES = ["--services", "s.yaml", "--metrics", "m.yaml", "--cluster", "c.yaml"]
NEEDED = "heteroscale: needs an extra: pip install 'heteroscale[kubernetes]'\n"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        pytest.param(["--help"], 0, "", id="the help page needs none"),
        pytest.param(["run", *FILES], 2, NEEDED, id="run says which"),
        pytest.param(["doctor", *FILES], 2, NEEDED, id="so does doctor"),
    ],
)
def test_without_the_extra_everything_else_works(words: list[str], code: int, told: str) -> None:
    without = "import sys; sys.modules.update(lightkube=None, httpx2=None)"
    script = f"{without}; from heteroscale.cli import main; main({words})"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, told)


def test_a_journal_without_a_record_is_no_good_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal-000001.jsonl.gz"
    path.write_bytes(b"")
    with pytest.raises(SystemExit) as stopped:
        main(["replay", str(path)])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == f"heteroscale: {path}: holds no records\n"


@pytest.mark.parametrize("command", [["replay"], ["explain", "--service", "chat", "--at", "+5"]])
def test_a_file_of_another_kind_is_no_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no journal")
    with pytest.raises(SystemExit) as stopped:
        main([*command, str(path)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"{path}: journal: must be a gzip journal")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_journal_that_may_not_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal-000001.jsonl.gz"
    path.write_bytes(b"")
    path.chmod(0)
    with pytest.raises(SystemExit) as stopped:
        main(["replay", str(path)])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == f"heteroscale: {path}: Permission denied\n"


def test_a_path_that_the_system_refuses_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    path = "x" * 300
    with pytest.raises(SystemExit) as stopped:
        main(["replay", path])
    assert stopped.value.code in (1, 2)
    assert path in capsys.readouterr().err
