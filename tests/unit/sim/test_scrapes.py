"""Single instances as a scraper sees them: rates across restarts, failed scrapes, coverage."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from heteroscale.app import assemble
from heteroscale.config.fault_sections import FaultKind, FaultSection
from heteroscale.entities.snapshot import Signal
from heteroscale.loop import TickReport
from heteroscale.sim.scrapes import InstanceSeries, scrape_chance
from heteroscale.workload.arrivals import PS_PER_S
from tests.diary import Diary
from tests.unit.sim.small import small
from tests.unit.sim.twin_scrapes import PlainSeries, Said, samples_of

MINUTE_PS = 60 * PS_PER_S
SAMPLE = Said(
    uid="a",
    role="decode",
    ready=True,
    tokens=0,
    busy_ps=0,
    occupancy=0.5,
    kv_reserved_tokens=0,
    kv_capacity_tokens=100,
)


def scraped(
    *tokens: int | None, uid: str = "a", series: InstanceSeries | None = None, missing: float = 0.0
) -> InstanceSeries:
    """Scrape one instance every 15 s; None = it is not there."""
    series = series or InstanceSeries(MINUTE_PS, missing, scrape_chance(1))
    for index, count in enumerate(tokens):
        at_ps = 15 * index * PS_PER_S
        there = () if count is None else (SAMPLE._replace(uid=uid, tokens=count),)
        series.scrape(samples_of(there, at_ps))
    return series


def test_a_rate_is_what_a_counter_grew_by_over_the_window() -> None:
    assert scraped(0, 150, 300, 450, 600).tps("decode") == 10.0
    assert scraped(0, 150, 300, 450, 600, 750, 900).tps("decode") == 10.0


def test_a_rate_survives_a_restart() -> None:
    assert scraped(900, 1050, 0, 150, 300).tps("decode") == pytest.approx(450 / 60)


def test_a_new_instance_counts_for_the_part_of_the_window_it_was_there() -> None:
    # From 0 at 30 s to 300 at 60 s; nothing is filled in before a count of 0.
    assert scraped(None, None, 0, 150, 300).tps("decode") == 5.0


def test_a_gap_is_bridged_by_half_an_interval_at_most() -> None:
    # Gone after 15 s: 150 tokens, and 7.5 s more at the same pace.
    gone = scraped(0, 150, None, None, None)
    assert gone.tps("decode") == pytest.approx((150 + 75) / 60)


def test_what_was_scraped_once_has_no_rate_and_does_not_count_as_covered() -> None:
    assert (scraped(5).tps("decode"), scraped(5).coverage("decode")) == (None, 0.0)
    assert scraped(5).kv_usage("decode") == 0.0
    assert scraped(None).coverage("decode") == 1.0
    assert scraped(None).kv_usage("decode") is None


def test_busy_shares_are_weighted_with_the_time_each_was_seen() -> None:
    series = InstanceSeries(MINUTE_PS, 0.0, scrape_chance(1))
    for at_s, busy_s in ((0, 0), (30, 15), (60, 30)):
        one = SAMPLE._replace(busy_ps=busy_s * PS_PER_S)
        other = one._replace(uid="b", busy_ps=0)
        series.scrape(samples_of((one, other) if at_s else (one,), at_s * PS_PER_S))
    assert series.utilization("decode") == 30 / 90
    assert series.sm_activity("decode") == 15 / 90
    assert series.utilization("prefill") is None


def test_coverage_falls_with_the_share_of_scrapes_that_fail() -> None:
    series = InstanceSeries(MINUTE_PS, 0.7, scrape_chance(1))
    names = [f"i{n:03}" for n in range(400)]
    for index in range(5):
        at_ps = 15 * index * PS_PER_S
        series.scrape(samples_of([SAMPLE._replace(uid=name) for name in names], at_ps))
    # At least two of five scrapes of each: 1 - 0.7**5 - 5 * 0.3 * 0.7**4.
    assert series.coverage("decode") == pytest.approx(0.4718, abs=0.08)


@pytest.mark.parametrize("seed", range(20))
def test_the_compiled_sums_are_those_of_the_plain_ones(seed: int) -> None:
    dice = np.random.default_rng(seed)
    missing = (0.0, 0.05, 0.4)[seed % 3]
    series = InstanceSeries(MINUTE_PS, missing, scrape_chance(seed))
    plain = PlainSeries(MINUTE_PS, missing, scrape_chance(seed))
    there: dict[str, Said] = {}
    at_ps = 0
    for _ in range(60):
        at_ps += int(dice.integers(PS_PER_S, 20 * PS_PER_S)) * (6 if dice.random() < 0.1 else 1)
        for uid in [uid for uid in there if dice.random() < 0.03]:
            del there[uid]
        number = int(dice.integers(12))
        uid, role = f"i{number:02}", "decode" if number < 5 else "prefill"
        there.setdefault(uid, SAMPLE._replace(uid=uid, role=role, occupancy=number / 13))
        there = {uid: later(said, dice) for uid, said in there.items()}
        listed = [there[uid] for uid in dice.permutation(sorted(there)).tolist()]
        series.scrape(samples_of(listed, at_ps))
        plain.scrape(listed, at_ps)
        for role in ("prefill", "decode"):
            assert told_by(series, role) == pytest.approx(
                told_by(plain, role), rel=1e-12, nan_ok=True
            )


def later(said: Said, dice: np.random.Generator) -> Said:
    """Return what an engine says next, now and then after a restart."""
    if dice.random() < 0.05:
        said = said._replace(tokens=0, busy_ps=0)
    return said._replace(
        ready=bool(dice.random() < 0.9),
        tokens=said.tokens + int(dice.integers(10**6)) * int(dice.integers(2)),
        busy_ps=said.busy_ps + int(dice.integers(15 * PS_PER_S)),
        kv_reserved_tokens=int(dice.integers(100)),
    )


def told_by(series: InstanceSeries | PlainSeries, role: str) -> tuple[float, ...]:
    """Return all that is told of a role; NaN = unknown."""
    told = (
        series.coverage(role),
        series.tps(role),
        series.utilization(role),
        series.sm_activity(role),
        series.kv_usage(role),
    )
    return tuple(math.nan if value is None else value for value in told)


def test_scraping_one_by_one_says_what_the_whole_says_when_nothing_is_missing() -> None:
    def readings(per_instance: bool) -> dict[tuple[Signal, str], float | None]:
        reports: list[TickReport] = []
        metrics = small().metrics.model_copy(update={"per_instance": per_instance})
        scenario = small(duration_s=600.0, metrics=metrics)
        static = replace(scenario.fleet, freeze=True)
        run = assemble(replace(scenario, fleet=static), watched=lambda loop: Diary(loop, reports))
        run.go()
        found = reports[-1].snapshot.services["chat"].readings
        return {(one.signal, one.role): one.value for one in found}

    whole, single = readings(False), readings(True)
    for key in ((Signal.TPS, "prefill"), (Signal.TPS, "decode"), (Signal.UTILIZATION, "decode")):
        assert single[key] == pytest.approx(whole[key], rel=1e-9)
    assert single[Signal.KV_USAGE, "decode"] == whole[Signal.KV_USAGE, "decode"]
    assert single[Signal.TTFT, "prefill"] == whole[Signal.TTFT, "prefill"]


def test_missing_scrapes_thin_the_readings_out_and_a_restart_does_not_break_them() -> None:
    reports: list[TickReport] = []
    metrics = small().metrics.model_copy(update={"missing_share": 0.5, "jitter_s": 7.0})
    restart = FaultSection(at_s=300.0, kind=FaultKind.INSTANCE_RESTART, role="decode")
    scenario = small(metrics=metrics, faults=(restart,))
    assemble(scenario, check=True, watched=lambda loop: Diary(loop, reports)).go()
    found = [one for report in reports for one in report.snapshot.services["chat"].readings]
    rates = [one for one in found if one.signal is Signal.TPS]
    assert min(one.coverage for one in rates) < 0.7 < max(one.coverage for one in rates)
    assert all(one.value is None or one.value >= 0.0 for one in found)
    assert {one.coverage for one in found if one.signal is Signal.OFFERED_TPS} == {1.0}
    ages = {round(one.age_s % 15.0, 6) for one in found if one.value is not None}
    assert len(ages) > 20
