"""A small scenario that runs in a moment: one service, a few instances, constant traffic."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heteroscale.config.scenario import Scenario, Simulated, parse_scenario
from heteroscale.sim.speed import performance_model
from heteroscale.sim.world import World, build_world
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk

TEXT = """
name: small
seed: 3
duration_s: 1200
service:
  name: chat
  priority: 50
  slo: {ttft_s: 1.0, tbt_s: 0.04, quantile: 0.9}
  group:
    within: S2
    roles:
      prefill: {share: 9, accelerators: [{type: H20, gpus: 8}], max_replicas: 12}
      decode: {share: 7, accelerators: [{type: H20, gpus: 8}], max_replicas: 12}
  policy:
    proportional:
      - {signal: tps, role: decode, target: 3000.0}
    feedback:
      - {signal: ttft_s}
      - {signal: tbt_s}
traffic:
  generator:
    rate_rps: 20.0
    input: {mean_tokens: 3000, sigma: 0.6}
    output: {mean_tokens: 350, sigma: 0.6}
model: {name: moe-540b-a27b}
nodes:
  - {accelerator: H20, nodes: 32}
start_up_s: 195.0
initial: {prefill: 4, decode: 3}
"""


def small(**changes: object) -> Scenario:
    """Return the small scenario with some of its fields, or its service's, replaced."""
    return changed(parse_scenario(TEXT, "small.yaml", Path()), **changes)


def changed(scenario: Scenario, **changes: object) -> Scenario:
    """Return a scenario of one service with some of its fields, or its service's, replaced."""
    of_service = {field.name for field in dataclasses.fields(Simulated)} - {"name"}
    own = {key: changes.pop(key) for key in tuple(changes) if key in of_service}
    simulated = dataclasses.replace(scenario.own, **own)  # type: ignore[arg-type]  # by name
    return dataclasses.replace(
        scenario,
        simulated=(simulated,),
        **changes,  # type: ignore[arg-type]  # by name
    )


def world_of(scenario: Scenario, *chunks: ArrivalChunk) -> World:
    """Return the world of a scenario of one service that gets given requests."""
    name = scenario.service.name
    model = performance_model(scenario.own.model)
    return build_world(scenario, {name: model}, {name: iter(chunks)})


def requests(
    times_s: Sequence[float], input_tokens: int = 1000, output_tokens: int = 10
) -> ArrivalChunk:
    """Return equal requests at given times."""
    return ArrivalChunk(
        arrival_ps=np.array([round(time * PS_PER_S) for time in times_s], np.int64),
        input_tokens=np.full(len(times_s), input_tokens, np.int32),
        output_tokens=np.full(len(times_s), output_tokens, np.int32),
    )
