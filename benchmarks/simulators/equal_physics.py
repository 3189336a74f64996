"""The one case that our simulator and NVIDIA's offline replay can both be given exactly.

Step times are straight lines, which both take: a prefill batch of T tokens, a decode step of K KV
tokens. What only one of them knows is switched off, out of reach, or said to the other in its own
terms:

- ours makes one output token more: the replay's decode makes all tokens of an answer, ours all but
  the first;
- the replay asks the decode instance for memory before it transfers, and is answered at the end of
  a step. Ours has no such handshake, but its transfers have a latency: the handshake's mean.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.simulators.cases import DECODE, PREFILL
from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.kernel_state import LOG_FINISHED, LOG_FIRST_TOKEN, LOG_JOINED
from heteroscale.sim.sampling import quantile_s
from heteroscale.sim.serving import (
    NetworkTable,
    Routing,
    Serving,
    ServingOptions,
    histogram_edges_ps,
)
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk

MS = PS_PER_S // 1000
#: like a 70B at TP8 on H100: 8.9 ms at batch 1, 60 ms for a prompt of 1,000 tokens
PREFILL_BASE_MS, PREFILL_MS_PER_TOKEN = 8.0, 0.052
DECODE_BASE_MS, DECODE_MS_PER_KV_TOKEN = 8.4, 24e-6
KV_BYTES_PER_TOKEN, GB_PER_S = 327_680, 25.0
TOKEN_BUDGET, PREFILL_SEQUENCES, DECODE_SEQUENCES = 16_384, 256, 512
BLOCK_TOKENS, BLOCKS = 64, 200_000
#: limits near the slow end of both, so that goodput tells them apart
SLO_TTFT_MS, SLO_TBT_MS = 200.0, 40.0

SPEED = StepCoefficients(
    prefill_base_ps=round(PREFILL_BASE_MS * MS),
    prefill_per_token_ps=round(PREFILL_MS_PER_TOKEN * MS),
    prefill_per_token2_ps=0,
    decode_base_ps=round(DECODE_BASE_MS * MS),
    decode_per_sequence_ps=0,
    decode_per_kv_token_ps=round(DECODE_MS_PER_KV_TOKEN * MS),
    prefill_host_ps=0,
    decode_host_ps=0,
    kv_capacity_tokens=BLOCKS * BLOCK_TOKENS,
    kv_bytes_per_token=KV_BYTES_PER_TOKEN,
    prefill_occupancy=1.0,
    decode_occupancy=1.0,
)
#: one after the other, whatever the load: the replay's only rule
OPTIONS = ServingOptions(routing=Routing.ROUND_ROBIN)
Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """What both simulators answer, by the replay's own definitions, in milliseconds."""

    #: arrival to the end of the request's first decode step
    ttft_ms: Floats
    #: mean gap between the tokens after that, per request
    gap_ms: Floats

    def goodput(self) -> int:
        """Return the requests inside both limits."""
        inside = (self.ttft_ms <= SLO_TTFT_MS) & (self.gap_ms <= SLO_TBT_MS)
        return int(np.count_nonzero(inside))

    def percentiles(self) -> dict[str, float]:
        """Return p50 and p99 of both."""
        return {
            f"{name}_p{percent}_ms": float(np.percentile(values, percent))
            for name, values in (("ttft", self.ttft_ms), ("tbt", self.gap_ms))
            for percent in (50, 99)
        }


def network(latency_ms: float = 0.0) -> NetworkTable:
    """Return a network of one speed, every transfer so much longer."""
    return NetworkTable(
        latency_ps=(round(latency_ms * MS),) * 6, fs_per_byte=(round(1e6 / GB_PER_S),) * 6
    )


def plane(*, log: bool, latency_ms: float = 0.0) -> Serving:
    """Return the fleet, empty, at time 0.

    Args:
        log: keep every event.
        latency_ms: of every transfer.
    """
    serving = Serving(
        prefill_token_budget=TOKEN_BUDGET,
        decode_max_batch=DECODE_SEQUENCES,
        admission_limit=1_000_000,
        slo_ttft_ps=round(SLO_TTFT_MS * MS),
        slo_tbt_ps=round(SLO_TBT_MS * MS),
        network=network(latency_ms),
        options=OPTIONS,
        log=log,
    )
    for index in range(PREFILL + DECODE):
        role = "prefill" if index < PREFILL else "decode"
        serving.add_instance(role, SPEED, group=0, location=(0, 0, 0, 0, index), in_rotation=True)
    return serving


def as_decode_makes_all(trace: ArrivalChunk) -> ArrivalChunk:
    """Return the trace with one output token more."""
    return ArrivalChunk(
        arrival_ps=trace.arrival_ps,
        input_tokens=trace.input_tokens,
        output_tokens=trace.output_tokens + 1,
    )


