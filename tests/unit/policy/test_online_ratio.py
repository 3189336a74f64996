from __future__ import annotations

import math
from dataclasses import replace

import pytest

from heteroscale.entities.decision import Figures, Reason, Step
from heteroscale.entities.policy import OnlineRatioSpec, TrustSpec
from heteroscale.entities.service import GroupSpec
from heteroscale.entities.snapshot import Reading, Signal
from heteroscale.entities.state import MixPoint, ServiceState
from heteroscale.policy.online_ratio import MAX_POINTS, Mix, follow
from heteroscale.policy.signal import judged
from tests.builders import build_group, build_role

ONLINE = OnlineRatioSpec(
    capacity_tps={"prefill": 10.0, "decode": 1.0}, window_s=640.0, wait_s=100.0, parts=16
)
#: starts a part of the window
NOW_S = 64_000.0
MEASURED_S = NOW_S - 630.0


def mixed(prefill: float, decode: float, at_s: float = MEASURED_S, samples: int = 1) -> MixPoint:
    return MixPoint(at_s=at_s, samples=samples, loads_tps={"prefill": prefill, "decode": decode})


def run(
    prefill: float | None,
    decode: float | None,
    state: ServiceState,
    *,
    group: GroupSpec | None = None,
    online: OnlineRatioSpec = ONLINE,
    signal: Signal = Signal.TPS,
    may_move: bool = True,
    now_s: float = NOW_S,
) -> Mix:
    readings = tuple(
        Reading(signal=signal, role=role, value=value)
        for role, value in (("prefill", prefill), ("decode", decode))
        if value is not None
    )
    return follow(
        group or build_group(),
        online,
        judged(readings, TrustSpec()),
        state,
        now_s=now_s,
        may_move=may_move,
    )


FULL = ServiceState(mix=(mixed(120.0, 4.0),))


@pytest.mark.parametrize(
    ("prefill", "decode", "state", "ratio"),
    [
        # 120/10 to 4/1 units are 12 to 4 of 16 parts; 1 to 1 is 8 to 8
        pytest.param(120.0, 4.0, FULL, {"prefill": 9, "decode": 7}, id="one part towards the mix"),
        pytest.param(
            120.0,
            4.0,
            replace(FULL, ratio={"prefill": 11, "decode": 5}),
            {"prefill": 12, "decode": 4},
            id="the last part",
        ),
        pytest.param(
            120.0,
            4.0,
            replace(FULL, ratio={"prefill": 12, "decode": 4}),
            {"prefill": 12, "decode": 4},
            id="arrived",
        ),
        pytest.param(
            115.0,
            4.0,
            replace(FULL, ratio={"prefill": 12, "decode": 4}),
            {"prefill": 12, "decode": 4},
            id="less than a part away stays",
        ),
        pytest.param(120.0, 4.0, ServiceState(), {}, id="not measured for long enough"),
        pytest.param(
            120.0, 4.0, replace(FULL, ratio_until_s=NOW_S + 1.0), {}, id="waits for the last move"
        ),
        pytest.param(None, 4.0, FULL, {}, id="a missing load moves nothing"),
        pytest.param(math.nan, 4.0, FULL, {}, id="an invalid load moves nothing"),
        pytest.param(
            0.0, 0.0, ServiceState(mix=(mixed(0.0, 0.0),)), {}, id="no load says nothing of its mix"
        ),
        pytest.param(
            160.0,
            0.0,
            ServiceState(mix=(mixed(160.0, 0.0),), ratio={"prefill": 15, "decode": 1}),
            {"prefill": 15, "decode": 1},
            id="no role loses its last part",
        ),
        pytest.param(
            120.0,
            4.0,
            replace(FULL, ratio={"prefill": 1, "encode": 1}),
            {"prefill": 9, "decode": 7},
            id="the ratio of other roles is forgotten",
        ),
    ],
)
def test_the_ratio_follows(
    prefill: float | None, decode: float, state: ServiceState, ratio: dict[str, int]
) -> None:
    mix = run(prefill, decode, state)
    assert mix.ratio == ratio
    moved = ratio != state.ratio and bool(ratio)
    assert mix.until_s == (NOW_S + 100.0 if moved else state.ratio_until_s)
    assert len(mix.reasons) == moved


