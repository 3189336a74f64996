from __future__ import annotations

import pytest

from heteroscale.entities.state import ServiceState
from heteroscale.policy.window import MAX_ENTRIES, Entries, fold

WINDOW_S = 300.0


def state(entries: Entries = (), *, since_s: float = 0.0, fed_s: float = 990.0) -> ServiceState:
    return ServiceState(window=entries, window_since_s=since_s, window_fed_s=fed_s)


@pytest.mark.parametrize(
    ("entries", "demand", "expected"),
    [
        pytest.param((), 5.0, ((1000.0, 5.0),), id="the first"),
        pytest.param(
            ((900.0, 9.0), (950.0, 6.0)),
            5.0,
            ((900.0, 9.0), (950.0, 6.0), (1000.0, 5.0)),
            id="less is added",
        ),
        pytest.param(
            ((900.0, 9.0), (950.0, 6.0)), 7.0, ((900.0, 9.0), (1000.0, 7.0)), id="more removes less"
        ),
        pytest.param(
            ((900.0, 9.0), (950.0, 6.0)), 6.0, ((900.0, 9.0), (1000.0, 6.0)), id="as much, renewed"
        ),
        pytest.param(
            ((699.0, 9.0), (700.0, 6.0)), 5.0, ((700.0, 6.0), (1000.0, 5.0)), id="the oldest leaves"
        ),
    ],
)
def test_the_window_is_a_falling_list(entries: Entries, demand: float, expected: Entries) -> None:
    window = fold(state(entries), demand, 1000.0, WINDOW_S)
    assert window.entries == expected
    assert window.highest == expected[0][1]


@pytest.mark.parametrize(
    ("since_s", "fed_s", "window_s", "full", "since_after_s"),
    [
        pytest.param(700.0, 985.0, 300.0, True, 700.0, id="fed for its whole length"),
        pytest.param(700.1, 985.0, 300.0, False, 700.1, id="not yet"),
        pytest.param(0.0, 925.0, 300.0, True, 0.0, id="a quarter of the window is no gap"),
        pytest.param(0.0, 924.0, 300.0, False, 1000.0, id="more is a gap"),
        pytest.param(0.0, 940.0, 60.0, True, 0.0, id="nor are four default ticks"),
        pytest.param(0.0, 939.0, 60.0, False, 1000.0, id="five are"),
        pytest.param(0.0, 1001.0, 300.0, False, 1000.0, id="a clock that went back"),
        pytest.param(0.0, 990.0, 0.0, True, 0.0, id="no window at all"),
    ],
)
def test_a_gap_starts_the_window_anew(
    since_s: float, fed_s: float, window_s: float, full: bool, since_after_s: float
) -> None:
    window = fold(state(since_s=since_s, fed_s=fed_s), 5.0, 1000.0, window_s)
    assert (window.full, window.since_s) == (full, since_after_s)


def test_never_fed_is_not_full() -> None:
    window = fold(ServiceState(), 5.0, 1000.0, WINDOW_S)
    assert (window.full, window.since_s, window.entries) == (False, 1000.0, ((1000.0, 5.0),))


def test_what_was_remembered_before_a_gap_still_counts() -> None:
    window = fold(state(((800.0, 9.0),), fed_s=800.0), 5.0, 1000.0, WINDOW_S)
    assert (window.highest, window.full) == (9.0, False)


def test_a_clock_that_goes_back_does_not_keep_the_future_for_long() -> None:
    window = fold(state(((5000.0, 9.0), (5001.0, 8.0)), fed_s=5001.0), 5.0, 1000.0, WINDOW_S)
    assert window.entries == ((1000.0, 9.0), (1000.0, 5.0))


def test_the_window_is_bounded_and_stays_safe() -> None:
    entries = tuple((700.0 + step, 1000.0 - step) for step in range(MAX_ENTRIES))
    window = fold(state(entries, fed_s=960.0), 5.0, 1000.0, WINDOW_S)
    assert len(window.entries) == MAX_ENTRIES
    assert window.entries[:2] == ((701.0, 1000.0), (702.0, 998.0))
    assert window.entries[-1] == (1000.0, 5.0)
