"""What holds for every run of co-located serving.

1. The kernel and its one-step-at-a-time twin agree on every event, time, histogram and counter.
2. Arrived = completed + refused + running, in requests and tokens.
3. A request arrives, joins, has its first token and finishes in that order; it joins anew after
   each preemption, and nothing is preempted where KV is reserved.
4. KV held never exceeds KV reserved, nor that the capacity.
5. No engine idles while a request waits on it.
6. Reading, and time let by in pieces, change nothing.
7. Every token of every prompt is computed once where nothing is preempted, but for those cached.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.colocated import ColocatedServing, EngineSettings
from heteroscale.sim.serving import AdvanceStatus, KvAdmission, Routing, ServingOptions
from heteroscale.workload.arrivals import ArrivalChunk
from tests.unit.sim.scenarios import MS, decode_pieces, speed
from tests.unit.sim.twin_colocated import TwinPool
from tests.unit.sim.twin_parts import ARRIVED, FINISHED, FIRST_TOKEN, JOINED, PREEMPTED, REFUSED

FAR_PS = 1_000_000 * MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One scenario: the pool, its traffic, and when it is looked at."""

    engines: tuple[StepCoefficients, ...]
    settings: EngineSettings
    options: ServingOptions
    limit: int
    arrivals: tuple[tuple[int, int, int], ...]
    pauses: tuple[int, ...]


lengths = st.one_of(
    st.tuples(st.integers(1, 700), st.one_of(st.just(1), st.integers(2, 60))),
    # Several of these fit the smallest KV at first, and not when they end.
    st.tuples(st.integers(1, 50), st.integers(30, 60)),
    # Prompts of many chunks, beside which the others outgrow the KV.
    st.tuples(st.integers(40, 80), st.integers(10, 40)),
)


@st.composite
def traffic(draw: st.DrawFn) -> tuple[tuple[int, int, int], ...]:
    """Draw requests at whole and odd times, several at one instant among them."""
    most_ms = draw(st.sampled_from([4, 40]))
    gaps = st.one_of(
        st.just(0), st.integers(0, most_ms * MS), st.integers(0, most_ms).map(lambda ms: ms * MS)
    )
    now_ps = 0
    rows = []
    for gap, (inputs, outputs) in draw(st.lists(st.tuples(gaps, lengths), max_size=40)):
        now_ps += gap
        rows.append((now_ps, inputs, outputs))
    return tuple(rows)


@st.composite
def engine_settings(draw: st.DrawFn) -> EngineSettings:
    """Draw budgets from a token a sequence to more than any prompt."""
    most = draw(st.integers(1, 7))
    return EngineSettings(
        token_budget=most + draw(st.integers(0, 3) | st.integers(0, 40) | st.integers(0, 900)),
        max_sequences=most,
        chunked_prefill=draw(st.booleans()),
        ingress_ps=draw(st.one_of(st.just(0), st.integers(0, 20 * MS))),
        schedules_ahead=draw(st.booleans()),
    )


