"""Alive and ready, told by a clock that the test holds."""

from __future__ import annotations

from heteroscale.report.health import Health


class Steady:
    def __init__(self) -> None:
        self.at_s = 1000.0

    def __call__(self) -> float:
        return self.at_s


def test_a_loop_that_stands_still_hangs_until_it_moves_again() -> None:
    clock = Steady()
    health = Health(clock, interval_s=15.0)
    clock.at_s += 150.0
    assert health.hanging() == ()
    clock.at_s += 1.0
    assert health.hanging() == ("the loop has not moved for 151 s",)
    health.moved()
    assert health.hanging() == ()


def test_a_loop_of_short_intervals_is_given_a_minute() -> None:
    clock = Steady()
    health = Health(clock, interval_s=1.0)
    clock.at_s += 60.0
    assert health.hanging() == ()
    clock.at_s += 1.0
    assert health.hanging() == ("the loop has not moved for 61 s",)


def test_only_a_recent_tick_is_to_be_relied_on() -> None:
    clock = Steady()
    health = Health(clock, interval_s=15.0)
    assert health.late() == ("no tick has ended within 3 intervals",)
    health.ticked()
    clock.at_s += 45.0
    assert health.late() == ()
    clock.at_s += 1.0
    assert health.late() == ("no tick has ended within 3 intervals",)
