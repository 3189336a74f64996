"""The `model` section of a scenario: what is served, and what tells how fast engines are.

Keys of shape and efficiency are the roofline's own words (performance/models.py,
performance/roofline.py); this room may not import that one, so a test holds the two equal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from heteroscale.config.fields import (
    Count,
    Part,
    Positive,
    Section,
    Text,
    need,
    optional,
)

#: what is reached of a data sheet: below a hundredth step times leave every range that makes sense
Reached = Annotated[float, Field(ge=0.01, le=1)]
#: a fixed time of a step or batch, or of a sequence in it
FixedTime = Annotated[float, Field(ge=0, le=1)]


class WeightTypeName(StrEnum):
    """How weights are stored."""

    BF16 = "bf16"
    FP8 = "fp8"


class GroupedAttentionSection(Section):
    """Multi-head attention with shared KV heads."""

    heads: Count = need("query heads of a layer")
    kv_heads: Count = need("key/value heads of a layer; at most heads")
    head_dim: Count = need("width of one head")


class LatentAttentionSection(Section):
    """Multi-head latent attention: one compressed KV for all heads."""

    heads: Count = need("query heads of a layer")
    qk_dim: Count = need("width of one head's query and key")
    v_dim: Count = need("width of one head's value")
    latent_dim: Count = need("width of the compressed KV")
    rope_dim: Count = need("width of the rotary key beside it")


class AttentionSection(Section):
    """Exactly one of the two kinds."""

    grouped: GroupedAttentionSection | None = optional(None, "shared KV heads (GQA, MHA)")
    latent: LatentAttentionSection | None = optional(None, "compressed KV (MLA)")


class ModelShapeSection(Section):
    """A model by its figures, for the roofline."""

    parameters_total: Positive = need("everything kept in memory")
    parameters_active: Positive = need("multiplied for each token; at most the total")
    layers: Count = need("transformer layers")
    hidden: Count = need("width of the residual stream")
    vocabulary: Count = need("entries of the token table")
    attention: AttentionSection = need("kind and size of attention")
    weights: Annotated[WeightTypeName, Field(strict=False)] = need("how weights are stored")
    is_expert_parallel: bool = optional(
        False, "spread over GPUs by experts, exchange hidden, instead of by tensor parallelism"
    )


class EfficiencySection(Section):
    """What engines reach of the data sheet; null = the roofline's own figure.

    Beside measured times only host_s, sequence_s, mixed_overlap and the occupancies have a say.
    """

    compute: Reached | None = optional(None, "share of the FLOP/s")
    weight_bandwidth: Reached | None = optional(
        None, "share of the memory bandwidth, reading weights"
    )
    kv_bandwidth: Reached | None = optional(None, "share of the memory bandwidth, reading KV")
    all_reduce_bandwidth: Reached | None = optional(None, "share of the one-way interconnect")
    all_reduce_s: FixedTime | None = optional(None, "one small all-reduce")
    host_s: FixedTime | None = optional(None, "host work of a batch or step, no kernel running")
    prefill_batch_s: FixedTime | None = optional(
        None, "kernels of a prefill batch that its tokens do not explain"
    )
    sequence_s: FixedTime | None = optional(None, "cost of each sequence of a decode step")
    mixed_overlap: Part | None = optional(
        None,
        "share of the shorter of reading weights and multiplying prompts that hides, co-located",
    )
    memory: Part | None = optional(None, "share of GPU memory for weights and KV")
    prefill_occupancy: Part | None = optional(None, "SM activity ÷ utilization of prefill")
    decode_occupancy: Part | None = optional(None, "SM activity ÷ utilization of decode")


class ProfileOfSection(Section):
    """What NVIDIA's profiles leave out; our own format holds it."""

    accelerator: Text = need("accelerator type it was measured on, e.g. H200")
    gpus: Count = need("GPUs of the measured instance, prefill and decode alike")
    kv_bytes_per_token: Count = need("KV bytes of one token, over all layers")


class ModelSection(Section):
    """What is served and how fast: a roofline of a model, measured tables, or an own profile."""

    name: Text | None = optional(None, "roofline of a built-in model, e.g. moe-540b-a27b")
    shape: ModelShapeSection | None = optional(None, "roofline of another model, by its figures")
    table: Text | None = optional(None, "shipped measurements of a model, e.g. llama-3.1-8b")
    profile: Text | None = optional(
        None, "own measurements: a file of our format, or NVIDIA's (NPZ, JSON, or their folder)"
    )
    profile_of: ProfileOfSection | None = optional(None, "with NVIDIA's profiles: of what they are")
    efficiency: EfficiencySection = optional(EfficiencySection(), "what engines reach of the GPUs")
