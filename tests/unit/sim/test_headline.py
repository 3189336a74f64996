"""The one sentence a change is shown with: never one that speaks against it."""

from __future__ import annotations

import pytest

from heteroscale.entities.decision import Direction, Reason, Step
from heteroscale.entities.reasons import ReasonCode, describe
from heteroscale.sim.headline import headline


def tps(demand: float) -> Reason:
    return Reason(
        step=Step.RECOMMEND,
        code=ReasonCode.PROPORTIONAL,
        figures={
            "signal": "tps",
            "role": "decode",
            "load": 3000 * demand,
            "target": 3000.0,
            "demand": demand,
        },
    )


FEEDBACK_HOLDS = Reason(
    step=Step.RECOMMEND,
    code=ReasonCode.FEEDBACK_HOLD,
    figures={"signal": "tbt_s", "role": "decode", "ratio": 0.82, "low": 0.8},
)
OUT = Reason(
    step=Step.GUARD,
    code=ReasonCode.SCALE_OUT,
    figures={"supply": 6.0, "capacity": 9, "demand": 8.8},
)
IN = Reason(
    step=Step.GUARD,
    code=ReasonCode.SCALE_IN,
    figures={"supply": 6.0, "capacity": 5, "demand": 4.4},
)
BACK = Reason(
    step=Step.LIFECYCLE,
    code=ReasonCode.RESTORED_SLO,
    figures={"replicas": 2, "role": "decode"},
)

WAY = Reason(
    step=Step.GUARD,
    code=ReasonCode.GIVES_WAY,
    figures={"to": "chat", "role": "decode", "most": 1, "left_s": 585.0},
)
ABOVE = Reason(
    step=Step.GUARD,
    code=ReasonCode.ABOVE_MAXIMUM,
    figures={"role": "decode", "capacity": 2, "maximum": 1},
)


@pytest.mark.parametrize(
    ("direction", "reasons", "expected"),
    [
        pytest.param(
            Direction.OUT,
            (FEEDBACK_HOLDS, tps(4.1), tps(8.8), OUT),
            describe(tps(8.8)),
            id="a scale-out by the recommendation that asked for the most",
        ),
        pytest.param(
            Direction.OUT,
            (tps(4.1), OUT),
            describe(OUT),
            id="a scale-out by the guard's sentence when no recommendation told says more",
        ),
        pytest.param(
            Direction.IN,
            (FEEDBACK_HOLDS, tps(3.1), IN),
            describe(IN),
            id="a scale-in by the guard's sentence",
        ),
        pytest.param(
            Direction.OUT,
            (tps(3.1), IN, BACK),
            describe(BACK),
            id="what comes back, though the load asks for less",
        ),
        pytest.param(
            Direction.IN,
            (WAY, ABOVE),
            describe(WAY),
            id="what gives way by whom it is for, not by the maximum that this is",
        ),
        pytest.param(Direction.IN, (FEEDBACK_HOLDS,), "", id="none that speaks for it"),
        pytest.param(Direction.HOLD, (tps(3.1), BACK), "", id="a hold has none"),
        pytest.param(Direction.OUT, (), "", id="no reasons at all"),
    ],
)
def test_a_change_is_headed_by_what_asked_for_it(
    direction: Direction, reasons: tuple[Reason, ...], expected: str
) -> None:
    assert headline(direction, reasons) == expected
