"""Our simulator and NVIDIA's offline replay agree on the same requests where physics are equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.simulators.cases import default_traces, native_trace, sped_up
from benchmarks.simulators.compare import RATES, our_side, replay_side
from benchmarks.simulators.offline_replay import OfflineReplay

#: TTFT and TBT, p50 and p99, gaps, goodput
WITHIN = 0.02
#: without the handshake that ours has on average only
WITHIN_ALONE = 0.01

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rate", RATES)
def test_they_agree(rate: str, dynamo_python: Path) -> None:
    trace = native_trace(default_traces())
    replay = OfflineReplay(dynamo_python, trace)
    try:
        theirs, handshake_ms = replay_side(replay, RATES[rate], 1)
    finally:
        replay.close()
    ours = our_side(sped_up(trace, RATES[rate]), handshake_ms)
    assert ours.figures == pytest.approx(theirs.figures, rel=WITHIN)
    assert ours.goodput == pytest.approx(theirs.goodput, rel=WITHIN)
    assert ours.alone.percentiles() == pytest.approx(theirs.alone.percentiles(), rel=WITHIN_ALONE)
