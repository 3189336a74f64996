from __future__ import annotations

from typing import Any

import pytest

from heteroscale.entities.decision import Direction, Figures, Reason, Step
from heteroscale.entities.policy import ScheduleSpec
from heteroscale.policy import schedule
from heteroscale.policy.period import NO_PERIOD, Period, is_in_force, period_at
from heteroscale.policy.ratio import configured
from tests.builders import build_service, build_snapshot
from tests.unit.policy.deciding import situate

H = 3600
#: 2023-11-13, a Monday, 00:00 UTC
MONDAY_S = 1_699_833_600
SHANGHAI_S = 8 * H


def period(name: str = "day", **fields: Any) -> ScheduleSpec:
    given: dict[str, Any] = {
        "timezone": "UTC",
        "days": (1, 2, 3, 4, 5),
        "start_s": 8 * H,
        "end_s": 20 * H,
    }
    return ScheduleSpec(name=name, **(given | fields))


NIGHT = period(days=(5,), start_s=22 * H, end_s=6 * H)
FULL = period(days=(1,), start_s=6 * H, end_s=6 * H)


@pytest.mark.parametrize(
    ("spec", "at_h", "offset_s", "expected"),
    [
        pytest.param(period(), 8, 0, True, id="its first second"),
        pytest.param(period(), 8 - 1 / H, 0, False, id="a second before"),
        pytest.param(period(), 20 - 1 / H, 0, True, id="its last second"),
        pytest.param(period(), 20, 0, False, id="its end is outside"),
        pytest.param(period(), 5 * 24 + 12, 0, False, id="not on Saturday"),
        pytest.param(period(), 0, SHANGHAI_S, True, id="08:00 in Shanghai is midnight UTC"),
        pytest.param(period(), 12, SHANGHAI_S, False, id="20:00 in Shanghai is noon UTC"),
        pytest.param(period(days=(7,)), -4, -5 * H, True, id="west of UTC it is still Sunday"),
        pytest.param(NIGHT, 4 * 24 + 23, 0, True, id="Friday night"),
        pytest.param(NIGHT, 5 * 24 + 5, 0, True, id="Saturday morning belongs to Friday's night"),
        pytest.param(NIGHT, 5 * 24 + 6, 0, False, id="until six"),
        pytest.param(NIGHT, 4 * 24 + 5, 0, False, id="Friday morning belongs to Thursday"),
        pytest.param(NIGHT, 5 * 24 + 23, 0, False, id="Saturday night is not asked for"),
        pytest.param(FULL, 6, 0, True, id="equal times start a full day"),
        pytest.param(FULL, 24 + 6 - 1 / H, 0, True, id="that lasts 24 hours"),
        pytest.param(FULL, 24 + 6, 0, False, id="and no longer"),
        pytest.param(FULL, 5, 0, False, id="nor starts earlier"),
        pytest.param(period(days=(1,), start_s=0, end_s=24 * H), 23, 0, True, id="0 to 24 h"),
        pytest.param(period(days=(1,), start_s=0, end_s=24 * H), 24, 0, False, id="24 h is over"),
        pytest.param(period(days=(7,), start_s=24 * H, end_s=H), 0.5, 0, True, id="starts at 24 h"),
    ],
)
def test_in_force(spec: ScheduleSpec, at_h: float, offset_s: int, expected: bool) -> None:
    assert is_in_force(spec, MONDAY_S + at_h * H, offset_s) is expected


@pytest.mark.parametrize(
    ("schedules", "expected"),
    [
        pytest.param((), NO_PERIOD, id="no schedule"),
        pytest.param((period(days=(6,), replicas={"decode": 4}),), NO_PERIOD, id="outside it"),
        pytest.param(
            (period(replicas={"decode": 4}),), Period(name="day", demand=4.0), id="asks for decode"
        ),
        pytest.param(
            (period(replicas={"prefill": 6}),),
            Period(name="day", demand=4.0),
            id="prefill is converted by the ratio in force",
        ),
        pytest.param(
            (period(replicas={"prefill": 6}, ratio={"prefill": 2, "decode": 1}),),
            Period(name="day", demand=3.0, ratio={"prefill": 2, "decode": 1}),
            id="or by the ratio it sets",
        ),
        pytest.param(
            (period("a", replicas={"decode": 4}), period("b", replicas={"decode": 9})),
            Period(name="b", demand=9.0),
            id="the greatest demand wins",
        ),
        pytest.param(
            (period("b", replicas={"decode": 4}), period("a", replicas={"decode": 4})),
            Period(name="a", demand=4.0),
            id="ties by name",
        ),
        pytest.param(
            (
                period("a", ratio={"prefill": 1, "decode": 9}),
                period("b", replicas={"prefill": 8, "decode": 4}),
            ),
            Period(name="b", demand=4.0, ratio={"prefill": 2, "decode": 1}),
            id="who asks for most sets the ratio",
        ),
        pytest.param(
            (
                period("a", ratio={"prefill": 1, "decode": 9}),
                period("b", replicas={"decode": 4}),
            ),
            Period(name="b", demand=4.0, ratio={"prefill": 1, "decode": 9}),
            id="who sets none leaves it to another",
        ),
        pytest.param(
            (period("z", timezone="Mars/Olympus"), period("y", timezone="Mars/Olympus")),
            Period(unknown=(("y", "Mars/Olympus"), ("z", "Mars/Olympus"))),
            id="an unknown zone is told",
        ),
    ],
)
def test_period_at(schedules: tuple[ScheduleSpec, ...], expected: Period) -> None:
    spec = build_service(prefill=3, decode=2, schedules=schedules)
    found = period_at(spec, MONDAY_S + 9 * H, {"UTC": 0}, configured(spec.group))
    assert found == expected


@pytest.mark.parametrize(
    ("demand", "direction"),
    [
        pytest.param(6.0, Direction.OUT, id="more"),
        pytest.param(5.0, Direction.HOLD, id="as many"),
        pytest.param(4.0, Direction.IN, id="fewer"),
    ],
)
def test_a_schedule_is_a_recommendation(demand: float, direction: Direction) -> None:
    situation = situate(
        build_service(schedules=(period(),)),
        build_snapshot(prefill=5, decode=5),
        period=Period(name="day", demand=demand),
    )
    (asked,) = schedule.recommend(situation)
    assert (asked.source, asked.direction, asked.demand) == ("schedule day", direction, demand)
    assert asked.blocks is False
    figures: Figures = {"schedule": "day", "demand": demand}
    assert asked.reasons == (Reason(step=Step.RECOMMEND, code="schedule", figures=figures),)


def test_an_unknown_local_time_holds() -> None:
    situation = situate(
        build_service(schedules=(period(),)),
        build_snapshot(prefill=5, decode=5),
        period=Period(unknown=(("day", "Mars/Olympus"),)),
    )
    (asked,) = schedule.recommend(situation)
    assert (asked.direction, asked.demand, asked.blocks) == (Direction.HOLD, 5.0, True)
