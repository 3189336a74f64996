from __future__ import annotations

import pytest

from heteroscale.entities.decision import Direction, Reason, Recommendation, Step
from heteroscale.entities.snapshot import InstanceState
from heteroscale.policy.arbitrate import arbitrate, recommendations
from tests.builders import build_instances, build_service, build_snapshot
from tests.unit.policy.deciding import codes, situate


def asked(source: str, direction: Direction, demand: float) -> Recommendation:
    return Recommendation(source=source, direction=direction, demand=demand, reasons=())


OUT = asked("a", Direction.OUT, 12.0)
HOLD = asked("b", Direction.HOLD, 10.0)
IN = asked("c", Direction.IN, 4.0)


@pytest.mark.parametrize(
    ("several", "chosen"),
    [
        pytest.param((IN, HOLD, OUT), OUT, id="out beats hold and in"),
        pytest.param((IN, HOLD), HOLD, id="hold beats in"),
        pytest.param((IN,), IN, id="in alone"),
        pytest.param(
            (OUT, asked("b", Direction.OUT, 13.0)),
            asked("b", Direction.OUT, 13.0),
            id="the higher demand",
        ),
        pytest.param(
            (OUT, asked("b", Direction.OUT, 12.0)),
            asked("b", Direction.OUT, 12.0),
            id="ties by source",
        ),
    ],
)
def test_arbitrate_in_any_order(
    several: tuple[Recommendation, ...], chosen: Recommendation
) -> None:
    assert arbitrate(several, 10.0) == arbitrate(several[::-1], 10.0) == chosen


def test_nobody_asks() -> None:
    reason = Reason(step=Step.RECOMMEND, code="nothing_asked", figures={"supply": 10.0})
    assert arbitrate((), 10.0) == Recommendation(
        source="none", direction=Direction.HOLD, demand=10.0, reasons=(reason,)
    )


def test_nothing_ready_holds() -> None:
    instances = build_instances("decode", 3, InstanceState.STARTING)
    situation = situate(build_service(), build_snapshot(0.0, instances=instances))
    *_, last = recommendations(situation)
    assert (last.direction, last.demand, last.blocks) == (Direction.HOLD, 3.0, True)
    assert codes(last.reasons) == ["nothing_ready"]