def played(trace: ArrivalChunk, *, log: bool, latency_ms: float = 0.0) -> tuple[Serving, float]:
    """Return the plane at the end of a trace, and the core seconds that took."""
    serving = plane(log=log, latency_ms=latency_ms)
    until_ps = int(trace.arrival_ps[-1]) + 3600 * PS_PER_S
    begun_s = time.process_time()
    serving.advance(0)
    serving.feed(trace)
    serving.close_arrivals()
    serving.advance(until_ps)
    serving.counters(until_ps)
    return serving, time.process_time() - begun_s


def latencies(trace: ArrivalChunk, serving: Serving) -> Latencies:
    """Return the replay's figures from our event log of a trace played with `log`."""
    rows = serving.event_log()
    second_ps = first_decode_ps(rows, trace)
    finish_ps = np.zeros(len(trace.arrival_ps), dtype=np.int64)
    finished = rows[rows[:, 1] == LOG_FINISHED]
    finish_ps[finished[:, 2]] = finished[:, 0]
    gaps = np.maximum(trace.output_tokens.astype(np.int64) - 2, 1)
    return Latencies(
        ttft_ms=(second_ps - trace.arrival_ps) / MS, gap_ms=(finish_ps - second_ps) / gaps / MS
    )


def first_decode_ps(rows: Int64s, trace: ArrivalChunk) -> Int64s:
    """Return when each request's first decode step ends, from an event log.

    A step begins when a request joins; how long it takes follows from the KV of all that run then,
    which is known at every join: input plus first token for those that join, and in between each
    step adds one a sequence. Steps between two changes of a batch have a closed-form total, so
    their number follows from the time that passed.
    """
    inputs, outputs = trace.input_tokens.tolist(), trace.output_tokens.tolist()
    ends_ps = np.zeros(len(inputs), dtype=np.int64)
    #: instance → its last change, sequences and KV tokens after it
    at_ps: dict[int, int] = {}
    running: dict[int, int] = {}
    kv: dict[int, int] = {}
    base, per_token = SPEED.decode_base_ps, SPEED.decode_per_kv_token_ps
    joined: dict[int, list[int]] = {}
    changes = rows[(rows[:, 1] == LOG_JOINED) | (rows[:, 1] == LOG_FINISHED)]
    for now, kind, request, instance in changes.tolist():
        before = at_ps.get(instance, now)
        if now > before:
            for one in joined.pop(instance, []):
                ends_ps[one] = before + base + per_token * kv[instance]
            kv[instance] += running[instance] * _steps(
                now - before, running[instance], kv[instance]
            )
        at_ps[instance] = now
        change = 1 if kind == LOG_JOINED else -1
        length = inputs[request] + (1 if kind == LOG_JOINED else outputs[request])
        running[instance] = running.get(instance, 0) + change
        kv[instance] = kv.get(instance, 0) + change * length
        if kind == LOG_JOINED:
            joined.setdefault(instance, []).append(request)
    return ends_ps


def _steps(elapsed_ps: int, sequences: int, kv_tokens: int) -> int:
    """Return how many decode steps of an unchanged batch took this long; 0 when nothing ran."""
    if not sequences:
        return 0
    base, per_token = SPEED.decode_base_ps, SPEED.decode_per_kv_token_ps
    first, growth = base + per_token * kv_tokens, per_token * sequences
    steps = int((np.sqrt((first - growth / 2) ** 2 + 2.0 * growth * elapsed_ps) - first) / growth)
    while steps * first + growth * steps * (steps - 1) // 2 < elapsed_ps:
        steps += 1
    return steps


def first_tokens_ps(rows: Int64s, requests: int) -> Int64s:
    """Return when each request's prefill ended."""
    ends_ps = np.zeros(requests, dtype=np.int64)
    ended = rows[rows[:, 1] == LOG_FIRST_TOKEN]
    ends_ps[ended[:, 2]] = ended[:, 0]
    return ends_ps


def gap_percentiles_ms(trace: ArrivalChunk, serving: Serving) -> dict[str, float]:
    """Return p50 and p99 over every single gap, without those before the first decode step."""
    rows = serving.event_log()
    firsts = first_decode_ps(rows, trace)
    firsts -= first_tokens_ps(rows, len(trace.arrival_ps))
    edges = histogram_edges_ps()
    counts = serving.tbt_histogram()
    np.subtract.at(counts, np.searchsorted(edges, firsts, side="right") - 1, 1)
    found = {50: quantile_s(counts, 0.5), 99: quantile_s(counts, 0.99)}
    return {f"gap_p{percent}_ms": 1000 * (value or 0.0) for percent, value in found.items()}
