"""What every performance model answers: the integer coefficients of an engine's step times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePiece:
    """Coefficients of decode steps of so many sequences and KV tokens, or more.

    The base may be below zero: a line that begins at a large batch need not begin above zero.
    """

    from_sequences: int = 0
    from_kv_tokens: int = 0
    base_ps: int
    per_sequence_ps: int
    per_kv_token_ps: int

    def step_ps(self, sequences: float, kv_tokens: float) -> float:
        """Return the time of a step; of whole numbers it is exact."""
        return self.base_ps + self.per_sequence_ps * sequences + self.per_kv_token_ps * kv_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCoefficients:
    """Step times of one instance, integers in picoseconds so that sums are exact.

    A prefill batch of n lengths L, of which C tokens each are cached, takes
    base + per_request · n + per_token · Σ(L − C) + per_token2 · Σ(L² − C²).
    A decode step of n sequences that hold K KV tokens takes
    base + per_sequence · n + per_kv_token · K, with the coefficients of the last of the
    decode pieces whose both limits are reached, or of those here where none's are.
    """

    prefill_base_ps: int
    prefill_per_token_ps: int
    prefill_per_token2_ps: int
    #: what the engine does once for each request besides
    prefill_per_request_ps: int = 0
    #: of a step that decodes and computes prompts too: up to so many tokens, sequences and prompts
    #: together, are multiplied while the weights are read, and a prompt's token among them takes so
    #: much less than prefill_per_token
    hidden_tokens: int = 0
    hidden_per_token_ps: int = 0
    decode_base_ps: int
    decode_per_sequence_ps: int
    decode_per_kv_token_ps: int
    #: what replaces these three, and each other, in larger batches
    decode_pieces: tuple[DecodePiece, ...] = ()
    #: parts of the base times in which the host works and no kernel runs
    prefill_host_ps: int
    decode_host_ps: int
    #: KV tokens that fit beside the weights
    kv_capacity_tokens: int
    kv_bytes_per_token: int
    #: SM activity ÷ utilization while kernels run
    prefill_occupancy: float
    decode_occupancy: float

    @property
    def all_decode_pieces(self) -> tuple[DecodePiece, ...]:
        """Return the pieces with the first one, which holds for any batch."""
        first = DecodePiece(
            base_ps=self.decode_base_ps,
            per_sequence_ps=self.decode_per_sequence_ps,
            per_kv_token_ps=self.decode_per_kv_token_ps,
        )
        return (first, *self.decode_pieces)

    def decode_step_ps(self, sequences: float, kv_tokens: float) -> float:
        """Return the time of a decode step; of whole numbers it is exact."""
        piece = [
            piece
            for piece in self.all_decode_pieces
            if piece.from_sequences <= sequences and piece.from_kv_tokens <= kv_tokens
        ][-1]
        return piece.step_ps(sequences, kv_tokens)


class PerformanceModel(Protocol):
    """Speed of one model on any instance shape."""

    def coefficients(self, accelerator: str, gpus: int) -> StepCoefficients:
        """Return the step times of an instance of `gpus` GPUs of one accelerator type.

        Raises:
            ConfigError: the accelerator is unknown, or the model does not fit it.
        """
        ...