def test_a_move_has_its_reason() -> None:
    figures: Figures = {
        "giver": "decode",
        "taker": "prefill",
        "giver_share": 7,
        "taker_share": 9,
        "parts": 16,
    }
    reason = Reason(step=Step.COORDINATE, code="ratio_share_moved", figures=figures)
    assert run(120.0, 4.0, FULL).reasons == (reason,)


def test_frozen_measures_but_does_not_move() -> None:
    mix = run(120.0, 4.0, FULL, may_move=False)
    assert (mix.ratio, mix.until_s) == ({}, 0.0)
    assert mix.points == (mixed(120.0, 4.0), mixed(120.0, 4.0, NOW_S))


def test_offered_loads_are_preferred() -> None:
    mix = run(50.0, 5.0, ServiceState(), signal=Signal.OFFERED_TPS)
    assert mix.points == (mixed(50.0, 5.0, NOW_S),)


def test_unknown_loads_leave_the_mix_alone() -> None:
    assert run(None, None, FULL).points == FULL.mix


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param((), (mixed(5.0, 6.0, NOW_S),), id="the first"),
        pytest.param(
            (mixed(1.0, 2.0, NOW_S, samples=3),),
            (mixed(6.0, 8.0, NOW_S, samples=4),),
            id="summed within a part",
        ),
        pytest.param(
            (mixed(1.0, 2.0, NOW_S - 640.0), mixed(1.0, 2.0)),
            (mixed(1.0, 2.0), mixed(5.0, 6.0, NOW_S)),
            id="what is older leaves",
        ),
        pytest.param(
            (mixed(1.0, 2.0, NOW_S + 90.0),),
            (mixed(5.0, 6.0, NOW_S),),
            id="what lies ahead leaves",
        ),
        pytest.param(
            (MixPoint(at_s=NOW_S - 60.0, samples=1, loads_tps={"encode": 1.0}),),
            (mixed(5.0, 6.0, NOW_S),),
            id="other roles leave",
        ),
    ],
)
def test_the_mix(points: tuple[MixPoint, ...], expected: tuple[MixPoint, ...]) -> None:
    assert run(5.0, 6.0, ServiceState(mix=points)).points == expected


def test_the_mix_is_bounded() -> None:
    state = ServiceState()
    for tick in range(1000):
        state = replace(state, mix=run(5.0, 6.0, state, now_s=NOW_S + tick).points)
    assert len(state.mix) <= MAX_POINTS


def test_a_nested_role_carries_its_busiest_leaf_and_others_keep_their_share() -> None:
    group = GroupSpec(
        within=None,
        roles=(
            build_role("encode", share=8),
            build_role(
                "prefill",
                share=4,
                # each part sees every token of the role, and b is ahead of a in counting them;
                # the last reports nothing, as engines of a part do that count no tokens
                roles=tuple(build_role(f"prefill/{part}") for part in "abc"),
            ),
            build_role("decode", share=4),
        ),
    )
    readings = tuple(
        Reading(signal=Signal.TPS, role=role, value=value)
        for role, value in (("prefill/a", 58.0), ("prefill/b", 60.0), ("decode", 2.0))
    )
    state = ServiceState(mix=(mixed(60.0, 2.0),))
    signals = judged(readings, TrustSpec())
    mix = follow(group, ONLINE, signals, state, now_s=NOW_S, may_move=True)
    assert mix.points[-1].loads_tps == {"prefill": 60.0, "decode": 2.0}
    assert mix.ratio == {"encode": 8, "prefill": 5, "decode": 3}
