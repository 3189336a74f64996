"""Accelerators as their public data sheets describe them. Dense rates, never the sparse ones."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.errors import ConfigError, Problem

TERA = 10**12
GIGA = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One GPU. Bytes are decimal, as on data sheets."""

    #: dense tensor-core rate in bf16, FLOP/s
    bf16_flops: float
    #: dense tensor-core rate in fp8, FLOP/s; None = fp8 weights are computed in bf16
    fp8_flops: float | None
    memory_bytes: float
    #: bytes/s
    memory_bandwidth: float
    #: bytes/s one GPU sends to the others of its node: half of the two-way figure data sheets give
    interconnect: float


# Sources: NVIDIA data sheets of each product (dense = half of the figure marked "with sparsity").
# H20, L20 and H800 are sold in China only; their figures are NVIDIA's product briefs as published
# by vendors and, for H800, the H100 SXM figures with NVLink cut to 400 GB/s.
ACCELERATORS: dict[str, Accelerator] = {
    "H20": Accelerator(
        bf16_flops=148 * TERA,
        fp8_flops=296 * TERA,
        memory_bytes=96 * GIGA,
        memory_bandwidth=4.0 * TERA,
        interconnect=450 * GIGA,
    ),
    "L20": Accelerator(
        bf16_flops=119.5 * TERA,
        fp8_flops=239 * TERA,
        memory_bytes=48 * GIGA,
        memory_bandwidth=864 * GIGA,
        interconnect=32 * GIGA,  # PCIe 4.0 x16
    ),
    "H800": Accelerator(
        bf16_flops=989.4 * TERA,
        fp8_flops=1978.9 * TERA,
        memory_bytes=80 * GIGA,
        memory_bandwidth=3.35 * TERA,
        interconnect=200 * GIGA,
    ),
    "A100": Accelerator(  # SXM, 80 GB; Ampere has no fp8 tensor cores
        bf16_flops=312 * TERA,
        fp8_flops=None,
        memory_bytes=80 * GIGA,
        memory_bandwidth=2.039 * TERA,
        interconnect=300 * GIGA,
    ),
    "H100": Accelerator(  # SXM
        bf16_flops=989.4 * TERA,
        fp8_flops=1978.9 * TERA,
        memory_bytes=80 * GIGA,
        memory_bandwidth=3.35 * TERA,
        interconnect=450 * GIGA,
    ),
    "H200": Accelerator(  # SXM
        bf16_flops=989.4 * TERA,
        fp8_flops=1978.9 * TERA,
        memory_bytes=141 * GIGA,
        memory_bandwidth=4.8 * TERA,
        interconnect=450 * GIGA,
    ),
    "L40S": Accelerator(
        bf16_flops=362.05 * TERA,
        fp8_flops=733 * TERA,
        memory_bytes=48 * GIGA,
        memory_bandwidth=864 * GIGA,
        interconnect=32 * GIGA,  # PCIe 4.0 x16
    ),
    "B200": Accelerator(  # DGX B200: 1,440 GB, 64 TB/s, 72 PFLOP/s sparse fp8 over 8 GPUs
        bf16_flops=2250 * TERA,
        fp8_flops=4500 * TERA,
        memory_bytes=180 * GIGA,
        memory_bandwidth=8.0 * TERA,
        interconnect=900 * GIGA,
    ),
}


def accelerator_named(name: str) -> Accelerator:
    """Return an accelerator by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in ACCELERATORS:
        rule = "must be one of " + ", ".join(ACCELERATORS)
        raise ConfigError([Problem(path="accelerator", rule=rule, value=name)])
    return ACCELERATORS[name]
