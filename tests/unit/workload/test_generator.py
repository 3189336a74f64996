"""Numbered properties of generated traffic.

1. Same spec and seed, same bytes; another seed, other requests.
2. Arrivals never decrease and lie inside the duration; lengths are at least 1 and capped.
3. The expected number of arrivals by any time is the area under the rate.
4. Gaps have the coefficient of variation that their shape says.
5. The request-weighted mean input length is kept, whatever the mix.
6. A given count is met exactly, spread as the rate says, in order and inside the duration.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.errors import ConfigError
from heteroscale.workload.arrivals import ArrivalChunk
from heteroscale.workload.generator import from_rate_curve, generate
from heteroscale.workload.lengths import LogNormalLengths, QuantileLengths
from heteroscale.workload.rate_curve import RateCurve, constant, load_curve
from heteroscale.workload.traffic import Burst, LogNoise, MixDrift, RateStep, TrafficSpec

SHORT = LogNormalLengths.with_mean(100.0, 0.5)


def spec(rate: RateCurve, duration_s: float = 1000.0) -> TrafficSpec:
    return TrafficSpec(rate=rate, duration_s=duration_s, input_lengths=SHORT, output_lengths=SHORT)


def whole(chunks: list[ArrivalChunk]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Return (arrival seconds, input tokens) of all chunks."""
    seconds = np.concatenate([chunk.arrival_ps for chunk in chunks]) / 1e12
    return seconds, np.concatenate([chunk.input_tokens for chunk in chunks])


def as_bytes(traffic: TrafficSpec, seed: int) -> bytes:
    return b"".join(
        column.tobytes()
        for chunk in generate(traffic, seed)
        for column in (chunk.arrival_ps, chunk.input_tokens, chunk.output_tokens)
    )


EVERYTHING = dataclasses.replace(
    spec(load_curve("paper_day").with_peak(20.0), 20_000.0),
    gap_shape=0.5,
    noise=(LogNoise(sd=0.2, persistence=0.9), LogNoise(sd=0.1, persistence=0.0, period_s=60.0)),
    bursts=(Burst(at_s=5000.0, duration_s=30.0, factor=5.0),),
    steps=(RateStep(at_s=9000.0, factor=0.5),),
    drift=MixDrift(amplitude=0.3, period_s=7200.0),
    mix_noise=LogNoise(sd=0.1, persistence=0.5),
)


def test_1_same_seed_same_bytes() -> None:
    assert as_bytes(EVERYTHING, 7) == as_bytes(EVERYTHING, 7)
    assert as_bytes(EVERYTHING, 7) != as_bytes(EVERYTHING, 8)


@settings(max_examples=40)
@given(
    values=st.lists(st.floats(0, 50), min_size=1, max_size=6),
    period_s=st.sampled_from([None, 777.0]),
    gap_shape=st.sampled_from([0.05, 0.23, 1.0, 4.0]),
    factor=st.sampled_from([0.0, 0.3, 5.0]),
    seed=st.integers(0, 2**32),
)
def test_2_arrivals_are_ordered_inside_the_run_and_lengths_valid(
    values: list[float], period_s: float | None, gap_shape: float, factor: float, seed: int
) -> None:
    rate = RateCurve(
        times_s=tuple(100.0 * i for i in range(len(values))),
        values=tuple(values),
        period_s=period_s,
    )
    traffic = dataclasses.replace(
        spec(rate),
        gap_shape=gap_shape,
        bursts=(Burst(at_s=150.0, duration_s=200.0, factor=factor),),
        noise=(LogNoise(sd=0.5, persistence=0.5, period_s=50.0),),
        input_lengths=LogNormalLengths(mu=1.0, sigma=3.0, max_tokens=50),
    )
    for chunk in generate(traffic, seed):
        assert chunk.arrival_ps[0] >= 0
        assert chunk.arrival_ps[-1] <= 1000 * 10**12
        assert (np.diff(chunk.arrival_ps) >= 0).all()
        assert chunk.input_tokens.min() >= 1
        assert chunk.input_tokens.max() <= 50
        assert chunk.output_tokens.min() >= 1


def test_2_order_holds_between_blocks() -> None:
    chunks = list(generate(spec(constant(500.0)), 1))
    assert len(chunks) > 5
    assert all(a.arrival_ps[-1] <= b.arrival_ps[0] for a, b in pairwise(chunks))


