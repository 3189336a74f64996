"""Readings from scrapes: rates over the window, age, what is unknown and why."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale.entities.snapshot import Reading, Signal, UnknownCause
from heteroscale.sim.kernel_state import Int64Array
from heteroscale.sim.sampling import RoleTime, Sample, quantile_s, role_times
from heteroscale.sim.serving import Counters, RoleCounters, Tally, histogram_edges_ps
from heteroscale.sim.signals import SignalSettings, SignalWindow, kv_usage
from heteroscale.workload.arrivals import PS_PER_S

ZERO = Tally(requests=0, input_tokens=0, output_tokens=0)
EDGES = histogram_edges_ps()


def histogram(*values_s: float) -> Int64Array:
    """Count each value in the bucket it falls in."""
    counts = np.zeros(len(EDGES), np.int64)
    for value in values_s:
        counts[np.searchsorted(EDGES, value * PS_PER_S, side="right") - 1] += 1
    return counts


def role(
    name: str,
    *,
    tokens: int = 0,
    busy_ps: int = 0,
    waiting: int = 0,
    reserved: int = 0,
    capacity: int = 1000,
) -> RoleCounters:
    return RoleCounters(
        role=name,
        tokens=tokens,
        busy_ps=busy_ps,
        host_ps=0,
        waiting=waiting,
        running=0,
        in_rotation=1,
        instances=1,
        kv_reserved_tokens=reserved,
        kv_used_tokens=0,
        kv_capacity_tokens=capacity,
    )


def sample(
    at_s: float,
    *,
    arrived: Tally = ZERO,
    completed: Tally = ZERO,
    prefill: RoleCounters | None = None,
    decode: RoleCounters | None = None,
    ttft: Int64Array | None = None,
    tbt: Int64Array | None = None,
    up_s: float = 0.0,
) -> Sample:
    time = RoleTime(up_ps=round(up_s * PS_PER_S), occupied_ps=up_s * PS_PER_S * 0.5)
    at_ps = round(at_s * PS_PER_S)
    return Sample(
        at_ps=at_ps,
        counters=Counters(
            at_ps=at_ps,
            arrived=arrived,
            completed=completed,
            refused=ZERO,
            attained=0,
            first_tokens=0,
            in_transfer=0,
            roles=(prefill or role("prefill"), decode or role("decode")),
        ),
        ttft=histogram() if ttft is None else ttft,
        tbt=histogram() if tbt is None else tbt,
        times=(time, time),
    )


def window(window_s: float = 60.0) -> SignalWindow:
    return SignalWindow(
        SignalSettings(roles=("prefill", "decode"), quantile=0.5, window_s=window_s)
    )


def reading(readings: tuple[Reading, ...], signal: Signal, role: str) -> Reading:
    (found,) = (one for one in readings if one.signal is signal and one.role == role)
    return found


def at(seconds: float) -> int:
    return round(seconds * PS_PER_S)


@pytest.mark.parametrize("scrapes", [0, 1])
def test_nothing_is_known_before_two_scrapes(scrapes: int) -> None:
    signals = window()
    for index in range(scrapes):
        signals.scrape(sample(index * 15.0))
    readings = signals.readings(at(20))
    assert len(readings) == 13
    assert {(one.value, one.cause) for one in readings} == {(None, UnknownCause.MISSING)}


def test_rates_are_over_the_scrapes_in_the_window_and_age_is_the_newest_ones() -> None:
    signals = window(30.0)
    for index in range(4):
        signals.scrape(
            sample(
                index * 15.0,
                arrived=Tally(requests=10 * index, input_tokens=600 * index, output_tokens=0),
                prefill=role("prefill", tokens=1500 * index * index, busy_ps=at(6 * index)),
                decode=role("decode", tokens=90 * index, waiting=index),
                up_s=15.0 * index,
            )
        )
    readings = signals.readings(at(50))
    # The window that ends at the newest scrape, at 45, holds those at 15, 30 and 45.
    assert reading(readings, Signal.TPS, "prefill") == Reading(
        signal=Signal.TPS, role="prefill", value=1500 * (9 - 1) / 30, age_s=5.0
    )
    assert reading(readings, Signal.TPS, "decode").value == 6.0
    assert reading(readings, Signal.OFFERED_TPS, "prefill").value == 40.0
    assert reading(readings, Signal.UTILIZATION, "prefill").value == pytest.approx(6 / 15)
    assert reading(readings, Signal.SM_ACTIVITY, "prefill").value == pytest.approx(3 / 15)
    assert reading(readings, Signal.QUEUE_LENGTH, "decode").value == 3.0


def test_a_blackout_lets_readings_age_and_the_first_scrape_after_it_knows_nothing() -> None:
    signals = window(60.0)
    for index in range(3):
        signals.scrape(sample(index * 15.0, decode=role("decode", tokens=150 * index)))
    old = reading(signals.readings(at(630)), Signal.TPS, "decode")
    assert (old.value, old.age_s) == (10.0, 600.0)
    signals.scrape(sample(645.0, decode=role("decode", tokens=9000)))
    first = reading(signals.readings(at(650)), Signal.TPS, "decode")
    assert (first.value, first.age_s, first.cause) == (None, 5.0, UnknownCause.MISSING)
    signals.scrape(sample(660.0, decode=role("decode", tokens=9150)))
    assert reading(signals.readings(at(660)), Signal.TPS, "decode").value == 10.0


def test_offered_decode_load_is_arrivals_times_the_lengths_completed_lately() -> None:
    signals = window(15.0)
    done = Tally(requests=4, input_tokens=0, output_tokens=44)
    signals.scrape(sample(0.0))
    signals.scrape(
        sample(15.0, arrived=Tally(requests=30, input_tokens=0, output_tokens=999), completed=done)
    )
    offered = reading(signals.readings(at(15)), Signal.OFFERED_TPS, "decode")
    assert offered.value == 2.0 * 10.0
    # Nothing completes for a while: the lengths of the last minutes still tell.
    signals.scrape(
        sample(30.0, arrived=Tally(requests=45, input_tokens=0, output_tokens=999), completed=done)
    )
    assert reading(signals.readings(at(30)), Signal.OFFERED_TPS, "decode").value == 10.0


@pytest.mark.parametrize(
    ("arrivals", "value", "cause"),
    [
        pytest.param(0, 0.0, None, id="no arrivals ask for nothing, whatever their length"),
        pytest.param(9, None, UnknownCause.MISSING, id="lengths are unknown until one completed"),
    ],
)
def test_offered_decode_load_without_completions(
    arrivals: int, value: float | None, cause: UnknownCause | None
) -> None:
    signals = window()
    signals.scrape(sample(0.0))
    signals.scrape(sample(15.0, arrived=Tally(requests=arrivals, input_tokens=0, output_tokens=0)))
    offered = reading(signals.readings(at(15)), Signal.OFFERED_TPS, "decode")
    assert (offered.value, offered.cause) == (value, cause)


def test_latency_is_the_quantile_of_the_windows_events_only() -> None:
    signals = window(15.0)
    before = histogram(*[9.0] * 50)
    signals.scrape(sample(0.0, ttft=before))
    signals.scrape(sample(15.0, ttft=before + histogram(0.1, 0.5, 0.5, 0.5, 2.0)))
    readings = signals.readings(at(15))
    assert reading(readings, Signal.TTFT, "prefill").value == pytest.approx(0.5, rel=0.05)
    silent = reading(readings, Signal.TBT, "decode")
    assert (silent.value, silent.cause) == (None, UnknownCause.NO_EVENTS)


def test_no_running_engine_has_no_utilization() -> None:
    signals = window()
    signals.scrape(sample(0.0))
    signals.scrape(sample(15.0))
    for signal in (Signal.UTILIZATION, Signal.SM_ACTIVITY):
        unknown = reading(signals.readings(at(15)), signal, "decode")
        assert (unknown.value, unknown.cause) == (None, UnknownCause.MISSING)


@pytest.mark.parametrize(
    ("reserved", "capacity", "expected"),
    [
        pytest.param(250, 1000, 0.25, id="a share of what is in rotation"),
        pytest.param(1500, 1000, 1.0, id="leaving instances still hold some"),
        pytest.param(5, 0, None, id="nothing in rotation"),
    ],
)
def test_kv_usage(reserved: int, capacity: int, expected: float | None) -> None:
    decode = role("decode", reserved=reserved, capacity=capacity)
    assert kv_usage(sample(0.0, decode=decode)) == expected


@pytest.mark.parametrize("quantile", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_a_quantile_lies_in_the_bucket_of_its_value(quantile: float) -> None:
    values = [0.01 * n for n in range(1, 101)]
    found = quantile_s(histogram(*values), quantile)
    exact = float(np.quantile(values, quantile, method="inverted_cdf"))
    assert found is not None
    assert abs(found - exact) <= 0.05 * exact


def test_beyond_the_last_edge_the_quantile_is_that_edge() -> None:
    assert quantile_s(histogram(1e7), 0.5) == EDGES[-1] / PS_PER_S
    assert quantile_s(histogram(), 0.5) is None


def test_occupancy_is_weighted_by_the_time_each_accelerator_ran() -> None:
    assert role_times({"H20": 30, "L20": 10}, {"H20": 0.5, "L20": 1.0}) == RoleTime(
        up_ps=40, occupied_ps=25.0
    )
