"""A whole simulation result to draw: a day that rises and falls, with changes out and in."""

from __future__ import annotations

import math
from dataclasses import replace

from heteroscale.sim.result import Change, Count, Search, SimulationResult, Timeline

DAY_S = 86_400.0


def a_day(*, intervals: int = 288, scenario: str = "paper-day") -> SimulationResult:
    """Return a made-up but coherent day with one series per documented key."""
    interval_s = DAY_S / intervals
    timeline = _timeline(intervals, interval_s)
    return SimulationResult(
        scenario=scenario,
        seed=7,
        policy="proportional decode tps",
        slo_ttft_s=1.0,
        slo_tbt_s=0.04,
        requests=Count(arrived=9_000_000, completed=8_990_000, running=4_000, refused=6_000),
        input_tokens=Count(
            arrived=27_000_000_000, completed=26_970_000_000, running=12_000_000, refused=18_000_000
        ),
        output_tokens=Count(
            arrived=3_150_000_000, completed=3_146_500_000, running=1_400_000, refused=2_100_000
        ),
        slo_attainment=0.99631,
        gpu_hours=4_321.5,
        gpu_hours_by_accelerator={"H20": 4_321.5},
        gpu_hours_static_peak=7_104.0,
        static_peak={"prefill": 22, "decode": 15},
        static_peak_search=Search.FOUND,
        static_peak_attainment=0.9951,
        policy_attainment=0.9946,
        ttft_p50_s=0.212,
        ttft_p99_s=0.874,
        tbt_p50_s=0.0221,
        tbt_p99_s=0.0417,
        actions=len(CHANGES),
        reversals=0,
        out_of_ratio_share=0.0012,
        simulated_s=DAY_S,
        ticks=5_760,
        timeline=timeline,
        changes=CHANGES,
    )


def an_empty_run() -> SimulationResult:
    """Return a run in which nothing arrived, nothing changed and no search was asked for."""
    none = Count(arrived=0, completed=0, running=0, refused=0)
    return replace(
        a_day(),
        requests=none,
        input_tokens=none,
        output_tokens=none,
        slo_attainment=None,
        gpu_hours_static_peak=None,
        static_peak={},
        static_peak_search=Search.NOT_SEARCHED,
        static_peak_attainment=None,
        policy_attainment=None,
        ttft_p50_s=None,
        ttft_p99_s=None,
        tbt_p50_s=None,
        tbt_p99_s=None,
        actions=0,
        changes=(),
        timeline=Timeline(interval_s=60.0, start_s=0.0, series={}, instances={}),
    )


def _load(at: float) -> float:
    """Return the share of the peak at a share of the day: low at night, two humps by day."""
    day = math.pow(max(0.0, math.sin(math.pi * (at - 0.2) / 0.85)), 1.5)
    return 0.28 + 0.72 * day * (0.88 + 0.12 * math.cos(at * 25))


def _wave(at: float, salt: float) -> float:
    return math.sin(at * 977 * salt) * 0.5 + math.sin(at * 433 * salt + salt) * 0.5


def _timeline(intervals: int, interval_s: float) -> Timeline:
    days = [index / intervals for index in range(intervals)]
    load = [_load(at) * (1 + 0.02 * _wave(at, 1.3)) for at in days]
    prefill = [max(4, math.ceil(22 * _load(max(0.0, at - 0.004)))) for at in days]
    decode = [max(3, math.ceil(count * 7 / 9)) for count in prefill]
    spike = [3.0 if 0.40 < at < 0.42 else 1.0 for at in days]
    per_decode = [part / count for part, count in zip(load, decode, strict=True)]
    pairs = list(zip(days, load, spike, strict=True))
    series: dict[str, tuple[float | None, ...]] = {
        "arrived_rps": tuple(190 * part for part in load),
        "refused_rps": tuple(4.0 * (factor > 1) for factor in spike),
        "prefill_offered_tps": tuple(190 * 3000 * part for part in load),
        "decode_offered_tps": tuple(190 * 350 * part for part in load),
        "prefill_tps": tuple(188 * 3000 * part / factor**0.1 for _, part, factor in pairs),
        "decode_tps": tuple(188 * 350 * part / factor**0.1 for _, part, factor in pairs),
        "prefill_utilization": tuple(min(1.0, 19 * part) for part in per_decode),
        "decode_utilization": tuple(0.92 + 0.03 * _wave(at, 1.9) for at in days),
        "prefill_sm_activity": tuple(min(1.0, 14 * part) for part in per_decode),
        "decode_sm_activity": tuple(0.3 + 5 * part for part in per_decode),
        "prefill_queue": tuple(3 * part + 200 * (factor > 1) for _, part, factor in pairs),
        "decode_queue": tuple(1.5 * part for part in load),
        "kv_usage": tuple(0.35 + 0.4 * part for part in load),
        "ratio": tuple(p / d for p, d in zip(prefill, decode, strict=True)),
        "ratio_in_force": (9 / 7,) * intervals,
        "slo_attainment": tuple(
            0.999 - 0.004 * part - 0.06 * (factor > 1) for _, part, factor in pairs
        ),
    }
    for name, base_s, grows in (("ttft", 0.2, 0.3), ("tbt", 0.021, 0.01)):
        for quantile, times in (("p50", 1.0), ("p90", 1.6), ("p99", 2.2)):
            series[f"{name}_{quantile}_s"] = tuple(
                None if 0.1 < at < 0.104 else (base_s + grows * part * 0.5) * times * factor
                for at, part, factor in pairs
            )
    return Timeline(
        interval_s=interval_s,
        start_s=1_733_097_600.0,
        series=series,
        instances={"prefill": _states(prefill), "decode": _states(decode)},
    )


def _states(ready: list[int]) -> dict[str, tuple[int, ...]]:
    ahead = ready[2:] + ready[-1:] * 2
    behind = ready[:1] * 3 + ready[:-3]
    return {
        "pending": (0,) * len(ready),
        "starting": tuple(max(0, later - now) for now, later in zip(ready, ahead, strict=True)),
        "ready": tuple(ready),
        "withdrawn": tuple(max(0, was - now) for now, was in zip(ready, behind, strict=True)),
        "terminated": tuple(range(len(ready))),
    }


def _change(
    at_h: float, direction: str, prefill: tuple[int, int], decode: tuple[int, int]
) -> Change:
    return Change(
        at_s=float(round(at_h * 3600)),
        service="chat-large",
        direction=direction,
        before={"prefill": prefill[0], "decode": decode[0]},
        after={"prefill": prefill[1], "decode": decode[1]},
        reasons=(
            f"tps of decode against a target of 3,814 per unit: {decode[1]:.2f} units asked for",
            "the change is limited to 10 % of the supply in one action",
            f"at 9 : 7 that is {prefill[1]} prefill and {decode[1]} decode",
        ),
        headline="the change is limited to 10 % of the supply in one action",
    )


CHANGES = (
    _change(1.5, "in", (9, 8), (7, 6)),
    _change(2.25, "in", (8, 7), (6, 6)),
    _change(5.4, "out", (7, 9), (6, 7)),
    _change(6.1, "out", (9, 12), (7, 10)),
    _change(7.0, "out", (12, 15), (10, 12)),
    _change(8.2, "out", (15, 18), (12, 14)),
    _change(9.75, "out", (18, 22), (14, 18)),
    _change(14.5, "in", (22, 20), (18, 16)),
    _change(16.0, "in", (20, 18), (16, 14)),
    _change(18.25, "out", (18, 20), (14, 16)),
    _change(20.5, "in", (20, 17), (16, 13)),
    _change(22.0, "in", (17, 15), (13, 12)),
)
