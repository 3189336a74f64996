"""The twin's transfers: every uplink is looked at again after each event."""

from __future__ import annotations

import heapq

from tests.unit.sim.twin_parts import TRANSFER_END, Request, TwinInstance, apart
from tests.unit.sim.twin_plane import TwinPlane


class TwinLinks(TwinPlane):
    def begin_transfer(
        self, request: Request, source: TwinInstance, sink: TwinInstance, prefilled_in: int
    ) -> None:
        far = apart(source, sink)
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

    def forget_transfer(self, request: Request) -> None:
        assert request.source is not None
        assert request.sink is not None
        self.crossing = [other for other in self.crossing if other is not request]
        self.in_transfer -= 1
        request.source.outstanding -= 1
        request.sink.outstanding -= 1
        request.sink.assigned -= request.tokens
