"""The twin's memory, and what all of its parts ask of it."""

from __future__ import annotations

import bisect

from heteroscale.sim.serving import NetworkTable, ServingOptions, histogram_edges_ps
from tests.unit.sim.twin_parts import LogRow, Request, TwinInstance


class TwinPlane:
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
        self.looked_up = 0
        self.hit = 0
        self.in_transfer = 0
        self.kv_put = 0
        self.kv_delivered = 0
        self.kv_lost = 0
        self.crossing: list[Request] = []
        self.slowed = 0

    def rotated(self, prefill: bool, group: int | None = None) -> list[TwinInstance]:
        return [
            instance
            for _, instance in sorted(self.instances.items())
            if instance.prefill == prefill
            and instance.in_rotation
            and group in (None, instance.group)
        ]

    def count(self, histogram: list[int], value: int) -> None:
        histogram[bisect.bisect_right(self.edges, value) - 1] += 1

    def note(self, kind: int, request: Request, instance: TwinInstance | None = None) -> None:
        self.log.append((self.now, kind, request.number, instance.handle if instance else -1))
