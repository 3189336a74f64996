"""Figures in words, in the terminal table and elsewhere."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from heteroscale.report.figures import (
    clock_text,
    conditions,
    counted,
    counts_text,
    headline,
    hours_text,
    moves_text,
    saved_share,
    seconds_text,
    share_text,
    short_count,
    span_text,
)
from heteroscale.report.table import summary
from heteroscale.sim.result import Change, ColocatedPeak, PrefixHits, Search, SimulationResult
from tests.unit.report.results import a_day, an_empty_run

LIMITS = "TTFT ≤ 1 s, mean gap ≤ 40 ms"


def printed(result: SimulationResult) -> list[str]:
    """Return the lines a terminal of 110 columns would show, without colour."""
    out = StringIO()
    Console(width=110, file=out).print(summary(result))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_table_of_a_day() -> None:
    assert printed(a_day()) == [
        "paper-day  policy proportional decode tps, seed 7, 24 h simulated",
        "GPU-hours saved             39.2 %  4,322 against 7,104 fixed (22 prefill + 15 decode)",
        f"SLO attained               99.63 %  {LIMITS}; busiest hours 99.46 %, fixed 99.51 %",
        "TTFT p99                    874 ms  median 212 ms, SLO 1 s",
        "TBT p99                    41.7 ms  median 22.1 ms, SLO 40 ms",
        "Requests                       9 M  4,000 still running, 6,000 refused",
        "Tokens in / out    27 bn / 3.15 bn  27 bn / 3.15 bn completed",
        "Changes                         12  0 reversals in 5,760 ticks",
        "Outside the ratio            0.1 %  of ticks had a role's supply beyond its tolerance",
        "                      arrived       completed     running     refused",
        "requests            9,000,000       8,990,000       4,000       6,000",
        "input tokens   27,000,000,000  26,970,000,000  12,000,000  18,000,000",
        "output tokens   3,150,000,000   3,146,500,000   1,400,000   2,100,000",
    ]


def test_the_hit_rate_is_shown_where_prefix_caches_were_asked() -> None:
    hits = PrefixHits(lookup_tokens=144_000_000, hit_tokens=36_000_000)
    (line,) = set(printed(replace(a_day(), prefix_cache=hits))) - set(printed(a_day()))
    assert (
        line == "Prefix cache hits           25.0 %  of 144 M prompt tokens were not computed again"
    )


@pytest.mark.parametrize(
    ("pool", "want"),
    [
        pytest.param(None, "(22 prefill + 15 decode)", id="not asked for"),
        pytest.param(
            ColocatedPeak(search=Search.FOUND, replicas=40, gpus=320, attainment=0.99),
            "(22 prefill + 15 decode); 7,680 co-located (40 engines)",
            id="found",
        ),
        pytest.param(
            ColocatedPeak(search=Search.NONE_ATTAINS),
            "(22 prefill + 15 decode); no co-located pool attains as much",
            id="none attains as much",
        ),
    ],
)
def test_a_co_located_pool_stands_beside_the_fixed_fleet(
    pool: ColocatedPeak | None, want: str
) -> None:
    figures = headline(replace(a_day(), colocated_peak=pool))
    assert figures[0].note.endswith(want)


def test_nothing_arrived_is_told_with_dashes_not_zeros() -> None:
    lines = printed(an_empty_run())
    assert lines[1].split(maxsplit=1) == [
        "GPU-hours",
        "4,322  no fixed fleet was searched to compare with",
    ]
    assert [line.split()[2] for line in lines[2:5]] == ["–", "–", "–"]


def test_a_fleet_larger_than_the_fixed_one_carries_a_mark() -> None:
    worse = replace(a_day(), gpu_hours=8_000.0)
    assert headline(worse)[0].good is False
    assert "-12.6 % ✗" in printed(worse)[1]


@pytest.mark.parametrize(
    ("used", "fixed", "want"),
    [
        pytest.param(60.0, 100.0, 0.4, id="saved"),
        pytest.param(120.0, 100.0, -0.2, id="spent more"),
        pytest.param(60.0, None, None, id="not searched"),
        pytest.param(0.0, 0.0, None, id="nothing to compare with"),
    ],
)
def test_saved_share(used: float, fixed: float | None, want: float | None) -> None:
    result = replace(a_day(), gpu_hours=used, gpu_hours_static_peak=fixed)
    assert saved_share(result) == (want if want is None else pytest.approx(want))


@pytest.mark.parametrize(
    ("share", "digits", "want"),
    [
        pytest.param(0.413, 1, "41.3 %", id="plain"),
        pytest.param(1.0, 2, "100.00 %", id="all"),
        pytest.param(0.999_98, 2, "99.99 %", id="almost all is not all"),
        pytest.param(0.0, 1, "0.0 %", id="none"),
    ],
)
def test_share_text(share: float, digits: int, want: str) -> None:
    assert share_text(share, digits) == want


@pytest.mark.parametrize(
    ("value_s", "want"),
    [
        pytest.param(None, "–", id="unknown"),
        pytest.param(0.0221, "22.1 ms", id="a gap"),
        pytest.param(0.9996, "1 s", id="rounds up into the next unit"),
        pytest.param(1.25, "1.25 s", id="a little over a second"),
        pytest.param(1234.0, "1,234 s", id="a queue that never ends"),
    ],
)
def test_seconds_text(value_s: float | None, want: str) -> None:
    assert seconds_text(value_s) == want


@pytest.mark.parametrize(
    ("count", "want"),
    [(0, "0"), (9_999, "9,999"), (12_340, "12.3 k"), (8_990_000, "8.99 M"), (3 * 10**9, "3 bn")],
)
def test_short_count(count: int, want: str) -> None:
    assert short_count(count) == want


@pytest.mark.parametrize(
    ("simulated_s", "want"),
    [(90.0, "90 s"), (600.0, "10 min"), (86_400.0, "24 h"), (604_800.0, "7 days")],
)
def test_span_text(simulated_s: float, want: str) -> None:
    assert span_text(simulated_s) == want


def test_a_moment_carries_its_date_only_when_there_are_several() -> None:
    day = a_day()
    assert clock_text(day, 5_400.0) == "01:30:00"
    assert clock_text(replace(day, simulated_s=604_800.0), 5_400.0) == "02 Dec 01:30:00"


def test_counts_and_moves_name_every_role() -> None:
    assert counts_text({"prefill": 22, "decode": 15}) == "22 prefill + 15 decode"
    assert counts_text({}) == "fleet"
    change = Change(
        at_s=0.0,
        service="chat",
        direction="out",
        before={"decode": 7},
        after={"prefill/ffn": 4, "decode": 8},
        reasons=(),
    )
    assert moves_text(change) == "decode 7 → 8, prefill/ffn 0 → 4"


@pytest.mark.parametrize(
    ("search", "attained", "want"),
    [
        pytest.param(
            Search.NONE_ATTAINS,
            1.0,
            ("no fixed fleet attains as much", "busiest hours 100.00 %"),
            id="none attains as much",
        ),
        pytest.param(
            Search.NOTHING_ENDED, None, ("no request ended in the busiest hours",), id="none ended"
        ),
        pytest.param(Search.NOT_SEARCHED, None, ("no fixed fleet was searched",), id="no search"),
    ],
)
def test_why_nothing_is_compared_is_said(
    search: Search, attained: float | None, want: tuple[str, ...]
) -> None:
    result = replace(an_empty_run(), static_peak_search=search, policy_attainment=attained)
    text = "\n".join(printed(result))
    assert all(words in text for words in want)


def test_a_run_that_did_not_act_says_so_in_its_title() -> None:
    result = replace(
        a_day(),
        mode="observe",
        ticks_not_sent=1,
        held_by_operator=("frozen", "decode pinned at 5"),
        trace_notes=("trace cut at 3 h",),
    )
    title = " ".join(printed(result)[:2])
    for words in (
        "mode observe: changes of 1 tick not sent",
        "frozen",
        "decode pinned at 5",
        "trace cut at 3 h",
    ):
        assert words in title
    assert conditions(a_day()) == ()


@pytest.mark.parametrize(
    ("gpu_hours", "want"),
    [(5_163.4, "5,163"), (9.996, "10"), (9.99, "9.99"), (0.0667, "0.07"), (0.0, "0.00")],
)
def test_few_gpu_hours_have_decimals(gpu_hours: float, want: str) -> None:
    assert hours_text(gpu_hours) == want


def test_one_is_singular() -> None:
    assert counted(1, "reversal") == "1 reversal"
    assert counted(0, "reversal") == "0 reversals"
    assert counted(5_760, "tick") == "5,760 ticks"
