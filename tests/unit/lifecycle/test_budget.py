from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.action import Effect, Rotation, RotationAction
from heteroscale.lifecycle.budget import Left, sent_off, taken_back
from tests.builders import NOW_S

LEAVING = RotationAction(
    id="a",
    service="chat",
    subcluster="east",
    uid="chat-0",
    to=Rotation.WITHDRAWN,
    version="1",
    effect=Effect.IN,
    gpus=8,
)
BACK = replace(LEAVING, id="b", to=Rotation.READY, effect=Effect.RESTORE)


def test_what_leaves_is_counted_for_an_hour() -> None:
    left = ((NOW_S - 3600.0, 8), (NOW_S - 10.0, 4))
    assert sent_off(left, (LEAVING, LEAVING), NOW_S) == ((NOW_S - 10.0, 4), (NOW_S, 16))
    assert sent_off(left, (BACK,), NOW_S) == ((NOW_S - 10.0, 4),)


@pytest.mark.parametrize(
    ("left", "stayed", "after"),
    [
        pytest.param((), 8, (), id="nothing left"),
        pytest.param(((NOW_S, 8),), 0, ((NOW_S, 8),), id="nothing stayed"),
        pytest.param(
            ((NOW_S - 9.0, 8), (NOW_S, 8)), 10, ((NOW_S - 9.0, 6),), id="the latest first"
        ),
        pytest.param(((NOW_S, 8),), 99, (), id="never below nothing"),
        pytest.param(
            ((NOW_S - 9.0, 8), (NOW_S + 86_400.0, 8)),
            0,
            ((NOW_S - 9.0, 8), (NOW_S, 8)),
            id="a clock set back: what is yet to come counts from now",
        ),
    ],
)
def test_what_stayed_or_came_back_is_taken_back(left: Left, stayed: int, after: Left) -> None:
    assert taken_back(left, stayed, NOW_S) == after
