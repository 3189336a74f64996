"""The composition root: whole runs, all-or-nothing folders, policies by name."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heteroscale.adapters.journal_file import JournalReader
from heteroscale.adapters.memory import MemoryJournal
from heteroscale.app import STATIC, Watcher, assemble, run_into, simulate, with_policy
from heteroscale.config.scenario import Scenario, with_trace
from heteroscale.config.scenario_sections import PrefixCacheSection, RoutingName, ServingSection
from heteroscale.entities.policy import ProportionalSpec
from heteroscale.entities.service import Mode, Pause
from heteroscale.entities.snapshot import Signal
from heteroscale.errors import ConfigError
from heteroscale.journal.replay import replay
from heteroscale.sim.result import PrefixHits, Search
from tests.unit.sim.small import changed, small


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


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for _ in range(2):
        into(tmp_path / "link", small(duration_s=60.0))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there" / "result.json").is_file()


def test_a_link_that_leads_to_itself_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(ConfigError, match="--out: "):
        into(tmp_path / "link", small(duration_s=60.0))


def ended_process() -> int:
    """Return the number of a process that has just ended."""
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    return process


def test_what_killed_runs_left_is_cleared_and_what_runs_is_not(tmp_path: Path) -> None:
    gone, parent = ended_process(), os.getppid()
    left = [
        f".run.unfinished-{gone}",
        f".run.unfinished-{os.getpid()}",
        f".run.former-{gone}",
        f".run.unfinished-{parent}",
        ".run.unfinished-notes",
        f".other.unfinished-{gone}",
    ]
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / name).mkdir()
    into(tmp_path / "run", small(duration_s=60.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*left[3:], "run"])


def test_a_former_run_that_a_killed_one_had_put_aside_comes_back(tmp_path: Path) -> None:
    former = into(tmp_path / "run", small(duration_s=60.0))
    (tmp_path / "run").rename(tmp_path / f".run.former-{ended_process()}")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        into(tmp_path / "run", small(duration_s=60.0), Watcher(run=stop))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "result.json").read_text("utf-8") == former


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
    ).only
    gpus = 8 * sum(result.static_peak.values())
    assert result.gpu_hours_static_peak == pytest.approx(gpus * 600 / 3600)
    assert searched
    assert simulate(small(duration_s=60.0), static_peak=False).only.static_peak == {}
    assert simulate(small(duration_s=60.0), policy=STATIC, static_peak=True).only.static_peak == {}


def with_service(scenario: Scenario, **changes: Any) -> Scenario:
    service = dataclasses.replace(scenario.service, **changes)
    fleet = dataclasses.replace(scenario.fleet, services=(service,))
    return dataclasses.replace(scenario, fleet=fleet)


def test_what_the_search_came_to_is_in_the_result() -> None:
    found = simulate(small(duration_s=600.0), static_peak=True).only
    assert found.static_peak_search is Search.FOUND
    assert found.policy_attainment is not None
    assert (found.static_peak_attainment or 0.0) >= found.policy_attainment
    assert simulate(small(duration_s=60.0), static_peak=False).only.static_peak_search is (
        Search.NOT_SEARCHED
    )


def test_a_service_that_only_observes_says_so_and_counts_what_was_not_sent() -> None:
    scenario = with_service(
        small(initial={"prefill": 9, "decode": 7}), mode=Mode.OBSERVE, pause=Pause(scale_out=True)
    )
    result = simulate(scenario, static_peak=False).only
    assert (result.mode, result.held_by_operator) == ("observe", ("scale-out paused",))
    assert result.actions == 0
    assert 0 < result.ticks_not_sent <= result.ticks
    acting = simulate(small(initial={"prefill": 9, "decode": 7}), static_peak=False).only
    assert (acting.mode, acting.held_by_operator, acting.ticks_not_sent) == ("enforce", (), 0)
    assert acting.actions > 0


def test_a_frozen_fleet_and_a_pinned_role_are_named() -> None:
    pinned = with_service(small(duration_s=60.0), pin={"decode": 3})
    frozen = dataclasses.replace(pinned, fleet=dataclasses.replace(pinned.fleet, freeze=True))
    assert simulate(frozen, static_peak=False).only.held_by_operator == (
        "frozen",
        "decode pinned at 3",
    )
    # Nothing scales a static fleet, so nothing of that says anything about its run.
    assert simulate(frozen, policy=STATIC).only.held_by_operator == ()


@pytest.mark.parametrize(
    ("duration_s", "changes", "notes"),
    [
        pytest.param(None, {}, (), id="as it is"),
        pytest.param(
            None,
            {"speedup": 2.0, "repeat": 3},
            ("trace at 2× speed", "trace repeated 3 times"),
            id="faster and repeated",
        ),
        pytest.param(60.0, {}, ("trace cut at 60 s",), id="cut"),
        pytest.param(180.0, {}, (), id="a run that is longer than its trace"),
    ],
)
def test_what_was_made_of_a_trace_is_said(
    tmp_path: Path, duration_s: float | None, changes: dict[str, Any], notes: tuple[str, ...]
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0.5,100,10\n100.0,100,10\n")
    scenario = with_trace(small(), trace)
    section = scenario.own.traffic.trace
    assert section is not None
    traffic = scenario.own.traffic.model_copy(update={"trace": section.model_copy(update=changes)})
    scenario = changed(scenario, traffic=traffic, duration_s=duration_s)
    assert simulate(scenario, static_peak=False).only.trace_notes == notes


def test_a_trace_that_names_the_blocks_of_its_prompts_has_the_hits_that_they_allow(
    tmp_path: Path,
) -> None:
    line = '{"timestamp": %d, "input_length": %d, "output_length": 9, "hash_ids": %s}\n'
    rows = ((0, 1536, [1, 2, 3]), (60_000, 2048, [1, 2, 9, 4]), (90_000, 1600, [1, 2, 3, 5]))
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(line % row for row in rows))
    serving = ServingSection(prefix_cache=PrefixCacheSection(), routing=RoutingName.PREFIX_AWARE)
    found = simulate(with_trace(small(serving=serving), trace), static_peak=False).only
    # Of the second 2 blocks, of the third 3.
    assert found.prefix_cache == PrefixHits(lookup_tokens=5184, hit_tokens=5 * 512)
    assert found.trace_notes == ()


def test_prefix_caches_that_nothing_asks_are_said(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0.5,100,10\n")
    scenario = with_trace(small(serving=ServingSection(prefix_cache=PrefixCacheSection())), trace)
    found = simulate(scenario, static_peak=False).only
    assert found.prefix_cache is None
    assert found.trace_notes == (
        "prefix caches not asked: no request says which blocks it begins with",
    )


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


def test_decode_tps_follows_decode_whatever_the_anchor_is() -> None:
    service = small().service
    targets = (
        ProportionalSpec(signal=Signal.OFFERED_TPS, role="prefill", target=20_000.0),
        ProportionalSpec(signal=Signal.TPS, role="decode", target=3000.0),
    )
    other = dataclasses.replace(service.policy, anchor="prefill", proportional=targets)
    changed = with_policy(with_service(small(), policy=other).fleet, "decode-tps")
    assert changed is not None
    policy = changed.services[0].policy
    assert policy.proportional == (targets[1],)
    assert policy.anchor == "prefill"


def test_an_unknown_policy_is_never_a_default() -> None:
    with pytest.raises(ConfigError, match="must be one of heteroscale, decode-tps, offered-tps"):
        with_policy(small().fleet, "autoscale")


def test_a_policy_without_its_target_says_so() -> None:
    fleet = small().fleet
    service = fleet.services[0]
    bare = dataclasses.replace(service, policy=dataclasses.replace(service.policy, proportional=()))
    with pytest.raises(ConfigError, match="needs a proportional target in tokens/s for decode"):
        with_policy(dataclasses.replace(fleet, services=(bare,)), "decode-tps")
