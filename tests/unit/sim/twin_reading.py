"""What can be read from the twin, counted anew each time."""

from __future__ import annotations

from heteroscale.sim.serving import Counters, InstanceCounters, RoleCounters, Tally
from tests.unit.sim.twin_parts import FIRST_TOKEN, Request
from tests.unit.sim.twin_plane import TwinPlane


class TwinReading(TwinPlane):
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
            kv_put_bytes=self.kv_put,
            kv_delivered_bytes=self.kv_delivered,
            kv_lost_bytes=self.kv_lost,
            preempted=self.preempted,
            prefix_lookup_tokens=self.looked_up,
            prefix_hit_tokens=self.hit,
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
