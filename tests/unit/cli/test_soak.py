"""`heteroscale soak`: a line a seed, how to see a violation again, and when it stops."""

from __future__ import annotations

import pytest

from heteroscale.cli import main
from heteroscale.sim.soak import soak_scenario


def run(*words: str) -> int:
    """Run the command line and return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main(["soak", *words])
    code = stopped.value.code
    return code if isinstance(code, int) else 0


def test_a_seed_is_a_scenario() -> None:
    assert soak_scenario(5) == soak_scenario(5)
    assert soak_scenario(5) != soak_scenario(6)
    assert soak_scenario(5).faults


def test_it_tells_each_seed_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seeds", "3..4") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["seed 3", "seed 4"]
    assert lines[-1] == "2 seeds, 0 with an invariant broken"


def test_a_violation_comes_with_the_way_to_see_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if a failed instance had to be gone at once, which no loop can achieve.
    monkeypatch.setattr("heteroscale.sim.checker.FAILED_TICKS", -1)
    assert run("--seeds", "2..2") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(", broken")
    assert "has failed and stays" in lines[1]
    assert lines[2:] == [
        "  again: heteroscale soak --seeds 2..2",
        "1 seeds, 1 with an invariant broken",
    ]


def test_it_begins_no_seed_after_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seeds", "0..", "--minutes", "0") == 0
    assert capsys.readouterr().out == "0 seeds, 0 with an invariant broken\n"


@pytest.mark.parametrize("seeds", ["5", "..5", "a..b", "1..-2"])
def test_what_is_no_range_is_refused(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seeds", seeds) == 2
    assert f"--seeds: must be A..B or A.., got '{seeds}'" in capsys.readouterr().err
