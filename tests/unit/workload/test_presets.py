"""Generated statistics against the published figures; tolerances are those of docs/traces.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from heteroscale.errors import ConfigError
from heteroscale.workload.presets import PRESETS, from_preset, preset

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Requests:
    seconds: Array
    inputs: Array
    outputs: Array


def drawn(name: str, duration_s: float, mean_rps: float | None = None) -> Requests:
    chunks = list(from_preset(name, duration_s=duration_s, seed=3, mean_rps=mean_rps))
    return Requests(
        np.concatenate([chunk.arrival_ps for chunk in chunks]) / 1e12,
        np.concatenate([chunk.input_tokens for chunk in chunks]).astype(np.float64),
        np.concatenate([chunk.output_tokens for chunk in chunks]).astype(np.float64),
    )


def dispersion(seconds: Array, window_s: float) -> float:
    """Return variance over mean of the counts in whole windows."""
    counts = np.bincount((seconds // window_s).astype(np.int64))[:-1]
    return float(counts.var() / counts.mean())


def gap_shape(seconds: Array) -> float:
    """Return the maximum-likelihood gamma shape of the gaps (Minka's closed form)."""
    gaps = np.diff(seconds)
    gaps = gaps[gaps > 0]
    spread = np.log(gaps.mean()) - np.log(gaps).mean()
    return float((3 - spread + np.sqrt((spread - 3) ** 2 + 24 * spread)) / (12 * spread))


@pytest.mark.parametrize(
    ("name", "rps", "inputs", "outputs", "means"),
    [
        pytest.param(
            "azure2023_code",
            2.57,
            (1469, 5188, 7436),
            (13, 55, 252),
            (2048, 27.9),
            id="azure 2023 code",
        ),
        pytest.param(
            "azure2023_conv",
            5.53,
            (1020, 2734, 4142),
            (129, 424, 601),
            (1155, 211),
            id="azure 2023 conversation",
        ),
        pytest.param(
            "mooncake_conversation",
            3.40,
            (6909, 27_367, 85_400),
            (350, 597, 1118),
            (12_035, 343),
            id="mooncake",
        ),
    ],
)
def test_request_level_traces(
    name: str,
    rps: float,
    inputs: tuple[float, ...],
    outputs: tuple[float, ...],
    means: tuple[float, float],
) -> None:
    got = drawn(name, 100_000.0)
    assert len(got.seconds) / 100_000.0 == pytest.approx(rps, rel=0.05)
    assert np.quantile(got.inputs, [0.5, 0.9, 0.99]) == pytest.approx(inputs, rel=0.05)
    assert np.quantile(got.outputs, [0.5, 0.9, 0.99]) == pytest.approx(outputs, rel=0.05)
    assert (got.inputs.mean(), got.outputs.mean()) == pytest.approx(means, rel=0.06)


@pytest.mark.parametrize(
    ("name", "shape", "at_10_s", "at_60_s"),
    [
        pytest.param("azure2023_code", 0.23, 71.0, 161.0, id="azure 2023 code"),
        pytest.param("azure2023_conv", 0.87, 4.0, 20.6, id="azure 2023 conversation"),
    ],
)
def test_gaps_and_burstiness(name: str, shape: float, at_10_s: float, at_60_s: float) -> None:
    seconds = drawn(name, 400_000.0).seconds
    assert gap_shape(seconds) == pytest.approx(shape, rel=0.1)
    assert dispersion(seconds, 10.0) == pytest.approx(at_10_s, rel=0.3)
    assert dispersion(seconds, 60.0) == pytest.approx(at_60_s, rel=0.3)


def test_mooncake_dispersion_is_published_and_its_batches_are_not_copied() -> None:
    seconds = drawn("mooncake_conversation", 200_000.0).seconds
    assert dispersion(seconds, 10.0) == pytest.approx(2.1, rel=0.3)
    assert dispersion(seconds, 60.0) == pytest.approx(2.9, rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tokens_mean", "peak_mean", "peak_trough", "inputs", "outputs"),
    [
        pytest.param(
            *("azure2024_code", 2534.0, 3.17, 38.0, (1911, 6206, 7679), (8, 43, 271)), id="code"
        ),
        pytest.param(
            *("azure2024_conv", 1737.0, 1.75, 4.2, (909, 3811, 5919), (41, 342, 694)), id="conv"
        ),
    ],
)
def test_weekly_services(
    name: str,
    tokens_mean: float,
    peak_mean: float,
    peak_trough: float,
    inputs: tuple[float, ...],
    outputs: tuple[float, ...],
) -> None:
    week_s = 7 * 86_400.0
    # A tenth of the rate has the same shape at a tenth of the cost.
    got = drawn(name, week_s, PRESETS[name].mean_rps / 10)
    assert len(got.seconds) / week_s == pytest.approx(PRESETS[name].mean_rps / 10, rel=0.02)
    rates = np.histogram(got.seconds, 7 * 144, (0.0, week_s))[0]
    assert rates.max() / rates.mean() == pytest.approx(peak_mean, rel=0.15)
    smooth = np.histogram(got.seconds, 7 * 24, (0.0, week_s))[0]
    assert smooth.max() / smooth.min() == pytest.approx(peak_trough, rel=0.3)
    assert np.quantile(got.inputs, [0.5, 0.9, 0.98]) == pytest.approx(inputs, rel=0.05)
    assert np.quantile(got.outputs, [0.5, 0.9, 0.99]) == pytest.approx(outputs, rel=0.05)
    assert got.inputs.mean() + got.outputs.mean() == pytest.approx(tokens_mean, rel=0.03)


@pytest.mark.parametrize(
    ("name", "means"),
    [
        pytest.param("servegen_m_small", (120, 15), id="m-small"),
        pytest.param("servegen_m_large", (914, 155), id="m-large"),
        pytest.param("servegen_deepseek_r1", (1268, 1527), id="deepseek-r1"),
    ],
)
def test_aggregates(name: str, means: tuple[float, float]) -> None:
    got = drawn(name, 86_400.0, 10.0)
    # Clipped at 128 Ki tokens the widest lognormals lose a little of their mean.
    assert (got.inputs.mean(), got.outputs.mean()) == pytest.approx(means, rel=0.06)


def test_every_preset_has_its_source_and_its_stated_mean_rate() -> None:
    for name, figures in PRESETS.items():
        assert figures.source, name
        times = np.linspace(0, 7 * 86_400, 7 * 144, endpoint=False)
        assert figures.rate.rates_at(times).mean() == pytest.approx(figures.mean_rps, rel=1e-3)


def test_an_unknown_preset_names_the_known() -> None:
    with pytest.raises(ConfigError, match=r"preset: must be one of azure2023_code, .*got 'azure'"):
        preset("azure")
