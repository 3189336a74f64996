"""The slow, obvious twin of the event kernel: objects, plain integers, one token at a time.

Written from the rules, not from the kernel; it must agree with it to the last bit.
"""

from __future__ import annotations

import bisect
import heapq
from collections import deque
from dataclasses import dataclass, field

from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.serving import (
    Counters,
    InstanceCounters,
    KvAdmission,
    NetworkTable,
    RoleCounters,
    Routing,
    ServingOptions,
    Tally,
    histogram_edges_ps,
)

Location = tuple[int, int, int, int, int]
LogRow = tuple[int, int, int, int]

STEP_END, BATCH_END, TRANSFER_END, ARRIVAL = range(4)
ARRIVED, REFUSED, FIRST_TOKEN, KV_ARRIVED, JOINED, FINISHED, RESTARTED, PREEMPTED = range(8)


@dataclass(eq=False)
class Request:
    number: int
    arrival: int
    inputs: int
    outputs: int
    first: int | None = None
    last_token: int = 0
    generated: int = 0
    source: TwinInstance | None = None
    sink: TwinInstance | None = None
    # A transfer: bytes left at a time, time per byte, its own time per byte, uplinks on its way.
    left: int = 0
    since: int = 0
    slow: int = 0
    alone: int = 0
    uplinks: list[tuple[str, Location | tuple[int, ...]]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return self.inputs + self.outputs


@dataclass(eq=False)
class TwinInstance:
    handle: int
    prefill: bool
    speed: StepCoefficients
    group: int
    location: Location
    capacity: int
    grows: bool = False
    in_rotation: bool = False
    waiting: deque[Request] = field(default_factory=deque)
    batch: list[Request] = field(default_factory=list)
    started: int = 0
    takes: int = 0
    assigned: int = 0
    outstanding: int = 0
    tokens: int = 0
    busy: int = 0
    host: int = 0

    @property
    def host_part(self) -> int:
        return self.speed.prefill_host_ps if self.prefill else self.speed.decode_host_ps

    @property
    def reserved(self) -> int:
        growing = self.prefill or self.grows
        return self.used if growing else sum(request.tokens for request in self.batch)

    @property
    def used(self) -> int:
        return 0 if self.prefill else sum(r.inputs + r.generated for r in self.batch)

    @property
    def kv_capacity(self) -> int:
        return 0 if self.prefill else self.speed.kv_capacity_tokens


def scramble(number: int) -> int:
    """Mix 32 bits."""
    number ^= number >> 16
    number = number * 0x7FEB352D % 2**32
    number ^= number >> 15
    number = number * 0x31848BAB % 2**32
    return number ^ number >> 16


def two_picks(seed: int, request: int, prefill: bool, count: int) -> tuple[int, int]:
    """Return the places that power of two choices looks at first."""
    salt = 0 if prefill else 0x5BD1E995
    drawn = scramble(scramble(seed % 2**32) ^ request % 2**32 ^ salt)
    one = drawn * count // 2**32
    others = [place for place in range(count) if place != one] or [one]
    return one, others[scramble(drawn ^ 0x2545F491) * (count - 1) // 2**32]


class Twin:
    def __init__(
        self,
        *,
        prefill_token_budget: int,
        decode_max_batch: int,
        admission_limit: int,
        slo_ttft_ps: int,
        slo_tbt_ps: int,
        network: NetworkTable,
        options: ServingOptions,
    ) -> None:
        self.budget = prefill_token_budget
        self.max_batch = decode_max_batch
        self.limit = admission_limit
        self.slo_ttft = slo_ttft_ps
        self.slo_tbt = slo_tbt_ps
        self.network = network
        self.options = options
        self.turns: dict[tuple[bool, int | None], int] = {}
        self.now = 0
        self.events: list[tuple[int, int, int, Request | TwinInstance]] = []
        self.instances: dict[int, TwinInstance] = {}
        self.retired = {True: [0, 0, 0], False: [0, 0, 0]}
        self.credit: dict[int, int] = {}
        self.waiting_prefill: list[Request] = []
        self.waiting_decode: list[Request] = []
        self.largest_kv = 0
        self.changed = False
        self.edges = [int(edge) for edge in histogram_edges_ps()]
        self.ttft = [0] * len(self.edges)
        self.tbt = [0] * len(self.edges)
        self.log: list[LogRow] = []
        self.arrived: list[Request] = []
        self.refused: list[Request] = []
        self.completed: list[Request] = []
        self.attained = 0
        self.preempted = 0
        self.in_transfer = 0
        self.crossing: list[Request] = []
        self.slowed = 0

    # What the outside may do.

    def add_instance(
        self,
        role: str,
        speed: StepCoefficients,
        *,
        group: int,
        location: Location,
        capacity: int = 1000,
    ) -> int:
        handle = min(set(range(len(self.instances) + 1)) - set(self.instances))
        grows = self.options.kv_admission is KvAdmission.GROW
        instance = TwinInstance(handle, role == "prefill", speed, group, location, capacity, grows)
        self.instances[handle] = instance
        self.largest_kv = max(self.largest_kv, instance.kv_capacity)
        return handle

    def set_rotation(self, handle: int, in_rotation: bool) -> None:
        instance = self.instances[handle]
        self.changed |= instance.in_rotation != in_rotation
        instance.in_rotation = in_rotation

    def outstanding(self, handle: int) -> int:
        return self.instances[handle].outstanding

    def remove(self, handle: int) -> None:
        gone = self.instances.pop(handle)
        for index, value in enumerate((gone.tokens, gone.busy, gone.host)):
            self.retired[gone.prefill][index] += value

    def fail(self, handle: int) -> None:
        gone = self.instances[handle]
        reading = self.instance_counters(handle)
        del self.instances[handle]
        for index, value in enumerate((reading.tokens, reading.busy_ps, reading.host_ps)):
            self.retired[gone.prefill][index] += value
        owed = [*gone.waiting, *gone.batch]
        owed += [request for request in self.waiting_decode if request.source is gone]
        self.waiting_decode = [r for r in self.waiting_decode if r.source is not gone]
        kept = []
        for event in self.events:
            _, kind, _, subject = event
            if isinstance(subject, Request) and kind == TRANSFER_END:
                if gone in (subject.source, subject.sink):
                    owed.append(subject)
                    self.forget_transfer(subject)
                    continue
            elif subject is gone:
                continue
            kept.append(event)
        self.events = kept
        heapq.heapify(self.events)
        for request in sorted(owed, key=lambda r: r.number):
            request.first = request.source = request.sink = None
            request.generated = 0
            self.note(RESTARTED, request, gone)
            self.waiting_prefill.append(request)
        self.changed = True
        self.share_uplinks()

    def forget_transfer(self, request: Request) -> None:
        assert request.source is not None
        assert request.sink is not None
        self.crossing = [other for other in self.crossing if other is not request]
        self.in_transfer -= 1
        request.source.outstanding -= 1
        request.sink.outstanding -= 1
        request.sink.assigned -= request.tokens

    def feed(self, arrivals: list[tuple[int, int, int]]) -> None:
        for arrival, inputs, outputs in arrivals:
            request = Request(len(self.arrived), arrival, inputs, outputs)
            self.arrived.append(request)
            heapq.heappush(self.events, (arrival, ARRIVAL, request.number, request))

    def advance(self, until: int) -> None:
        if self.changed:
            self.changed = False
            for group in self.credit:
                if not self.rotated(True, group):
                    self.credit[group] = 0
            self.place_waiting()
            self.share_uplinks()
        while self.events and self.events[0][0] <= until:
            self.now, kind, _, subject = heapq.heappop(self.events)
            if isinstance(subject, Request):
                if kind == ARRIVAL:
                    self.arrive(subject)
                else:
                    self.end_transfer(subject)
            elif kind == BATCH_END:
                self.end_batch(subject)
            else:
                self.end_step(subject)
            self.share_uplinks()
        self.now = until

    # Routing.

    def rotated(self, prefill: bool, group: int | None = None) -> list[TwinInstance]:
        return [
            instance
            for _, instance in sorted(self.instances.items())
            if instance.prefill == prefill
            and instance.in_rotation
            and group in (None, instance.group)
        ]

    def place_waiting(self) -> None:
        if self.rotated(True):
            waiting, self.waiting_prefill = self.waiting_prefill, []
            for request in waiting:
                self.place_prefill(request)
        waiting, self.waiting_decode = self.waiting_decode, []
        for request in waiting:
            self.place_decode(request)

    def choose_group(self) -> int:
        weights: dict[int, int] = {}
        for instance in self.rotated(True):
            weights[instance.group] = weights.get(instance.group, 0) + instance.capacity
        for group, weight in weights.items():
            self.credit[group] = self.credit.get(group, 0) + weight
        best = min(weights, key=lambda group: (-self.credit[group], group))
        self.credit[best] -= sum(weights.values())
        return best

    @staticmethod
    def least_loaded(instances: list[TwinInstance]) -> TwinInstance | None:
        best = None
        for one in sorted(instances, key=lambda instance: instance.handle):
            if best is None or one.assigned * best.capacity < best.assigned * one.capacity:
                best = one
        return best

    def choose(
        self, instances: list[TwinInstance], request: Request, *, prefill: bool, group: int | None
    ) -> TwinInstance | None:
        """Choose one of a group's, or of all, that can hold the request."""
        able = [prefill or one.kv_capacity >= request.tokens for one in instances]
        if not any(able):
            return None
        if self.options.routing is Routing.LEAST_LOADED:
            return self.least_loaded([i for i, can in zip(instances, able, strict=True) if can])
        instances = sorted(instances, key=lambda one: (one.group, one.handle))

        def from_on(start: int) -> int:
            at = start % len(instances)
            while not (prefill or instances[at].kv_capacity >= request.tokens):
                at = (at + 1) % len(instances)
            return at

        if self.options.routing is Routing.ROUND_ROBIN:
            at = from_on(self.turns.get((prefill, group), 0))
            self.turns[prefill, group] = at + 1
            return instances[at]
        one, other = two_picks(self.options.seed, request.number, prefill, len(instances))
        return self.least_loaded([instances[from_on(one)], instances[from_on(other)]])

    def place_prefill(self, request: Request) -> None:
        if not self.rotated(True):
            self.waiting_prefill.append(request)
            return
        group = self.choose_group()
        chosen = self.choose(self.rotated(True, group), request, prefill=True, group=group)
        assert chosen is not None
        request.source = chosen
        chosen.assigned += request.inputs
        chosen.outstanding += 1
        chosen.waiting.append(request)
        if not chosen.batch:
            self.start_batch(chosen)

    def place_decode(self, request: Request, prefilled_in: int = 0) -> None:
        source = request.source
        assert source is not None
        for group in (source.group, None):
            sink = self.choose(self.rotated(False, group), request, prefill=False, group=group)
            if sink is not None:
                break
        else:
            self.waiting_decode.append(request)
            return
        request.sink = sink
        sink.assigned += request.tokens
        sink.outstanding += 1
        self.in_transfer += 1
        self.begin_transfer(request, source, sink, prefilled_in)

    # Transfers.

    def begin_transfer(
        self, request: Request, source: TwinInstance, sink: TwinInstance, prefilled_in: int
    ) -> None:
        pairs = zip(source.location, sink.location, strict=True)
        far = next((5 - depth for depth, (a, b) in enumerate(pairs) if a != b), 0)
        request.left = request.inputs * source.speed.kv_bytes_per_token
        request.since = self.now + self.network.latency_ps[far]
        request.slow = 0
        request.alone = self.network.fs_per_byte[far]
        sent = request.left * self.options.overlap_permille // 1000
        if request.alone > 0:
            sent = min(sent, prefilled_in * 1000 // request.alone)
        request.left -= sent
        request.uplinks = [
            (way, end.location[:depth])
            for way, end in (("out", source), ("in", sink))
            for depth in (4, 3, 2)
            if 6 - depth <= far
        ]
        if self.options.uplink_fs_per_byte is not None and request.uplinks:
            self.crossing.append(request)
        else:
            self.end_at(request, request.alone)

    def end_at(self, request: Request, slow: int) -> None:
        """Let a transfer go on at a time per byte."""
        if slow == request.slow and slow > 0:
            return
        if self.now > request.since:
            sent = (self.now - request.since) * 1000 // request.slow
            request.left = max(0, request.left - sent)
            request.since = self.now
            self.slowed += slow > request.slow
        request.slow = slow
        self.events = [e for e in self.events if e[1] != TRANSFER_END or e[3] is not request]
        heapq.heapify(self.events)
        due = request.since - (-request.left * slow // 1000)
        heapq.heappush(self.events, (due, TRANSFER_END, request.number, request))

    def share_uplinks(self) -> None:
        """Give every transfer an equal share of each uplink that it crosses."""
        if self.options.uplink_fs_per_byte is None:
            return
        crossed = [uplink for request in self.crossing for uplink in request.uplinks]
        for request in self.crossing:
            shares = [
                crossed.count(uplink) * self.options.uplink_fs_per_byte[4 - len(uplink[1])]
                for uplink in request.uplinks
            ]
            self.end_at(request, max(request.alone, *shares))

    # Events.

    def count(self, histogram: list[int], value: int) -> None:
        histogram[bisect.bisect_right(self.edges, value) - 1] += 1

    def note(self, kind: int, request: Request, instance: TwinInstance | None = None) -> None:
        self.log.append((self.now, kind, request.number, instance.handle if instance else -1))

    def arrive(self, request: Request) -> None:
        queued = sum(len(i.waiting) for i in self.instances.values() if i.prefill)
        places = self.limit * max(1, len(self.rotated(True)))
        too_long = self.largest_kv > 0 and request.tokens > self.largest_kv
        if too_long or queued + len(self.waiting_prefill) >= places:
            self.refused.append(request)
            self.note(REFUSED, request)
            return
        self.note(ARRIVED, request)
        self.place_prefill(request)

    def start_batch(self, instance: TwinInstance) -> None:
        batch = [instance.waiting.popleft()]
        while instance.waiting:
            if sum(r.inputs for r in batch) + instance.waiting[0].inputs > self.budget:
                break
            batch.append(instance.waiting.popleft())
        speed = instance.speed
        instance.batch = batch
        instance.started = self.now
        instance.takes = (
            speed.prefill_base_ps
            + speed.prefill_per_token_ps * sum(r.inputs for r in batch)
            + speed.prefill_per_token2_ps * sum(r.inputs**2 for r in batch)
        )
        end = self.now + instance.takes
        heapq.heappush(self.events, (end, BATCH_END, instance.handle, instance))

    def end_batch(self, instance: TwinInstance) -> None:
        batch, instance.batch = instance.batch, []
        instance.busy += instance.takes - instance.host_part
        instance.host += instance.host_part
        for request in batch:
            instance.tokens += request.inputs
            instance.assigned -= request.inputs
        for request in batch:
            request.first = request.last_token = self.now
            request.generated = 1
            self.count(self.ttft, self.now - request.arrival)
            self.note(FIRST_TOKEN, request, instance)
            if request.outputs == 1:
                instance.outstanding -= 1
                self.finish(request, instance)
            else:
                self.place_decode(request, instance.takes)
        if instance.waiting:
            self.start_batch(instance)

    def end_transfer(self, request: Request) -> None:
        assert request.source is not None
        assert request.sink is not None
        self.in_transfer -= 1
        self.crossing = [other for other in self.crossing if other is not request]
        request.source.outstanding -= 1
        self.note(KV_ARRIVED, request, request.sink)
        request.sink.waiting.append(request)
        if not request.sink.batch:
            self.start_step(request.sink)

    def preempt(self, instance: TwinInstance) -> None:
        """Drop the newest until the next step fits."""
        while instance.used + len(instance.batch) > instance.kv_capacity:
            dropped = instance.batch.pop()
            instance.waiting.appendleft(dropped)
            self.preempted += 1
            self.note(PREEMPTED, dropped, instance)

    def start_step(self, instance: TwinInstance) -> None:
        speed = instance.speed
        recomputed = 0
        if instance.grows:
            self.preempt(instance)
        while instance.waiting:
            head = instance.waiting[0]
            present = head.inputs + head.generated
            if len(instance.batch) == self.max_batch:
                break
            step = len(instance.batch) + 1
            more = present + step if instance.grows else head.tokens
            if instance.reserved + more > speed.kv_capacity_tokens:
                break
            instance.batch.append(instance.waiting.popleft())
            self.note(JOINED, head, instance)
            if head.generated > 1:
                recomputed += speed.prefill_per_token_ps * present
                recomputed += speed.prefill_per_token2_ps * present**2
        if not instance.batch:
            return
        instance.started = self.now
        instance.takes = (
            speed.decode_base_ps
            + speed.decode_per_sequence_ps * len(instance.batch)
            + speed.decode_per_kv_token_ps * instance.used
            + recomputed
        )
        end = self.now + instance.takes
        heapq.heappush(self.events, (end, STEP_END, instance.handle, instance))

    def end_step(self, instance: TwinInstance) -> None:
        instance.busy += instance.takes - instance.host_part
        instance.host += instance.host_part
        for request in instance.batch:
            instance.tokens += 1
            request.generated += 1
            self.count(self.tbt, self.now - request.last_token)
            request.last_token = self.now
        done = [r for r in instance.batch if r.generated == r.outputs]
        instance.batch = [r for r in instance.batch if r.generated < r.outputs]
        for request in sorted(done, key=lambda r: r.number):
            instance.outstanding -= 1
            instance.assigned -= request.tokens
            self.finish(request, instance)
        self.start_step(instance)

    def finish(self, request: Request, instance: TwinInstance) -> None:
        assert request.first is not None
        self.completed.append(request)
        self.note(FINISHED, request, instance)
        in_time = request.first - request.arrival <= self.slo_ttft
        steady = self.now - request.first <= self.slo_tbt * (request.outputs - 1)
        self.attained += in_time and steady

    # Reading.

    def begun(self) -> list[Request]:
        return [r for r in self.arrived if r.arrival <= self.now]

    @staticmethod
    def tally(requests: list[Request]) -> Tally:
        return Tally(
            requests=len(requests),
            input_tokens=sum(r.inputs for r in requests),
            output_tokens=sum(r.outputs for r in requests),
        )

    def instance_counters(self, handle: int) -> InstanceCounters:
        one = self.instances[handle]
        elapsed = self.now - one.started if one.batch else 0
        host = min(elapsed, one.host_part)
        return InstanceCounters(
            tokens=one.tokens,
            busy_ps=one.busy + elapsed - host,
            host_ps=one.host + host,
            waiting=len(one.waiting),
            running=len(one.batch),
            outstanding=one.outstanding,
            kv_reserved_tokens=one.reserved,
            kv_used_tokens=one.used,
            kv_capacity_tokens=one.kv_capacity,
        )

    def role_counters(self, prefill: bool) -> RoleCounters:
        handles = [h for h, one in self.instances.items() if one.prefill == prefill]
        each = [self.instance_counters(handle) for handle in handles]
        tokens, busy, host = self.retired[prefill]
        queue = self.waiting_prefill if prefill else self.waiting_decode
        return RoleCounters(
            role="prefill" if prefill else "decode",
            tokens=tokens + sum(c.tokens for c in each),
            busy_ps=busy + sum(c.busy_ps for c in each),
            host_ps=host + sum(c.host_ps for c in each),
            waiting=len(queue) + sum(c.waiting for c in each),
            running=sum(c.running for c in each),
            in_rotation=len(self.rotated(prefill)),
            instances=len(handles),
            kv_reserved_tokens=sum(c.kv_reserved_tokens for c in each),
            kv_used_tokens=sum(c.kv_used_tokens for c in each),
            kv_capacity_tokens=sum(i.kv_capacity for i in self.rotated(prefill)),
        )

    def counters(self) -> Counters:
        return Counters(
            at_ps=self.now,
            arrived=self.tally(self.begun()),
            completed=self.tally(self.completed),
            refused=self.tally(self.refused),
            attained=self.attained,
            first_tokens=sum(row[1] == FIRST_TOKEN for row in self.log),
            in_transfer=self.in_transfer,
            preempted=self.preempted,
            roles=(self.role_counters(True), self.role_counters(False)),
        )

    def running_misses(self) -> int:
        gone = {r.number for r in self.completed} | {r.number for r in self.refused}
        missed = 0
        for request in self.begun():
            if request.number in gone:
                continue
            if request.first is None:
                missed += self.now - request.arrival > self.slo_ttft
            else:
                late = request.first - request.arrival > self.slo_ttft
                slow = self.now - request.first > self.slo_tbt * (request.outputs - 1)
                missed += late or slow
        return missed
