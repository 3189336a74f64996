"""Synthetic services: sizes, ratios, accelerators and affinities of the kinds that are in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

from heteroscale.entities.policy import LifecycleSpec, PolicySpec, ProportionalSpec
from heteroscale.entities.service import (
    AcceleratorOption,
    GroupSpec,
    RoleSpec,
    ServiceSpec,
    Slo,
    Stage,
)
from heteroscale.entities.snapshot import Signal
from heteroscale.workload.fleet_hardware import GPUS_PER_NODE, drawn

#: accelerator → dense bf16 TFLOP/s, which is what prefill asks for
_COMPUTE = {"H800": 989.0, "A100": 312.0, "H20": 148.0, "L20": 119.5}
#: accelerator → memory bandwidth in TB/s, which is what decode asks for
_BANDWIDTH = {"H20": 4.0, "H800": 3.35, "A100": 2.04, "L20": 0.864}
_SPEED = {Stage.PREFILL: _COMPUTE, Stage.DECODE: _BANDWIDTH}

#: GPUs of one instance, and how often; 16 are two whole nodes under one S0
_SIZES = {1: 0.15, 2: 0.15, 4: 0.25, 8: 0.35, 16: 0.1}
#: prefill : decode
_RATIOS = ((1, 1), (1, 2), (2, 1), (3, 2), (2, 3), (1, 3), (3, 1))
#: topology level of a group, and how often; None = a sub-cluster
_WITHIN = {"S2": 0.65, "S1": 0.15, None: 0.2}
#: (preferred for prefill, preferred for decode), and how often
_TYPES = {
    ("H20", "H20"): 0.35,
    ("H800", "H20"): 0.25,
    ("H800", "H800"): 0.2,
    ("L20", "L20"): 0.1,
    ("A100", "A100"): 0.1,
}
_PRIORITIES = (20, 40, 60, 80)
#: of services whose prefill is attention and FFN inside one S1
_MOE_SHARE = 0.05
#: of roles that also take a second type
_COMPATIBLE_SHARE = 0.5


Choice = TypeVar("Choice")


def synthetic_services(services: int, rng: np.random.Generator) -> tuple[ServiceSpec, ...]:
    """Return so many services, sorted by name."""
    draws = drawn(rng)
    return tuple(_service(f"svc-{at:04d}", draws) for at in range(services))


def _weighed(shares: Mapping[Choice, float], draws: Iterator[float]) -> Choice:
    """Return one of the keys, each as often as its share says."""
    mark = next(draws)
    below = zip(shares, accumulate(shares.values()), strict=True)
    return next((key for key, end in below if mark < end), list(shares)[-1])


def _any(choices: Sequence[Choice], draws: Iterator[float]) -> Choice:
    return choices[int(next(draws) * len(choices))]


def _service(name: str, draws: Iterator[float]) -> ServiceSpec:
    types = _weighed(_TYPES, draws)
    within = _weighed(_WITHIN, draws)
    prefill, decode = _any(_RATIOS, draws)
    if within != "S1" and next(draws) < _MOE_SHARE:
        first = _moe_prefill(prefill, types[0], draws)
    else:
        first = _leaf("prefill", Stage.PREFILL, prefill, types[0], draws)
    roles = (first, _leaf("decode", Stage.DECODE, decode, types[1], draws))
    return ServiceSpec(
        name=name,
        priority=_any(_PRIORITIES, draws),
        slo=Slo(ttft_s=1.0, tbt_s=0.04, quantile=0.9),
        group=GroupSpec(within=within, roles=roles),
        policy=PolicySpec(
            proportional=(ProportionalSpec(signal=Signal.TPS, role="decode", target=1000.0),)
        ),
        lifecycle=LifecycleSpec(),
    )


def _moe_prefill(share: int, accelerator: str, draws: Iterator[float]) -> RoleSpec:
    parts = (("attention", 1), ("ffn", _any((1, 2, 3), draws)))
    roles = tuple(
        _leaf(f"prefill/{part}", Stage.PREFILL, weight, accelerator, draws)
        for part, weight in parts
    )
    return RoleSpec(path="prefill", stage=Stage.PREFILL, share=share, within="S1", roles=roles)


def _leaf(
    path: str, stage: Stage, share: int, accelerator: str, draws: Iterator[float]
) -> RoleSpec:
    gpus = _weighed(_SIZES, draws)
    speeds = _SPEED[stage]
    types = [accelerator]
    if next(draws) < _COMPATIBLE_SHARE:
        types.append(_any([other for other in speeds if other != accelerator], draws))
    options = tuple(_option(kind, gpus, speeds[kind] / speeds[accelerator]) for kind in types)
    return RoleSpec(path=path, stage=stage, share=share, accelerators=options)


def _option(accelerator: str, gpus: int, speed: float) -> AcceleratorOption:
    capacity = round(speed, 2)
    if gpus <= GPUS_PER_NODE:
        return AcceleratorOption(type=accelerator, gpus=gpus, capacity=capacity)
    nodes = gpus // GPUS_PER_NODE
    return AcceleratorOption(
        type=accelerator, gpus=GPUS_PER_NODE, capacity=capacity, nodes=nodes, within="S0"
    )
