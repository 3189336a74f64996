"""The slow, obvious twin of co-located serving: one step at a time, every sequence looked at anew.

Written from the rules, not from the kernel; it must agree with it to the last bit.
"""

from __future__ import annotations

import bisect
import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.colocated import EngineSettings, PoolCounters
from heteroscale.sim.kernel_counters import InstanceCounters, Tally
from heteroscale.sim.serving import KvAdmission, Routing, ServingOptions, histogram_edges_ps
from tests.unit.sim.twin_parts import (
    ARRIVED,
    FINISHED,
    FIRST_TOKEN,
    JOINED,
    PREEMPTED,
    REFUSED,
    LogRow,
    decode_step,
    two_picks,
)

STEP_END, ARRIVAL = range(2)


@dataclass(eq=False)
class TwinRequest:
    number: int
    arrival: int
    inputs: int
    outputs: int
    cached: int
    generated: int = 0
    first: int | None = None
    last_token: int = 0
    # While its prompt is computed: what is there, and what the present step adds.
    decoding: bool = False
    present: int = 0
    chunk: int = 0

    @property
    def tokens(self) -> int:
        return self.inputs + self.outputs

    @property
    def prompt(self) -> int:
        return self.inputs + self.generated

    @property
    def kv(self) -> int:
        return self.prompt if self.decoding else self.prompt + 1


@dataclass(eq=False)
class TwinEngine:
    handle: int
    speed: StepCoefficients
    waiting: deque[TwinRequest] = field(default_factory=deque)
    # In the order of joining, those that decode and those that do not yet.
    running: list[TwinRequest] = field(default_factory=list)
    stepping: bool = False
    started: int = 0
    takes: int = 0
    # When the next step is made up.
    scheduled: int = 0
    assigned: int = 0
    outstanding: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    busy: int = 0
    host: int = 0

    @property
    def decoding(self) -> list[TwinRequest]:
        return [request for request in self.running if request.decoding]

    @property
    def used(self) -> int:
        return sum(request.kv for request in self.running)

    @property
    def reserved(self) -> int:
        return sum(request.tokens for request in self.running)


