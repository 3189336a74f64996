"""Decode step times in pieces, in figures that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heteroscale.errors import InvariantViolation
from heteroscale.performance.model import DecodePiece, StepCoefficients
from heteroscale.sim.colocated import ColocatedServing, EngineSettings
from heteroscale.sim.plane import Plane
from heteroscale.sim.serving import KvAdmission, Serving, ServingOptions
from heteroscale.workload.arrivals import ArrivalChunk
from tests.unit.sim.scenarios import MS, NETWORK, Both, NewInstance, Settings, speed
from tests.unit.sim.twin_parts import FINISHED, JOINED

HERE = (0, 0, 0, 0, 0)
# Prefill takes 1 ms, and 1 ms a token beside decode; a decode step 10 ms, host 1 ms.
SPEED = StepCoefficients(
    prefill_base_ps=MS,
    prefill_per_token_ps=0,
    prefill_per_token2_ps=0,
    decode_base_ps=10 * MS,
    decode_per_sequence_ps=0,
    decode_per_kv_token_ps=0,
    prefill_host_ps=0,
    decode_host_ps=MS,
    kv_capacity_tokens=1_000,
    kv_bytes_per_token=0,
    prefill_occupancy=0.8,
    decode_occupancy=0.4,
)


def flat(ms: int, *, sequences: int = 0, kv_tokens: int = 0) -> DecodePiece:
    """Return a piece whose steps all take the same."""
    return DecodePiece(
        from_sequences=sequences,
        from_kv_tokens=kv_tokens,
        base_ps=ms * MS,
        per_sequence_ps=0,
        per_kv_token_ps=0,
    )


def given_all(plane: Plane, *rows: tuple[int, int, int]) -> None:
    """Give the whole trace: (arrival in ms, input tokens, output tokens)."""
    table = np.array(rows, np.int64)
    plane.feed(
        ArrivalChunk(
            arrival_ps=table[:, 0] * MS,
            input_tokens=table[:, 1].astype(np.int32),
            output_tokens=table[:, 2].astype(np.int32),
        )
    )
    plane.close_arrivals()


def served(
    *rows: tuple[int, int, int], pieces: tuple[DecodePiece, ...], until_ms: int = 1_000
) -> Serving:
    """Return a prefill and a decode instance that have served requests."""
    serving = Serving(
        prefill_token_budget=100,
        decode_max_batch=4,
        admission_limit=10,
        slo_ttft_ps=MS,
        slo_tbt_ps=MS,
        network=NETWORK,
        log=True,
    )
    paced = replace(SPEED, decode_pieces=pieces)
    for role in ("prefill", "decode"):
        serving.add_instance(role, paced, group=0, location=HERE, in_rotation=True)
    given_all(serving, *rows)
    serving.advance(until_ms * MS)
    return serving


def times_ms(plane: Plane, kind: int) -> list[float]:
    """Return when each event of a kind was."""
    return [row[0] / MS for row in plane.event_log().tolist() if row[1] == kind]


def test_steps_change_where_the_kv_reaches_a_piece_to_the_token() -> None:
    pieces = (flat(20, kv_tokens=12), flat(30, kv_tokens=14))
    serving = served((0, 10, 6), pieces=pieces)
    # With 11 KV tokens after prefill; then 12, 13, 14 and 15.
    assert times_ms(serving, JOINED) == [1.0]
    assert times_ms(serving, FINISHED) == [1.0 + 10 + 20 + 20 + 30 + 30]


@pytest.mark.parametrize(
    ("at_ms", "tokens", "busy_ms", "host_ms", "used"),
    [
        pytest.param(10, 0, 8, 1, 11, id="in the first step"),
        pytest.param(11, 1, 9, 1, 12, id="at the edge"),
        pytest.param(30, 1, 27, 2, 12, id="in the step behind the edge"),
        pytest.param(31, 2, 28, 2, 13, id="after it"),
        pytest.param(60, 3, 55, 4, 14, id="behind the second edge"),
    ],
)
def test_counters_run_on_through_the_pieces(
    at_ms: int, tokens: int, busy_ms: int, host_ms: int, used: int
) -> None:
    pieces = (flat(20, kv_tokens=12), flat(30, kv_tokens=14))
    serving = served((0, 10, 6), pieces=pieces, until_ms=at_ms)
    decode = serving.instance_counters(1)
    assert (decode.tokens, decode.kv_used_tokens) == (tokens, used)
    assert (decode.busy_ps, decode.host_ps) == (busy_ms * MS, host_ms * MS)


def test_a_batch_that_grows_and_shrinks_has_the_steps_of_its_size() -> None:
    # The second joins after the first's first step and leaves after two of its own.
    serving = served((0, 10, 6), (5, 10, 3), pieces=(flat(25, sequences=2),))
    assert times_ms(serving, JOINED) == [1.0, 11.0]
    assert times_ms(serving, FINISHED) == [11.0 + 2 * 25, 11.0 + 2 * 25 + 2 * 10]


def test_the_last_piece_whose_limits_are_both_reached_counts() -> None:
    pieces = (flat(20, kv_tokens=12), flat(30, sequences=2, kv_tokens=500), flat(40, sequences=2))
    serving = served((0, 10, 3), pieces=pieces)
    assert times_ms(serving, FINISHED) == [1.0 + 10 + 20]
    # The first's KV comes first, so it has a step alone.
    both = served((0, 10, 3), (0, 10, 3), pieces=pieces)
    assert times_ms(both, FINISHED) == [1.0 + 10 + 40, 1.0 + 10 + 40 + 20]


def test_the_base_of_a_steep_piece_may_be_below_zero() -> None:
    steep = DecodePiece(
        from_sequences=2, base_ps=-10 * MS, per_sequence_ps=15 * MS, per_kv_token_ps=0
    )
    serving = served((0, 10, 3), (0, 10, 2), pieces=(steep,))
    assert times_ms(serving, FINISHED) == [1.0 + 10 + 20, 1.0 + 10 + 20]


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(flat(0), id="shorter than the host"),
        pytest.param(replace(flat(10), per_sequence_ps=-1), id="falls with sequences"),
        pytest.param(replace(flat(10), per_kv_token_ps=-1), id="falls with KV"),
        pytest.param(flat(10, sequences=-1), id="from less than nothing"),
        pytest.param(flat(10, kv_tokens=-1), id="from less than empty"),
    ],
)
def test_pieces_that_no_step_can_keep_are_refused(piece: DecodePiece) -> None:
    with pytest.raises(InvariantViolation, match="decode_pieces: none but a base"):
        served((0, 10, 6), pieces=(piece,))


def test_edges_between_equal_pieces_leave_no_trace() -> None:
    whole = speed(kv_capacity_tokens=900)
    same = DecodePiece(
        base_ps=whole.decode_base_ps,
        per_sequence_ps=whole.decode_per_sequence_ps,
        per_kv_token_ps=whole.decode_per_kv_token_ps,
    )
    edges = tuple(replace(same, from_kv_tokens=at) for at in range(50, 900, 50))
    growing = Settings(options=ServingOptions(kv_admission=KvAdmission.GROW))
    arrivals = [(at * 3 * MS, 20 + 37 * at % 200, 2 + 11 * at % 90) for at in range(80)]
    seen = []
    for pieces in ((), edges, (*edges, replace(same, from_sequences=3))):
        both = Both(growing)
        both.give(arrivals)
        both.add(NewInstance(role="prefill"))
        both.add(NewInstance(role="decode", kv_capacity_tokens=900, decode_pieces=pieces))
        for until_ms in (100, 333, 10_000):
            both.advance(until_ms * MS)
            both.check()
        kernel = both.kernel
        seen.append((kernel.event_log().tolist(), kernel.tbt_histogram().tolist()))
    assert seen[0] == seen[1] == seen[2]
    assert kernel.counters(10_000 * MS).preempted > 0


def test_a_co_located_step_has_the_piece_of_the_sequences_that_decode_in_it() -> None:
    pool = ColocatedServing(
        [
            replace(
                SPEED,
                prefill_per_token_ps=MS,
                decode_pieces=(flat(20, sequences=1, kv_tokens=12), flat(40, sequences=2)),
            )
        ],
        EngineSettings(token_budget=20, max_sequences=4),
        admission_limit=8,
        slo_ttft_ps=MS,
        slo_tbt_ps=MS,
        options=ServingOptions(),
        log=True,
    )
    given_all(pool, (0, 10, 5), (25, 5, 3))
    pool.advance(1_000 * MS)
    # Alone: 10 + 10 for the prompt; 10 with 11 KV tokens. The second's prompt of 5 in a step of
    # 20, with 12; two decode, 40 each; the first ends with the second.
    assert times_ms(pool, JOINED) == [0.0, 30.0]
    assert times_ms(pool, FINISHED) == [20.0 + 10 + 25 + 80, 20.0 + 10 + 25 + 80]
