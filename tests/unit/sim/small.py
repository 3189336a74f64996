"""A small scenario that runs in a moment: one service, a few instances, constant traffic."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heteroscale.config.scenario import Scenario, parse_scenario
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
    """Return the small scenario with some of its fields replaced."""
    scenario = parse_scenario(TEXT, "small.yaml", Path())
    return dataclasses.replace(scenario, **changes)  # type: ignore[arg-type]  # fields by name


def requests(
    times_s: Sequence[float], input_tokens: int = 1000, output_tokens: int = 10
) -> ArrivalChunk:
    """Return equal requests at given times."""
    return ArrivalChunk(
        arrival_ps=np.array([round(time * PS_PER_S) for time in times_s], np.int64),
        input_tokens=np.full(len(times_s), input_tokens, np.int32),
        output_tokens=np.full(len(times_s), output_tokens, np.int32),
    )
