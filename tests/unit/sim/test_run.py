"""A run from start to end: what is counted, when it ends, what the loop sees and leaves behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import pytest

from heteroscale.app import assemble
from heteroscale.config.fault_sections import FaultKind, FaultSection
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.snapshot import Instance, InstanceState, Signal, UnknownCause
from heteroscale.loop import TickReport
from heteroscale.sim.changes import out_of_ratio, reversals
from heteroscale.sim.course import ServiceRecord
from heteroscale.sim.result import Change, Count
from heteroscale.sim.run import Run
from heteroscale.sim.world import settings_of
from heteroscale.workload.arrivals import ArrivalChunk
from tests.diary import Diary
from tests.unit.sim.small import requests, small, world_of


def unscaled(chunks: Iterable[ArrivalChunk], duration_s: float | None) -> ServiceRecord:
    """Run given requests on the fleet as it stands."""
    scenario = small()
    settings = settings_of(scenario, "static", duration_s)
    return Run(settings, scenario.fleet, world_of(scenario, *chunks), None).go().only


def test_what_arrived_is_completed_running_or_refused() -> None:
    result = assemble(small()).go().only.result
    for count in (result.requests, result.input_tokens, result.output_tokens):
        assert count.arrived == count.completed + count.running + count.refused
        assert min(count.completed, count.running, count.refused) >= 0
    assert 23_000 < result.requests.arrived < 25_000
    assert result.simulated_s == 1200.0
    assert result.ticks == 80


def test_a_run_is_the_same_every_time_and_another_with_another_seed() -> None:
    assert assemble(small()).go() == assemble(small()).go()
    assert (
        assemble(small(seed=4)).go().only.result.requests
        != assemble(small()).go().only.result.requests
    )


def test_a_fixed_fleet_costs_its_gpus_and_nothing_changes_it() -> None:
    result = assemble(small(), policy="static").go().only.result
    assert result.gpu_hours == 7 * 8 * 1200 / 3600
    assert (result.actions, result.ticks, result.changes) == (0, 0, ())
    assert result.timeline.instances == {
        "prefill": {"ready": (4,) * 20},
        "decode": {"ready": (3,) * 20},
    }


@pytest.mark.parametrize(
    ("last_s", "end_s"),
    [
        pytest.param(61.0, 120.0, id="inside an interval"),
        pytest.param(60.0, 120.0, id="on a boundary"),
        pytest.param(59.999, 60.0, id="just before one, found by the step that reaches it"),
        pytest.param(0.0, 60.0, id="at the very start"),
    ],
)
def test_without_a_duration_a_run_ends_a_whole_interval_after_the_last_arrival(
    last_s: float, end_s: float
) -> None:
    record = unscaled([requests([0.0]), requests([last_s])], None)
    assert record.result.simulated_s == end_s
    assert record.result.requests.arrived == 2
    assert len(record.ended) == end_s / 60
    assert sum(record.ended) == record.result.requests.completed


def test_what_still_runs_at_the_end_counts_as_running_and_is_judged_only_when_late() -> None:
    record = unscaled([requests([1.0, 119.999], output_tokens=400)], 120.0)
    assert record.result.requests == Count(arrived=2, completed=1, running=1, refused=0)
    assert record.result.input_tokens == Count(
        arrived=2000, completed=1000, running=1000, refused=0
    )
    assert record.result.output_tokens == Count(arrived=800, completed=400, running=400, refused=0)
    assert record.result.slo_attainment == 1.0


def test_no_requests_at_all_is_a_run_too() -> None:
    record = unscaled([], 60.0)
    assert record.result.requests == Count(arrived=0, completed=0, running=0, refused=0)
    assert (record.result.slo_attainment, record.result.ttft_p99_s) == (None, None)


def test_the_last_interval_of_the_timeline_may_be_shorter() -> None:
    record = unscaled([requests([float(second) for second in range(90)])], 90.0)
    rates = record.result.timeline.series["arrived_rps"]
    # The first interval has the requests at 0, 1, ..., 60, the second those at 61, ..., 89.
    assert rates == (61 / 60, 29 / 30)


def test_intervals_add_up_to_the_whole() -> None:
    record = assemble(small()).go().only
    counted = record.result.requests
    assert sum(record.ended) == counted.completed + counted.refused
    assert {len(values) for values in record.result.timeline.series.values()} == {20}
    states = record.result.timeline.instances
    assert set(states) == {"prefill", "decode"}


def test_progress_is_told_once_an_interval() -> None:
    told: list[tuple[float, float | None]] = []
    assemble(small(duration_s=180.0)).go(lambda done_s, total_s: told.append((done_s, total_s)))
    assert told == [(60.0, 180.0), (120.0, 180.0), (180.0, 180.0)]


def test_a_blackout_makes_readings_stale_and_holds_the_fleet() -> None:
    reports: list[TickReport] = []
    dark = FaultSection(at_s=300.0, kind=FaultKind.METRICS_BLACKOUT, duration_s=600.0)
    scenario = small(initial={"prefill": 9, "decode": 7}, duration_s=2400.0, faults=(dark,))
    run = assemble(scenario, watched=lambda loop: Diary(loop, reports))
    result = run.go().only.result
    ages = [
        reading.age_s
        for report in reports
        for reading in report.snapshot.services["chat"].readings
        if reading.signal is Signal.TPS and reading.role == "decode"
    ]
    # Scrapes fall between ticks; the one at 292.5 is the last before the blackout.
    assert ages[18:22] == [7.5, 7.5, 22.5, 37.5]
    assert ages[59] == 607.5
    # In [360, 900] every reading is older than the limit; nothing may leave then.
    assert not [c for c in result.changes if c.direction == "in" and 360.0 <= c.at_s <= 900.0]
    assert [c for c in result.changes if c.direction == "in" and c.at_s > 900.0]


def test_before_the_second_scrape_nothing_is_known() -> None:
    reports: list[TickReport] = []
    assemble(small(duration_s=60.0), watched=lambda loop: Diary(loop, reports)).go()
    first = reports[0].snapshot.services["chat"].readings
    assert {(one.value, one.cause) for one in first} == {(None, UnknownCause.MISSING)}
    codes = {reason.code for reason in reports[0].plan.decisions[0].reasons}
    assert ReasonCode.WITHIN_TOLERANCE not in codes
    third = {
        (one.role, one.signal): one.value for one in reports[2].snapshot.services["chat"].readings
    }
    assert third["prefill", Signal.TPS] is not None


def test_a_fleet_too_small_grows_with_both_roles_in_ratio() -> None:
    scenario = small(initial={"prefill": 2, "decode": 1}, duration_s=1800.0)
    result = assemble(scenario).go().only.result
    assert result.changes[0].direction == "out"
    last = result.changes[-1].after
    assert last["decode"] >= 3
    assert abs(last["prefill"] - last["decode"] * 9 / 7) <= 1.0


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        pytest.param([(0, "out"), (900, "in")], 1, id="undone at the limit"),
        pytest.param([(0, "out"), (901, "in")], 0, id="after it, a change of its own"),
        pytest.param(
            [(0, "out"), (100, "out"), (200, "in"), (300, "in"), (400, "out")],
            2,
            id="back and forth",
        ),
        pytest.param([], 0, id="no change"),
    ],
)
def test_reversals(moves: list[tuple[float, str]], expected: int) -> None:
    changes = [
        Change(at_s=at_s, service="chat", direction=way, before={}, after={}, reasons=())
        for at_s, way in moves
    ]
    assert reversals(changes) == expected


def instances(counts: Mapping[str, int]) -> list[Instance]:
    return [
        Instance(
            uid=f"{role}-{ordinal}",
            service="chat",
            role=role,
            group="g0",
            subcluster="main",
            accelerator="H20",
            ordinal=ordinal,
            state=InstanceState.READY,
            since_s=0.0,
        )
        for role, count in counts.items()
        for ordinal in range(count)
    ]


@pytest.mark.parametrize(
    ("prefill", "decode", "expected"),
    [
        pytest.param(9, 7, False, id="exact"),
        pytest.param(10, 7, False, id="one instance more"),
        pytest.param(11, 7, True, id="two more are beyond a tenth of nine"),
        pytest.param(49, 35, False, id="inside a tenth of 45"),
        pytest.param(50, 35, True, id="beyond it"),
        pytest.param(0, 7, True, id="none left"),
    ],
)
def test_out_of_ratio(prefill: int, decode: int, expected: bool) -> None:
    service = small().service
    found = out_of_ratio(
        service, {"prefill": 9, "decode": 7}, instances({"prefill": prefill, "decode": decode})
    )
    assert found is expected


def test_leaving_and_unplaced_instances_are_no_supply_of_the_ratio() -> None:
    service = small().service
    fleet = instances({"prefill": 12, "decode": 7})
    gone = [
        dataclasses.replace(one, state=state)
        for one, state in zip(
            fleet[:3],
            (InstanceState.WITHDRAWN, InstanceState.DRAINING, InstanceState.PENDING),
            strict=True,
        )
    ]
    assert not out_of_ratio(service, {"prefill": 9, "decode": 7}, gone + fleet[3:])
    assert not out_of_ratio(service, {}, fleet)
