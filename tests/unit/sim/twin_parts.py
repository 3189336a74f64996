"""What the twin is made of: requests, instances, and the picks of power of two choices."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from heteroscale.performance.model import StepCoefficients
from tests.unit.sim.twin_cache import TwinCache

Location = tuple[int, int, int, int, int]
LogRow = tuple[int, int, int, int]

STEP_END, BATCH_END, TRANSFER_END, SENT, ARRIVAL = range(5)
ARRIVED, REFUSED, FIRST_TOKEN, KV_ARRIVED, JOINED, FINISHED, RESTARTED, PREEMPTED = range(8)


@dataclass(eq=False)
class Request:
    number: int
    arrival: int
    inputs: int
    outputs: int
    cached: int = 0
    blocks: tuple[int, ...] = ()
    # While it is prefilled: tokens that are there, what the present batch adds, since when.
    present: int = 0
    chunk: int = 0
    begun: int | None = None
    first: int | None = None
    last_token: int = 0
    generated: int = 0
    source: TwinInstance | None = None
    sink: TwinInstance | None = None
    # A transfer: bytes left at a time, time per byte, its own time per byte, time from the last
    # byte's sending to its arrival, all of its bytes, those that went ahead among them, and uplinks
    # on the way: the same ones from one S0 to one other.
    left: int = 0
    since: int = 0
    slow: int = 0
    alone: int = 0
    latency: int = 0
    kv_bytes: int = 0
    uplinks: list[tuple[str, Location | tuple[int, ...]]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return self.inputs + self.outputs

    @property
    def computed(self) -> int:
        return self.inputs - self.cached


@dataclass(eq=False)
class TwinInstance:
    handle: int
    prefill: bool
    speed: StepCoefficients
    group: int
    location: Location
    capacity: int
    grows: bool = False
    cache: TwinCache | None = None
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


def decode_step(speed: StepCoefficients, sequences: int, held: int) -> int:
    """Return the time of a decode step: the last piece that both numbers reach counts."""
    takes = (
        speed.decode_base_ps
        + speed.decode_per_sequence_ps * sequences
        + speed.decode_per_kv_token_ps * held
    )
    for piece in speed.decode_pieces:
        if sequences >= piece.from_sequences and held >= piece.from_kv_tokens:
            takes = piece.base_ps + piece.per_sequence_ps * sequences + piece.per_kv_token_ps * held
    return takes


def apart(one: TwinInstance, other: TwinInstance) -> int:
    """Return the network distance: 0 on the same node, to 5 in different sub-clusters."""
    pairs = zip(one.location, other.location, strict=True)
    return next((5 - depth for depth, (a, b) in enumerate(pairs) if a != b), 0)


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
