"""What every performance model answers: the integer coefficients of an engine's step times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCoefficients:
    """Step times of one instance, integers in picoseconds so that sums are exact.

    A prefill batch of n lengths L, of which C tokens each are cached, takes
    base + per_request · n + per_token · Σ(L − C) + per_token2 · Σ(L² − C²).
    A decode step of n sequences that hold K KV tokens takes
    base + per_sequence · n + per_kv_token · K.
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
    #: parts of the base times in which the host works and no kernel runs
    prefill_host_ps: int
    decode_host_ps: int
    #: KV tokens that fit beside the weights
    kv_capacity_tokens: int
    kv_bytes_per_token: int
    #: SM activity ÷ utilization while kernels run
    prefill_occupancy: float
    decode_occupancy: float


class PerformanceModel(Protocol):
    """Speed of one model on any instance shape."""

    def coefficients(self, accelerator: str, gpus: int) -> StepCoefficients:
        """Return the step times of an instance of `gpus` GPUs of one accelerator type.

        Raises:
            ConfigError: the accelerator is unknown, or the model does not fit it.
        """
        ...
