"""Measures a live endpoint: probes it, says what will be sent, sends it, keeps what came back.

Every prompt is of random words of its own, so that no prefix of it can be in a cache.
"""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heteroscale.adapters.openai_endpoint import OpenAiEndpoint, ServedModel
from heteroscale.entities.service import Stage
from heteroscale.errors import ConfigError, ObservationError, Problem
from heteroscale.performance.endpoint_estimate import (
    LEAST_STEPS,
    Measured,
    Streamed,
    Timing,
    decode_timing,
    prefill_timing,
)
from heteroscale.performance.endpoint_plan import Grid, Plan, Room, Speeds, Wave, planned, speeds_of

#: words of the probes: the first wakes the endpoint up, the others are timed
_PROBE_WORDS = (16, 48, 192)
_PROBE_ANSWER_TOKENS = 32
#: share of a core above which this process, not the endpoint, sets the pace
_BUSY = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What the probes said."""

    speeds: Speeds
    #: tokens of a prompt: extra + per word · words
    extra_tokens: float
    tokens_per_word: float


def chosen_model(endpoint: OpenAiEndpoint, wanted: str | None) -> ServedModel:
    """Return the model to measure: the one that is wanted, or the only one there is.

    Raises:
        ObservationError: the endpoint cannot be asked, or lists none.
        ConfigError: the wanted one is not there, or there are several to choose from.
    """
    models = {model.name: model for model in endpoint.models()}
    if not models:
        raise ObservationError(f"{endpoint.url}/models: lists no model")
    if wanted is None and len(models) == 1:
        return next(iter(models.values()))
    if wanted is None or wanted not in models:
        rule = f"must be one of {', '.join(sorted(models))}"
        raise ConfigError([Problem(path="--model", rule=rule, value=wanted)])
    return models[wanted]


class Profiler:
    """Measures one model of one endpoint."""

    def __init__(
        self,
        endpoint: OpenAiEndpoint,
        model: ServedModel,
        *,
        max_s: float,
        tell: Callable[[str], None],
        seed: int | None = None,
    ) -> None:
        """Send nothing yet.

        Args:
            max_s: begin nothing new after so long, and give up what is under way.
            tell: called with a line for each wave.
            seed: of the words; None = another every time, which is what a live endpoint needs.
        """
        self._endpoint = endpoint
        self._model = model
        self._until_s = time.monotonic() + max_s
        self._max_s = max_s
        self._tell = tell
        self._draw = random.Random(seed)
        self._prompt_tokens = 0
        self._cached_tokens = 0

    def probe(self) -> Probed:
        """Return how fast the endpoint is, roughly, and how many tokens a word makes.

        Raises:
            ObservationError: the endpoint cannot be timed.
        """
        seen = []
        for words in _PROBE_WORDS:
            try:
                (answer,) = self._sent([self._words(words)], _PROBE_ANSWER_TOKENS)
            except TimeoutError:
                cause = f"answers no probe within {self._max_s:g} s"
                raise ObservationError(f"{self._endpoint.url}: {cause}") from None
            (begun_s, first), (ended_s, last) = answer.arrivals[0], answer.arrivals[-1]
            if last - first < LEAST_STEPS:
                cause = f"ends an answer after {last:g} of {_PROBE_ANSWER_TOKENS} tokens"
                raise ObservationError(f"{self._endpoint.url}: {cause}, or sends it at once")
            gap_s = max((ended_s - begun_s) / (last - first), 1e-6)
            seen.append((answer.prompt_tokens, answer.ttft_s, gap_s))
        (_, short, long) = seen
        per_word = (long[0] - short[0]) / (_PROBE_WORDS[2] - _PROBE_WORDS[1])
        if per_word <= 0:
            cause = f"counts {short[0]} and {long[0]} tokens in prompts of {_PROBE_WORDS[1:]} words"
            raise ObservationError(f"{self._endpoint.url}: {cause}")
        return Probed(
            speeds=speeds_of([short, long]),
            extra_tokens=short[0] - per_word * _PROBE_WORDS[1],
            tokens_per_word=per_word,
        )

    def plan(self, probed: Probed, grid: Grid, kv_tokens: int) -> Plan:
        """Return what will be sent."""
        room = Room(kv_tokens=kv_tokens, request_tokens=self._model.request_tokens)
        return planned(grid, probed.speeds, room)

    def measure(self, plan: Plan, probed: Probed) -> Measured:
        """Return what came back; when the time is up, what came back until then.

        Raises:
            ObservationError: a request failed, or the time was up before there was enough.
        """
        timings: dict[Stage, list[Timing]] = {Stage.PREFILL: [], Stage.DECODE: []}
        batches: list[Timing] = []
        left_out = list(plan.left_out)
        for place, wave in enumerate(plan.waves, start=1):
            try:
                timing = self._timed(wave, plan.repeats, probed)
            except TimeoutError:
                left_out += [f"{one.name}: the time was up" for one in plan.waves[place - 1 :]]
                break
            if isinstance(timing, str):
                left_out.append(f"{wave.name}: {timing}")
                self._tell(f"[{place}/{len(plan.waves)}] {left_out[-1]}")
                continue
            several = wave.stage is Stage.PREFILL and wave.requests > 1
            (batches if several else timings[wave.stage]).append(timing)
            shown = f"{timing.ms:.2f} ms, spread {100 * timing.spread:.1f} %"
            self._tell(f"[{place}/{len(plan.waves)}] {wave.name}: {shown}")
        measured = Measured(
            prefill=tuple(timings[Stage.PREFILL]),
            batches=tuple(batches),
            decode=tuple(timings[Stage.DECODE]),
            left_out=tuple(left_out),
            cached_share=self._cached_tokens / max(1, self._prompt_tokens),
        )
        if not measured.enough:
            reasons = "; ".join(left_out[:3]) or "the grid is too small"
            cause = f"too few points for a fit within {self._max_s:g} s: {reasons}"
            raise ObservationError(f"{self._endpoint.url}: {cause}")
        return measured

    def _timed(self, wave: Wave, repeats: int, probed: Probed) -> Timing | str:
        """Return the time of a wave, or why it has none.

        Raises:
            TimeoutError: the time was up.
        """
        words = max(1, round((wave.prompt_tokens - probed.extra_tokens) / probed.tokens_per_word))
        seen: list[Sequence[Streamed]] = []
        for _ in range(repeats):
            begun_s, begun_core_s = time.monotonic(), time.process_time()
            prompts = [self._words(words) for _ in range(wave.requests)]
            seen.append(self._sent(prompts, wave.answer_tokens))
            busy = (time.process_time() - begun_core_s) / (time.monotonic() - begun_s)
            if busy > _BUSY:
                return f"reading the answers took {100 * busy:.0f} % of a core, too near all of it"
        if wave.stage is Stage.PREFILL:
            return prefill_timing(wave, seen)
        timing = decode_timing(wave, seen)
        return timing or f"the answers hardly overlapped: fewer than {wave.requests} ran at once"

    def _sent(self, prompts: Sequence[str], answer_tokens: int) -> tuple[Streamed, ...]:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        seen = self._endpoint.wave(self._model.name, prompts, answer_tokens, left_s)
        self._prompt_tokens += sum(one.prompt_tokens for one in seen)
        self._cached_tokens += sum(one.cached_tokens for one in seen)
        return seen

    def _words(self, count: int) -> str:
        """Return random words that nobody has sent before, in all likelihood."""
        letters = string.ascii_lowercase
        return " ".join(
            "".join(self._draw.choices(letters, k=self._draw.randint(3, 6))) for _ in range(count)
        )
