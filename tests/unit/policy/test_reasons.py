from __future__ import annotations

from heteroscale.entities.decision import Figures, Reason, Step
from heteroscale.entities.reasons import TEXTS, ReasonCode, describe


def test_every_code_has_exactly_one_text() -> None:
    assert set(TEXTS) == set(ReasonCode)


def test_a_text_tells_its_numbers() -> None:
    figures: Figures = {
        "signal": "tps",
        "role": "decode",
        "load": 13_500.0,
        "target": 1000.0,
        "demand": 13.5,
    }
    reason = Reason(step=Step.RECOMMEND, code="proportional", figures=figures)
    assert describe(reason) == (
        "tps of decode is 13,500 against a target of 1,000 per unit: 13.50 units asked for"
    )
