"""Which signals follow the load: the paper's day on a fixed fleet, then a sweep of constant loads.

Nothing here computes a signal: all eight are what the simulated engines did. Ends with one line of
JSON and leaves a table and a picture in out/signals.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.signal_picture import Panel, picture
from heteroscale.app import STATIC, simulate
from heteroscale.config.scenario import Scenario, built_in_scenario
from heteroscale.entities.service import AcceleratorOption
from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.capacity import decode_capacity_rps, prefill_capacity_rps
from heteroscale.sim.result import SimulationResult
from heteroscale.sim.sampling import RoleIndex, Span
from heteroscale.sim.speed import performance_model
from heteroscale.sim.stages import stage_roles
from heteroscale.sim.world import build_world
from heteroscale.workload.arrivals import PS_PER_S
from heteroscale.workload.generator import generate
from heteroscale.workload.lengths import LogNormalLengths
from heteroscale.workload.rate_curve import constant
from heteroscale.workload.traffic import TrafficSpec

#: the day is looked at in parts of this length, as long as the curve's own steps
PART_S = 600.0
#: each load of the sweep runs this long before, and while, it is measured
WARM_UP_S, MEASURED_S = 120.0, 600.0
LOADS = tuple(percent / 100 for percent in range(10, 111, 10))
#: the paper's eight: name → (unit, series of the timeline)
SIGNALS: Mapping[str, tuple[str, str]] = {
    "prefill TPS": ("tokens/s", "prefill_tps"),
    "decode TPS": ("tokens/s", "decode_tps"),
    "prefill utilization": ("0-1", "prefill_utilization"),
    "decode utilization": ("0-1", "decode_utilization"),
    "prefill SM activity": ("0-1", "prefill_sm_activity"),
    "decode SM activity": ("0-1", "decode_sm_activity"),
    "TTFT p99": ("s", "ttft_p99_s"),
    "TBT p99": ("s", "tbt_p99_s"),
}
Series = Mapping[str, Sequence[float | None]]


def main() -> None:
    """Run the study and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/signals"))
    out: Path = parser.parse_args().out
    scenario = dataclasses.replace(built_in_scenario(), timeline_interval_s=PART_S)
    fleet = _static_peak(built_in_scenario())
    _say(f"static peak: {fleet}; the day on it")
    day = simulate(_beginning(scenario, fleet), policy=STATIC).only
    _say("a sweep of constant loads")
    replicas, capacity_rps = _sweep_fleet(scenario, fleet)
    sweep = _sweep(scenario, replicas, capacity_rps)
    table = _table(sweep)
    figures = _figures(day, sweep)
    out.mkdir(parents=True, exist_ok=True)
    (out / "signals.txt").write_text(table, encoding="utf-8")
    (out / "signals.svg").write_text(_picture(day, sweep), encoding="utf-8")
    print(table)
    print(f"sweep on {replicas}: prefill capacity {capacity_rps:.1f} requests/s")
    print(f"picture: {out / 'signals.svg'}")
    print(json.dumps({**figures, "prefill_capacity_rps": round(capacity_rps, 2), **fleet}))


def _static_peak(scenario: Scenario) -> Mapping[str, int]:
    """Return the smallest fixed fleet that attains what the policy does on the day."""
    _say("the policy's day, and the fixed fleet that attains as much")
    peak = simulate(scenario, static_peak=True).only.static_peak
    if not peak:
        raise SystemExit("no fixed fleet attains what the policy does")
    return peak


def _beginning(scenario: Scenario, fleet: Mapping[str, int]) -> Scenario:
    """Return a scenario that begins with a fleet."""
    own = dataclasses.replace(scenario.own, initial=fleet)
    return dataclasses.replace(scenario, simulated=(own,))


def _sweep_fleet(scenario: Scenario, fleet: Mapping[str, int]) -> tuple[Mapping[str, int], float]:
    """Return the fleet of the sweep and the requests/s that its prefill sustains.

    Decode is raised until prefill binds first at every load of the sweep.
    """
    prefill, decode = stage_roles(scenario.service)
    requests = next(generate(_traffic(scenario, 100.0), scenario.seed))
    capacity_rps = fleet[prefill] * prefill_capacity_rps(
        _speed(scenario, prefill), requests.input_tokens, scenario.own.serving.prefill_token_budget
    )
    one_decode_rps = decode_capacity_rps(
        _speed(scenario, decode),
        requests.input_tokens,
        requests.output_tokens,
        scenario.own.serving.decode_max_batch,
        round(scenario.service.slo.tbt_s * PS_PER_S),
    )
    enough = math.ceil(capacity_rps * max(LOADS) / one_decode_rps)
    return {prefill: fleet[prefill], decode: max(fleet[decode], enough)}, capacity_rps