class TwinPool:
    def __init__(
        self,
        engines: Sequence[StepCoefficients],
        settings: EngineSettings,
        *,
        admission_limit: int,
        slo_ttft_ps: int,
        slo_tbt_ps: int,
        options: ServingOptions,
    ) -> None:
        self.engines = [TwinEngine(handle, speed) for handle, speed in enumerate(engines)]
        self.settings = settings
        self.limit = admission_limit
        self.slo_ttft = slo_ttft_ps
        self.slo_tbt = slo_tbt_ps
        self.options = options
        self.grows = options.kv_admission is KvAdmission.GROW
        self.now = 0
        self.turn = 0
        self.events: list[tuple[int, int, int, TwinRequest | TwinEngine]] = []
        self.edges = [int(edge) for edge in histogram_edges_ps()]
        self.ttft = [0] * len(self.edges)
        self.tbt = [0] * len(self.edges)
        self.log: list[LogRow] = []
        self.requests: list[TwinRequest] = []
        self.arrived: list[TwinRequest] = []
        self.refused: list[TwinRequest] = []
        self.completed: list[TwinRequest] = []
        self.attained = 0

    def feed(self, arrivals: Sequence[tuple[int, int, int]]) -> None:
        for arrival, inputs, outputs in arrivals:
            cached = min(inputs - 1, inputs * self.options.cached_permille // 1000)
            request = TwinRequest(len(self.requests), arrival, inputs, outputs, cached)
            self.requests.append(request)
            queued = arrival + self.settings.ingress_ps
            heapq.heappush(self.events, (queued, ARRIVAL, request.number, request))

    def advance(self, until: int) -> None:
        while self.events and self.events[0][0] <= until:
            self.now, _, _, subject = heapq.heappop(self.events)
            if isinstance(subject, TwinRequest):
                self.arrive(subject)
            else:
                self.end_step(subject)
        self.now = until

    # Routing.

    def arrive(self, request: TwinRequest) -> None:
        self.arrived.append(request)
        able = [engine.speed.kv_capacity_tokens >= request.tokens for engine in self.engines]
        waiting = sum(len(engine.waiting) for engine in self.engines)
        if not any(able) or waiting >= self.limit * len(self.engines):
            self.refused.append(request)
            self.note(REFUSED, request)
            return
        self.note(ARRIVED, request)
        engine = self.choose(request, able)
        engine.assigned += request.tokens
        engine.outstanding += 1
        engine.waiting.append(request)
        if not engine.stepping:
            engine.scheduled = self.now
            self.start_step(engine)

    def choose(self, request: TwinRequest, able: list[bool]) -> TwinEngine:
        engines = self.engines

        def from_on(start: int) -> int:
            at = start % len(engines)
            while not able[at]:
                at = (at + 1) % len(engines)
            return at

        if self.options.routing is Routing.ROUND_ROBIN:
            at = from_on(self.turn)
            self.turn = at + 1
            return engines[at]
        if self.options.routing is Routing.POWER_OF_TWO:
            picks = two_picks(self.options.seed, request.number, False, len(engines))
            candidates = [engines[from_on(pick)] for pick in picks]
        else:
            candidates = [engine for engine, can in zip(engines, able, strict=True) if can]
        return min(candidates, key=lambda engine: (engine.assigned, engine.handle))

    # Steps.

    def start_step(self, engine: TwinEngine) -> None:
        speed = engine.speed
        while self.grows and engine.used + len(engine.decoding) > speed.kv_capacity_tokens:
            self.preempt(engine)
        decoding = engine.decoding
        held = sum(request.kv for request in decoding)
        prompts = self.fill(engine, self.settings.token_budget - len(decoding))
        engine.stepping = bool(decoding or prompts)
        if not engine.stepping:
            return
        engine.started = self.now
        engine.takes = decode_step(speed, len(decoding), held)
        hidden = min(speed.hidden_tokens - len(decoding), sum(request.chunk for request in prompts))
        engine.takes -= speed.hidden_per_token_ps * max(0, hidden)
        for request in prompts:
            after = request.present + request.chunk
            engine.takes += speed.prefill_per_token_ps * request.chunk
            engine.takes += speed.prefill_per_token2_ps * (after**2 - request.present**2)
            if after == request.prompt:
                engine.takes += speed.prefill_per_request_ps
        heapq.heappush(self.events, (self.now + engine.takes, STEP_END, engine.handle, engine))

    def preempt(self, engine: TwinEngine) -> None:
        dropped = engine.running.pop()
        dropped.decoding = False
        engine.waiting.appendleft(dropped)
        self.note(PREEMPTED, dropped, engine)

    def fill(self, engine: TwinEngine, left: int) -> list[TwinRequest]:
        """Return the prompts of the next step, with their chunks."""
        prompts: list[TwinRequest] = []
        begun = deque(request for request in engine.running if not request.decoding)
        while begun or engine.waiting:
            request = begun[0] if begun else engine.waiting[0]
            if not begun:
                request.present = request.cached
            whole = request.prompt - request.present
            if self.settings.chunked_prefill and left <= 0:
                break
            if not self.settings.chunked_prefill and prompts and whole > left:
                break
            if begun:
                begun.popleft()
            elif self.fits(engine, request):
                engine.waiting.popleft()
                engine.running.append(request)
                self.note(JOINED, request, engine)
            else:
                break
            request.chunk = min(whole, left) if self.settings.chunked_prefill else whole
            left -= request.chunk
            prompts.append(request)
        return prompts

    def fits(self, engine: TwinEngine, request: TwinRequest) -> bool:
        if len(engine.running) == self.settings.max_sequences:
            return False
        if request.arrival + self.settings.ingress_ps > engine.scheduled:
            return False
        capacity = engine.speed.kv_capacity_tokens
        if self.grows:
            return engine.used + len(engine.decoding) + request.kv <= capacity
        return engine.reserved + request.tokens <= capacity

    def end_step(self, engine: TwinEngine) -> None:
        host = engine.speed.decode_host_ps
        engine.busy += engine.takes - host
        engine.host += host
        decoding = engine.decoding
        for request in decoding:
            self.count(self.tbt, self.now - request.last_token)
            self.give_token(engine, request)
        for request in sorted(decoding, key=lambda request: request.number):
            self.finish_if_done(engine, request)
        for request in [request for request in engine.running if request.chunk]:
            request.present += request.chunk
            engine.prompt_tokens += request.chunk
            request.chunk = 0
            if request.present < request.prompt:
                continue
            if request.first is None:
                request.first = self.now
                self.count(self.ttft, self.now - request.arrival)
                self.note(FIRST_TOKEN, request, engine)
            else:
                self.count(self.tbt, self.now - request.last_token)
            request.decoding = True
            self.give_token(engine, request)
            self.finish_if_done(engine, request)
        ahead = self.settings.schedules_ahead and engine.running
        engine.scheduled = engine.started if ahead else self.now
        self.start_step(engine)

    def give_token(self, engine: TwinEngine, request: TwinRequest) -> None:
        request.generated += 1
        request.last_token = self.now
        engine.generated_tokens += 1

    def finish_if_done(self, engine: TwinEngine, request: TwinRequest) -> None:
        if request.generated < request.outputs:
            return
        assert request.first is not None
        engine.running.remove(request)
        engine.outstanding -= 1
        engine.assigned -= request.tokens
        self.completed.append(request)
        self.note(FINISHED, request, engine)
        in_time = request.first - request.arrival <= self.slo_ttft
        self.attained += in_time and (
            self.now - request.first <= self.slo_tbt * (request.outputs - 1)
        )

    # Reading.

    def count(self, histogram: list[int], value: int) -> None:
        histogram[bisect.bisect_right(self.edges, value) - 1] += 1

    def note(self, kind: int, request: TwinRequest, engine: TwinEngine | None = None) -> None:
        self.log.append((self.now, kind, request.number, engine.handle if engine else -1))

    @staticmethod
    def tally(requests: list[TwinRequest]) -> Tally:
        return Tally(
            requests=len(requests),
            input_tokens=sum(request.inputs for request in requests),
            output_tokens=sum(request.outputs for request in requests),
        )

    def counters(self) -> PoolCounters:
        return PoolCounters(
            at_ps=self.now,
            arrived=self.tally(self.arrived),
            completed=self.tally(self.completed),
            refused=self.tally(self.refused),
            attained=self.attained,
            first_tokens=sum(row[1] == FIRST_TOKEN for row in self.log),
            preempted=sum(row[1] == PREEMPTED for row in self.log),
            prompt_tokens=sum(engine.prompt_tokens for engine in self.engines),
            generated_tokens=sum(engine.generated_tokens for engine in self.engines),
        )

    def engine_counters(self, handle: int) -> InstanceCounters:
        engine = self.engines[handle]
        elapsed = self.now - engine.started if engine.stepping else 0
        host = min(elapsed, engine.speed.decode_host_ps)
        return InstanceCounters(
            tokens=engine.generated_tokens,
            busy_ps=engine.busy + elapsed - host,
            host_ps=engine.host + host,
            waiting=len(engine.waiting),
            running=len(engine.running),
            outstanding=engine.outstanding,
            kv_reserved_tokens=engine.used if self.grows else engine.reserved,
            kv_used_tokens=engine.used,
            kv_capacity_tokens=engine.speed.kv_capacity_tokens,
        )
