"""From when tokens came to step times: exact where the times are exact."""

from __future__ import annotations

import pytest

from heteroscale.entities.service import Stage
from heteroscale.performance.endpoint_estimate import (
    Measured,
    Shape,
    Streamed,
    Timing,
    batch_error,
    columns,
    counted,
    decode_point,
    decode_timing,
    observed,
    prefill_timing,
    table_of,
)
from heteroscale.performance.endpoint_plan import Wave
from heteroscale.performance.fit import DecodePoint
from heteroscale.performance.table import LatencyTable, Source
from heteroscale.performance.table_file import parse_tables, tables_text

SHAPE = Shape(
    accelerator="H20",
    gpus=8,
    parallelism="tp8",
    kv_bytes_per_token=70_272,
    kv_capacity_tokens=100_000,
)
SOURCE = Source(name="heteroscale profile http://here/v1", version="2026-05-01", licence="own")


def answer(first_s: float, gap_s: float, tokens: int, *, prompt: int = 100) -> Streamed:
    """Return a request sent at 0 whose tokens come one by one."""
    return Streamed(
        sent_s=0.0,
        arrivals=tuple((first_s + gap_s * place, place + 1.0) for place in range(tokens)),
        prompt_tokens=prompt,
        answer_tokens=tokens,
    )


def point(tokens: float, requests: int, ms: float) -> Timing:
    return Timing(tokens=tokens, requests=requests, ms=ms, spread=0.01)


def measured(*, batches: tuple[Timing, ...] = ()) -> Measured:
    """Return times of 8 + 0.05 T ms and of 9 + 0.1 n + 0.00002 K ms."""
    return Measured(
        prefill=tuple(point(tokens, 1, 8 + 0.05 * tokens) for tokens in (100, 1000, 4000)),
        batches=batches,
        decode=tuple(
            point(context, batch, 9 + 0.1 * batch + 2e-5 * batch * context)
            for batch in (1, 8, 32)
            for context in (500, 4000)
        ),
        left_out=("decode 64 x 500: the time was up",),
        cached_share=0.0,
    )


def table(seen: Measured) -> LatencyTable:
    return table_of(seen, "tiny", SHAPE, SOURCE)


@pytest.mark.parametrize(
    ("running", "arrivals"),
    [
        pytest.param([2, 3, 6], ((1.0, 2.0), (2.0, 3.0), (3.0, 6.0)), id="counted along"),
        pytest.param([None] * 3, ((1.0, 2.0), (2.0, 4.0), (3.0, 6.0)), id="shared out evenly"),
        pytest.param([1, None, 6], ((1.0, 2.0), (2.0, 4.0), (3.0, 6.0)), id="counted in part"),
    ],
)
def test_tokens_are_the_endpoints_count_not_the_chunks(
    running: list[int | None], arrivals: tuple[tuple[float, float], ...]
) -> None:
    assert counted([1.0, 2.0, 3.0], running, 6) == arrivals


def test_only_steps_count_in_which_all_of_a_wave_decode() -> None:
    # The first runs alone, faster, until the second is there; and again after it has gone.
    alone = [(0.01 * place, 1.0 + place) for place in range(10)]
    together = [(0.1 + 0.02 * place, 11.0 + place) for place in range(11)]
    after = [(0.31 + 0.01 * place, 22.0 + place) for place in range(10)]
    first = Streamed(0.0, (*alone, *together, *after), prompt_tokens=100, answer_tokens=31)
    second = answer(0.1, 0.02, 11, prompt=300)
    found = decode_point([first, second])
    # Meanwhile the first holds 100 + 16 tokens on average, the second 300 + 6.
    assert found is not None
    assert (found.batch, found.context, round(found.ms, 9)) == (2, 211.0, 20.0)


@pytest.mark.parametrize(
    "second",
    [answer(5.0, 0.01, 50), answer(0.45, 0.01, 50), answer(0.0, 0.01, 2)],
    ids=["after the first", "at its end", "too short"],
)
def test_answers_that_hardly_overlap_give_no_time(second: Streamed) -> None:
    assert decode_point([answer(0.0, 0.01, 50), second]) is None


def test_a_wave_has_the_median_of_its_repeats_and_how_far_they_lie_apart() -> None:
    decode = Wave(stage=Stage.DECODE, requests=1, prompt_tokens=100, answer_tokens=11)
    repeats = [[answer(0.05, gap_s, 11)] for gap_s in (0.010, 0.012, 0.011)]
    expected = Timing(tokens=106, requests=1, ms=11.0, spread=0.1818)
    assert decode_timing(decode, repeats) == expected
    assert decode_timing(decode, [[answer(0.05, 0.01, 3)]]) is None
    prefill = Wave(stage=Stage.PREFILL, requests=2, prompt_tokens=100, answer_tokens=2)
    # A batch is done when the last of its prompts has its first token.
    assert prefill_timing(prefill, [[answer(0.04, 0.01, 2), answer(0.06, 0.01, 2)]]) == Timing(
        tokens=100, requests=2, ms=60.0, spread=0.0
    )


def test_contexts_that_nearly_agree_are_one_column() -> None:
    timings = [point(tokens, 1, 1.0) for tokens in (500, 506, 511, 2000, 508)]
    assert columns(timings) == (505, 505, 511, 2000, 505)


def test_the_table_holds_the_times_and_gives_back_what_made_them() -> None:
    found = table(measured())
    assert found.prefill_ms == pytest.approx((8.0, 0.05, 0.0), abs=1e-6)
    fit = found.decode_fit
    assert (fit.base, fit.per_sequence, fit.per_kv_token) == pytest.approx(
        (9.0, 0.1, 2e-5), rel=1e-6
    )
    assert found.decode[0] == DecodePoint(1, 500, 9.11)
    text = tables_text([found], {("H20", 8): observed(measured(), found)})
    assert parse_tables(text, "profile.json") == {("H20", 8): found}
    assert '"left_out": ["decode 64 x 500: the time was up"]' in text


@pytest.mark.parametrize(
    ("ms", "error"),
    [
        (8 + 2 * 50.0, 0.0),
        (16 + 2 * 50.0, 0.0),
        (2 * 116.0, 0.5),
        (54.0, 1.0),
    ],
    ids=["as one batch", "the first on its own", "slower", "faster"],
)
def test_a_prefill_batch_checks_the_fit(ms: float, error: float) -> None:
    seen = measured(batches=(point(1000, 2, ms),))
    assert batch_error(table(seen), seen.batches) == pytest.approx(error, abs=1e-4)
    assert observed(seen, table(seen))["prefill_batch_error"] == pytest.approx(error, abs=1e-4)


def test_without_batches_there_is_nothing_to_check() -> None:
    assert batch_error(table(measured()), ()) is None
    assert observed(measured(), table(measured()))["prefill_batch_error"] is None


@pytest.mark.parametrize(
    ("prefill", "decode", "enough"), [(3, 6, True), (2, 6, False), (3, 2, False)]
)
def test_three_lengths_and_three_steps_are_enough(prefill: int, decode: int, enough: bool) -> None:
    whole = measured()
    part = Measured(
        prefill=whole.prefill[:prefill],
        batches=(),
        decode=whole.decode[:decode],
        left_out=(),
        cached_share=0.0,
    )
    assert part.enough is enough
