"""What synthetic traffic is made of: a rate curve, noise, events, gaps, lengths. Values only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from heteroscale.errors import ConfigError, Problem
from heteroscale.workload.lengths import Lengths
from heteroscale.workload.rate_curve import RateCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNoise:
    """A positive factor of mean 1, constant in each period, whose logarithm is an AR(1)."""

    #: standard deviation of the logarithm
    sd: float
    #: correlation of neighbouring periods, 0 ≤ it < 1
    persistence: float
    period_s: float = 600.0

    @classmethod
    def with_step_sd(
        cls, step_sd: float, persistence: float = 0.9, period_s: float = 600.0
    ) -> LogNoise:
        """Return the noise whose log *change* from period to period has this deviation."""
        return cls(
            sd=step_sd / math.sqrt(2 * (1 - persistence)),
            persistence=persistence,
            period_s=period_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """The rate times `factor` from `at_s` for `duration_s`."""

    at_s: float
    duration_s: float
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStep:
    """The rate times `factor` from `at_s` on."""

    at_s: float
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MixDrift:
    """Input lengths times exp(amplitude · sin(2π(t - phase_s)/period_s)); outputs stay."""

    amplitude: float
    period_s: float
    phase_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSpec:
    """Everything `generate` needs but the seed."""

    #: requests/s
    rate: RateCurve
    duration_s: float
    input_lengths: Lengths
    output_lengths: Lengths
    #: gamma shape of the gaps: 1 = Poisson arrivals, below 1 burstier (gap CV = 1/√shape)
    gap_shape: float = 1.0
    noise: tuple[LogNoise, ...] = ()
    bursts: tuple[Burst, ...] = ()
    steps: tuple[RateStep, ...] = ()
    #: slow changes of the input:output ratio; the request-weighted mean input length is kept
    drift: MixDrift | None = None
    mix_noise: LogNoise | None = None
    #: exactly so many requests, spread as the rate says; None = as many as chance has it
    requests: int | None = None


def check_traffic(spec: TrafficSpec) -> None:
    """Raise ConfigError with every value out of its range."""
    problems: list[Problem] = []

    def require(path: str, value: float, rule: str, is_met: bool) -> None:
        if not (math.isfinite(value) and is_met):
            problems.append(Problem(path=path, rule=f"must be {rule}", value=value))

    require("duration_s", spec.duration_s, "> 0", spec.duration_s > 0)
    require("gap_shape", spec.gap_shape, "> 0", spec.gap_shape > 0)
    for i, rate in enumerate(spec.rate.values):
        require(f"rate.values[{i}]", rate, ">= 0", rate >= 0)
    for i, burst in enumerate(spec.bursts):
        require(f"bursts[{i}].at_s", burst.at_s, ">= 0", burst.at_s >= 0)
        require(f"bursts[{i}].duration_s", burst.duration_s, "> 0", burst.duration_s > 0)
        require(f"bursts[{i}].factor", burst.factor, ">= 0", burst.factor >= 0)
    for i, step in enumerate(spec.steps):
        require(f"steps[{i}].at_s", step.at_s, ">= 0", step.at_s >= 0)
        require(f"steps[{i}].factor", step.factor, ">= 0", step.factor >= 0)
    named = [(f"noise[{i}]", noise) for i, noise in enumerate(spec.noise)]
    if spec.mix_noise:
        named.append(("mix_noise", spec.mix_noise))
    for path, noise in named:
        require(f"{path}.sd", noise.sd, ">= 0", noise.sd >= 0)
        is_stable = 0 <= noise.persistence < 1
        require(f"{path}.persistence", noise.persistence, ">= 0 and < 1", is_stable)
        require(f"{path}.period_s", noise.period_s, ">= 1", noise.period_s >= 1)
    if spec.requests is not None:
        require("requests", spec.requests, ">= 1", spec.requests >= 1)
    if spec.drift:
        require("drift.period_s", spec.drift.period_s, ">= 60", spec.drift.period_s >= 60)
        require("drift.amplitude", spec.drift.amplitude, "finite", True)
    if problems:
        raise ConfigError(problems)
