"""What a serving plane does where it can be done in more than one way, in figures by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heteroscale.errors import InvariantViolation
from heteroscale.sim.serving import KvAdmission, Routing, Serving, ServingOptions
from heteroscale.workload.arrivals import ArrivalChunk
from tests.unit.sim.test_serving import (
    HERE,
    MS,
    NETWORK,
    NEXT_NODE,
    SPEED,
    finish_times_ms,
    given_all,
    pair,
    plane,
)

FIRST_TOKEN, KV_ARRIVED, JOINED, PREEMPTED = 2, 3, 4, 7
# Over any distance, for a transfer alone.
PS_PER_BYTE = MS // 1_000


def handles_of(serving: Serving, kind: int) -> list[int]:
    """Return the instances of one kind of event in order of the requests."""
    rows = [row for row in serving.event_log().tolist() if row[1] == kind]
    return [instance for _, _, _, instance in sorted(rows, key=lambda row: row[2])]


def crowd(options: ServingOptions, capacities: tuple[int, ...]) -> Serving:
    """Return a plane with three prefill instances, and decode instances of some KV capacities."""
    serving = plane(limit=100, options=options)
    for _ in range(3):
        serving.add_instance("prefill", SPEED, group=0, location=HERE, in_rotation=True)
    for tokens in capacities:
        speed = replace(SPEED, kv_capacity_tokens=tokens)
        serving.add_instance("decode", speed, group=0, location=NEXT_NODE, in_rotation=True)
    return serving


def test_round_robin_goes_by_handle_and_passes_over_what_cannot_hold_the_request() -> None:
    serving = crowd(ServingOptions(routing=Routing.ROUND_ROBIN), (100, 30, 100))
    given_all(serving, (0, 20, 2), (200, 20, 2), (400, 20, 20), (600, 20, 2), (800, 20, 20))
    serving.advance(10_000 * MS)
    assert handles_of(serving, FIRST_TOKEN) == [0, 1, 2, 0, 1]
    # The fifth, of 40 tokens, would be the turn of handle 4, which can hold 30.
    assert handles_of(serving, JOINED) == [3, 4, 5, 3, 5]


def test_power_of_two_spreads_idle_instances_and_another_seed_picks_others() -> None:
    chosen = []
    for seed in (1, 1, 2):
        serving = crowd(ServingOptions(routing=Routing.POWER_OF_TWO, seed=seed), (100,))
        given_all(serving, *((100 * at, 20, 1) for at in range(60)))
        serving.advance(10_000 * MS)
        chosen.append(handles_of(serving, FIRST_TOKEN))
    assert chosen[0] == chosen[1] != chosen[2]
    # Of two idle picks the lower wins: of the three pairs two hold handle 0, none is won by 2.
    assert chosen[0].count(2) == 0
    assert 30 <= chosen[0].count(0) <= 50


def test_power_of_two_takes_the_less_loaded_of_its_picks() -> None:
    serving = plane(limit=100, options=ServingOptions(routing=Routing.POWER_OF_TWO))
    for _ in range(2):
        serving.add_instance("prefill", SPEED, group=0, location=HERE, in_rotation=True)
    serving.add_instance("decode", SPEED, group=0, location=NEXT_NODE, in_rotation=True)
    given_all(serving, (0, 20, 1), (0, 5, 1), (0, 10, 1), (0, 10, 1))
    serving.advance(1_000 * MS)
    assert handles_of(serving, FIRST_TOKEN) == [0, 1, 1, 1]


def test_growing_kv_preempts_the_newest_and_computes_its_kv_anew() -> None:
    serving = plane(options=ServingOptions(kv_admission=KvAdmission.GROW))
    pair(serving)
    given_all(serving, (0, 15, 40), (0, 15, 40))
    serving.advance(420 * MS)
    counters = serving.counters(420 * MS)
    assert counters.preempted == 1
    assert (counters.roles[1].running, counters.roles[1].waiting) == (1, 1)
    # From 45 on 6 steps of one, 29.1 in all; then both, 31 steps from 38 tokens on, 334.8 in all.
    assert serving.event_log().tolist()[-1] == [408_900 * MS // 1_000, PREEMPTED, 1, 1]
    assert counters.roles[1].kv_used_tokens == counters.roles[1].kv_reserved_tokens == 54
    serving.advance(1_000 * MS)
    # The older ends after 2 steps alone, 16.7 in all; the other pays 1 ms for each of its 47 tokens
    # in the first of its 8 last steps, 64.4 besides.
    assert finish_times_ms(serving) == {0: 425.6, 1: 537.0}
    decode = serving.counters(1_000 * MS).roles[1]
    assert (decode.tokens, decode.busy_ps + decode.host_ps) == (78, 492 * MS)


def test_reserved_kv_never_preempts() -> None:
    serving = plane()
    pair(serving)
    given_all(serving, (0, 15, 40), (0, 15, 40))
    serving.advance(10_000 * MS)
    assert serving.counters(10_000 * MS).preempted == 0
    assert handles_of(serving, JOINED) == [1, 1]


def two_senders() -> Serving:
    """Return a plane whose KV takes 1 ms a token alone and 0.75 ms over the one shared uplink."""
    shared = (3 * MS // 4, 1, 1)
    serving = plane(options=ServingOptions(uplink_fs_per_byte=shared))
    for node in (0, 1):
        place = (0, 0, 0, 0, node)
        serving.add_instance("prefill", SPEED, group=0, location=place, in_rotation=True)
    serving.add_instance("decode", SPEED, group=0, location=(0, 0, 0, 1, 2), in_rotation=True)
    return serving


def kv_arrivals_ps(serving: Serving) -> list[int]:
    """Return when KV arrived, in that order."""
    return [row[0] for row in serving.event_log().tolist() if row[1] == KV_ARRIVED]


def test_two_transfers_share_an_uplink_until_one_has_sent_its_last_byte() -> None:
    serving = given_all(two_senders(), (0, 13, 2), (0, 20, 2))
    serving.advance(1_000 * MS)
    # Prefilled at 23 and 30. By 30 the first has sent 7 tokens; side by side each takes 1.5 ms a
    # token, so its last byte leaves at 39. Of the second's 20 tokens 14 are left then, until 53.
    # The latency of 5 comes after the last byte and keeps no uplink busy.
    assert kv_arrivals_ps(serving) == [44 * MS, 58 * MS]


def test_a_byte_under_way_starts_again_when_another_transfer_joins() -> None:
    serving = two_senders()
    third = PS_PER_BYTE // 3
    rows = ((0, 13, 2), (third, 20, 2))
    arrival_ps, inputs, outputs = np.array(rows, np.int64).T
    serving.feed(ArrivalChunk(arrival_ps=arrival_ps, input_tokens=inputs, output_tokens=outputs))
    serving.close_arrivals()
    serving.advance(1_000 * MS)
    assert kv_arrivals_ps(serving) == [44 * MS + third, 58 * MS + third]


def test_uplinks_wide_enough_change_nothing() -> None:
    logs = []
    for shared in (None, (1, 1, 1)):
        serving = plane(options=ServingOptions(uplink_fs_per_byte=shared), limit=100)
        serving.add_instance("prefill", SPEED, group=0, location=HERE, in_rotation=True)
        serving.add_instance("decode", SPEED, group=0, location=(0, 0, 1, 1, 1), in_rotation=True)
        given_all(serving, *((7 * at, 3 + at % 5, 3) for at in range(100)))
        serving.advance(100_000 * MS)
        logs.append(serving.event_log().tolist())
    assert logs[0] == logs[1]


def test_an_uplink_without_a_time_is_turned_down() -> None:
    with pytest.raises(InvariantViolation, match="each must be ≥ 1, got"):
        plane(options=ServingOptions(uplink_fs_per_byte=(1, 0, 1)))


@pytest.mark.parametrize(
    ("permille", "arrived_ms"),
    [(0, 55.0), (500, 45.0), (1_000, 35.0)],
    ids=["nothing goes ahead", "half of it", "all of it but the first byte's way"],
)
def test_a_share_of_a_transfer_goes_ahead_during_prefill(permille: int, arrived_ms: float) -> None:
    # Prefill takes 10 + 20 ms; the KV of 20 tokens 5 + 20.
    serving = plane(options=ServingOptions(overlap_permille=permille))
    pair(serving)
    given_all(serving, (0, 20, 2))
    serving.advance(1_000 * MS)
    arrived = [row[0] for row in serving.event_log().tolist() if row[1] == KV_ARRIVED]
    assert arrived == [round(arrived_ms * MS)]


def test_no_more_goes_ahead_than_the_time_of_prefill_allows() -> None:
    # Prefill of 20 tokens takes 30 ms and sends 15 of them at 2 ms each; 5 are left.
    serving = Serving(
        prefill_token_budget=30,
        decode_max_batch=2,
        admission_limit=2,
        slo_ttft_ps=MS,
        slo_tbt_ps=MS,
        network=replace(NETWORK, fs_per_byte=(0, 2 * MS, MS, MS, MS, MS)),
        options=ServingOptions(overlap_permille=1_000),
        log=True,
    )
    pair(serving)
    given_all(serving, (0, 20, 2))
    serving.advance(1_000 * MS)
    arrived = [row[0] for row in serving.event_log().tolist() if row[1] == KV_ARRIVED]
    assert arrived == [(30 + 5 + 10) * MS]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (ServingOptions(overlap_permille=1_001), "overlap_permille"),
        (ServingOptions(cached_permille=1_001), "cached_permille"),
    ],
)
def test_a_share_outside_its_range_is_turned_down(options: ServingOptions, name: str) -> None:
    with pytest.raises(InvariantViolation, match=f"{name}: must be 0 to 1000, got 1001"):
        plane(options=options)


@pytest.mark.parametrize(
    ("permille", "computed"), [(0, 20), (499, 11), (1_000, 1)], ids=["none", "half", "all but one"]
)
def test_cached_tokens_are_neither_computed_nor_counted(permille: int, computed: int) -> None:
    # One ms a token, and 0.1 ms for each pair of a computed token and one up to it.
    serving = plane(options=ServingOptions(cached_permille=permille))
    speed = replace(SPEED, prefill_per_token2_ps=MS // 10)
    for role in ("prefill", "decode"):
        serving.add_instance(role, speed, group=0, location=HERE, in_rotation=True)
    given_all(serving, (0, 20, 2))
    serving.advance(1_000 * MS)
    first = [row[0] for row in serving.event_log().tolist() if row[1] == FIRST_TOKEN]
    pairs = 20**2 - (20 - computed) ** 2
    assert first == [(10 + computed) * MS + pairs * MS // 10]
    assert serving.counters(1_000 * MS).roles[0].tokens == computed


def test_what_an_engine_does_once_a_request_lengthens_its_batch() -> None:
    serving = plane()
    speed = replace(SPEED, prefill_per_request_ps=7 * MS)
    for role in ("prefill", "decode"):
        serving.add_instance(role, speed, group=0, location=HERE, in_rotation=True)
    given_all(serving, (0, 5, 1), (1, 10, 1), (1, 10, 1))
    serving.advance(1_000 * MS)
    first = [row[0] for row in serving.event_log().tolist() if row[1] == FIRST_TOKEN]
    assert first == [(10 + 5 + 7) * MS, *[(22 + 10 + 20 + 14) * MS] * 2]


def first_tokens_ms(serving: Serving) -> list[tuple[int, float]]:
    """Return (request, ms) of every first token."""
    return [(row[2], row[0] / MS) for row in serving.event_log().tolist() if row[1] == FIRST_TOKEN]


def test_a_prompt_in_chunks_fills_batches_and_has_its_token_when_the_last_chunk_ends() -> None:
    chunks, whole = plane(options=ServingOptions(chunked_prefill=True)), plane()
    for serving in (chunks, whole):
        pair(serving)
        given_all(serving, (0, 50, 1), (1, 20, 1))
        serving.advance(10_000 * MS)
    # 30; 20 and 10 of the second; its other 10. A batch takes 10 ms and 1 ms a token.
    assert first_tokens_ms(chunks) == [(0, 80.0), (1, 100.0)]
    assert first_tokens_ms(whole) == [(0, 60.0), (1, 90.0)]
    assert chunks.counters(10_000 * MS).roles[0].tokens == 70


def test_chunks_attend_to_the_earlier_ones_and_cost_a_request_once() -> None:
    speed = replace(
        SPEED, prefill_per_token_ps=0, prefill_per_token2_ps=MS, prefill_per_request_ps=5 * MS
    )
    serving = plane(options=ServingOptions(chunked_prefill=True))
    serving.add_instance("prefill", speed, group=0, location=HERE, in_rotation=True)
    serving.add_instance("decode", speed, group=0, location=NEXT_NODE, in_rotation=True)
    given_all(serving, (0, 40, 1))
    serving.advance(10_000 * MS)
    # 30² in the first batch, 40² - 30² and the request in the second.
    assert first_tokens_ms(serving) == [(0, 10.0 + 900.0 + 10.0 + 700.0 + 5.0)]


def test_a_cut_prompt_starts_over_whole_when_its_instance_fails() -> None:
    serving = plane(options=ServingOptions(chunked_prefill=True))
    prefill, _ = pair(serving)
    given_all(serving, (0, 50, 1))
    serving.advance(50 * MS)
    serving.fail(prefill)
    serving.add_instance("prefill", SPEED, group=0, location=HERE, in_rotation=True)
    serving.advance(10_000 * MS)
    assert first_tokens_ms(serving) == [(0, 50.0 + 40.0 + 30.0)]
