from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import typer

from heteroscale.cli import COMMANDS, main
from heteroscale.cli.errors import exit_on_error
from heteroscale.config.reference import reference
from heteroscale.config.schema import json_schema
from heteroscale.errors import (
    ConfigError,
    HeteroScaleError,
    InvariantViolation,
    MetricsUnavailable,
    Problem,
)

REPO = Path(__file__).resolve().parents[3]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs one command line: words → (exit code, stdout, stderr)."""

    def called(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(words)
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err

    return called


def test_faultless_files_of_every_kind(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    files = (
        "examples/services.yaml",
        "examples/scenarios/paper-day.yaml",
        "examples/inventory.yaml",
    )
    code, out, err = run("validate", *files)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "examples/services.yaml: ok (4 services)",
        "examples/scenarios/paper-day.yaml: ok (scenario paper-day)",
        "examples/inventory.yaml: ok (16 nodes)",
    ]


def test_what_only_the_simulated_world_can_judge_is_judged_too(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    text = (REPO / "examples/scenarios/burst.yaml").read_text(encoding="utf-8")
    text = text.replace(
        "decode: {share: 7, accelerators: [{type: H20, gpus: 8}]",
        "decode: {share: 7, accelerators: [{type: H20, gpus: 4}]",
    )
    file.write_text(text.replace("rate_rps: 30.0", "preset: nope"), encoding="utf-8")
    code, out, err = run("validate", str(file))
    fits, preset = err.splitlines()
    assert (code, out) == (2, "")
    assert fits.startswith(f"{file}: service.group.roles.decode.accelerators: must hold moe-540b")
    assert preset.startswith(f"{file}: traffic: must be one of azure2023_code, ")


def test_one_service_is_not_called_services(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    text = (REPO / "examples/services.yaml").read_text(encoding="utf-8")
    file.write_text(text[: text.index("  # 2.")], encoding="utf-8")
    assert run("validate", str(file)) == (0, f"{file}: ok (1 service)\n", "")


def test_every_fault_of_every_file_goes_to_stderr(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPO / "tests/golden/bad_configs")
    expected = "".join(Path(f"{name}.txt").read_text(encoding="utf-8") for name in ("guard", "pin"))
    assert run("validate", "guard.yaml", "pin.yaml", "absent.yaml") == (
        2,
        "",
        f"{expected}absent.yaml: must be a readable file: No such file or directory\n",
    )


@pytest.mark.parametrize("kind", ["services", "scenario", "inventory", "wishes"])
def test_the_schema_is_printed(run: Run, kind: str) -> None:
    code, out, err = run("schema", kind)
    assert (code, err) == (0, "")
    assert json.loads(out) == json_schema(kind)


def test_services_are_what_the_schema_describes_by_default(run: Run) -> None:
    assert run("schema") == run("schema", "services")


def test_the_reference_page_is_printed(run: Run) -> None:
    assert run("schema", "--markdown") == (0, reference(), "")


def test_there_is_no_other_kind_of_file(run: Run) -> None:
    kinds = (
        "services, scenario, fleet-scenario, inventory, wishes, metrics, cluster, scaled-service"
    )
    assert run("schema", "fleet") == (2, "", f"kind: must be one of {kinds}, got 'fleet'\n")


def test_the_version(run: Run) -> None:
    assert run("--version") == (0, f"heteroscale {metadata.version('heteroscale')}\n", "")


def test_the_help_page_names_every_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert [command for command in COMMANDS if f" {command} " not in out] == []


def test_an_unknown_command_is_a_fault_of_the_command_line(run: Run) -> None:
    code, out, err = run("validte")
    assert (code, out) == (2, "")
    assert "validte" in err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        pytest.param(
            ConfigError([Problem(path="a", rule="is required"), Problem(path="b", rule="too")]),
            2,
            "a: is required\nb: too\n",
            id="what the operator can fix, every problem",
        ),
        pytest.param(
            MetricsUnavailable("no answer"), 1, "heteroscale: no answer\n", id="what failed"
        ),
        pytest.param(
            InvariantViolation("half a step"), 1, "heteroscale: half a step\n", id="our bug"
        ),
        pytest.param(KeyboardInterrupt(), 130, "heteroscale: interrupted\n", id="Ctrl-C"),
    ],
)
def test_an_error_is_a_message_and_an_exit_code(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, exit_on_error():
        raise error
    assert caught.value.exit_code == code
    assert capsys.readouterr() == ("", told)


def test_what_was_not_raised_on_purpose_is_not_swallowed() -> None:
    assert not issubclass(ZeroDivisionError, HeteroScaleError)
    with pytest.raises(ZeroDivisionError), exit_on_error():
        raise ZeroDivisionError
