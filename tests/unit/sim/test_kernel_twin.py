"""The kernel and its one-token-at-a-time twin agree event for event, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heteroscale.performance.model import DecodePiece
from heteroscale.sim import kernel_memory
from heteroscale.sim.serving import DEFAULTS, KvAdmission, Routing, ServingOptions
from tests.unit.sim.scenarios import MS, Both, NewInstance, Settings, piece


def seeded_day(
    seed: int,
    requests: int,
    gap_ms: float,
    options: ServingOptions = DEFAULTS,
    pieces: tuple[DecodePiece, ...] = (),
) -> Both:
    """Play a day with three groups, mixed speeds, rotation changes, removals and re-use."""
    draw = np.random.default_rng(seed)
    both = Both(Settings(budget=1_500, max_batch=6, limit=5, options=options))
    arrivals = np.cumsum(draw.exponential(gap_ms * MS, requests).astype(np.int64))
    if seed % 2:
        arrivals -= arrivals % (5 * MS)  # many at one instant
    inputs = draw.integers(1, 900, requests)
    outputs = np.where(draw.random(requests) < 0.1, 1, draw.integers(2, 90, requests))
    long = draw.random(requests) < 0.02
    inputs[long] = 5_000
    both.give(
        list(zip(arrivals.tolist(), inputs.tolist(), outputs.tolist(), strict=True)), chunk=97
    )

    def drawn() -> NewInstance:
        return replace(random_instance(draw), decode_pieces=pieces)

    handles = [both.add(drawn(), in_rotation=bool(draw.random() < 0.8)) for _ in range(10)]
    for _ in range(60):
        both.advance(both.twin.now + int(draw.integers(1, int(gap_ms * requests * MS) // 50)))
        both.check()
        for _ in range(int(draw.integers(0, 4))):
            both.rotate(handles[int(draw.integers(len(handles)))], bool(draw.random() < 0.6))
        if draw.random() < 0.3:
            at = int(draw.integers(len(handles)))
            if both.remove_if_idle(handles[at]):
                handles[at] = both.add(drawn())
        if draw.random() < 0.1:
            at = int(draw.integers(len(handles)))
            both.fail(handles[at])
            both.check()
            handles[at] = both.add(drawn())
    for handle in handles:
        both.rotate(handle, True)
    both.add(NewInstance(role="prefill"))
    both.add(NewInstance(role="decode", kv_capacity_tokens=6_000))
    both.advance(both.twin.now + 10_000_000 * MS)
    both.check()
    return both


def random_instance(draw: np.random.Generator) -> NewInstance:
    return NewInstance(
        role="prefill" if draw.random() < 0.5 else "decode",
        group=int(draw.integers(0, 3)),
        factor=int(draw.integers(1, 4)),
        kv_capacity_tokens=int(draw.integers(1_000, 6_000)),
        location=tuple(draw.integers(0, 2, 5).tolist()),
        capacity=int(draw.integers(1, 3)) * 500,
    )


IN_TURN = ServingOptions(routing=Routing.ROUND_ROBIN)
GROWING = ServingOptions(kv_admission=KvAdmission.GROW)
SHARING = ServingOptions(uplink_fs_per_byte=(1_000_003, 700_001, 900_007))
EVERYTHING = ServingOptions(
    routing=Routing.POWER_OF_TWO,
    kv_admission=KvAdmission.GROW,
    uplink_fs_per_byte=(1_000_003, 700_001, 900_007),
    overlap_permille=333,
    chunked_prefill=True,
    seed=5,
)
PIECES = (
    *(piece(0, at, 3 * MS + at * 1_000_003, 0, 1_000_001) for at in range(300, 6_000, 300)),
    piece(3, 0, 9 * MS, 70_000_001, 300_007),
    piece(3, 2_000, 11 * MS, 0, 0),
    piece(5, 1_000, 8 * MS, 90_000_001, 500_009),
)
CROWDED = replace(EVERYTHING, uplink_fs_per_byte=(90_000_003, 50_000_001, 30_000_007))
OF_TWO = ServingOptions(routing=Routing.POWER_OF_TWO, seed=11)


@pytest.mark.parametrize(
    ("seed", "requests", "gap_ms", "options"),
    [
        (1, 700, 4.0, DEFAULTS),
        (2, 700, 12.0, DEFAULTS),
        (3, 1_500, 30.0, DEFAULTS),
        (4, 1_500, 2.0, DEFAULTS),
        (5, 700, 8.0, IN_TURN),
        (6, 700, 8.0, OF_TWO),
        (7, 1_500, 4.0, GROWING),
        (8, 700, 6.0, SHARING),
        (9, 1_000, 4.0, EVERYTHING),
        (10, 700, 8.0, EVERYTHING),
        (12, 700, 25.0, CROWDED),
    ],
    ids=[
        "overload in bursts",
        "busy",
        "mostly idle",
        "overload",
        "round robin",
        "power of two",
        "KV that grows",
        "shared uplinks",
        "everything in overload",
        "everything when busy",
        "slow uplinks when busy",
    ],
)
def test_a_seeded_day_is_equal_on_kernel_and_twin(
    seed: int, requests: int, gap_ms: float, options: ServingOptions
) -> None:
    both = seeded_day(seed, requests, gap_ms, options)
    counters = both.kernel.counters(both.twin.now)
    assert both.kernel.idle
    assert counters.arrived.requests == requests
    assert counters.completed.requests + counters.refused.requests == requests
    assert counters.completed.requests > requests // 10
    assert (counters.preempted > 0) == (options.kv_admission is KvAdmission.GROW)
    assert (both.twin.slowed > 0) == (options.uplink_fs_per_byte is not None)
    # With slow uplinks some transfers are under way when their instance fails.
    assert counters.kv_lost_bytes > 0 or options is not CROWDED


@pytest.mark.parametrize(
    ("seed", "gap_ms", "options"), [(13, 4.0, DEFAULTS), (14, 12.0, GROWING), (15, 6.0, EVERYTHING)]
)
def test_a_day_of_steps_in_pieces_is_equal_on_kernel_and_twin(
    seed: int, gap_ms: float, options: ServingOptions
) -> None:
    both = seeded_day(seed, 700, gap_ms, options, PIECES)
    assert both.kernel.idle
    assert both.kernel.counters(both.twin.now).completed.requests > 70


def test_arrays_that_start_tiny_grow_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLOTS", "INSTANCES", "EVENTS", "LOG"):
        monkeypatch.setattr(kernel_memory, name, 1)
    both = seeded_day(4, 700, 2.0)
    assert both.kernel.idle
    state = both.kernel._state
    assert min(len(state.slots), len(state.instances), len(state.events), len(state.log)) > 8
