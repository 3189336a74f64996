"""What to send to a live endpoint so that its step times can be told from when tokens come.

A wave is a number of requests sent at the same moment. Prefill is timed by the wait for the first
token, decode by the gaps while every request of a wave is between its first and its last token.
Pure: lengths and counts only; who sends them is an adapter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heteroscale.entities.service import Stage

#: of a prefill wave: the first token is what is timed, the second shows that it was not the last
PREFILL_ANSWER_TOKENS = 2
#: prompt tokens of one wave: beyond, filling the KV takes longer than it teaches
LARGEST_WAVE_TOKENS = 262_144
#: the requests of a wave begin to decode one after another; how much longer than the probes say
#: that may take before their answers no longer overlap
_STAGGER_MARGIN = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The points that are wanted; every sequence rises."""

    #: tokens of one prompt
    prompts: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096, 8192)
    #: prompts at the same moment, to check the fit with batches it was not made from
    depths: tuple[int, ...] = (2, 4)
    #: sequences of a decode step
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    #: KV tokens of each
    contexts: tuple[int, ...] = (512, 2048, 8192)
    #: times that every wave is sent
    repeats: int = 3
    #: decode steps that are timed in a wave, at least
    steps: int = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """What a few probes said of an endpoint: enough to plan with."""

    prefill_base_s: float
    prefill_per_token_s: float
    step_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What an endpoint can hold."""

    kv_tokens: int
    #: prompt and answer of one request; None = it does not say
    request_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Requests that are sent at the same moment."""

    stage: Stage
    requests: int
    #: of each
    prompt_tokens: int
    #: of each
    answer_tokens: int

    @property
    def name(self) -> str:
        """Return how a reader knows it: `decode 8 x 2048`."""
        return f"{self.stage.value} {self.requests} x {self.prompt_tokens}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every wave in the order in which it is sent, and what that amounts to."""

    waves: tuple[Wave, ...]
    repeats: int
    #: names of wanted points that do not fit, with the reason
    left_out: tuple[str, ...]
    seconds: float

    @property
    def requests(self) -> int:
        """Return how many requests will be sent."""
        return self.repeats * sum(wave.requests for wave in self.waves)

    @property
    def prompt_tokens(self) -> int:
        """Return how many tokens will be sent."""
        return self.repeats * sum(wave.requests * wave.prompt_tokens for wave in self.waves)

    @property
    def answer_tokens(self) -> int:
        """Return how many tokens will be asked for."""
        return self.repeats * sum(wave.requests * wave.answer_tokens for wave in self.waves)


def planned(grid: Grid, speeds: Speeds, room: Room) -> Plan:
    """Return the waves that measure a grid: prefill first, then decode from small to large."""
    waves: list[Wave] = []
    left_out: list[str] = []
    for wave in (*_prefill(grid), *_decode(grid, speeds)):
        reason = _too_large(wave, room)
        if reason is None:
            waves.append(wave)
        else:
            left_out.append(f"{wave.name}: {reason}")
    seconds = grid.repeats * math.fsum(wave_s(wave, speeds) for wave in waves)
    return Plan(waves=tuple(waves), repeats=grid.repeats, left_out=tuple(left_out), seconds=seconds)


def wave_s(wave: Wave, speeds: Speeds) -> float:
    """Return about how long a wave takes."""
    prefill_s = (
        speeds.prefill_base_s + wave.requests * wave.prompt_tokens * speeds.prefill_per_token_s
    )
    return prefill_s + wave.answer_tokens * speeds.step_s


def _prefill(grid: Grid) -> Iterator[Wave]:
    for depth in (1, *grid.depths):
        for tokens in grid.prompts:
            yield Wave(
                stage=Stage.PREFILL,
                requests=depth,
                prompt_tokens=tokens,
                answer_tokens=PREFILL_ANSWER_TOKENS,
            )


def _decode(grid: Grid, speeds: Speeds) -> Iterator[Wave]:
    for batch in grid.batches:
        for context in grid.contexts:
            # The first of a wave decodes while the others are still in prefill.
            waiting_s = (batch - 1) * context * speeds.prefill_per_token_s
            lead = math.ceil(_STAGGER_MARGIN * waiting_s / speeds.step_s)
            yield Wave(
                stage=Stage.DECODE,
                requests=batch,
                # In the middle of the steps that are timed a sequence holds the context.
                prompt_tokens=max(1, context - grid.steps // 2),
                answer_tokens=grid.steps + lead,
            )


def _too_large(wave: Wave, room: Room) -> str | None:
    """Return why a wave cannot be sent; None = it can."""
    each = wave.prompt_tokens + wave.answer_tokens
    if room.request_tokens is not None and each > room.request_tokens:
        return f"{each} tokens a request, the endpoint takes {room.request_tokens}"
    if wave.requests * each > room.kv_tokens:
        return f"{wave.requests * each} KV tokens, the instance holds {room.kv_tokens}"
    if wave.requests * wave.prompt_tokens > LARGEST_WAVE_TOKENS:
        return f"more than {LARGEST_WAVE_TOKENS} prompt tokens at the same moment"
    return None


def speeds_of(probes: Sequence[tuple[int, float, float]]) -> Speeds:
    """Return what two probes of different length say.

    Args:
        probes: prompt tokens, TTFT in s and mean gap in s, each.
    """
    (short, short_s, _), (long, long_s, _) = min(probes), max(probes)
    per_token_s = max(0.0, long_s - short_s) / max(1, long - short)
    return Speeds(
        prefill_base_s=max(0.0, short_s - short * per_token_s),
        prefill_per_token_s=per_token_s,
        step_s=min(gap_s for _, _, gap_s in probes),
    )
