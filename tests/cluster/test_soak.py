"""Twenty seeds of the soak; `make soak-cluster` lives through more of them."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.control_plane import ControlPlane
from tests.cluster.faults import API, LIES
from tests.cluster.soak import soaked, told

SEEDS = range(20)
AT_ONCE = 7


def test_whatever_fails_in_between_nothing_wrong_is_done_and_all_ends_as_it_should(
    plane: ControlPlane, tmp_path: Path
) -> None:
    worlds = list(soaked(SEEDS, AT_ONCE, plane, tmp_path))
    assert [told(world) for world in worlds if world.broken] == []
    struck = {episode.kind for world in worlds for episode in world.episodes}
    assert struck == {*API, *LIES}
