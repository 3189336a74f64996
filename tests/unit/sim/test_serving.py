"""What a serving plane does, in figures that can be worked out by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from heteroscale.errors import InvariantViolation
from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.serving import (
    DEFAULTS,
    AdvanceStatus,
    Counters,
    InstanceCounters,
    NetworkTable,
    RoleCounters,
    Serving,
    ServingOptions,
    Tally,
    histogram_edges_ps,
)
from heteroscale.workload.arrivals import ArrivalChunk

MS = 1_000_000_000
ZERO = Tally(requests=0, input_tokens=0, output_tokens=0)

# Prefill takes 10 ms and 1 ms a token; a decode step 2 ms, 1 ms a sequence and 0.1 ms a KV token.
SPEED = StepCoefficients(
    prefill_base_ps=10 * MS,
    prefill_per_token_ps=MS,
    prefill_per_token2_ps=0,
    decode_base_ps=2 * MS,
    decode_per_sequence_ps=MS,
    decode_per_kv_token_ps=MS // 10,
    prefill_host_ps=4 * MS,
    decode_host_ps=MS,
    kv_capacity_tokens=100,
    kv_bytes_per_token=1_000,
    prefill_occupancy=0.8,
    decode_occupancy=0.4,
)
# 5 ms flat over the network, and 1 ms per token beyond the node.
NETWORK = NetworkTable(
    latency_ps=(0, 5 * MS, 5 * MS, 5 * MS, 5 * MS, 50 * MS),
    fs_per_byte=(0, MS, MS, MS, MS, MS),
)
HERE = (0, 0, 0, 0, 0)
NEXT_NODE = (0, 0, 0, 0, 1)


def plane(*, log: bool = True, limit: int = 2, options: ServingOptions = DEFAULTS) -> Serving:
    return Serving(
        prefill_token_budget=30,
        decode_max_batch=2,
        admission_limit=limit,
        slo_ttft_ps=40 * MS,
        slo_tbt_ps=20 * MS,
        network=NETWORK,
        options=options,
        log=log,
    )


def pair(serving: Serving) -> tuple[int, int]:
    prefill = serving.add_instance("prefill", SPEED, group=0, location=HERE, in_rotation=True)
    decode = serving.add_instance("decode", SPEED, group=0, location=NEXT_NODE, in_rotation=True)
    return prefill, decode


def requests(*rows: tuple[int, int, int]) -> ArrivalChunk:
    """Return a chunk of (arrival in ms, input tokens, output tokens)."""
    table = np.array(rows, np.int64).reshape(-1, 3)
    return ArrivalChunk(
        arrival_ps=table[:, 0] * MS,
        input_tokens=table[:, 1].astype(np.int32),
        output_tokens=table[:, 2].astype(np.int32),
    )


def given_all(serving: Serving, *rows: tuple[int, int, int]) -> Serving:
    serving.feed(requests(*rows))
    serving.close_arrivals()
    return serving


def finish_times_ms(serving: Serving) -> dict[int, float]:
    return {
        request: time_ps / MS
        for time_ps, kind, request, _ in serving.event_log().tolist()
        if kind == 5
    }


def test_one_request_from_arrival_to_last_token() -> None:
    serving = plane()
    pair(serving)
    given_all(serving, (0, 20, 3))
    assert serving.advance(1_000 * MS) is AdvanceStatus.DONE
    # Prefill 10 + 20; transfer 5 + 20; steps of 2 + 1 + 2.1 and 2 + 1 + 2.2.
    end_ps = 30 * MS + 25 * MS + 5_100_000_000 + 5_200_000_000
    assert serving.event_log().tolist() == [
        [0, 0, 0, -1],
        [30 * MS, 2, 0, 0],
        [55 * MS, 3, 0, 1],
        [55 * MS, 4, 0, 1],
        [end_ps, 5, 0, 1],
    ]
    one = Tally(requests=1, input_tokens=20, output_tokens=3)
    assert serving.counters(1_000 * MS) == Counters(
        at_ps=1_000 * MS,
        arrived=one,
        completed=one,
        refused=ZERO,
        attained=1,
        first_tokens=1,
        in_transfer=0,
        kv_put_bytes=20_000,
        kv_delivered_bytes=20_000,
        roles=(
            RoleCounters(
                role="prefill",
                tokens=20,
                busy_ps=26 * MS,
                host_ps=4 * MS,
                waiting=0,
                running=0,
                in_rotation=1,
                instances=1,
                kv_reserved_tokens=0,
                kv_used_tokens=0,
                kv_capacity_tokens=0,
            ),
            RoleCounters(
                role="decode",
                tokens=2,
                busy_ps=8_300_000_000,
                host_ps=2 * MS,
                waiting=0,
                running=0,
                in_rotation=1,
                instances=1,
                kv_reserved_tokens=0,
                kv_used_tokens=0,
                kv_capacity_tokens=100,
            ),
        ),
    )
    edges = histogram_edges_ps()
    gaps = [25 * MS + 5_100_000_000, 5_200_000_000]
    expected = np.zeros(len(edges), np.int64)
    for gap in gaps:
        expected[np.searchsorted(edges, gap, side="right") - 1] += 1
    assert serving.tbt_histogram().tolist() == expected.tolist()
    assert serving.ttft_histogram().sum() == 1
    assert serving.idle


def test_counters_read_inside_a_step_include_the_part_that_has_passed() -> None:
    serving = plane()
    prefill, decode = pair(serving)
    given_all(serving, (0, 20, 30))
    serving.advance(3 * MS)
    assert serving.instance_counters(prefill) == InstanceCounters(
        tokens=0,
        busy_ps=0,
        host_ps=3 * MS,
        waiting=0,
        running=1,
        outstanding=1,
        kv_reserved_tokens=0,
        kv_used_tokens=0,
        kv_capacity_tokens=0,
    )
    # The second step begins at 60.1 ms; at 62.1 ms its host part is over for 1 ms.
    serving.advance(62 * MS + MS // 10)
    assert serving.instance_counters(decode) == InstanceCounters(
        tokens=1,
        busy_ps=4_100_000_000 + MS,
        host_ps=2 * MS,
        waiting=0,
        running=1,
        outstanding=1,
        kv_reserved_tokens=50,
        kv_used_tokens=22,
        kv_capacity_tokens=100,
    )


def test_a_request_longer_than_the_budget_runs_alone() -> None:
    serving = plane(limit=9)
    pair(serving)
    given_all(serving, (0, 1, 1), (1, 40, 1), (1, 10, 1), (1, 20, 1), (1, 1, 1))
    serving.advance(1_000 * MS)
    # 1 alone until 11; 40 alone until 61; 10 + 20 fill the budget until 101; the last until 112.
    assert finish_times_ms(serving) == {0: 11, 1: 61, 2: 101, 3: 101, 4: 112}


def test_a_request_joins_at_the_end_of_the_step_under_way() -> None:
    serving = plane(limit=9)
    pair(serving)
    given_all(serving, (0, 10, 20), (1, 10, 2))
    serving.advance(1_000 * MS)
    joined = [row for row in serving.event_log().tolist() if row[1] == 4]
    # KV of the second arrives at 55 ms; the first's steps of 4.1, 4.2 … ms since 35 end at 56.5.
    assert joined == [[35 * MS, 4, 0, 1], [56 * MS + MS // 2, 4, 1, 1]]


def test_kv_that_arrives_just_as_a_step_ends_waits_for_the_next_end() -> None:
    serving = plane(limit=9)
    pair(serving)
    given_all(serving, (0, 10, 20), (21, 8, 2))
    serving.advance(1_000 * MS)
    moved = {row[1]: row[0] for row in serving.event_log().tolist() if row[2] == 1}
    assert (moved[3], moved[4]) == (52 * MS, 56 * MS + MS // 2)


def test_requests_that_arrive_just_as_a_batch_ends_find_an_idle_instance() -> None:
    serving = plane(limit=9)
    pair(serving)
    given_all(serving, (0, 20, 1), (30, 5, 1), (30, 5, 1))
    serving.advance(1_000 * MS)
    assert finish_times_ms(serving) == {0: 30, 1: 45, 2: 60}


def test_two_sequences_may_fill_the_kv_to_the_last_token() -> None:
    serving = plane(limit=9)
    pair(serving)
    given_all(serving, (0, 10, 40), (0, 10, 40), (0, 10, 40))
    serving.advance(1_000 * MS)
    assert serving.counters(1_000 * MS).completed.requests == 3
    joined = {row[2]: row[0] for row in serving.event_log().tolist() if row[1] == 4}
    assert joined[1] < finish_times_ms(serving)[0] * MS <= joined[2]


def test_the_head_of_a_decode_queue_blocks_until_its_kv_fits() -> None:
    serving = plane(limit=9)
    pair(serving)
    given_all(serving, (0, 10, 60), (1, 10, 60), (1, 10, 2))
    serving.advance(10_000 * MS)
    log = serving.event_log().tolist()
    joined = {row[2]: row[0] for row in log if row[1] == 4}
    finished = {row[2]: row[0] for row in log if row[1] == 5}
    assert joined[1] == finished[0]
    assert joined[2] == finished[0]


def test_requests_are_refused_when_queues_are_full_or_they_can_never_fit() -> None:
    serving = plane(limit=2)
    pair(serving)
    given_all(serving, (0, 20, 3), (1, 20, 3), (2, 20, 3), (3, 20, 3), (200, 60, 41))
    serving.advance(1_000 * MS)
    counters = serving.counters(1_000 * MS)
    assert counters.refused == Tally(requests=2, input_tokens=80, output_tokens=44)
    assert counters.completed == Tally(requests=3, input_tokens=60, output_tokens=9)


def test_without_prefill_in_rotation_requests_wait_for_one_within_the_limit() -> None:
    serving = plane(limit=2)
    given_all(serving, (0, 20, 1), (1, 20, 1), (2, 20, 1))
    serving.advance(10 * MS)
    assert serving.counters(10 * MS).roles[0].waiting == 2
    assert serving.counters(10 * MS).refused.requests == 1
    pair(serving)
    serving.advance(1_000 * MS)
    assert finish_times_ms(serving) == {0: 40, 1: 70}


def test_without_decode_in_rotation_prefilled_requests_wait_and_prefill_still_owes_them() -> None:
    serving = plane()
    prefill, decode = pair(serving)
    serving.set_rotation(decode, False)
    given_all(serving, (0, 20, 2))
    serving.advance(100 * MS)
    assert serving.outstanding(prefill) == 1
    assert serving.counters(100 * MS).roles[1].waiting == 1
    serving.set_rotation(decode, True)
    serving.advance(110 * MS)
    assert serving.counters(110 * MS).in_transfer == 1
    assert (serving.outstanding(prefill), serving.outstanding(decode)) == (1, 1)
    serving.advance(1_000 * MS)
    assert finish_times_ms(serving) == {0: 100 + 25 + 5.1}
    assert (serving.outstanding(prefill), serving.outstanding(decode)) == (0, 0)


def test_an_instance_out_of_rotation_finishes_what_it_has() -> None:
    serving = plane(limit=9)
    prefill, _ = pair(serving)
    other = serving.add_instance("prefill", SPEED, group=0, location=HERE)
    given_all(serving, (0, 20, 2), (1, 20, 2), (50, 20, 2))
    serving.advance(40 * MS)
    serving.set_rotation(prefill, False)
    serving.set_rotation(other, True)
    serving.advance(1_000 * MS)
    first = {row[2]: row[3] for row in serving.event_log().tolist() if row[1] == 2}
    assert first == {0: prefill, 1: prefill, 2: other}


def test_traffic_follows_the_weight_in_rotation_of_each_group() -> None:
    serving = plane(limit=99)
    handles = [
        serving.add_instance(
            "prefill", SPEED, group=group, location=HERE, capacity=capacity, in_rotation=True
        )
        for group, capacity in ((0, 1_000), (4, 2_000), (4, 1_000))
    ]
    given_all(serving, *[(0, 10, 1)] * 40)
    serving.advance(0)
    owed = [serving.outstanding(handle) for handle in handles]
    assert owed == [10, 20, 10]


def test_decode_is_chosen_in_the_own_group_first_then_anywhere() -> None:
    serving = plane(limit=99)
    _, near = pair(serving)
    far = serving.add_instance("decode", SPEED, group=1, location=(1, 0, 0, 0, 0), in_rotation=True)
    given_all(serving, *[(0, 10, 5)] * 6, *[(500, 10, 5)] * 6)
    serving.advance(500 * MS)
    serving.set_rotation(near, False)
    serving.advance(2_000 * MS)
    chosen = {row[2]: row[3] for row in serving.event_log().tolist() if row[1] == 3}
    assert chosen == {request: near if request < 6 else far for request in range(12)}


def test_finished_outside_either_limit_is_not_attained_and_running_misses_say_so_early() -> None:
    serving = plane(limit=9)
    pair(serving)
    given_all(serving, (0, 35, 2), (100, 5, 3))
    serving.advance(41 * MS)
    assert serving.running_misses(41 * MS) == 1
    serving.advance(40 * MS + 110 * MS)
    assert serving.running_misses(150 * MS) == 0
    serving.advance(1_000 * MS)
    assert serving.counters(1_000 * MS).attained == 1


def test_arrivals_are_asked_for_and_time_stands_at_the_last_one() -> None:
    serving = plane()
    pair(serving)
    assert serving.advance(100 * MS) is AdvanceStatus.NEEDS_ARRIVALS
    asked = []
    for rows in ((), ((7, 20, 1),)):
        serving.feed(requests(*rows))
        asked.append(serving.needs_arrivals)
    assert asked == [True, False]
    assert serving.advance(5 * MS) is AdvanceStatus.DONE
    assert serving.advance(100 * MS) is AdvanceStatus.NEEDS_ARRIVALS
    assert serving.now_ps == 7 * MS
    serving.close_arrivals()
    assert serving.advance(100 * MS) is AdvanceStatus.DONE
    assert serving.now_ps == 100 * MS
    assert serving.idle


def test_requests_of_a_failed_instance_start_over_and_its_work_stays_counted() -> None:
    serving = plane(limit=9)
    prefill, decode = pair(serving)
    given_all(serving, (0, 20, 3), (1, 20, 3))
    # Both roles are at work at 58 ms: one sequence in its first step, one prefill batch.
    serving.advance(58 * MS)
    serving.fail(decode)
    serving.fail(prefill)
    counters = serving.counters(58 * MS)
    assert [role.busy_ps + role.host_ps for role in counters.roles] == [58 * MS, 3 * MS]
    assert [role.waiting for role in counters.roles] == [2, 0]
    assert [role.instances for role in counters.roles] == [0, 0]
    assert counters.first_tokens == 1
    pair(serving)
    serving.advance(1_000 * MS)
    restarted = [row for row in serving.event_log().tolist() if row[1] == 6]
    assert restarted == [[58 * MS, 6, 0, decode], [58 * MS, 6, 1, prefill]]
    assert serving.counters(1_000 * MS).completed.requests == 2
    assert serving.counters(1_000 * MS).first_tokens == 3


def test_a_handle_comes_back_after_removal_and_old_work_stays_counted() -> None:
    serving = plane(log=False)
    _, decode = pair(serving)
    given_all(serving, (0, 20, 3))
    serving.advance(1_000 * MS)
    serving.set_rotation(decode, False)
    serving.remove(decode)
    again = serving.add_instance("decode", SPEED, group=3, location=HERE)
    assert again == decode
    assert serving.counters(1_000 * MS).roles[1].tokens == 2
    assert serving.instance_counters(again).tokens == 0
    assert serving.event_log().tolist() == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(5, 1, 1), (4, 1, 1)], "never decrease"),
        ([(5, 0, 1)], "≥ 1"),
        ([(5, 1, 0)], "≥ 1"),
    ],
    ids=["backwards in time", "no input", "no output"],
)
def test_bad_arrivals_are_turned_down(rows: list[tuple[int, int, int]], message: str) -> None:
    with pytest.raises(InvariantViolation, match=message):
        plane().feed(requests(*rows))


def test_misuse_is_named() -> None:
    serving = plane()
    prefill, _ = pair(serving)
    serving.feed(requests((0, 20, 3)))
    with pytest.raises(InvariantViolation, match="used up"):
        serving.feed(requests((1, 20, 3)))
    with pytest.raises(InvariantViolation, match="out of rotation and idle"):
        serving.remove(prefill)
    with pytest.raises(InvariantViolation, match="instance 77: there is none"):
        serving.outstanding(77)
    serving.close_arrivals()
    serving.advance(MS)
    serving.set_rotation(prefill, False)
    with pytest.raises(InvariantViolation, match="got 1 outstanding"):
        serving.remove(prefill)
    with pytest.raises(InvariantViolation, match="at_ps"):
        serving.counters(0)
    with pytest.raises(InvariantViolation, match="until_ps"):
        serving.advance(0)


DIGEST = """
import hashlib
from tests.unit.sim.test_kernel_twin import CROWDED, seeded_day
from heteroscale.sim.jit import COMPILED
logs = hashlib.sha256()
for both in (seeded_day(2, 300, 12.0), seeded_day(12, 300, 25.0, CROWDED)):
    logs.update(both.kernel.event_log().tobytes())
print(COMPILED, logs.hexdigest())
"""


@pytest.mark.slow
def test_the_uncompiled_kernel_gives_the_same_bits() -> None:
    root = Path(__file__).parents[3]
    digests = []
    for off in ("0", "1"):
        answer = subprocess.run(
            [sys.executable, "-c", DIGEST],
            cwd=root,
            env={**os.environ, "HETEROSCALE_NO_NUMBA": off, "PYTHONPATH": str(root / "src")},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.append(answer.stdout.split())
    assert digests[1][0] == "False"
    assert digests[0][1] == digests[1][1]
