"""Step times from first principles: work over the rate of whatever limits it. Formulas and their
errors against measurements: docs/performance.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.errors import ConfigError, Problem
from heteroscale.performance.accelerators import Accelerator, accelerator_named
from heteroscale.performance.model import StepCoefficients
from heteroscale.performance.models import ModelShape, WeightType

_PS_PER_S = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """What engines reach of the data sheet, and what they spend beside the GPU's work.

    Source: fits to published vLLM measurements on H100; the same values serve every accelerator.
    """

    compute: float = 0.85
    weight_bandwidth: float = 0.8
    kv_bandwidth: float = 0.9
    #: all-reduce bytes against the one-way interconnect
    all_reduce_bandwidth: float = 0.3
    #: seconds of one small all-reduce
    all_reduce_s: float = 12e-6
    #: seconds per batch or step in which the host works and no kernel runs
    host_s: float = 1.6e-3
    #: seconds of kernels per prefill batch that its tokens do not explain: the half-empty tiles of
    #: a MoE's many small products
    prefill_batch_s: float = 0.0
    #: seconds per sequence and decode step: sampling, tables, launch
    sequence_s: float = 25e-6
    #: of a step that decodes and computes prompts too: share of the shorter of reading the weights
    #: and multiplying the prompts that hides behind the other (0.5: the kernel tables of dense
    #: models on H100 at 256 and 512 tokens, median)
    mixed_overlap: float = 0.5
    #: share of GPU memory for weights and KV; the rest is activations and graphs
    memory: float = 0.95
    #: SM activity ÷ utilization (HeteroScale, arXiv:2508.19559, service A: prefill 65/86 to 71/92,
    #: decode 60/93 to 68/93 over the ratios near the optimum)
    prefill_occupancy: float = 0.775
    decode_occupancy: float = 0.68


def _ps(seconds: float) -> int:
    return round(seconds * _PS_PER_S)


@dataclass(frozen=True, slots=True)
class _Rates:
    """The rates of one instance: its GPUs together, efficiencies applied."""

    gpus: int
    weight_flops: float
    attention_flops: float
    weight_bandwidth: float
    kv_bandwidth: float
    #: bytes/s of all-reduced values, per GPU
    all_reduce: float
    memory_bytes: float


def _rates(chip: Accelerator, gpus: int, weights: WeightType, efficiency: Efficiency) -> _Rates:
    is_fp8 = weights is WeightType.FP8 and chip.fp8_flops is not None
    # Without fp8 tensor cores fp8 weights still take one byte, and are multiplied in bf16.
    flops = chip.fp8_flops if is_fp8 and chip.fp8_flops else chip.bf16_flops
    return _Rates(
        gpus=gpus,
        weight_flops=gpus * flops * efficiency.compute,
        attention_flops=gpus * chip.bf16_flops * efficiency.compute,
        weight_bandwidth=gpus * chip.memory_bandwidth * efficiency.weight_bandwidth,
        kv_bandwidth=gpus * chip.memory_bandwidth * efficiency.kv_bandwidth,
        all_reduce=chip.interconnect * efficiency.all_reduce_bandwidth,
        memory_bytes=gpus * chip.memory_bytes * efficiency.memory,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """PerformanceModel of one model shape on any accelerator of the table."""

    shape: ModelShape
    efficiency: Efficiency = Efficiency()

    def coefficients(self, accelerator: str, gpus: int) -> StepCoefficients:
        """Return the step times of an instance of `gpus` GPUs in one node.

        Raises:
            ConfigError: the accelerator is unknown, or the model leaves no room for KV on it.
        """
        shape, efficiency = self.shape, self.efficiency
        if gpus < 1:
            raise ConfigError([Problem(path="gpus", rule="must be >= 1", value=gpus)])
        chip = accelerator_named(accelerator)
        rates = _rates(chip, gpus, shape.weights, efficiency)
        exchange_s, exchange_token_s = self._exchange_s(rates)
        weights_s = shape.step_weight_bytes / rates.weight_bandwidth
        token_s = 2 * shape.parameters_active / rates.weight_flops
        attention = shape.attention
        # A sequence's KV is read and multiplied at the same time: the slower of the two counts.
        kv_token_s = max(
            shape.kv_bytes_per_token / rates.kv_bandwidth,
            shape.layers * attention.decode_pair_flops / rates.attention_flops,
        )
        return StepCoefficients(
            prefill_base_ps=_ps(efficiency.host_s + efficiency.prefill_batch_s + exchange_s),
            prefill_per_token_ps=_ps(token_s + exchange_token_s),
            # Causal: L²/2 pairs.
            prefill_per_token2_ps=_ps(
                shape.layers * attention.prefill_pair_flops / 2 / rates.attention_flops
            ),
            hidden_tokens=int(weights_s / token_s),
            hidden_per_token_ps=_ps(token_s * efficiency.mixed_overlap),
            decode_base_ps=_ps(efficiency.host_s + weights_s + exchange_s),
            decode_per_sequence_ps=_ps(efficiency.sequence_s + exchange_token_s),
            decode_per_kv_token_ps=_ps(kv_token_s),
            prefill_host_ps=_ps(efficiency.host_s),
            decode_host_ps=_ps(efficiency.host_s),
            kv_capacity_tokens=self._kv_capacity_tokens(rates, accelerator),
            kv_bytes_per_token=shape.kv_bytes_per_token,
            prefill_occupancy=efficiency.prefill_occupancy,
            decode_occupancy=efficiency.decode_occupancy,
        )

    def _exchange_s(self, rates: _Rates) -> tuple[float, float]:
        """Return seconds of tensor-parallel exchange per batch and per token."""
        if rates.gpus == 1 or self.shape.is_expert_parallel:
            return 0.0, 0.0
        # Two all-reduces a layer; a ring sends each value 2(g - 1)/g times, in bf16.
        count = 2 * self.shape.layers
        token_bytes = self.shape.hidden * 2 * 2 * (rates.gpus - 1) / rates.gpus
        return count * self.efficiency.all_reduce_s, count * token_bytes / rates.all_reduce

    def _kv_capacity_tokens(self, rates: _Rates, accelerator: str) -> int:
        free_bytes = rates.memory_bytes - self.shape.weight_bytes
        tokens = int(free_bytes // self.shape.kv_bytes_per_token)
        if tokens < 1:
            need, have = self.shape.weight_bytes / 1e9, rates.memory_bytes / 1e9
            rule = (
                f"must hold {self.shape.name}: {need:.1f} GB of weights and at least one token's KV"
                f" in {have:.1f} GB usable"
            )
            value = f"{rates.gpus} x {accelerator}"
            raise ConfigError([Problem(path="accelerator", rule=rule, value=value)])
        return tokens
