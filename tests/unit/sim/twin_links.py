"""The twin's transfers: every uplink is looked at again after each change."""

from __future__ import annotations

import heapq
from collections import Counter

from tests.unit.sim.twin_parts import SENT, TRANSFER_END, Request, TwinInstance, apart
from tests.unit.sim.twin_plane import TwinPlane


class TwinLinks(TwinPlane):
    def begin_transfer(
        self, request: Request, source: TwinInstance, sink: TwinInstance, prefilled_in: int
    ) -> None:
        far = apart(source, sink)
        request.left = request.kv_bytes = request.inputs * source.speed.kv_bytes_per_token
        self.kv_put += request.kv_bytes
        request.since = self.now
        request.latency = self.network.latency_ps[far]
        request.alone = request.slow = self.network.fs_per_byte[far]
        ahead = request.left * self.options.overlap_permille // 1000
        if request.alone > 0:
            ahead = min(ahead, prefilled_in * 1000 // request.alone)
        request.left -= ahead
        request.uplinks = [
            (way, end.location[:depth])
            for way, end in (("out", source), ("in", sink))
            for depth in (4, 3, 2)
            if 6 - depth <= far
        ]
        if self.options.uplink_fs_per_byte is not None and request.uplinks:
            self.crossing.append(request)
            self.share_uplinks(request)
        else:
            self.arrive_at(request, self.last_byte_at(request) + request.latency)

    @staticmethod
    def last_byte_at(request: Request) -> int:
        return request.since - (-max(0, request.left) * request.slow // 1000)

    def arrive_at(self, request: Request, time: int) -> None:
        heapq.heappush(self.events, (time, TRANSFER_END, request.number, request))

    def share_uplinks(self, changed: Request) -> None:
        """Give every transfer an equal share of each uplink that it crosses.

        A byte under way starts again where the rate changes, and where the transfer that has
        joined or left goes the same way.
        """
        assert self.options.uplink_fs_per_byte is not None
        crossed = Counter(uplink for request in self.crossing for uplink in request.uplinks)
        for request in self.crossing:
            shares = [
                crossed[uplink] * self.options.uplink_fs_per_byte[4 - len(uplink[1])]
                for uplink in request.uplinks
            ]
            slow = max(request.alone, *shares)
            if slow == request.slow and request.uplinks != changed.uplinks:
                continue
            if self.now > request.since:
                request.left -= (self.now - request.since) * 1000 // request.slow
                request.since = self.now
            self.slowed += slow > request.slow
            request.slow = slow
            self.events = [e for e in self.events if e[1] != SENT or e[3] is not request]
            heapq.heapify(self.events)
            sent = self.last_byte_at(request)
            heapq.heappush(self.events, (sent, SENT, request.number, request))

    def end_sending(self, request: Request) -> None:
        self.crossing.remove(request)
        self.share_uplinks(request)
        self.arrive_at(request, self.now + request.latency)

    def give_up_transfer(self, request: Request) -> None:
        assert request.source is not None
        assert request.sink is not None
        self.events = [e for e in self.events if e[3] is not request]
        heapq.heapify(self.events)
        if request in self.crossing:
            self.crossing.remove(request)
            self.share_uplinks(request)
        self.in_transfer -= 1
        self.kv_lost += request.kv_bytes
        request.source.outstanding -= 1
        request.sink.outstanding -= 1
        request.sink.assigned -= request.tokens