RAMP = RateCurve(times_s=(0.0, 400.0, 600.0, 1000.0), values=(0.0, 400.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("traffic", "expected"),
    [
        # Expected arrivals in each fifth of the run, by hand.
        pytest.param(spec(constant(200.0)), [40_000] * 5, id="constant"),
        pytest.param(spec(RAMP), [20_000, 60_000, 40_000, 0, 0], id="up, down, silence"),
        pytest.param(
            dataclasses.replace(
                spec(constant(100.0)), bursts=(Burst(at_s=250.0, duration_s=50.0, factor=5.0),)
            ),
            [20_000, 40_000, 20_000, 20_000, 20_000],
            id="burst x5 for 50 s",
        ),
        pytest.param(
            dataclasses.replace(spec(constant(100.0)), steps=(RateStep(at_s=500.0, factor=3.0),)),
            [20_000, 20_000, 40_000, 60_000, 60_000],
            id="step x3 half way",
        ),
    ],
)
def test_3_arrivals_follow_the_area_under_the_rate(
    traffic: TrafficSpec, expected: list[int]
) -> None:
    seconds, _ = whole(list(generate(traffic, 3)))
    counts = np.histogram(seconds, bins=5, range=(0.0, 1000.0))[0]
    # Poisson: five standard deviations.
    assert counts == pytest.approx(expected, abs=5 * np.sqrt(max(expected)))


def test_3_time_rescaled_gaps_on_a_ramp_are_poisson_again() -> None:
    rate = RateCurve(times_s=(0.0, 1000.0), values=(0.0, 400.0))
    seconds, _ = whole(list(generate(spec(rate), 5)))
    passed = 0.2 * seconds**2
    gaps = np.diff(passed)
    assert (gaps.mean(), gaps.std()) == pytest.approx((1.0, 1.0), rel=0.02)


@pytest.mark.parametrize("shape", [0.23, 0.87, 1.0, 4.0])
def test_4_gaps_vary_as_their_shape_says(shape: float) -> None:
    traffic = dataclasses.replace(spec(constant(200.0)), gap_shape=shape)
    seconds, _ = whole(list(generate(traffic, 2)))
    gaps = np.diff(seconds)
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(shape**-0.5, rel=0.03)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="constant mix"),
        pytest.param({"drift": MixDrift(amplitude=0.8, period_s=500.0)}, id="sinusoidal"),
        pytest.param({"mix_noise": LogNoise(sd=0.5, persistence=0.9, period_s=20.0)}, id="AR(1)"),
    ],
)
def test_5_the_mean_input_length_is_kept(change: dict[str, MixDrift | LogNoise]) -> None:
    traffic = dataclasses.replace(spec(RAMP), **change)  # type: ignore[arg-type]  # fields by name
    _, inputs = whole(list(generate(traffic, 4)))
    assert inputs.mean() == pytest.approx(100.0, rel=0.02)


def test_5_drift_moves_the_input_length_over_time() -> None:
    traffic = dataclasses.replace(
        spec(constant(300.0)), drift=MixDrift(amplitude=0.5, period_s=1000.0)
    )
    seconds, inputs = whole(list(generate(traffic, 4)))
    early, late = inputs[seconds < 500].mean(), inputs[seconds > 500].mean()
    # Mean of exp(a sin) over a half period: I0(a) ± L0(a) = 1.0635 ± 0.3272 for a = 0.5.
    assert early / late == pytest.approx(1.3907 / 0.7363, rel=0.02)


def test_noise_has_mean_one_and_the_deviation_it_says() -> None:
    noise = LogNoise.with_step_sd(0.1, persistence=0.5, period_s=10.0)
    assert noise.sd == pytest.approx(0.1)
    traffic = dataclasses.replace(spec(constant(300.0), 10_000.0), noise=(noise,))
    seconds, _ = whole(list(generate(traffic, 6)))
    counts = np.histogram(seconds, bins=1000, range=(0.0, 10_000.0))[0] / 3000
    assert counts.mean() == pytest.approx(1.0, abs=0.02)
    assert np.log(counts).std() == pytest.approx(0.1, rel=0.1)
    assert np.diff(np.log(counts)).std() == pytest.approx(0.1, rel=0.1)


def test_the_papers_day_at_a_tenth_of_its_rate() -> None:
    chunks = list(from_rate_curve(load_curve("paper_day"), peak_rps=19.0, seed=1))
    seconds, inputs = whole(chunks)
    outputs = np.concatenate([chunk.output_tokens for chunk in chunks])
    assert len(seconds) == pytest.approx(874_700, rel=0.005)
    assert (inputs.mean(), outputs.mean()) == pytest.approx((3000.0, 350.0), rel=0.005)
    assert np.histogram(seconds, 144, (0, 86_400))[0].max() / 600 == pytest.approx(19.0, rel=0.03)
    hours = np.histogram(seconds, 24, (0, 86_400))[0]
    means = np.histogram(seconds, 24, (0, 86_400), weights=inputs)[0] / hours
    mid_s = np.linspace(1800.0, 84_600.0, 24)
    assert np.corrcoef(means, load_curve("paper_day").mix_at(mid_s))[0, 1] > 0.97


