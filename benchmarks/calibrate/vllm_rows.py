"""Measured latencies of co-located vLLM engines on H100, and the load under which they were taken.

Source: inference-sim/sim-to-real-accuracy-validation, dcec3fd of 2026-06-17 (no licence: its
figures are cited as facts, nothing else of it is here): vLLM 0.15.1, one replica, max_num_seqs 128,
2,048 batched tokens where a row says nothing else, chunked prefill and prefix caching on, fp16.

How the rows are read:

- Arrivals are evenly spaced; stages follow one another, 600 s each (1,200 s where there is one).
- The published gap between tokens implies 180 to 236 output tokens where 247 to 251 are documented,
  so ours is (E2E - TTFT) / (documented output - 1), of the means.
- general-lite's lower stage is not documented and taken as 2.5 requests/s.
- Two campaigns differ in TTFT by about 10 ms a request; `second` marks the rows of the later one.
- Mixture-of-experts rows are left out: repeats of the same experiment differ by a third.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.calibrate.splitwise import LLAMA_2_70B
from heteroscale.performance.models import (
    GroupedAttention,
    ModelShape,
    WeightType,
    model_shape,
)

LLAMA_3_8B = model_shape("llama-3.1-8b")
LLAMA_3_70B = model_shape("llama-3.1-70b")


def _dense(
    name: str,
    parameters: tuple[float, float],
    layers: int,
    hidden: int,
    vocabulary: int,
    heads: tuple[int, int],
) -> ModelShape:
    """Return a shape of public figures: (total, without input embedding), (heads, KV heads)."""
    return ModelShape(
        name=name,
        parameters_total=parameters[0],
        parameters_active=parameters[1],
        layers=layers,
        hidden=hidden,
        vocabulary=vocabulary,
        attention=GroupedAttention(heads=heads[0], kv_heads=heads[1], head_dim=128),
        weights=WeightType.BF16,
    )


LLAMA_2_7B = _dense("llama-2-7b", (6.74e9, 6.61e9), 32, 4096, 32_000, (32, 32))
QWEN3_14B = _dense("qwen3-14b", (14.77e9, 13.99e9), 40, 5120, 151_936, (40, 8))
CODELLAMA_34B = _dense("codellama-34b", (33.74e9, 33.48e9), 48, 8192, 32_000, (64, 8))
MISTRAL_NEMO = _dense("mistral-nemo-12b", (12.25e9, 11.58e9), 40, 5120, 131_072, (32, 8))
YI_34B = _dense("yi-34b", (34.39e9, 33.93e9), 60, 7168, 64_000, (56, 8))


@dataclass(frozen=True, slots=True)
class Load:
    """Tokens of a request, and requests/s of each stage."""

    input_tokens: int
    output_tokens: int
    stages_rps: tuple[float, ...]


LOADS: Mapping[str, Load] = {
    "general": Load(547, 248, (8.0, 20.0)),
    "general-lite": Load(547, 248, (2.5, 6.0)),
    "codegen": Load(566, 247, (5.0, 10.0)),
    "roleplay": Load(750, 251, (6.0,)),
    "reasoning": Load(1034, 1448, (4.0,)),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One measured experiment, or one stage of it; means in ms."""

    shape: ModelShape
    gpus: int
    load: str
    ttft_ms: float
    e2e_ms: float
    #: place of the stage among the load's; None = all of them together
    stage: int | None = None
    token_budget: int = 2048
    second: bool = False
    #: KV was offloaded to the CPU, which is not simulated
    offload: bool = False

    @property
    def name(self) -> str:
        """Return a name for a printed line."""
        stage = "" if self.stage is None else f" {LOADS[self.load].stages_rps[self.stage]:g}/s"
        marks = " offload" * self.offload + f" {self.token_budget}" * (self.token_budget != 2048)
        return f"{self.shape.name} TP{self.gpus} {self.load}{stage}{marks}"

    @property
    def tbt_ms(self) -> float:
        """Return the mean gap between a request's tokens."""
        return (self.e2e_ms - self.ttft_ms) / (LOADS[self.load].output_tokens - 1)


#: the only rows that anything is fitted to
FITTED = (
    Row(LLAMA_3_8B, 1, "general", 39.8, 2119),
    Row(LLAMA_3_8B, 1, "codegen", 33.3, 1876),
    Row(LLAMA_3_8B, 1, "roleplay", 33.2, 1987),
    Row(LLAMA_3_8B, 1, "reasoning", 56.3, 22705),
    Row(LLAMA_3_8B, 1, "general", 37.5, 2029, token_budget=1024),
    Row(LLAMA_3_8B, 1, "general", 35.8, 2020, offload=True),
)

HELD_OUT = (
    Row(QWEN3_14B, 1, "general", 65.4, 3909),
    Row(QWEN3_14B, 1, "general-lite", 51.8, 3114),
    Row(CODELLAMA_34B, 2, "codegen", 71.9, 3993, offload=True),
    Row(CODELLAMA_34B, 2, "general-lite", 61.7, 3723),
    Row(LLAMA_2_70B, 4, "general-lite", 77.1, 4310),
    Row(LLAMA_2_70B, 4, "codegen", 123.5, 5363, offload=True),
    Row(LLAMA_2_7B, 1, "codegen", 28.0, 2081, second=True),
    Row(LLAMA_2_7B, 1, "codegen", 25.0, 1810, 0, second=True),
    Row(LLAMA_2_7B, 1, "codegen", 29.5, 2216, 1, second=True),
    Row(LLAMA_3_70B, 4, "general-lite", 53.7, 4502, token_budget=8192, second=True),
    Row(LLAMA_3_70B, 4, "codegen", 58.1, 4841, second=True),
    Row(LLAMA_3_70B, 4, "codegen", 54.7, 4495, 0, second=True),
    Row(LLAMA_3_70B, 4, "codegen", 59.8, 5014, 1, second=True),
    Row(MISTRAL_NEMO, 2, "general-lite", 22.0, 1498, 0, token_budget=1024, second=True),
    Row(MISTRAL_NEMO, 2, "general-lite", 21.6, 1549, 1, token_budget=1024, second=True),
    Row(YI_34B, 2, "general-lite", 46.6, 3780, 0, second=True),
    Row(YI_34B, 2, "general-lite", 47.1, 3939, 1, second=True),
)


@dataclass(frozen=True, slots=True)
class Peer:
    """Errors of another simulator against measurements of the same publisher or of its authors."""

    name: str
    against: str
    e2e: float
    tbt: float | None
    ttft: float | None
    source: str


PEERS = (
    Peer("Vidur", "vLLM, 2 experiments", 0.025, 0.040, 0.136, "recomputed"),
    Peer("BLIS evolved", "vLLM, 13 train and validation", 0.202, 0.199, 0.185, "recomputed"),
    Peer("BLIS trained physics", "vLLM, 36 held out, 3 GPUs", 0.067, 0.071, 0.176, "published"),
    Peer("BLIS roofline", "vLLM, 13", 0.46, 0.51, 3.05, "recomputed"),
    Peer("aiconfigurator", "vLLM, 7", 0.143, 0.213, 6.53, "recomputed"),
    Peer("llm-optimizer", "vLLM, 9", 0.425, 0.56, 6.18, "recomputed"),
    Peer("LLMServingSim", "vLLM, 32, by a competitor", 0.188, 0.218, 0.73, "recomputed"),
    Peer("Frontier", "its own 16 H800, co-located", 0.064, None, None, "published"),
)
