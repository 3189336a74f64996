"""Random small scenarios in which much goes wrong: a seed is a whole scenario, faults included.

They are kept short of hardware, impatient and badly measured on purpose: what holds here on every
tick holds in calmer places.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heteroscale.config.scenario import Scenario, parse_scenario
from heteroscale.sim.fault_plan import random_faults

#: of a scenario's random numbers, beside its seed
_STREAM = 0x50AC
#: of what makes scarcity: a stream of its own, so that the rest of a seed stays as it was
_SCARCE = 0x5CA2
#: the shortest and longest run, seconds
DURATION_S = (2400, 7200)
#: instances a role may have at most
_MAXIMUM = 12


def soak_scenario(seed: int) -> Scenario:
    """Return the scenario of a seed, with the faults that strike it."""
    chance = np.random.default_rng([seed, _STREAM])
    duration_s = float(chance.integers(*DURATION_S))
    scarce = np.random.default_rng([seed, _SCARCE])
    names = ("chat", "code")[: int(chance.integers(1, 3))]
    file: dict[str, Any] = {
        "name": f"soak-{seed}",
        "seed": seed,
        "duration_s": duration_s,
        "fleet": {
            "interval_s": _one(chance, (5.0, 15.0, 30.0)),
            "defragment": {
                "groups": _one(scarce, (0, 1, 2)),
                "rest_s": _one(scarce, (300.0, 1200.0)),
            },
        },
        "services": [_simulated(chance, name, duration_s, scarce) for name in names],
        "nodes": [*_nodes(chance, least=8 * len(names)), *_others(scarce)],
        "network": {
            "contention": _one(chance, ("none", "fair_share")),
            "overlap": _one(chance, (0.0, 0.5)),
        },
        "metrics": {
            "scrape_interval_s": 15.0,
            "window_s": _one(chance, (30.0, 60.0, 120.0)),
            "jitter_s": _one(chance, (0.0, 5.0)),
            "missing_share": _one(chance, (0.0, 0.0, 0.1, 0.4)),
        },
        "static_peak": {"search": False},
    }
    if len(names) > 1 and scarce.integers(2):
        _press(file, least=8 * len(names))
    scenario = parse_scenario(json.dumps(file), f"soak-{seed}", Path())
    return dataclasses.replace(scenario, faults=random_faults(duration_s, seed))


def _press(file: dict[str, Any], least: int) -> None:
    """Leave one sub-cluster with few nodes, on which the last service gives way to the first."""
    file["nodes"] = [{**file["nodes"][0], "nodes": least}]
    first, last = (file["services"][at]["service"] for at in (0, -1))
    first |= {"priority": 50, "essential": {}}
    for role in first["group"]["roles"].values():
        role["min_replicas"] = 4
    file["services"][0]["initial"] = {"prefill": 4, "decode": 4}
    last |= {"priority": 20, "preemptible": True, "essential": {}}


def _one(chance: np.random.Generator, choices: Sequence[Any]) -> Any:
    return choices[int(chance.integers(len(choices)))]


def _simulated(
    chance: np.random.Generator, name: str, duration_s: float, scarce: np.random.Generator
) -> Mapping[str, Any]:
    """Return a service with its traffic and engines."""
    essential = {role: int(scarce.integers(1, 5)) for role in ("prefill", "decode")}
    return {
        "service": {**_service(chance, name), "essential": essential},
        "traffic": {"generator": _traffic(chance, duration_s)},
        "model": {"name": "moe-540b-a27b"},
        "serving": {
            "routing": _one(chance, ("least_loaded", "round_robin", "power_of_two")),
            "kv_admission": _one(chance, ("reserve", "grow")),
            "chunked_prefill": _one(chance, (False, True)),
            "cached_share": _one(chance, (0.0, 0.2)),
        },
        "start_up": {
            "image_pull_s": _one(chance, (0.0, 30.0, 120.0)),
            "weights_s": _one(chance, (20.0, 120.0)),
            "warm_up_s": _one(chance, (0.0, 45.0)),
            "spread": _one(chance, (0.0, 0.3, 0.8)),
            "fail_share": _one(chance, (0.0, 0.05, 0.3)),
            "slow_share": _one(chance, (0.0, 0.1)),
        },
        "initial": {
            "prefill": int(chance.integers(1, 5)),
            "decode": int(chance.integers(1, 4)),
        },
    }


def _service(chance: np.random.Generator, name: str) -> Mapping[str, Any]:
    signal, target = _one(chance, (("tps", 3000.0), ("offered_tps", 3000.0)))
    accelerators = [{"type": "H20", "gpus": 8}]
    return {
        "name": name,
        "priority": _one(chance, (20, 50)),
        "preemptible": _one(chance, (False, True)),
        "slo": {"ttft_s": 1.0, "tbt_s": 0.04, "quantile": 0.9},
        "group": {
            "within": _one(chance, ("S1", "S2")),
            "roles": {
                "prefill": {
                    "share": _one(chance, (9, 1, 2)),
                    "accelerators": accelerators,
                    "min_replicas": 1,
                    "max_replicas": _MAXIMUM,
                },
                "decode": {
                    "share": _one(chance, (7, 1, 3)),
                    "accelerators": accelerators,
                    "min_replicas": 1,
                    "max_replicas": int(chance.integers(4, _MAXIMUM + 1)),
                },
            },
        },
        "policy": {
            "proportional": [{"signal": signal, "role": "decode", "target": target}],
            "feedback": [{"signal": "ttft_s"}, {"signal": "tbt_s"}],
            "guard": {
                "stabilization_window_s": _one(chance, (60.0, 300.0)),
                "cool_down_out_s": _one(chance, (0.0, 60.0)),
                "cool_down_in_s": _one(chance, (60.0, 300.0)),
            },
        },
        "lifecycle": {"observe_s": _one(chance, (60.0, 300.0))},
    }


def _traffic(chance: np.random.Generator, duration_s: float) -> Mapping[str, Any]:
    bursts = [
        {
            "at_s": round(float(chance.uniform(0.0, duration_s - 1.0)), 3),
            "duration_s": round(float(chance.uniform(30.0, 900.0)), 3),
            "factor": _one(chance, (0.0, 0.2, 3.0, 6.0)),
        }
        for _ in range(int(chance.integers(4)))
    ]
    return {
        "rate_rps": _one(chance, (0.05, 5.0, 15.0, 25.0)),
        "gap_shape": _one(chance, (1.0, 0.3)),
        "input": {"mean_tokens": _one(chance, (500, 3000)), "sigma": 0.6},
        "output": {"mean_tokens": _one(chance, (100, 350)), "sigma": 0.6},
        "bursts": sorted(bursts, key=lambda burst: float(burst["at_s"])),
    }


def _nodes(chance: np.random.Generator, least: int) -> list[Mapping[str, Any]]:
    """Return one to three sub-clusters; the first has room for what is there at the start."""
    names = ("one", "two", "three")[: int(chance.integers(1, 4))]
    return [
        {
            "subcluster": name,
            "accelerator": "H20",
            "nodes": int(chance.integers(least, 2 * least)),
            "nodes_per_s0": 2,
            "s0_per_s1": 4,
            "switches": name,
        }
        for name in names
    ]


def _others(scarce: np.random.Generator) -> list[Mapping[str, Any]]:
    """Return nodes nobody asks for, which make the first switches of a sub-cluster scarce."""
    return [
        {
            "subcluster": "one",
            "accelerator": "H800",
            "nodes": int(scarce.integers(1, 5)),
            "nodes_per_s0": 2,
            "s0_per_s1": 4,
            "switches": "one",
        }
        for _ in range(int(scarce.integers(2)))
    ]
