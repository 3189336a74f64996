"""What co-located engines do, in figures that can be worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from heteroscale.errors import InvariantViolation
from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.colocated import ColocatedServing, EngineSettings, PoolCounters
from heteroscale.sim.kernel_counters import InstanceCounters, Tally
from heteroscale.sim.serving import KvAdmission, PrefixCache, Routing, ServingOptions
from heteroscale.workload.arrivals import ArrivalChunk
from tests.unit.sim.scenarios import MS
from tests.unit.sim.twin_parts import FINISHED, FIRST_TOKEN, JOINED, PREEMPTED, REFUSED

# A step takes 2 ms, 1 ms a decoding sequence, 0.1 ms a KV token and 1 ms a prompt token.
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
SETTINGS = EngineSettings(token_budget=20, max_sequences=4)


def served(
    *rows: tuple[int, int, int],
    settings: EngineSettings = SETTINGS,
    speed: StepCoefficients = SPEED,
    options: ServingOptions | None = None,
    until_ps: int = 10_000 * MS,
) -> ColocatedServing:
    """Return one engine that has served requests: (arrival in ms, input, output tokens)."""
    serving = ColocatedServing(
        [speed],
        settings,
        admission_limit=8,
        slo_ttft_ps=40 * MS,
        slo_tbt_ps=20 * MS,
        options=options or ServingOptions(),
        log=True,
    )
    table = np.array(rows, np.int64)
    serving.feed(
        ArrivalChunk(
            arrival_ps=table[:, 0] * MS,
            input_tokens=table[:, 1].astype(np.int32),
            output_tokens=table[:, 2].astype(np.int32),
        )
    )
    serving.close_arrivals()
    serving.advance(until_ps)
    return serving


def times_ms(serving: ColocatedServing, kind: int) -> list[tuple[int, float]]:
    """Return (request, ms) of every event of a kind."""
    return [(row[2], row[0] / MS) for row in serving.event_log().tolist() if row[1] == kind]


def test_one_request_has_its_prompt_in_one_step_and_a_token_in_each_after() -> None:
    serving = served((0, 10, 3), until_ps=15 * MS)
    # 2 + 10; then 2 + 1 + 1.1 and 2 + 1 + 1.2.
    assert times_ms(serving, FIRST_TOKEN) == [(0, 12.0)]
    assert serving.counters(15 * MS) == PoolCounters(
        at_ps=15 * MS,
        arrived=Tally(requests=1, input_tokens=10, output_tokens=3),
        completed=Tally(requests=0, input_tokens=0, output_tokens=0),
        refused=Tally(requests=0, input_tokens=0, output_tokens=0),
        attained=0,
        first_tokens=1,
        preempted=0,
        prompt_tokens=10,
        generated_tokens=1,
    )
    # 3 ms into the step: 1 ms of the host, 2 ms busy.
    assert serving.engine_counters(0) == InstanceCounters(
        tokens=1,
        busy_ps=13 * MS,
        host_ps=2 * MS,
        waiting=0,
        running=1,
        outstanding=1,
        kv_reserved_tokens=13,
        kv_used_tokens=11,
        kv_capacity_tokens=100,
    )
    serving.advance(30 * MS)
    assert times_ms(serving, FINISHED) == [(0, 20.3)]


def test_a_prompt_rides_on_the_steps_of_those_that_decode() -> None:
    # The second arrives in the step from 12 to 16.1; the next one computes its prompt as well.
    serving = served((0, 10, 4), (14, 5, 2))
    assert times_ms(serving, FIRST_TOKEN) == [(0, 12.0), (1, pytest.approx(16.1 + 4.2 + 5))]


def test_a_long_prompt_goes_over_several_steps_beside_the_others() -> None:
    settings = dataclasses.replace(SETTINGS, token_budget=6)
    serving = served((0, 4, 4), (1, 12, 1), settings=settings)
    # 6; chunks of 5, 5 and 2 beside one sequence of 5, 6 and 7 tokens.
    assert times_ms(serving, FIRST_TOKEN) == [
        (0, 6.0),
        (1, pytest.approx(6 + 8.5 + 8.6 + 5.7)),
    ]


def test_a_later_chunk_attends_to_the_earlier_ones() -> None:
    speed = dataclasses.replace(SPEED, prefill_per_token_ps=0, prefill_per_token2_ps=MS)
    settings = dataclasses.replace(SETTINGS, token_budget=4)
    whole = served((0, 6, 1), speed=speed)
    chunks = served((0, 6, 1), speed=speed, settings=settings)
    # 2 + 36, or 2 + 16 and 2 + 20.
    assert times_ms(whole, FIRST_TOKEN) == [(0, 38.0)]
    assert times_ms(chunks, FIRST_TOKEN) == [(0, 40.0)]


def test_without_chunks_a_prompt_waits_until_the_budget_holds_it_and_the_first_always_goes() -> (
    None
):
    settings = dataclasses.replace(SETTINGS, token_budget=10, chunked_prefill=False)
    serving = served((0, 30, 1), (1, 6, 1), (2, 6, 1), settings=settings)
    assert times_ms(serving, FIRST_TOKEN) == [(0, 32.0), (1, 40.0), (2, 48.0)]


def test_a_prompt_s_first_tokens_hide_behind_the_weights_beside_those_that_decode() -> None:
    speed = dataclasses.replace(SPEED, hidden_tokens=6, hidden_per_token_ps=MS // 2)
    # Six tokens of the first prompt cost half; five of the second, beside one sequence.
    serving = served((0, 10, 4), (14, 8, 2), speed=speed)
    assert times_ms(serving, FIRST_TOKEN) == [
        (0, 9.0),
        (1, pytest.approx(9 + 4.1 + 4.2 + 4.3 + 8 - 2.5)),
    ]


def test_a_step_made_up_ahead_leaves_out_who_comes_during_the_one_before() -> None:
    ahead = dataclasses.replace(SETTINGS, schedules_ahead=True)
    # The second comes in the step from 12 to 16.1: it is not in the next, which ends at 20.3.
    late = served((0, 10, 5), (14, 5, 2), settings=ahead)
    assert times_ms(late, FIRST_TOKEN) == [(0, 12.0), (1, pytest.approx(20.3 + 4.3 + 5))]
    # Nothing is made up ahead when the step under way is the last: it starts when that ends.
    alone = served((0, 10, 1), (5, 5, 1), settings=ahead)
    assert times_ms(alone, FIRST_TOKEN) == [(0, 12.0), (1, 19.0)]


def test_a_cached_share_is_not_computed() -> None:
    serving = served((0, 10, 1), options=ServingOptions(cached_permille=500))
    assert times_ms(serving, FIRST_TOKEN) == [(0, 7.0)]
    assert serving.counters(10_000 * MS).prompt_tokens == 5


def test_the_way_to_the_queue_counts_towards_the_first_token_and_blocks_nobody() -> None:
    settings = dataclasses.replace(SETTINGS, ingress_ps=30 * MS)
    serving = served((0, 10, 1), (0, 10, 1), settings=settings)
    assert times_ms(serving, FIRST_TOKEN) == [(0, 42.0), (1, 54.0)]
    # Past the limit of 40 ms with the way, not without.
    assert serving.counters(10_000 * MS).attained == 0
    assert served((0, 10, 1), (0, 10, 1)).counters(10_000 * MS).attained == 2


def test_what_the_engine_spends_once_a_request_is_in_the_step_that_completes_its_prompt() -> None:
    speed = dataclasses.replace(SPEED, prefill_per_request_ps=7 * MS)
    serving = served((0, 30, 1), speed=speed)
    assert times_ms(serving, FIRST_TOKEN) == [(0, 22.0 + 12.0 + 7.0)]


def test_the_newest_gives_way_when_the_next_token_of_all_does_not_fit() -> None:
    speed = dataclasses.replace(SPEED, kv_capacity_tokens=30)
    growing = ServingOptions(kv_admission=KvAdmission.GROW)
    serving = served((0, 10, 9), (0, 10, 9), speed=speed, options=growing)
    # The first starts alone. 15 and 14 tokens are held when two more do not fit into 30.
    assert [request for request, _ in times_ms(serving, PREEMPTED)] == [1]
    assert [request for request, _ in times_ms(serving, JOINED)] == [0, 1, 1]
    assert serving.counters(10_000 * MS).preempted == 1
    # Its second prompt is its first and the four tokens that it had.
    assert serving.counters(10_000 * MS).prompt_tokens == 10 + 10 + 14
    reserved = served((0, 10, 9), (0, 10, 9), speed=speed)
    assert times_ms(reserved, PREEMPTED) == []


@pytest.mark.parametrize(
    "options",
    [
        ServingOptions(prefix_cache=PrefixCache()),
        ServingOptions(decode_routing=Routing.TOPOLOGY_AWARE),
    ],
)
def test_what_only_separate_roles_have_is_refused(options: ServingOptions) -> None:
    with pytest.raises(InvariantViolation, match="neither prefix caches nor decode"):
        ColocatedServing(
            [SPEED],
            SETTINGS,
            admission_limit=8,
            slo_ttft_ps=MS,
            slo_tbt_ps=MS,
            options=options,
        )


def test_a_request_that_no_engine_can_hold_is_refused() -> None:
    serving = served((0, 99, 2))
    assert times_ms(serving, REFUSED) == [(0, 0.0)]
    assert serving.counters(10_000 * MS).refused.requests == 1


@pytest.mark.parametrize(
    ("engines", "settings", "said"),
    [
        pytest.param(0, SETTINGS, "at least one", id="an empty pool"),
        pytest.param(
            1, EngineSettings(token_budget=3, max_sequences=4), "max_sequences", id="more than fit"
        ),
        pytest.param(
            1, EngineSettings(token_budget=3, max_sequences=0), "max_sequences", id="no sequence"
        ),
        pytest.param(
            1, dataclasses.replace(SETTINGS, ingress_ps=-1), "ingress_ps", id="before it arrives"
        ),
    ],
)
def test_settings_that_no_step_can_keep_are_refused(
    engines: int, settings: EngineSettings, said: str
) -> None:
    with pytest.raises(InvariantViolation, match=said):
        ColocatedServing(
            [SPEED] * engines,
            settings,
            admission_limit=8,
            slo_ttft_ps=MS,
            slo_tbt_ps=MS,
            options=ServingOptions(),
        )


def test_a_pool_larger_than_the_first_arrays_serves() -> None:
    pool = ColocatedServing(
        [SPEED] * 40,
        SETTINGS,
        admission_limit=8,
        slo_ttft_ps=40 * MS,
        slo_tbt_ps=20 * MS,
        options=ServingOptions(),
    )
    pool.feed(
        ArrivalChunk(
            arrival_ps=np.zeros(2_000, np.int64),
            input_tokens=np.full(2_000, 10, np.int32),
            output_tokens=np.full(2_000, 2, np.int32),
        )
    )
    pool.close_arrivals()
    pool.advance(10_000 * MS)
    assert pool.idle
    counters = pool.counters(10_000 * MS)
    assert counters.completed.requests + counters.refused.requests == 2_000
    assert {pool.engine_counters(handle).tokens for handle in range(40)} == {
        counters.generated_tokens // 40
    }
