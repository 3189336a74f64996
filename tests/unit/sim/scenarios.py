"""Random small days of a serving plane, played on the kernel and on its twin at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from heteroscale.performance.model import DecodePiece, StepCoefficients
from heteroscale.sim.serving import DEFAULTS, AdvanceStatus, NetworkTable, Serving, ServingOptions
from heteroscale.workload.arrivals import ArrivalChunk, PrefixBlocks
from tests.unit.sim.twin import Twin

MS = 1_000_000_000

NETWORK = NetworkTable(
    latency_ps=(0, MS // 7, MS // 5, MS // 3, MS // 2, 3 * MS),
    fs_per_byte=(0, 33_333, 40_001, 50_003, 80_007, 400_009),
)


def speed(
    *,
    factor: int = 1,
    kv_capacity_tokens: int = 4_000,
    per_kv_token_ps: int = 250_001,
    decode_pieces: tuple[DecodePiece, ...] = (),
) -> StepCoefficients:
    """Return step times with odd digits, so that rounding would show."""
    return StepCoefficients(
        prefill_base_ps=3 * MS * factor + 7,
        prefill_per_token_ps=50_000_003 * factor,
        prefill_per_token2_ps=5_001 * factor,
        prefill_per_request_ps=MS // 9 * (factor - 1),
        hidden_tokens=17 * (factor - 1),
        hidden_per_token_ps=30_000_001 * factor,
        decode_base_ps=5 * MS * factor + 11,
        decode_per_sequence_ps=40_000_009 * factor,
        decode_per_kv_token_ps=per_kv_token_ps * factor,
        decode_pieces=decode_pieces,
        prefill_host_ps=MS + 1,
        decode_host_ps=2 * MS + 3,
        kv_capacity_tokens=kv_capacity_tokens,
        kv_bytes_per_token=1_031,
        prefill_occupancy=0.8,
        decode_occupancy=0.4,
    )


def piece(
    from_sequences: int,
    from_kv_tokens: int,
    shortest_ps: int,
    per_sequence_ps: int,
    per_kv_token_ps: int,
) -> DecodePiece:
    """Return the piece whose smallest batch takes a given time."""
    more_ps = per_sequence_ps * from_sequences + per_kv_token_ps * from_kv_tokens
    return DecodePiece(
        from_sequences=from_sequences,
        from_kv_tokens=from_kv_tokens,
        base_ps=shortest_ps - more_ps,
        per_sequence_ps=per_sequence_ps,
        per_kv_token_ps=per_kv_token_ps,
    )


#: limits that small batches reach, in any order, several at one place among them
decode_pieces = st.lists(
    st.builds(
        piece,
        from_sequences=st.integers(0, 6),
        from_kv_tokens=st.just(0) | st.integers(1, 200) | st.integers(1, 1_500),
        shortest_ps=st.integers(2 * MS + 3, 20 * MS),
        per_sequence_ps=st.just(0) | st.integers(0, 2 * MS),
        per_kv_token_ps=st.just(0) | st.integers(0, 5_000_000),
    ),
    max_size=5,
).map(tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the plane is set up, without its instances."""

    budget: int = 1_000
    max_batch: int = 8
    limit: int = 6
    slo_ttft_ms: int = 150
    slo_tbt_ms: int = 8
    options: ServingOptions = DEFAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInstance:
    """An instance to add."""

    role: str
    group: int = 0
    factor: int = 1
    kv_capacity_tokens: int = 4_000
    location: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    capacity: int = 1_000
    decode_pieces: tuple[DecodePiece, ...] = ()


def prefix_blocks(of_requests: Sequence[tuple[int, ...]]) -> PrefixBlocks:
    """Return the blocks of some requests as arrays."""
    return PrefixBlocks(
        starts=np.cumsum([0, *map(len, of_requests)]),
        ids=np.array([block for blocks in of_requests for block in blocks], np.int64),
    )


