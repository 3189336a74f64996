"""What is sent to measure an endpoint, and what is not because it would not fit."""

from __future__ import annotations

import pytest

from heteroscale.entities.service import Stage
from heteroscale.performance.endpoint_plan import (
    Grid,
    Plan,
    Room,
    Speeds,
    Wave,
    planned,
    speeds_of,
)

SPEEDS = Speeds(prefill_base_s=0.01, prefill_per_token_s=50e-6, step_s=0.01)
GRID = Grid(prompts=(100, 1000), depths=(4,), batches=(1, 9), contexts=(500,), repeats=2, steps=20)


def test_prefill_first_then_decode_from_small_to_large() -> None:
    plan = planned(GRID, SPEEDS, Room(kv_tokens=10_000))
    assert plan.waves == (
        Wave(stage=Stage.PREFILL, requests=1, prompt_tokens=100, answer_tokens=2),
        Wave(stage=Stage.PREFILL, requests=1, prompt_tokens=1000, answer_tokens=2),
        Wave(stage=Stage.PREFILL, requests=4, prompt_tokens=100, answer_tokens=2),
        Wave(stage=Stage.PREFILL, requests=4, prompt_tokens=1000, answer_tokens=2),
        Wave(stage=Stage.DECODE, requests=1, prompt_tokens=490, answer_tokens=20),
        # The last of nine waits for eight prompts of 500: 0.2 s, 20 steps, and a margin of 30 %.
        Wave(stage=Stage.DECODE, requests=9, prompt_tokens=490, answer_tokens=46),
    )
    assert plan.left_out == ()
    assert plan.requests == 2 * (1 + 1 + 4 + 4 + 1 + 9)
    assert plan.prompt_tokens == 2 * (100 + 1000 + 400 + 4000 + 490 + 9 * 490)
    assert plan.answer_tokens == 2 * (2 + 2 + 8 + 8 + 20 + 9 * 46)
    # Six bases, 10,400 tokens of 50 µs, 74 steps of 10 ms; twice.
    assert plan.seconds == pytest.approx(2 * (0.06 + 0.52 + 0.74))


@pytest.mark.parametrize(
    ("grid", "room", "reason"),
    [
        pytest.param(
            GRID,
            Room(kv_tokens=10_000, request_tokens=512),
            (
                "prefill 1 x 1000: 1002 tokens a request, the endpoint takes 512",
                "prefill 4 x 1000: 1002 tokens a request, the endpoint takes 512",
                "decode 9 x 490: 536 tokens a request, the endpoint takes 512",
            ),
            id="longer than a request may be",
        ),
        pytest.param(
            GRID,
            Room(kv_tokens=4_500),
            ("decode 9 x 490: 4824 KV tokens, the instance holds 4500",),
            id="more than the KV holds",
        ),
        pytest.param(
            Grid(prompts=(200_000,), depths=(2,), batches=(), contexts=()),
            Room(kv_tokens=10**9),
            ("prefill 2 x 200000: more than 262144 prompt tokens at the same moment",),
            id="too much to fill",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_reason(
    grid: Grid, room: Room, reason: tuple[str, ...]
) -> None:
    assert planned(grid, SPEEDS, room).left_out == reason


def test_nothing_fits() -> None:
    assert planned(GRID, SPEEDS, Room(kv_tokens=1)).waves == ()
    nothing = Grid(prompts=(), depths=(), batches=(), contexts=())
    assert planned(nothing, SPEEDS, Room(kv_tokens=1)) == Plan(
        waves=(), repeats=3, left_out=(), seconds=0.0
    )


@pytest.mark.parametrize(
    ("probes", "speeds"),
    [
        pytest.param(
            [(1100, 0.065, 0.012), (100, 0.015, 0.01)],
            Speeds(prefill_base_s=0.01, prefill_per_token_s=50e-6, step_s=0.01),
            id="a line through both",
        ),
        pytest.param(
            [(100, 0.03, 0.01), (1100, 0.02, 0.011)],
            Speeds(prefill_base_s=0.03, prefill_per_token_s=0.0, step_s=0.01),
            id="the longer one was faster",
        ),
        pytest.param(
            [(1000, 0.01, 0.01), (1100, 0.02, 0.01)],
            Speeds(prefill_base_s=0.0, prefill_per_token_s=1e-4, step_s=0.01),
            id="a line that begins below zero",
        ),
    ],
)
def test_probes_say_how_fast_it_is(probes: list[tuple[int, float, float]], speeds: Speeds) -> None:
    found = speeds_of(probes)
    assert found.prefill_base_s == pytest.approx(speeds.prefill_base_s)
    assert found.prefill_per_token_s == pytest.approx(speeds.prefill_per_token_s)
    assert found.step_s == speeds.step_s
