from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.performance.fit import (
    DecodeFit,
    DecodePoint,
    FitError,
    decode_fit,
    fit_error,
    monotone,
    monotone_decode,
    non_negative_fit,
)

TIMES = st.lists(st.floats(0.1, 1000.0), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("values", "cleaned"),
    [
        pytest.param((1.0, 2.0, 3.0), (1.0, 2.0, 3.0), id="rising stays as it is"),
        pytest.param((1.0, 4.0, 2.0, 5.0), (1.0, 3.0, 3.0, 5.0), id="a fall becomes the mean"),
        pytest.param((3.0, 2.0, 1.0), (2.0, 2.0, 2.0), id="falling all the way is one mean"),
        pytest.param((), (), id="nothing stays nothing"),
    ],
)
def test_monotone(values: tuple[float, ...], cleaned: tuple[float, ...]) -> None:
    assert monotone(values) == cleaned


@given(TIMES)
@settings(max_examples=50)
def test_monotone_never_falls_and_keeps_the_sum(values: list[float]) -> None:
    cleaned = monotone(values)
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(cleaned))
    assert sum(cleaned) == pytest.approx(sum(values))


def test_decode_times_are_cleaned_along_both_axes_and_keep_their_order() -> None:
    points = (
        DecodePoint(2, 100, 4.0),  # faster than one sequence
        DecodePoint(1, 100, 6.0),
        DecodePoint(1, 200, 7.0),
        DecodePoint(2, 200, 7.0),
    )
    assert monotone_decode(points) == (
        DecodePoint(2, 100, 5.0),
        DecodePoint(1, 100, 5.0),
        DecodePoint(1, 200, 7.0),
        DecodePoint(2, 200, 7.0),
    )


def test_exact_figures_give_back_their_coefficients() -> None:
    tokens = (256.0, 1024.0, 4096.0, 16_384.0)
    rows = [(1.0, t, t * t) for t in tokens]
    values = [2.5 + 0.03 * t + 4e-7 * t * t for t in tokens]
    assert non_negative_fit(rows, values) == pytest.approx((2.5, 0.03, 4e-7), rel=1e-9)


def test_no_coefficient_becomes_negative() -> None:
    # A plain least-squares line through these has a negative base.
    fitted = non_negative_fit([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)], [1.0, 3.0, 5.0])
    assert fitted[0] == 0.0
    assert fitted[1] == pytest.approx((1 + 2 / 3 + 3 / 5) / (1 + 4 / 9 + 9 / 25))


def test_columns_that_depend_on_each_other_leave_one_out() -> None:
    # Every step at the same context: sequences and KV tokens cannot be told apart.
    rows = [(1.0, batch, batch * 576.0) for batch in (1.0, 8.0, 64.0)]
    base, sequence, kv_token = non_negative_fit(rows, [10.0, 17.0, 73.0])
    assert base == pytest.approx(9.0)
    assert sequence + 576.0 * kv_token == pytest.approx(1.0)
    assert 0.0 in (sequence, kv_token)


def steps(fit: DecodeFit, *batches: float, wave: float = 0.0) -> list[DecodePoint]:
    """Return measured steps that a fit gives, every other one off by a share up and down."""
    return [
        DecodePoint(
            batch, context, fit.step_ms(batch, context) * (1 + wave * (-1) ** (row + column))
        )
        for row, batch in enumerate(batches)
        for column, context in enumerate((512, 2048, 8192))
    ]


STRAIGHT = DecodeFit(10.0, 0.05, 2e-5)
BENT = DecodeFit(10.0, 0.02, 2e-5, 64, 0.3)
BATCHES = (1, 8, 64, 128, 256)


def parts(fit: DecodeFit) -> tuple[float, ...]:
    return (fit.base, fit.per_sequence, fit.per_kv_token, fit.per_sequence_beyond)


@pytest.mark.parametrize(
    "bent",
    [
        pytest.param(BENT, id="steeper beyond it"),
        pytest.param(DecodeFit(10.0, 0.3, 2e-5, 64, 0.02), id="flatter beyond it"),
    ],
)
def test_a_bend_is_found_where_step_times_have_one(bent: DecodeFit) -> None:
    found = decode_fit(steps(bent, *BATCHES))
    assert found.bend == 64
    assert parts(found) == pytest.approx(parts(bent), rel=1e-6)


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(steps(STRAIGHT, *BATCHES), id="straight"),
        pytest.param(steps(STRAIGHT, *BATCHES, wave=0.05), id="noisy, not bent"),
        pytest.param(steps(DecodeFit(10.0, 0.02, 2e-5, 64, 0.025), *BATCHES), id="hardly bent"),
        pytest.param(steps(BENT, 8, 64, 256), id="too few points"),
        pytest.param(steps(BENT, 64, 64, 256, 256), id="no batch between others"),
    ],
)
def test_no_bend_without_a_reason(points: list[DecodePoint]) -> None:
    fit = decode_fit(points)
    assert (fit.bend, fit.per_sequence_beyond) == (None, 0.0)


@given(
    st.lists(
        st.tuples(st.floats(0.3, 512), st.sampled_from([512.0, 4096.0]), st.floats(0.1, 500)),
        min_size=12,
        max_size=20,
    )
)
@settings(max_examples=50, deadline=None)
def test_fitted_steps_never_fall_with_sequences_or_context(
    rows: list[tuple[float, float, float]],
) -> None:
    fit = decode_fit([DecodePoint(*row) for row in rows])
    for context in (0.0, 512.0, 4096.0):
        times = [fit.step_ms(batch, context) for batch in range(600)]
        assert all(later >= earlier * (1 - 1e-12) for earlier, later in itertools.pairwise(times))
    assert min(parts(fit)) >= 0


def test_the_error_of_a_fit() -> None:
    assert fit_error([12.0, 8.0, 5.0], [8.0, 8.0, 8.0]) == FitError(median=0.375, max=0.5)