scripts = st.builds(
    Script,
    engines=st.lists(
        st.builds(
            speed,
            factor=st.integers(1, 3),
            kv_capacity_tokens=st.integers(200, 1_500) | st.integers(100, 200),
            decode_pieces=st.just(()) | decode_pieces,
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    settings=engine_settings(),
    options=st.builds(
        ServingOptions,
        routing=st.sampled_from([Routing.LEAST_LOADED, Routing.ROUND_ROBIN, Routing.POWER_OF_TWO]),
        kv_admission=st.sampled_from(list(KvAdmission)),
        cached_permille=st.just(0) | st.integers(0, 1_000),
        seed=st.integers(0, 2**40),
    ),
    limit=st.integers(1, 8),
    arrivals=traffic(),
    pauses=st.lists(st.integers(0, 1_500 * MS), max_size=8).map(lambda times: tuple(sorted(times))),
)


def pool(script: Script) -> ColocatedServing:
    return ColocatedServing(
        script.engines,
        script.settings,
        admission_limit=script.limit,
        slo_ttft_ps=60 * MS,
        slo_tbt_ps=9 * MS,
        options=script.options,
        log=True,
    )


def advance(
    serving: ColocatedServing, chunks: list[list[tuple[int, int, int]]], until_ps: int
) -> None:
    while serving.advance(until_ps) is AdvanceStatus.NEEDS_ARRIVALS:
        if not chunks:
            serving.close_arrivals()
            continue
        rows = np.array(chunks.pop(0), np.int64)
        serving.feed(
            ArrivalChunk(
                arrival_ps=rows[:, 0],
                input_tokens=rows[:, 1].astype(np.int32),
                output_tokens=rows[:, 2].astype(np.int32),
            )
        )


def split(script: Script, size: int) -> list[list[tuple[int, int, int]]]:
    rows = list(script.arrivals)
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def check(serving: ColocatedServing, twin: TwinPool) -> None:
    """Assert properties 1, 2, 4 and 5 at the present moment."""
    assert [tuple(row) for row in serving.event_log().tolist()] == twin.log
    counters = serving.counters(twin.now)
    assert counters == twin.counters()
    assert serving.ttft_histogram().tolist() == twin.ttft
    assert serving.tbt_histogram().tolist() == twin.tbt
    gone = len(twin.completed) + len(twin.refused)
    owed = 0
    for engine in twin.engines:
        reading = serving.engine_counters(engine.handle)
        assert reading == twin.engine_counters(engine.handle)
        assert reading.kv_used_tokens <= reading.kv_reserved_tokens <= reading.kv_capacity_tokens
        assert reading.running > 0 or reading.waiting == 0
        owed += reading.outstanding
    assert counters.arrived.requests == gone + owed


def play(script: Script) -> tuple[ColocatedServing, TwinPool]:
    serving = pool(script)
    twin = TwinPool(
        script.engines,
        script.settings,
        admission_limit=script.limit,
        slo_ttft_ps=60 * MS,
        slo_tbt_ps=9 * MS,
        options=script.options,
    )
    twin.feed(script.arrivals)
    chunks = split(script, 4)
    for until_ps in (*script.pauses, FAR_PS):
        advance(serving, chunks, until_ps)
        twin.advance(until_ps)
        check(serving, twin)
    return serving, twin


@settings(max_examples=120, deadline=None)
@given(scripts)
def test_1_2_4_5_kernel_and_twin_agree_and_every_moment_is_sound(script: Script) -> None:
    serving, twin = play(script)
    assert serving.idle
    assert len(twin.completed) + len(twin.refused) == len(script.arrivals)


@settings(max_examples=40, deadline=None)
@given(scripts)
def test_3_7_every_request_goes_forward_only_and_every_prompt_is_computed(script: Script) -> None:
    serving = pool(script)
    advance(serving, split(script, 1_000), FAR_PS)
    log = serving.event_log().tolist()
    assert [row[0] for row in log] == sorted(row[0] for row in log)
    preempts = script.options.kv_admission is KvAdmission.GROW
    computed = 0
    for request, (arrival_ps, inputs, _) in enumerate(script.arrivals):
        kinds = [kind for _, kind, number, _ in log if number == request]
        queued_ps = next(time_ps for time_ps, _, number, _ in log if number == request)
        assert queued_ps == arrival_ps + script.settings.ingress_ps
        if kinds == [REFUSED]:
            continue
        assert [kind for kind in kinds if kind not in (JOINED, PREEMPTED)] == [
            ARRIVED,
            FIRST_TOKEN,
            FINISHED,
        ]
        moves = [kind for kind in kinds if kind in (JOINED, PREEMPTED)]
        assert moves == [JOINED, *[PREEMPTED, JOINED] * (len(moves) // 2)]
        assert preempts or moves == [JOINED]
        computed += inputs - min(inputs - 1, inputs * script.options.cached_permille // 1000)
    counters = serving.counters(FAR_PS)
    assert counters.prompt_tokens >= computed
    assert counters.preempted > 0 or counters.prompt_tokens == computed
    assert counters.generated_tokens == counters.completed.output_tokens


@settings(max_examples=40, deadline=None)
@given(scripts)
def test_6_reading_and_pausing_change_nothing(script: Script) -> None:
    whole, pieces = pool(script), pool(script)
    chunks = split(script, 3)
    for pause_ps in script.pauses:
        advance(pieces, chunks, pause_ps)
        pieces.counters(pause_ps)
        pieces.tbt_histogram()
    advance(pieces, chunks, FAR_PS)
    advance(whole, split(script, 1_000), FAR_PS)
    assert pieces.event_log().tolist() == whole.event_log().tolist()
    assert pieces.counters(FAR_PS) == whole.counters(FAR_PS)
    assert pieces.tbt_histogram().tolist() == whole.tbt_histogram().tolist()