def _sweep(
    scenario: Scenario, replicas: Mapping[str, int], capacity_rps: float
) -> dict[str, list[float | None]]:
    """Return name → value at each load; also the offered loads themselves."""
    model = performance_model(scenario.own.model)
    series: dict[str, list[float | None]] = {}
    for load in LOADS:
        arrivals = generate(_traffic(scenario, load * capacity_rps), scenario.seed)
        name = scenario.service.name
        plant = build_world(_beginning(scenario, replicas), {name: model}, {name: arrivals}).plant
        service = plant.services[name]
        plant.advance(round(WARM_UP_S * PS_PER_S))
        first = service.sample()
        plant.advance(round((WARM_UP_S + MEASURED_S) * PS_PER_S))
        span = Span(first, service.sample())
        figures = {
            "prefill_offered_tps": span.arrived_input_tps(),
            "decode_offered_tps": span.arrived_decode_tps(),
            "prefill_tps": span.tps(RoleIndex.PREFILL),
            "decode_tps": span.tps(RoleIndex.DECODE),
            "prefill_utilization": span.utilization(RoleIndex.PREFILL),
            "decode_utilization": span.utilization(RoleIndex.DECODE),
            "prefill_sm_activity": span.sm_activity(RoleIndex.PREFILL),
            "decode_sm_activity": span.sm_activity(RoleIndex.DECODE),
            "ttft_p99_s": span.ttft_s(0.99)[0],
            "tbt_p99_s": span.tbt_s(0.99)[0],
        }
        for name, value in figures.items():
            series.setdefault(name, []).append(value)
        _say(f"{load:.0%} of prefill capacity")
    return series


def _traffic(scenario: Scenario, rate_rps: float) -> TrafficSpec:
    curve = scenario.own.traffic.rate_curve
    if curve is None:
        raise SystemExit("the study needs a scenario with a rate curve")
    return TrafficSpec(
        rate=constant(rate_rps),
        duration_s=WARM_UP_S + MEASURED_S,
        input_lengths=LogNormalLengths.with_mean(curve.input_tokens_mean, curve.input_sigma),
        output_lengths=LogNormalLengths.with_mean(curve.output_tokens_mean, curve.output_sigma),
        gap_shape=curve.gap_shape,
    )


def _speed(scenario: Scenario, role: str) -> StepCoefficients:
    option: AcceleratorOption = next(
        leaf.accelerators[0] for leaf in scenario.service.group.leaves() if leaf.path == role
    )
    model = performance_model(scenario.own.model)
    return model.coefficients(option.type, option.gpus * option.nodes)


def _figures(day: SimulationResult, sweep: Series) -> dict[str, float]:
    series = day.timeline.series
    at = {round(load * 100): index for index, load in enumerate(LOADS)}
    light = _known(sweep["ttft_p99_s"][at[10]])
    return {
        "day_decode_tps_r": _r(series, "decode_tps", "decode_offered_tps"),
        "day_prefill_utilization_r": _r(series, "prefill_utilization", "prefill_offered_tps"),
        "day_decode_utilization_at_30_percent": _near_30_percent(series),
        "sweep_decode_tps_r": _r(sweep, "decode_tps", "decode_offered_tps"),
        "sweep_prefill_utilization_r": _r(sweep, "prefill_utilization", "prefill_offered_tps"),
        "sweep_decode_utilization_at_30_percent": round(
            _known(sweep["decode_utilization"][at[30]]), 4
        ),
        "ttft_p99_light_s": round(light, 4),
        "ttft_p99_at_80_percent_ratio": round(_known(sweep["ttft_p99_s"][at[80]]) / light, 3),
        "ttft_p99_at_110_percent_ratio": round(_known(sweep["ttft_p99_s"][at[110]]) / light, 3),
    }


def _r(series: Series, one: str, other: str) -> float:
    """Return Pearson's correlation over the points at which both are known."""
    pairs = [
        (a, b)
        for a, b in zip(series[one], series[other], strict=True)
        if a is not None and b is not None
    ]
    return round(float(np.corrcoef(np.array(pairs).T)[0, 1]), 4)


def _near_30_percent(series: Series) -> float:
    """Return mean decode utilization over the parts of the day at 25 to 35 % of the peak load."""
    loads = [_known(load) for load in series["decode_offered_tps"]]
    near = [
        _known(value)
        for load, value in zip(loads, series["decode_utilization"], strict=True)
        if 0.25 <= load / max(loads) <= 0.35
    ]
    return round(sum(near) / len(near), 4)


def _known(value: float | None) -> float:
    if value is None:
        raise SystemExit("a signal of the study is unknown")
    return value


def _table(sweep: Series) -> str:
    head = f"{'load':>6}" + "".join(f"{name:>21}" for name in SIGNALS)
    lines = [head]
    for index, load in enumerate(LOADS):
        cells = (sweep[series][index] for _, series in SIGNALS.values())
        lines.append(f"{load:>6.0%}" + "".join(f"{_known(cell):>21,.4g}" for cell in cells))
    return "\n".join(lines) + "\n"


def _picture(day: SimulationResult, sweep: Series) -> str:
    hours = [(index + 1) * PART_S / 3600 for index in range(len(day.timeline.series["ttft_p99_s"]))]
    rows = [
        ("A sweep of constant loads", "% of prefill capacity", [100 * one for one in LOADS], sweep),
        ("The paper's day on a fixed fleet", "hour", hours, day.timeline.series),
    ]
    return picture(
        "Eight signals against load",
        [
            (
                heading,
                [
                    Panel(title=name, unit=unit, x_title=axis, x=x, y=series[key])
                    for name, (unit, key) in SIGNALS.items()
                ],
            )
            for heading, axis, x, series in rows
        ],
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