class Both:
    """The kernel and the twin, driven by the same calls."""

    def __init__(self, settings: Settings) -> None:
        self.kernel = Serving(
            prefill_token_budget=settings.budget,
            decode_max_batch=settings.max_batch,
            admission_limit=settings.limit,
            slo_ttft_ps=settings.slo_ttft_ms * MS,
            slo_tbt_ps=settings.slo_tbt_ms * MS,
            network=NETWORK,
            options=settings.options,
            log=True,
        )
        self.twin = Twin(
            prefill_token_budget=settings.budget,
            decode_max_batch=settings.max_batch,
            admission_limit=settings.limit,
            slo_ttft_ps=settings.slo_ttft_ms * MS,
            slo_tbt_ps=settings.slo_tbt_ms * MS,
            network=NETWORK,
            options=settings.options,
        )
        self.chunks: list[ArrivalChunk] = []

    def add(self, new: NewInstance, *, in_rotation: bool = True) -> int:
        """Add an instance to both and return the handle they agree on."""
        rate = speed(
            factor=new.factor,
            kv_capacity_tokens=new.kv_capacity_tokens,
            decode_pieces=new.decode_pieces,
        )
        handles = [
            side.add_instance(
                new.role, rate, group=new.group, location=new.location, capacity=new.capacity
            )
            for side in (self.kernel, self.twin)
        ]
        assert handles[0] == handles[1]
        self.rotate(handles[0], in_rotation)
        return handles[0]

    def rotate(self, handle: int, in_rotation: bool) -> None:
        """Put an instance in or out of rotation."""
        self.kernel.set_rotation(handle, in_rotation)
        self.twin.set_rotation(handle, in_rotation)

    def remove_if_idle(self, handle: int) -> bool:
        """Remove an instance that owes nothing; both must agree whether it does."""
        owed = self.kernel.outstanding(handle)
        assert owed == self.twin.outstanding(handle)
        if owed == 0:
            self.rotate(handle, False)
            self.kernel.remove(handle)
            self.twin.remove(handle)
        return owed == 0

    def fail(self, handle: int) -> None:
        """Take an instance away at once."""
        self.kernel.fail(handle)
        self.twin.fail(handle)

    def give(
        self,
        arrivals: list[tuple[int, int, int]],
        *,
        blocks: Sequence[tuple[int, ...]] = (),
        chunk: int = 7,
    ) -> None:
        """Give the whole trace: (arrival_ps, input tokens, output tokens), and prefix blocks."""
        self.twin.feed(arrivals, blocks)
        for at in range(0, len(arrivals), chunk):
            rows = np.array(arrivals[at : at + chunk], np.int64)
            known = blocks[at : at + chunk]
            self.chunks.append(
                ArrivalChunk(
                    arrival_ps=rows[:, 0],
                    input_tokens=rows[:, 1].astype(np.int32),
                    output_tokens=rows[:, 2].astype(np.int32),
                    blocks=prefix_blocks(known) if any(known) else None,
                )
            )

    def advance(self, until_ps: int) -> None:
        """Let time pass on both."""
        while self.kernel.advance(until_ps) is AdvanceStatus.NEEDS_ARRIVALS:
            if self.chunks:
                self.kernel.feed(self.chunks.pop(0))
            else:
                self.kernel.close_arrivals()
        self.twin.advance(until_ps)

    def check(self) -> None:
        """Assert that everything that can be read is equal on both."""
        at_ps = self.twin.now
        assert [tuple(row) for row in self.kernel.event_log().tolist()] == self.twin.log
        assert self.kernel.counters(at_ps) == self.twin.counters()
        assert self.kernel.ttft_histogram().tolist() == self.twin.ttft
        assert self.kernel.tbt_histogram().tolist() == self.twin.tbt
        assert self.kernel.running_misses(at_ps) == self.twin.running_misses()
        for handle in self.twin.instances:
            assert self.kernel.instance_counters(handle) == self.twin.instance_counters(handle)
