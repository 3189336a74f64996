"""The composition root: whole runs, all-or-nothing folders, policies by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from heteroscale.adapters.journal_file import JournalReader
from heteroscale.adapters.memory import MemoryJournal
from heteroscale.app import STATIC, Watcher, assemble, run_into, simulate, with_policy
from heteroscale.config.scenario import Scenario, with_trace
from heteroscale.entities.policy import ProportionalSpec
from heteroscale.entities.snapshot import Signal
from heteroscale.errors import ConfigError
from heteroscale.journal.replay import replay
from tests.unit.sim.small import small


def ticking() -> Iterator[float]:
    """Yield 0, 1.5, 3, ...: a clock for the wall time."""
    at_s = 0.0
    while True:
        yield at_s
        at_s += 1.5


def into(folder: Path, scenario: Scenario, watcher: Watcher | None = None) -> str:
    clock = ticking()
    _, text = run_into(
        folder,
        scenario,
        policy="heteroscale",
        static_peak=False,
        watcher=watcher or Watcher(),
        now_s=lambda: next(clock),
    )
    return text


def test_a_run_leaves_its_result_report_and_journal(tmp_path: Path) -> None:
    text = into(tmp_path / "out" / "run", small(duration_s=300.0))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run"]
    assert sorted(path.name for path in (tmp_path / "out" / "run").iterdir()) == [
        "journal",
        "report.html",
        "result.json",
    ]
    assert (tmp_path / "out" / "run" / "result.json").read_text("utf-8") == text
    assert json.loads(text)["wall_s"] == 1.5
    report = replay(JournalReader(tmp_path / "out" / "run" / "journal").lines())
    assert report.records == 20


def test_equal_runs_leave_equal_bytes(tmp_path: Path) -> None:
    scenario = small(initial={"prefill": 2, "decode": 1})
    for name in ("one", "other"):
        into(tmp_path / name, scenario)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
    assert len(files) == 3
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_a_former_run_is_replaced(tmp_path: Path) -> None:
    first = into(tmp_path / "run", small(duration_s=120.0))
    second = into(tmp_path / "run", small(duration_s=60.0))
    assert first != second
    assert (tmp_path / "run" / "result.json").read_text("utf-8") == second
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="it also holds thesis"):
        into(tmp_path, small(duration_s=60.0))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_cannot_be_written_is_known_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match="--out: "):
            into(folder, small(duration_s=60.0), Watcher(run=lambda *_: pytest.fail("it ran")))


@pytest.mark.parametrize(
    "stopped", [KeyboardInterrupt(), RuntimeError("a bug")], ids=["Ctrl-C", "a bug"]
)
def test_a_run_that_is_cut_short_leaves_nothing_and_keeps_the_former(
    tmp_path: Path, stopped: BaseException
) -> None:
    former = into(tmp_path / "run", small(duration_s=60.0))

    def stop(done_s: float, total_s: float | None) -> None:
        assert (done_s, total_s) == (60.0, 300.0)
        raise stopped

    with pytest.raises(type(stopped)):
        into(tmp_path / "run", small(duration_s=300.0), Watcher(run=stop))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "result.json").read_text("utf-8") == former


def test_a_bad_line_of_a_trace_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0.5,100,10\n1.0,none,10\n")
    scenario = with_trace(small(duration_s=None), trace)
    with pytest.raises(ConfigError, match=r"trace\.csv:3: ") as raised:
        into(tmp_path / "run", scenario)
    assert len(raised.value.problems) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["trace.csv"]


def test_the_static_peak_is_searched_when_asked_for() -> None:
    searched: list[int] = []
    result = simulate(
        small(duration_s=600.0), static_peak=True, watcher=Watcher(search=searched.append)
    )
    gpus = 8 * sum(result.static_peak.values())
    assert result.gpu_hours_static_peak == pytest.approx(gpus * 600 / 3600)
    assert searched
    assert simulate(small(duration_s=60.0), static_peak=False).static_peak == {}
    assert simulate(small(duration_s=60.0), policy=STATIC, static_peak=True).static_peak == {}


def test_the_loops_evidence_goes_to_the_journal() -> None:
    journal = MemoryJournal()
    assemble(small(duration_s=300.0), journal=journal).go()
    assert len(journal.lines) == 20


def test_policies_by_name() -> None:
    fleet = small().fleet
    assert with_policy(fleet, "heteroscale") == fleet
    assert with_policy(fleet, STATIC) is None
    for name, signal in (("decode-tps", Signal.TPS), ("offered-tps", Signal.OFFERED_TPS)):
        changed = with_policy(fleet, name)
        assert changed is not None
        policy = changed.services[0].policy
        assert {(one.tiers, one.step_in) for one in policy.feedback} == {((), 0.0)}
        assert policy.proportional == (
            ProportionalSpec(signal=signal, role="decode", target=3000.0),
        )


def test_an_unknown_policy_is_never_a_default() -> None:
    with pytest.raises(ConfigError, match="must be one of heteroscale, decode-tps, offered-tps"):
        with_policy(small().fleet, "autoscale")


def test_a_policy_without_its_target_says_so() -> None:
    fleet = small().fleet
    service = fleet.services[0]
    bare = dataclasses.replace(service, policy=dataclasses.replace(service.policy, proportional=()))
    with pytest.raises(ConfigError, match="needs a proportional target in tokens/s for decode"):
        with_policy(dataclasses.replace(fleet, services=(bare,)), "decode-tps")
