"""Shapes of language models: what a roofline needs to know of one. Public configurations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from heteroscale.errors import ConfigError, Problem


class WeightType(StrEnum):
    """How weights are stored."""

    BF16 = "bf16"
    FP8 = "fp8"

    @property
    def bytes(self) -> int:
        """Return bytes per weight."""
        return {WeightType.BF16: 2, WeightType.FP8: 1}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedAttention:
    """Multi-head attention with shared KV heads; KV in bf16."""

    heads: int
    kv_heads: int
    head_dim: int

    @property
    def kv_bytes(self) -> int:
        """Return KV bytes per token and layer."""
        return 2 * self.kv_heads * self.head_dim * 2

    @property
    def prefill_pair_flops(self) -> int:
        """Return FLOPs per query-key pair and layer."""
        return 4 * self.heads * self.head_dim

    @property
    def decode_pair_flops(self) -> int:
        """Return FLOPs per sequence, KV token and layer."""
        return self.prefill_pair_flops


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2/V3): one compressed KV for all heads, in bf16.

    Decode works on the compressed form ("absorbed"), which costs more FLOPs per pair than prefill.
    """

    heads: int
    qk_dim: int
    v_dim: int
    #: compressed KV values, and the rotary key beside them
    latent_dim: int
    rope_dim: int

    @property
    def kv_bytes(self) -> int:
        """Return KV bytes per token and layer."""
        return (self.latent_dim + self.rope_dim) * 2

    @property
    def prefill_pair_flops(self) -> int:
        """Return FLOPs per query-key pair and layer."""
        return 2 * self.heads * (self.qk_dim + self.v_dim)

    @property
    def decode_pair_flops(self) -> int:
        """Return FLOPs per sequence, KV token and layer."""
        return 2 * self.heads * (2 * self.latent_dim + self.rope_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """One model as it is served."""

    name: str
    #: everything that is kept in memory
    parameters_total: float
    #: multiplied for each token: without the input embedding, of a MoE the chosen experts only
    parameters_active: float
    layers: int
    hidden: int
    vocabulary: int
    attention: GroupedAttention | LatentAttention
    weights: WeightType
    #: spread over GPUs by experts and sequences (exchange hidden behind compute) instead of by
    #: tensor parallelism (all-reduces in the open)
    is_expert_parallel: bool = False

    @property
    def weight_bytes(self) -> float:
        """Return bytes of all weights."""
        return self.parameters_total * self.weights.bytes

    @property
    def step_weight_bytes(self) -> float:
        """Return bytes of weights a decode step reads: all but the input embedding.

        Of a MoE that is every expert: with 8 of 256 experts a token and 64 sequences 87 % of the
        experts are touched, with 128 98 %.
        """
        return (self.parameters_total - self.vocabulary * self.hidden) * self.weights.bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """Return KV bytes of one token over all layers."""
        return self.layers * self.attention.kv_bytes


MODELS: dict[str, ModelShape] = {
    shape.name: shape
    for shape in (
        ModelShape(
            name="llama-3.1-8b",
            parameters_total=8.03e9,
            parameters_active=7.50e9,
            layers=32,
            hidden=4096,
            vocabulary=128_256,
            attention=GroupedAttention(heads=32, kv_heads=8, head_dim=128),
            weights=WeightType.BF16,
        ),
        ModelShape(
            name="qwen3-32b",
            parameters_total=32.76e9,
            parameters_active=31.98e9,
            layers=64,
            hidden=5120,
            vocabulary=151_936,
            attention=GroupedAttention(heads=64, kv_heads=8, head_dim=128),
            weights=WeightType.BF16,
        ),
        ModelShape(
            name="llama-3.1-70b",
            parameters_total=70.55e9,
            parameters_active=69.50e9,
            layers=80,
            hidden=8192,
            vocabulary=128_256,
            attention=GroupedAttention(heads=64, kv_heads=8, head_dim=128),
            weights=WeightType.BF16,
        ),
        ModelShape(
            name="qwen3-30b-a3b",
            parameters_total=30.53e9,
            parameters_active=3.04e9,
            layers=48,
            hidden=2048,
            vocabulary=151_936,
            attention=GroupedAttention(heads=32, kv_heads=4, head_dim=128),
            weights=WeightType.BF16,
        ),
        ModelShape(
            name="qwen3-235b-a22b",
            parameters_total=235.09e9,
            parameters_active=21.57e9,
            layers=94,
            hidden=4096,
            vocabulary=151_936,
            attention=GroupedAttention(heads=64, kv_heads=4, head_dim=128),
            weights=WeightType.FP8,
            is_expert_parallel=True,
        ),
        # DeepSeek-V3's shape at the size at which 9 prefill and 7 decode instances of 8 H20 carry
        # the load of the HeteroScale paper's service A; reasoning in docs/performance.md.
        ModelShape(
            name="moe-540b-a27b",
            parameters_total=540e9,
            parameters_active=27.2e9,
            layers=61,
            hidden=7168,
            vocabulary=129_280,
            attention=LatentAttention(
                heads=128, qk_dim=192, v_dim=128, latent_dim=512, rope_dim=64
            ),
            weights=WeightType.FP8,
            is_expert_parallel=True,
        ),
    )
}


def model_shape(name: str) -> ModelShape:
    """Return a reference model by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in MODELS:
        rule = "must be one of " + ", ".join(MODELS)
        raise ConfigError([Problem(path="model", rule=rule, value=name)])
    return MODELS[name]
