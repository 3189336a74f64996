"""Faults in whole runs: when they strike, what they strike, and that equal seeds break equally."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from heteroscale.adapters.journal_file import JournalReader
from heteroscale.app import Watcher, assemble, run_into, with_faults
from heteroscale.config.fault_sections import KEYS, FaultKind, FaultSection
from heteroscale.config.scenario_sections import StartUpSection
from heteroscale.entities.snapshot import InstanceState
from heteroscale.errors import ConfigError
from heteroscale.journal.replay import replay
from heteroscale.loop import TickReport
from heteroscale.sim.fault_plan import RATES_PER_HOUR, random_faults
from heteroscale.sim.result import FaultNote
from tests.diary import Diary
from tests.unit.sim.small import small


def struck(
    *faults: FaultSection, **changes: object
) -> tuple[tuple[FaultNote, ...], list[TickReport]]:
    reports: list[TickReport] = []
    scenario = small(faults=faults, **changes)
    run = assemble(scenario, check=True, watched=lambda loop: Diary(loop, reports))
    notes = run.go().only.result.faults
    assert notes is not None
    return notes, reports


def seen(report: TickReport, state: InstanceState) -> list[str]:
    instances = report.snapshot.services["chat"].instances
    return [one.uid for one in instances if one.state is state]


def test_without_faults_a_result_says_nothing_of_them() -> None:
    assert assemble(small(duration_s=60.0)).go().only.result.faults is None


def test_lost_instances_are_noted_removed_and_replaced() -> None:
    loss = FaultSection(at_s=301.5, kind=FaultKind.INSTANCE_LOSS, count=2, role="decode")
    (note,), reports = struck(loss)
    assert (note.at_s, note.kind, note.until_s) == (301.5, "instance_loss", None)
    assert len(note.struck) == 2
    after = next(each for each in reports if seen(each, InstanceState.FAILED))
    assert seen(after, InstanceState.FAILED) == list(note.struck)
    last = reports[-1].snapshot.services["chat"].instances
    assert not {one.uid for one in last} & set(note.struck)
    assert sum(one.role == "decode" for one in last) >= 3


def test_starts_that_fail_are_replaced_until_one_succeeds() -> None:
    start_up = StartUpSection(fail_share=0.5, spread=0.0)
    loss = FaultSection(at_s=60.0, kind=FaultKind.INSTANCE_LOSS, count=2, role="decode")
    _, reports = struck(loss, start_up=start_up, duration_s=3600.0)
    failed = {uid for report in reports for uid in seen(report, InstanceState.FAILED)}
    assert len(failed) > 2
    last = reports[-1].snapshot.services["chat"].instances
    ready = [one for one in last if one.state is InstanceState.READY and one.role == "decode"]
    assert len(ready) >= 3


def test_a_lost_node_is_unhealthy_for_as_long_as_it_lasts() -> None:
    loss = FaultSection(at_s=100.0, kind=FaultKind.NODE_LOSS, duration_s=200.0)
    (note,), reports = struck(loss)
    down = [
        [node.name for node in report.snapshot.inventory.nodes if not node.healthy]
        for report in reports
    ]
    assert (note.until_s, len(note.struck)) == (300.0, 1)
    # Ticks come every 15 s: the 7th at 105, the 20th at 300, when the node is back already.
    assert down == [[]] * 6 + [list(note.struck)] * 13 + [[]] * 61


def test_a_node_that_two_faults_take_is_back_after_the_later() -> None:
    every = {"kind": FaultKind.NODE_LOSS, "count": 32}
    first = FaultSection.model_validate({"at_s": 100.0, "duration_s": 100.0, **every})
    other = FaultSection.model_validate({"at_s": 150.0, "duration_s": 100.0, **every})
    _, reports = struck(first, other)
    down = [not report.snapshot.inventory.nodes[0].healthy for report in reports]
    assert (down.index(True), sum(down)) == (6, 10)


def test_an_unreachable_sub_cluster_is_told_and_its_engines_go_on() -> None:
    cut = FaultSection(at_s=100.0, kind=FaultKind.SUBCLUSTER_UNREACHABLE, duration_s=300.0)
    (note,), reports = struck(cut)
    assert note.struck == ("main",)
    assert [bool(report.snapshot.unreachable) for report in reports].count(True) > 10
    assert all(not seen(report, InstanceState.FAILED) for report in reports)


def test_a_lost_sub_cluster_has_only_failed_instances_when_it_is_back() -> None:
    loss = FaultSection(at_s=100.0, kind=FaultKind.SUBCLUSTER_LOSS, duration_s=300.0)
    (note,), reports = struck(loss, duration_s=2400.0)
    assert note.struck == ("main",)
    assert max(len(seen(report, InstanceState.FAILED)) for report in reports) == 7
    assert len(seen(reports[-1], InstanceState.READY)) >= 2


def test_the_controllers_clock_jumps_and_the_world_does_not() -> None:
    back = FaultSection(at_s=100.0, kind=FaultKind.CLOCK_JUMP, by_s=-600.0)
    (note,), reports = struck(back, duration_s=300.0)
    times = [report.snapshot.now_s for report in reports]
    assert times[6] - times[5] == 15.0 - 600.0
    assert (note.struck, len(times)) == ((), 20)


def test_a_fixed_fleet_meets_faults_too() -> None:
    scenario = small(faults=random_faults(1200.0, 3), duration_s=1200.0)
    result = assemble(scenario, policy="static").go().only.result
    assert result.faults is not None
    assert result.ticks == 0


def test_faults_strike_in_order_of_time_and_those_after_the_end_never() -> None:
    late = FaultSection(at_s=9999.0, kind=FaultKind.INSTANCE_LOSS)
    dark = FaultSection(at_s=200.0, kind=FaultKind.METRICS_BLACKOUT, duration_s=60.0)
    zero = FaultSection(at_s=100.0, kind=FaultKind.ZERO_METRICS, duration_s=60.0)
    notes, _ = struck(late, dark, zero)
    assert [(note.at_s, note.kind) for note in notes] == [
        (100.0, "zero_metrics"),
        (200.0, "metrics_blackout"),
    ]


def test_equal_seeds_break_equally_to_the_last_byte(tmp_path: Path) -> None:
    start_up = StartUpSection(fail_share=0.1, slow_share=0.2)
    metrics = small().metrics.model_copy(update={"missing_share": 0.2, "jitter_s": 5.0})
    scenario = small(duration_s=3600.0, start_up=start_up, metrics=metrics, seed=11)
    for name in ("one", "other"):
        run_into(
            tmp_path / name,
            with_faults(scenario, "random"),
            policy="heteroscale",
            static_peak=False,
            check=True,
            watcher=Watcher(),
            now_s=lambda: 0.0,
        )
    one, other = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in sorted((tmp_path / name).rglob("*"))
            if path.is_file()
        }
        for name in ("one", "other")
    )
    assert one == other
    assert b'"faults": [' in one[Path("result.json")]
    # Also where clocks jump and sub-clusters are cut off, the journal leads to every plan again.
    assert replay(JournalReader(tmp_path / "one" / "journal").lines()).records == 240


def test_a_random_plan_is_its_seeds_and_keeps_to_the_rates() -> None:
    hours = 2000
    plan = random_faults(hours * 3600.0, 1)
    assert plan == random_faults(hours * 3600.0, 1)
    assert plan != random_faults(hours * 3600.0, 2)
    assert [fault.at_s for fault in plan] == sorted(fault.at_s for fault in plan)
    for kind, per_hour in RATES_PER_HOUR.items():
        found = sum(fault.kind is kind for fault in plan)
        assert found == pytest.approx(per_hour * hours, rel=0.25), kind


def test_every_kind_has_a_rate_and_random_faults_have_the_keys_of_their_kind() -> None:
    assert set(RATES_PER_HOUR) == set(FaultKind) == set(KEYS)
    for fault in random_faults(200 * 3600.0, 1):
        needed, allowed = KEYS[fault.kind]
        written = fault.model_fields_set - {"at_s", "kind"}
        assert set(needed) <= written <= {*needed, *allowed}


def test_faults_of_a_file_take_the_place_of_the_scenarios(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("faults: [{at_s: 5, kind: clock_jump, by_s: 60}]\n", encoding="utf-8")
    found = with_faults(small(faults=random_faults(9e3, 1)), str(path))
    assert found.faults == (FaultSection(at_s=5.0, kind=FaultKind.CLOCK_JUMP, by_s=60.0),)
    path.write_text("faults: [{at_s: 5, kind: instance_loss, role: encode}]\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"faults\[0\]\.role: must be one of prefill, decode, got"
    ):
        with_faults(small(), str(path))


def test_random_faults_need_to_know_how_long_the_run_is() -> None:
    endless = dataclasses.replace(small(), duration_s=None)
    with pytest.raises(ConfigError, match="--faults: must be a file unless the scenario has"):
        with_faults(endless, "random")
