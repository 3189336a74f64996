"""Published traffic as generator presets: tables of figures with their sources, no request data.

Rates and quantiles are figures of the public traces; daily shapes are harmonics fitted by this
project to the logarithm of the published 10-minute rates. docs/traces.md has the comparison of
what a preset generates with what was published.
"""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.errors import ConfigError, Problem
from heteroscale.workload.arrivals import ArrivalSource
from heteroscale.workload.generator import generate
from heteroscale.workload.lengths import Lengths, LogNormalLengths, QuantileLengths
from heteroscale.workload.rate_curve import S_PER_DAY, RateCurve, constant, daily
from heteroscale.workload.traffic import LogNoise, TrafficSpec

_AZURE_2023 = "Azure LLM inference trace 2023 (CC-BY 4.0; Splitwise, ISCA 2024)"
_AZURE_2024 = (
    "Azure LLM inference trace 2024 (CC-BY 4.0; DynamoLLM, HPCA 2025), rates read off plots"
)
_MOONCAKE = "Mooncake conversation trace (Apache-2.0; FAST 2025)"
_SERVEGEN = "alibaba/ServeGen (Apache-2.0; arXiv:2505.09999), sum over clients"

#: Probabilities of the quantile tables of the request-level traces.
_GRID = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)


def _quantiles(*tokens: float) -> QuantileLengths:
    return QuantileLengths(probabilities=_GRID, tokens=tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One published trace's statistics."""

    source: str
    rate: RateCurve
    #: mean of `rate`, requests/s
    mean_rps: float
    input_lengths: Lengths
    output_lengths: Lengths
    gap_shape: float
    noise: tuple[LogNoise, ...] = ()

    def spec(self, duration_s: float, mean_rps: float | None = None) -> TrafficSpec:
        """Return the traffic, at the published rate unless another mean is given."""
        factor = 1.0 if mean_rps is None else mean_rps / self.mean_rps
        return TrafficSpec(
            rate=self.rate.scaled(factor),
            duration_s=duration_s,
            input_lengths=self.input_lengths,
            output_lengths=self.output_lengths,
            gap_shape=self.gap_shape,
            noise=self.noise,
        )


PRESETS: dict[str, Preset] = {
    # Gap shape and 10-second noise chosen together so that the fitted gap shape (0.23) and the
    # index of dispersion at 10 s and 60 s (71, 161) come out; the gaps' CV of 13 does not.
    "azure2023_code": Preset(
        source=_AZURE_2023,
        rate=constant(2.57),
        mean_rps=2.57,
        input_lengths=_quantiles(
            *(3, 17, 75, 147, 386, 770, 1075, 1469, 1909),
            *(2433, 3192, 5186, 7302, 7436, 7436, 7437, 7437),
        ),
        output_lengths=_quantiles(
            6, 6, 6, 7, 8, 9, 11, 13, 16, 20, 29, 55, 90, 172, 252, 824, 1899
        ),
        gap_shape=0.29,
        noise=(LogNoise(sd=1.15, persistence=0.6, period_s=10.0),),
    ),
    # Noise chosen so that the index of dispersion at 60 s (20.6) comes out.
    "azure2023_conv": Preset(
        source=_AZURE_2023,
        rate=constant(5.53),
        mean_rps=5.53,
        input_lengths=_quantiles(
            *(2, 29, 181, 207, 387, 403, 703, 1020, 1071),
            *(1130, 1315, 2734, 4083, 4098, 4142, 6212, 14050),
        ),
        output_lengths=_quantiles(
            7, 16, 41, 54, 77, 91, 103, 129, 177, 384, 400, 424, 451, 540, 601, 954, 1000
        ),
        gap_shape=0.9,
        noise=(LogNoise(sd=0.23, persistence=0.85, period_s=60.0),),
    ),
    # The trace's 3 s batches are an artefact of rounding; the gap shape gives its index of
    # dispersion at 10 s and 60 s (2.1, 2.9) instead.
    "mooncake_conversation": Preset(
        source=_MOONCAKE,
        rate=constant(3.40),
        mean_rps=3.40,
        input_lengths=_quantiles(
            *(891, 894, 901, 964, 1662, 3263, 4993, 6909, 9570),
            *(13196, 17869, 27367, 39549, 66425, 85401, 121301, 126195),
        ),
        output_lengths=_quantiles(
            1, 3, 10, 24, 100, 213, 291, 350, 399, 447, 504, 597, 698, 891, 1120, 2000, 2000
        ),
        gap_shape=0.4,
    ),
    # Gap shape of 2023; minute noise so that counts per minute have an index of dispersion of 12.
    # Below p10 and for the largest output the 2023 figures stand in.
    "azure2024_code": Preset(
        source=_AZURE_2024,
        rate=daily(
            27.8,
            ((1, 1.06, 19.0), (2, 0.26, 4.0), (3, 0.13, 5.2), (4, 0.13, 2.1)),
            (0.92, 1.0, 0.99, 0.96, 0.78, 0.31, 0.30),
        ),
        mean_rps=27.8,
        input_lengths=QuantileLengths(
            probabilities=(0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 1.0),
            tokens=(3, 307, 917, 1911, 3323, 6206, 7654, 7679, 7679),
        ),
        output_lengths=QuantileLengths(
            probabilities=(0.0, 0.5, 0.9, 0.99, 1.0), tokens=(1, 8, 43, 271, 1899)
        ),
        gap_shape=0.23,
        noise=(LogNoise(sd=0.074, persistence=0.4, period_s=60.0),),
    ),
    # As above; index of dispersion 6 per minute.
    "azure2024_conv": Preset(
        source=_AZURE_2024,
        rate=daily(
            45.1,
            ((1, 0.20, 13.1), (2, 0.07, 4.0), (3, 0.05, 0.9), (4, 0.11, 1.7)),
            (0.97, 1.0, 0.92, 0.93, 0.84, 0.54, 0.52),
        ),
        mean_rps=45.1,
        input_lengths=QuantileLengths(
            probabilities=(0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 1.0),
            tokens=(2, 288, 521, 909, 2339, 3811, 4887, 5919, 14050),
        ),
        output_lengths=QuantileLengths(
            probabilities=(0.0, 0.5, 0.9, 0.99, 1.0), tokens=(1, 41, 342, 694, 1000)
        ),
        gap_shape=0.87,
        noise=(LogNoise(sd=0.057, persistence=0.4, period_s=60.0),),
    ),
    # ServeGen: published mean lengths; sigma of the rate-weighted mixture of its clients' lengths;
    # gaps of the median client (CV 1.2, 1.2, 1.0); noise from the 10-minute log changes.
    "servegen_m_small": Preset(
        source=_SERVEGEN,
        rate=daily(1174.0, ((1, 0.23, 16.9), (2, 0.20, 9.6), (3, 0.04, 5.7), (4, 0.07, 3.5))),
        mean_rps=1174.0,
        input_lengths=LogNormalLengths.with_mean(120.0, 1.15),
        output_lengths=LogNormalLengths.with_mean(15.0, 1.48),
        gap_shape=0.69,
        noise=(LogNoise.with_step_sd(0.11, persistence=0.88),),
    ),
    "servegen_m_large": Preset(
        source=_SERVEGEN,
        rate=daily(196.0, ((1, 0.14, 18.4), (2, 0.05, 11.9), (3, 0.04, 3.2), (4, 0.04, 4.6))),
        mean_rps=196.0,
        input_lengths=LogNormalLengths.with_mean(914.0, 1.18),
        output_lengths=LogNormalLengths.with_mean(155.0, 1.96),
        gap_shape=0.69,
        noise=(LogNoise.with_step_sd(0.17, persistence=0.91),),
    ),
    "servegen_deepseek_r1": Preset(
        source=_SERVEGEN,
        rate=daily(16.0, ((1, 0.51, 0.6), (2, 0.15, 0.7), (3, 0.06, 3.8), (4, 0.25, 3.7))),
        mean_rps=16.0,
        input_lengths=LogNormalLengths.with_mean(1268.0, 1.82),
        output_lengths=LogNormalLengths.with_mean(1527.0, 0.96),
        gap_shape=1.0,
        noise=(LogNoise.with_step_sd(0.22, persistence=0.61),),
    ),
}


def preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        rule = "must be one of " + ", ".join(PRESETS)
        raise ConfigError([Problem(path="preset", rule=rule, value=name)])
    return PRESETS[name]


def from_preset(
    name: str, *, duration_s: float = S_PER_DAY, seed: int = 0, mean_rps: float | None = None
) -> ArrivalSource:
    """Return a preset's requests from Monday 00:00 of its own clock; see Preset.spec."""
    return generate(preset(name).spec(duration_s, mean_rps), seed)
