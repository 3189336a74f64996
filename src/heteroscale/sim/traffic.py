"""The requests of a scenario, by any of the three ways it may describe them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from heteroscale.config.scenario import Scenario
from heteroscale.config.scenario_sections import (
    GeneratorSection,
    LengthSection,
    RateCurveSection,
)
from heteroscale.errors import ConfigError, Problem
from heteroscale.workload.arrivals import ArrivalSource
from heteroscale.workload.generator import from_rate_curve, generate
from heteroscale.workload.lengths import Lengths, LogNormalLengths
from heteroscale.workload.loaders import open_trace
from heteroscale.workload.presets import preset
from heteroscale.workload.rate_curve import S_PER_DAY, constant, load_curve
from heteroscale.workload.traffic import Burst, MixDrift, RateStep, TrafficSpec


def arrivals_of(scenario: Scenario) -> ArrivalSource:
    """Return the requests of the one service from the start of the run; the same on every call.

    Raises:
        ConfigError: the traffic cannot be read; also while it is iterated.
    """
    traffic = scenario.own.traffic
    if traffic.rate_curve is not None:
        return _from_curve(scenario, traffic.rate_curve)
    if traffic.trace is not None and traffic.trace.path is not None:
        trace = traffic.trace
        return open_trace(
            Path(traffic.trace.path),
            trace.format.value,
            speedup=trace.speedup,
            repeat=trace.repeat,
        )
    if traffic.generator is not None and scenario.duration_s is not None:
        spec = _traffic_spec(traffic.generator, scenario.duration_s)
        return generate(spec, scenario.seed)
    path = f"{scenario.own.place}traffic"
    raise ConfigError([Problem(path=path, rule="must say where requests come from")])


def planned_duration_s(scenario: Scenario) -> float | None:
    """Return how long the run is; None = as long as its longest traffic, traces being among it."""
    if scenario.duration_s is not None:
        return scenario.duration_s
    curves_only = all(own.traffic.rate_curve is not None for own in scenario.simulated)
    return S_PER_DAY if curves_only else None


def _from_curve(scenario: Scenario, section: RateCurveSection) -> ArrivalSource:
    return from_rate_curve(
        load_curve(section.curve),
        peak_rps=section.peak_rps,
        input_tokens_mean=section.input_tokens_mean,
        output_tokens_mean=section.output_tokens_mean,
        input_sigma=section.input_sigma,
        output_sigma=section.output_sigma,
        follow_mix=section.follow_mix,
        gap_shape=section.gap_shape,
        duration_s=scenario.duration_s or S_PER_DAY,
        seed=scenario.seed,
    )


def _traffic_spec(section: GeneratorSection, duration_s: float) -> TrafficSpec:
    """Return a preset with what is written beside it, or traffic of the scenario's own figures."""
    drift = section.drift
    return dataclasses.replace(
        _from_preset(section, section.preset, duration_s)
        if section.preset is not None
        else _from_figures(section, duration_s),
        bursts=tuple(
            Burst(at_s=burst.at_s, duration_s=burst.duration_s, factor=burst.factor)
            for burst in section.bursts
        ),
        steps=tuple(RateStep(at_s=step.at_s, factor=step.factor) for step in section.steps),
        drift=None
        if drift is None
        else MixDrift(amplitude=drift.amplitude, period_s=drift.period_s, phase_s=drift.phase_s),
    )


def _from_preset(section: GeneratorSection, name: str, duration_s: float) -> TrafficSpec:
    base = preset(name).spec(duration_s, section.rate_rps)
    return dataclasses.replace(
        base,
        input_lengths=_lengths(section.input) or base.input_lengths,
        output_lengths=_lengths(section.output) or base.output_lengths,
        gap_shape=section.gap_shape or base.gap_shape,
    )


def _from_figures(section: GeneratorSection, duration_s: float) -> TrafficSpec:
    inputs, outputs = _lengths(section.input), _lengths(section.output)
    if section.rate_rps is None or inputs is None or outputs is None:
        rule = "must have rate_rps, input and output without a preset"
        raise ConfigError([Problem(path="traffic.generator", rule=rule)])
    return TrafficSpec(
        rate=constant(section.rate_rps),
        duration_s=duration_s,
        input_lengths=inputs,
        output_lengths=outputs,
        gap_shape=section.gap_shape or 1.0,
    )


def _lengths(section: LengthSection | None) -> Lengths | None:
    if section is None:
        return None
    return LogNormalLengths.with_mean(section.mean_tokens, section.sigma)
