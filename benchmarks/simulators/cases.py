"""What the speed of the simulator is measured on: one service, two loads, and a week.

With what a user would switch on for a study: shared uplinks, KV that grows and preempts, power of
two choices, start-up times that are drawn, and scrapes that jitter, fail and go to each instance.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from heteroscale.config.scenario import Scenario, parse_scenario
from heteroscale.workload.arrivals import ArrivalChunk
from heteroscale.workload.generator import generate
from heteroscale.workload.loaders import open_trace
from heteroscale.workload.presets import preset

#: the fleet on which the recorded figures of other simulators stand too
PREFILL, DECODE = 25, 15
#: Azure 2023 conversation has 5.53 requests/s; with gaps divided by this, 70
SPEEDUP_70RPS = 12.66
CONV_REQUESTS, CONV_SPAN_S = 19_366, 3_504.0
CONV_FILE = "azure2023_conv.csv.gz"
CODE_FILE = "azure2023_code.csv.gz"
WEEK_FILE = "azure2024_week_rates_10min_digitised.csv.gz"
CHUNK = 65_536

_SCENARIO = """
name: {name}
service:
  name: chat
  priority: 50
  slo: {{ttft_s: 1.0, tbt_s: 0.04, quantile: 0.9}}
  group:
    within: S2
    roles:
      prefill:
        share: {prefill}
        min_replicas: {prefill_least}
        max_replicas: {prefill_most}
        accelerators: [{{type: H100, gpus: 8}}]
      decode:
        share: {decode}
        min_replicas: {decode_least}
        max_replicas: {decode_most}
        accelerators: [{{type: H100, gpus: 8}}]
  policy:
    proportional:
      - {{signal: tps, role: decode, target: {decode_tps}}}
    feedback:
      - {{signal: ttft_s}}
      - {{signal: tbt_s}}
traffic: {{trace: {{path: null}}}}
model: {{name: llama-3.1-70b}}
serving:
  prefill_token_budget: 16384
  decode_max_batch: 256
  routing: power_of_two
  kv_admission: grow
network: {{contention: fair_share}}
start_up: {{spread: 0.3}}
metrics: {{jitter_s: 1.0, missing_share: 0.01, per_instance: true}}
nodes:
  - {{accelerator: H100, nodes: 128, nodes_per_s0: 4, s0_per_s1: 4, s1_per_s2: 8}}
initial: {{prefill: {prefill}, decode: {decode}}}
static_peak: {{search: false}}
{duration}
"""


def held_near(decode_tps: float) -> Scenario:
    """Return the fixed-load scenario: the policy's target is met by 25 prefill and 15 decode.

    Args:
        decode_tps: tokens/s that one decode instance serves on average.
    """
    text = _SCENARIO.format(
        name="azure-conv",
        prefill=PREFILL,
        decode=DECODE,
        prefill_least=20,
        prefill_most=30,
        decode_least=12,
        decode_most=18,
        decode_tps=decode_tps,
        duration="",
    )
    return parse_scenario(text, "azure-conv", Path())


def week_scenario() -> Scenario:
    """Return the week: two services' requests on one fleet that follows them."""
    text = _SCENARIO.format(
        name="azure-week",
        prefill=20,
        decode=12,
        prefill_least=4,
        prefill_most=70,
        decode_least=3,
        decode_most=42,
        decode_tps=900.0,
        duration="duration_s: 604800",
    )
    return parse_scenario(text, "azure-week", Path())


def default_traces() -> Path:
    """Return the folder of public traces beside the repository, or the one the user names."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "traces"
    return Path(os.environ.get("HETEROSCALE_TRACES", beside))


def native_trace(folder: Path) -> ArrivalChunk:
    """Return Azure 2023 conversation; without its file, as many requests of its preset."""
    path = folder / CONV_FILE
    if path.exists():
        return joined(list(open_trace(path)))
    print(f"no {path}: requests are generated from the preset azure2023_conv instead")
    spec = preset("azure2023_conv").spec(CONV_SPAN_S)
    return joined(list(generate(dataclasses.replace(spec, requests=CONV_REQUESTS), 1)))


def joined(chunks: Sequence[ArrivalChunk]) -> ArrivalChunk:
    """Return consecutive chunks as one."""
    return ArrivalChunk(
        arrival_ps=np.concatenate([one.arrival_ps for one in chunks]),
        input_tokens=np.concatenate([one.input_tokens for one in chunks]),
        output_tokens=np.concatenate([one.output_tokens for one in chunks]),
    )


def sped_up(trace: ArrivalChunk, factor: float) -> ArrivalChunk:
    """Return a trace whose arrival times are divided, rounded down to 1 ps."""
    exact = Fraction(str(factor))
    times = [time * exact.denominator // exact.numerator for time in trace.arrival_ps.tolist()]
    return dataclasses.replace(trace, arrival_ps=np.array(times, dtype=np.int64))


def repeated(trace: ArrivalChunk, copies: int) -> ArrivalChunk:
    """Return copies of a trace one after another, one mean gap apart."""
    requests = len(trace.arrival_ps)
    span_ps = int(trace.arrival_ps[-1]) * requests // (requests - 1)
    starts = np.repeat(np.arange(copies, dtype=np.int64) * span_ps, requests)
    return ArrivalChunk(
        arrival_ps=np.tile(trace.arrival_ps, copies) + starts,
        input_tokens=np.tile(trace.input_tokens, copies),
        output_tokens=np.tile(trace.output_tokens, copies),
    )


def in_chunks(trace: ArrivalChunk) -> Iterator[ArrivalChunk]:
    """Yield a trace in chunks as a file is read."""
    for first in range(0, len(trace.arrival_ps), CHUNK):
        yield trace.of(slice(first, first + CHUNK))


def median(values: Sequence[float]) -> float:
    """Return the middle one."""
    return float(np.median(np.asarray(values)))
