"""First decode steps read back from an event log are those that the plain twin saw."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.simulators.cases import DECODE, PREFILL
from benchmarks.simulators.equal_physics import (
    DECODE_SEQUENCES,
    MS,
    OPTIONS,
    SPEED,
    TOKEN_BUDGET,
    first_decode_ps,
    latencies,
    network,
    played,
)
from heteroscale.workload.arrivals import ArrivalChunk
from tests.unit.sim.twin import Twin
from tests.unit.sim.twin_parts import Request, TwinInstance

LATENCY_MS = 4.3


class SecondTokenTwin(Twin):
    """Notes when each request's second token comes."""

    def __init__(self) -> None:
        super().__init__(
            prefill_token_budget=TOKEN_BUDGET,
            decode_max_batch=DECODE_SEQUENCES,
            admission_limit=1_000_000,
            slo_ttft_ps=1,
            slo_tbt_ps=1,
            network=network(LATENCY_MS),
            options=OPTIONS,
        )
        self.seconds: dict[int, int] = {}
        for index in range(PREFILL + DECODE):
            role = "prefill" if index < PREFILL else "decode"
            handle = self.add_instance(role, SPEED, group=0, location=(0, 0, 0, 0, index))
            self.set_rotation(handle, True)

    def end_step(self, instance: TwinInstance) -> None:
        ran: list[Request] = list(instance.batch)
        super().end_step(instance)
        for request in ran:
            if request.generated == 2:
                self.seconds[request.number] = self.now


@pytest.mark.parametrize("gap_ms", [0.3, 20.0], ids=["long queues", "mostly idle"])
def test_first_decode_steps_are_the_twins(gap_ms: float) -> None:
    draw = np.random.default_rng(4)
    requests = 400
    trace = ArrivalChunk(
        arrival_ps=np.cumsum(draw.exponential(gap_ms * MS, requests)).astype(np.int64),
        input_tokens=draw.integers(1, 4_000, requests).astype(np.int32),
        output_tokens=draw.integers(2, 60, requests).astype(np.int32),
    )
    serving, _ = played(trace, log=True, latency_ms=LATENCY_MS)
    twin = SecondTokenTwin()
    columns = (trace.arrival_ps, trace.input_tokens, trace.output_tokens)
    twin.advance(0)
    twin.feed(list(zip(*(one.tolist() for one in columns), strict=True)))
    twin.advance(serving.now_ps)
    assert np.array_equal(np.array(twin.log), serving.event_log())
    found = first_decode_ps(serving.event_log(), trace)
    assert found.tolist() == [twin.seconds[number] for number in range(requests)]
    ttft_ms = latencies(trace, serving).ttft_ms
    assert np.array_equal(ttft_ms, (found - trace.arrival_ps) / MS)
