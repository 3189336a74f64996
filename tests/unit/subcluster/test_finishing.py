from __future__ import annotations

from collections.abc import Mapping

import pytest

from heteroscale.adapters.memory import MemoryClock, MemorySubcluster
from heteroscale.entities.snapshot import InstanceState
from heteroscale.subcluster.finishing import Finishing

NOW_S = 1_700_000_000.0
DRAINING = InstanceState.DRAINING


def world(state: InstanceState) -> tuple[MemoryClock, MemorySubcluster]:
    """Return a world with one instance that has been in its state for a minute."""
    clock = MemoryClock(NOW_S - 60.0)
    subcluster = MemorySubcluster("main", clock)
    subcluster.place("chat", "g", "decode", "H20", 1, state=state)
    clock.advance(60.0)
    return clock, subcluster


#: as `pod_named` reads the uid that the world gives
POD = ("main", "chat/g/decode/0")


@pytest.mark.parametrize(
    ("told", "requests"),
    [
        pytest.param({}, None, id="nobody tells"),
        pytest.param({POD: (0.0, 5.0)}, 0, id="idle"),
        pytest.param({POD: (3.0, 5.0)}, 3, id="three requests"),
        pytest.param({POD: (0.2, 5.0)}, 1, id="KV that is still to be fetched"),
        pytest.param({POD: (0.0, 61.0)}, None, id="seen before it began to drain"),
        pytest.param({("main", "other"): (0.0, 5.0)}, None, id="another pod"),
    ],
)
def test_what_drains_has_as_many_requests_as_its_engine_says(
    told: Mapping[tuple[str, str], tuple[float, float]], requests: int | None
) -> None:
    clock, subcluster = world(DRAINING)
    (one,) = Finishing(subcluster, clock, lambda _: told).observe().instances
    assert one.requests == requests


def test_nobody_is_asked_while_nothing_drains() -> None:
    clock, subcluster = world(InstanceState.READY)
    asked: list[float] = []

    def busy(now_s: float) -> Mapping[tuple[str, str], tuple[float, float]]:
        asked.append(now_s)
        return {POD: (0.0, 0.0)}

    finishing = Finishing(subcluster, clock, busy)
    assert finishing.observe() is subcluster.observe()
    assert (finishing.name, asked) == ("main", [])
    assert finishing.apply((), NOW_S) == ()
