"""`heteroscale simulate`: what it prints, leaves behind, and says when it cannot."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from heteroscale.cli import main
from tests.unit.sim.small import TEXT


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT.replace("duration_s: 1200", "duration_s: 300"), encoding="utf-8")
    return path


def run(*words: str | Path) -> int:
    """Run the command line and return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", *map(str, words)])
    code = stopped.value.code
    return code if isinstance(code, int) else 0


def test_it_ends_by_naming_the_report(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(scenario, "--out", out, "--no-static-peak") == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert "small" in printed.splitlines()[0]
    assert (out / "report.html").is_file()


def test_json_on_stdout_is_the_result_as_written(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(scenario, "--out", out, "--no-static-peak", "--json", "--seed", "9") == 0
    printed = capsys.readouterr().out
    assert printed == (out / "result.json").read_text("utf-8")
    result = json.loads(printed)
    assert (result["seed"], result["policy"]) == (9, "heteroscale")
    assert list(result)[-1] == "wall_s"


def test_a_trace_takes_the_place_of_the_scenarios_requests(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "mine.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0.0,100,10\n3.0,200,20\n")
    assert (
        run(scenario, "--trace", trace, "--out", tmp_path / "out", "--policy", "static", "--json")
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result["scenario"] == "small on mine.csv"
    assert result["input_tokens"] == {
        "arrived": 300,
        "completed": 300,
        "running": 0,
        "refused": 0,
    }


def test_faults_of_a_file_are_in_the_result(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = tmp_path / "faults.yaml"
    faults.write_text("faults: [{at_s: 60, kind: instance_restart, role: decode}]\n", "utf-8")
    words = ("--no-static-peak", "--json", "--check", "--faults", faults)
    assert run(scenario, "--out", tmp_path / "out", *words) == 0
    (struck,) = json.loads(capsys.readouterr().out)["faults"]
    assert (struck["at_s"], struck["kind"], struck["until_s"]) == (60.0, "instance_restart", None)
    assert len(struck["struck"]) == 1


def test_random_faults_are_those_of_the_seed(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed: list[str] = []
    for seed in ("7", "7", "8"):
        words = ("--no-static-peak", "--json", "--faults", "random", "--seed", seed)
        assert run(scenario, "--out", tmp_path / "out", *words) == 0
        printed.append(capsys.readouterr().out.rpartition('"wall_s"')[0])
    assert printed[0] == printed[1] != printed[2]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param(["--policy", "magic"], "--policy: must be one of", id="no such policy"),
        pytest.param(["--faults", "nowhere.yaml"], "nowhere.yaml: must be", id="no such faults"),
        pytest.param(["--trace", "nowhere.csv"], "--trace: must be a readable", id="no such trace"),
    ],
)
def test_one_clear_error_and_nothing_half_written(
    scenario: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    text: str,
) -> None:
    assert run(scenario, "--out", tmp_path / "out", *words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert text in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_without_a_terminal_stderr_stays_empty(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(scenario, "--out", tmp_path / "out", "--no-static-peak") == 0
    assert capsys.readouterr().err == ""


def test_brackets_in_a_folders_name_are_printed_as_they_are(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "[bold]out[/]"
    assert run(scenario, "--out", out, "--no-static-peak") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {out / 'report.html'}"


def test_explain_tells_a_change_at_the_time_the_result_gives_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.yaml"
    # Twice the instances that the load needs: some leave once the window is full.
    path.write_text(TEXT.replace("prefill: 4, decode: 3", "prefill: 9, decode: 7"), "utf-8")
    out = tmp_path / "out"
    assert run(path, "--out", out, "--no-static-peak", "--json") == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert changes
    for change in changes:
        words = ["--service", change["service"], "--at", f"+{change['at_s']}", "--json"]
        with pytest.raises(SystemExit):
            main(["explain", str(out / "journal"), *words])
        told = json.loads(capsys.readouterr().out)
        assert [text for step in told["steps"] for text in step["texts"]] == change["reasons"]
        assert change["headline"] in change["reasons"]


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        pytest.param(signal.SIGINT, 130, "interrupted", id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 143, "terminated", id="SIGTERM"),
    ],
)
def test_a_signal_leaves_nothing_half_written(
    scenario: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
    word: str,
) -> None:
    def stopped(*_: object, **__: object) -> None:
        assert len(list(tmp_path.iterdir())) == 2
        os.kill(os.getpid(), number)

    main_of_tests = signal.getsignal(number)
    monkeypatch.setattr("heteroscale.app.simulate", stopped)
    assert run(scenario, "--out", tmp_path / "out") == code
    assert capsys.readouterr().err == f"heteroscale: {word}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
    assert signal.getsignal(number) == main_of_tests


def test_ctrl_c_while_a_command_is_imported_is_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heteroscale.cli.import_module", stopped)
    assert run() == 130
    assert capsys.readouterr().err == "heteroscale: interrupted\n"