def test_the_mix_can_be_left_out() -> None:
    curve = load_curve("paper_day")
    seconds, inputs = whole(list(from_rate_curve(curve, peak_rps=19.0, follow_mix=False, seed=1)))
    hours = np.histogram(seconds, 24, (0, 86_400))[0]
    means = np.histogram(seconds, 24, (0, 86_400), weights=inputs)[0] / hours
    assert means == pytest.approx(3000.0, rel=0.05)


def test_quantiles_come_out_as_they_went_in() -> None:
    known = QuantileLengths(probabilities=(0.0, 0.5, 0.9, 1.0), tokens=(1, 100, 1000, 7437))
    traffic = dataclasses.replace(spec(constant(200.0)), input_lengths=known)
    _, inputs = whole(list(generate(traffic, 1)))
    assert np.quantile(inputs, [0.5, 0.9]) == pytest.approx([100, 1000], rel=0.03)
    assert inputs.max() <= 7437
    assert known.max_tokens == 7437


def test_no_rate_no_requests() -> None:
    assert list(generate(spec(constant(0.0)), 1)) == []


def test_a_bad_specification_is_told_at_once_and_whole() -> None:
    bad = dataclasses.replace(
        spec(constant(-1.0), 0.0),
        gap_shape=float("nan"),
        bursts=(Burst(at_s=-1.0, duration_s=0.0, factor=-2.0),),
        steps=(RateStep(at_s=-1.0, factor=float("inf")),),
        noise=(LogNoise(sd=-1.0, persistence=1.0, period_s=0.0),),
        mix_noise=LogNoise(sd=0.1, persistence=-0.1),
        drift=MixDrift(amplitude=float("inf"), period_s=1.0),
    )
    with pytest.raises(ConfigError) as caught:
        generate(bad, 1)
    assert [problem.path for problem in caught.value.problems] == [
        "duration_s",
        "gap_shape",
        "rate.values[0]",
        "bursts[0].at_s",
        "bursts[0].duration_s",
        "bursts[0].factor",
        "steps[0].at_s",
        "steps[0].factor",
        "noise[0].sd",
        "noise[0].persistence",
        "noise[0].period_s",
        "mix_noise.persistence",
        "drift.period_s",
        "drift.amplitude",
    ]


@settings(max_examples=40)
@given(
    values=st.lists(st.floats(0, 50), min_size=1, max_size=6).filter(lambda rates: max(rates) > 1),
    gap_shape=st.sampled_from([0.05, 0.23, 1.0, 4.0]),
    requests=st.sampled_from([1, 2, 999, 65_536, 65_537]),
    seed=st.integers(0, 2**32),
)
def test_6_a_given_count_is_met_exactly(
    values: list[float], gap_shape: float, requests: int, seed: int
) -> None:
    rate = RateCurve(
        times_s=tuple(100.0 * i for i in range(len(values))), values=tuple(values), period_s=777.0
    )
    wanted = dataclasses.replace(spec(rate), gap_shape=gap_shape, requests=requests)
    seconds, inputs = whole(list(generate(wanted, seed)))
    assert len(seconds) == len(inputs) == requests
    assert np.all(np.diff(seconds) >= 0)
    assert seconds[0] >= 0
    assert seconds[-1] <= 1000.0


def test_6_a_given_count_follows_the_rate() -> None:
    rising = RateCurve(times_s=(0.0, 1000.0), values=(0.0, 2.0))
    seconds, _ = whole(list(generate(dataclasses.replace(spec(rising), requests=200_000), 3)))
    # Under a straight line from 0, a quarter of the area lies in the first half.
    assert np.searchsorted(seconds, 500.0) == pytest.approx(50_000, rel=0.02)


@pytest.mark.parametrize(
    ("requests", "rate", "path"),
    [
        pytest.param(0, constant(1.0), "requests", id="no requests at all"),
        pytest.param(5, constant(0.0), "rate", id="nowhere to put them"),
    ],
)
def test_6_an_impossible_count_is_refused(requests: int, rate: RateCurve, path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        generate(dataclasses.replace(spec(rate), requests=requests), 1)
    assert [problem.path for problem in refused.value.problems] == [path]
