"""The slow, obvious twin of the event kernel: objects, plain integers, one token at a time.

Written from the rules, not from the kernel; it must agree with it to the last bit.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from fractions import Fraction

from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.serving import KvAdmission, Routing
from tests.unit.sim.twin_cache import TwinCache
from tests.unit.sim.twin_links import TwinLinks
from tests.unit.sim.twin_parts import (
    ARRIVAL,
    ARRIVED,
    BATCH_END,
    FINISHED,
    FIRST_TOKEN,
    JOINED,
    KV_ARRIVED,
    PREEMPTED,
    REFUSED,
    RESTARTED,
    SENT,
    STEP_END,
    TRANSFER_END,
    Location,
    Request,
    TwinInstance,
    apart,
    decode_step,
    two_picks,
)
from tests.unit.sim.twin_reading import TwinReading


class Twin(TwinLinks, TwinReading):
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
        cache = self.options.prefix_cache
        if cache is not None and instance.prefill:
            tokens = cache.capacity_tokens
            tokens = speed.kv_capacity_tokens if tokens is None else tokens
            instance.cache = TwinCache(tokens, cache.block_tokens)
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
        moving = [e[3] for e in self.events if e[1] in (TRANSFER_END, SENT)]
        for request in moving:
            assert isinstance(request, Request)
            if gone in (request.source, request.sink):
                owed.append(request)
                self.give_up_transfer(request)
        self.events = [event for event in self.events if event[3] is not gone]
        heapq.heapify(self.events)
        for request in sorted(owed, key=lambda r: r.number):
            request.first = request.source = request.sink = None
            request.generated = 0
            self.note(RESTARTED, request, gone)
            self.waiting_prefill.append(request)
        self.changed = True

    def feed(
        self, arrivals: list[tuple[int, int, int]], blocks: Sequence[tuple[int, ...]] = ()
    ) -> None:
        blocks = blocks or [()] * len(arrivals)
        for (arrival, inputs, outputs), known in zip(arrivals, blocks, strict=True):
            cached = min(inputs - 1, inputs * self.options.cached_permille // 1000)
            request = Request(len(self.arrived), arrival, inputs, outputs, cached, known)
            self.arrived.append(request)
            heapq.heappush(self.events, (arrival, ARRIVAL, request.number, request))

    def advance(self, until: int) -> None:
        if self.changed:
            self.changed = False
            for group in self.credit:
                if not self.rotated(True, group):
                    self.credit[group] = 0
            self.place_waiting()
        while self.events and self.events[0][0] <= until:
            self.now, kind, _, subject = heapq.heappop(self.events)
            if isinstance(subject, Request):
                if kind == ARRIVAL:
                    self.arrive(subject)
                elif kind == SENT:
                    self.end_sending(subject)
                else:
                    self.end_transfer(subject)
            elif kind == BATCH_END:
                self.end_batch(subject)
            else:
                self.end_step(subject)
        self.now = until

    # Routing.

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
        able = [one for one in instances if prefill or one.kv_capacity >= request.tokens]
        if not able:
            return None
        routing = self.options.routing
        if not prefill:
            routing = self.options.decode_routing or (
                Routing.LEAST_LOADED if routing is Routing.PREFIX_AWARE else routing
            )
        if routing is Routing.LEAST_LOADED:
            return self.least_loaded(able)
        if routing is Routing.PREFIX_AWARE:
            return min(able, key=lambda one: (self.to_compute(one, request), one.handle))
        if routing is Routing.TOPOLOGY_AWARE:
            return self.nearest(able, request)
        instances = sorted(instances, key=lambda one: (one.group, one.handle))

        def from_on(start: int) -> int:
            at = start % len(instances)
            while not (prefill or instances[at].kv_capacity >= request.tokens):
                at = (at + 1) % len(instances)
            return at

        if routing is Routing.ROUND_ROBIN:
            at = from_on(self.turns.get((prefill, group), 0))
            self.turns[prefill, group] = at + 1
            return instances[at]
        one, other = two_picks(self.options.seed, request.number, prefill, len(instances))
        return self.least_loaded([instances[from_on(one)], instances[from_on(other)]])

    def found(self, instance: TwinInstance, request: Request) -> int:
        """Return the tokens of a request that an instance would not compute."""
        if instance.cache is None or not request.blocks:
            return request.cached
        return instance.cache.found(request.inputs, request.blocks)

    def to_compute(self, instance: TwinInstance, request: Request) -> Fraction:
        tokens = instance.assigned + request.inputs - self.found(instance, request)
        return Fraction(tokens, instance.capacity)

    def nearest(self, able: list[TwinInstance], request: Request) -> TwinInstance:
        least = self.least_loaded(able)
        assert least is not None
        assert request.source is not None
        source = request.source
        most = least.assigned + least.assigned // 4 + request.tokens
        ranks = [
            (apart(source, one), Fraction(one.assigned, one.capacity), one.handle)
            for one in able
            if Fraction(one.assigned, one.capacity) <= Fraction(most, least.capacity)
        ]
        return self.instances[min(ranks)[2]]

    def place_prefill(self, request: Request) -> None:
        if not self.rotated(True):
            self.waiting_prefill.append(request)
            return
        aware = self.options.routing is Routing.PREFIX_AWARE
        group = None if aware else self.choose_group()
        chosen = self.choose(self.rotated(True, group), request, prefill=True, group=group)
        assert chosen is not None
        request.source = chosen
        request.cached = self.found(chosen, request)
        chosen.assigned += request.computed
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

    # Events.

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
        # A prompt that was cut is still in the last batch.
        batch = instance.batch
        left = self.budget
        chunked = self.options.chunked_prefill
        for cut in batch:
            cut.chunk = min(left, cut.inputs - cut.present)
            left -= cut.chunk
        while instance.waiting:
            head = instance.waiting[0]
            found = self.found(instance, head)
            whole = head.inputs - found
            if (left == 0) if chunked else (batch and whole > left):
                break
            instance.assigned -= found - head.cached
            head.cached = head.present = found
            head.begun = self.now
            head.chunk = min(left, whole) if chunked else whole
            left -= head.chunk
            batch.append(instance.waiting.popleft())
        speed = instance.speed
        instance.started = self.now
        instance.takes = (
            speed.prefill_base_ps
            + speed.prefill_per_request_ps * sum(r.present + r.chunk == r.inputs for r in batch)
            + speed.prefill_per_token_ps * sum(r.chunk for r in batch)
            + speed.prefill_per_token2_ps
            * sum((r.present + r.chunk) ** 2 - r.present**2 for r in batch)
        )
        end = self.now + instance.takes
        heapq.heappush(self.events, (end, BATCH_END, instance.handle, instance))

    def end_batch(self, instance: TwinInstance) -> None:
        instance.busy += instance.takes - instance.host_part
        instance.host += instance.host_part
        for request in instance.batch:
            instance.tokens += request.chunk
            instance.assigned -= request.chunk
            request.present += request.chunk
        batch = [r for r in instance.batch if r.present == r.inputs]
        instance.batch = [r for r in instance.batch if r.present < r.inputs]
        for request in batch:
            if instance.cache is not None and request.blocks:
                self.looked_up += request.inputs
                self.hit += request.cached
                instance.cache.keep(request.inputs, request.blocks)
            request.first = request.last_token = self.now
            request.generated = 1
            self.count(self.ttft, self.now - request.arrival)
            self.note(FIRST_TOKEN, request, instance)
            if request.outputs == 1:
                instance.outstanding -= 1
                self.finish(request, instance)
            else:
                assert request.begun is not None
                self.place_decode(request, self.now - request.begun)
        if instance.waiting or instance.batch:
            self.start_batch(instance)

    def end_transfer(self, request: Request) -> None:
        assert request.source is not None
        assert request.sink is not None
        self.in_transfer -= 1
        self.kv_delivered += request.kv_bytes
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
        instance.takes = decode_step(speed, len(instance.batch), instance.used) + recomputed
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
