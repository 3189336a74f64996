"""What every clock promises. A new one is one line in CLOCKS."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heteroscale.adapters.memory import MemoryClock
from heteroscale.adapters.wall_clock import WallClock
from heteroscale.errors import ConfigError
from heteroscale.ports import Clock
from tests.contracts.sim import sim_clock

CLOCKS: dict[str, Callable[[], Clock]] = {
    "memory": lambda: MemoryClock(1_700_000_000.0),
    "sim": sim_clock,
    "wall": WallClock,
}

#: 2025-03-30T01:00:00Z, when Central Europe puts its clocks forward
SPRING_S = 1_743_296_400.0


@pytest.fixture(params=sorted(CLOCKS))
def clock(request: pytest.FixtureRequest) -> Clock:
    return CLOCKS[request.param]()


def test_time_is_a_float_of_epoch_seconds_that_does_not_go_back(clock: Clock) -> None:
    first, second = clock.now_s(), clock.now_s()
    assert isinstance(first, float)
    assert 1_600_000_000.0 < first <= second


@pytest.mark.parametrize(
    ("timezone", "at_s", "offset_s"),
    [
        ("UTC", SPRING_S, 0),
        ("Asia/Shanghai", SPRING_S, 28_800),
        ("Asia/Kolkata", SPRING_S, 19_800),
        ("America/New_York", SPRING_S, -14_400),
        ("Europe/Berlin", SPRING_S - 1.0, 3_600),
        ("Europe/Berlin", SPRING_S, 7_200),
    ],
    ids=["utc", "east", "half an hour", "west", "before summer time", "in summer time"],
)
def test_offsets_are_seconds_east_of_utc(
    clock: Clock, timezone: str, at_s: float, offset_s: int
) -> None:
    assert clock.utc_offset_s(timezone, at_s) == offset_s


@pytest.mark.parametrize("timezone", ["Mars/Olympus", "", "../etc/passwd"])
def test_an_unknown_zone_is_the_operators_to_fix(clock: Clock, timezone: str) -> None:
    with pytest.raises(ConfigError) as caught:
        clock.utc_offset_s(timezone, SPRING_S)
    assert [(one.path, one.value) for one in caught.value.problems] == [("timezone", timezone)]
