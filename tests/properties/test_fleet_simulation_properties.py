"""What holds for every simulated fleet, its loop and planner included.

1. A service beside others that share no link, node or quota with it fares as it does alone: every
   event, every figure, every change.
2. How a trace is cut into chunks changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.app import assemble
from heteroscale.config.scenario import Scenario, parse_scenario
from heteroscale.sim.course import ServiceRecord
from heteroscale.sim.kernel_state import G_LOGGING
from heteroscale.sim.run import Run
from heteroscale.sim.traffic import arrivals_of
from heteroscale.workload.arrivals import ArrivalChunk, ArrivalSource
from tests.unit.sim.small import small

#: each service has its own kind of node, and the fleet brake's hourly share is no quota here
WORLD: dict[str, Any] = {
    "name": "beside",
    "duration_s": 900,
    "fleet": {"brake": {"gpus_per_hour_share": 1.0}},
    "nodes": [
        {"accelerator": "H20", "nodes": 12, "nodes_per_s0": 2},
        {"accelerator": "H800", "nodes": 12, "nodes_per_s0": 2, "subcluster": "other"},
        {"accelerator": "H100", "nodes": 12, "nodes_per_s0": 2},
    ],
    "metrics": {"jitter_s": 2.0, "missing_share": 0.1},
}


def service(name: str, accelerator: str, drawn: dict[str, Any]) -> dict[str, Any]:
    """Return one entry of a scenario's services."""
    role = {"accelerators": [{"type": accelerator, "gpus": 8}], "max_replicas": 6}
    prefill: dict[str, Any] = {"share": 2, **role}
    serving = {"routing": drawn["routing"], "kv_admission": drawn["kv_admission"]}
    initial = {"prefill": 2}
    if drawn["nested"]:
        prefill = {"share": 1, "roles": {name: {"share": 1, **role} for name in ("one", "two")}}
        work = {"prefill/one": 0.4, "prefill/two": 0.6}
        serving["prefill_parts"] = {"work": work, "layers": 60}
        initial = {"prefill/one": 2, "prefill/two": 2}
    return {
        "service": {
            "name": name,
            "priority": drawn["priority"],
            "slo": {"ttft_s": 1.0, "tbt_s": 0.04, "quantile": 0.9},
            "group": {"roles": {"prefill": prefill, "decode": {"share": 1, **role}}},
            "policy": {
                "proportional": [{"signal": "tps", "role": "decode", "target": drawn["target"]}],
                "feedback": [{"signal": "ttft_s"}],
                "guard": {"stabilization_window_s": 120.0, "cool_down_in_s": 60.0},
            },
            "lifecycle": {"observe_s": 60.0},
        },
        "traffic": {
            "generator": {
                "rate_rps": drawn["rate_rps"],
                "input": {"mean_tokens": 1500, "sigma": 0.6},
                "output": {"mean_tokens": 150, "sigma": 0.6},
                "steps": [{"at_s": 300, "factor": drawn["factor"]}],
            }
        },
        "model": {"name": "moe-540b-a27b"},
        "serving": serving,
        "start_up": {"weights_s": drawn["weights_s"], "fail_share": 0.2},
        "initial": {**initial, "decode": drawn["decode"]},
    }


drawn_services = st.fixed_dictionaries(
    {
        "priority": st.sampled_from([20, 80]),
        "target": st.sampled_from([800.0, 2000.0]),
        "rate_rps": st.sampled_from([2.0, 10.0, 20.0]),
        "factor": st.sampled_from([0.2, 3.0]),
        "routing": st.sampled_from(["least_loaded", "power_of_two"]),
        "kv_admission": st.sampled_from(["reserve", "grow"]),
        "weights_s": st.sampled_from([20.0, 90.0]),
        "decode": st.integers(1, 3),
        "nested": st.booleans(),
    }
)


def scenario_of(seed: int, services: list[dict[str, Any]]) -> Scenario:
    return parse_scenario(json.dumps({**WORLD, "seed": seed, "services": services}), None, Path())


def gone_through(run: Run) -> dict[str, tuple[ServiceRecord, list[list[int]]]]:
    """Run to the end; return each service's record and its every event."""
    services = run._plant.services
    for service in services.values():
        service.serving._state.scalars[G_LOGGING] = 1
    record = run.go()
    return {
        name: (record.services[name], service.serving.event_log().tolist())
        for name, service in services.items()
    }


@settings(max_examples=15)
@given(
    seed=st.integers(1, 1_000),
    first=drawn_services,
    second=drawn_services,
    kind=st.sampled_from(["H800", "H100"]),
)
def test_a_service_fares_beside_another_as_it_does_alone(
    seed: int, first: dict[str, Any], second: dict[str, Any], kind: str
) -> None:
    entries = [service("chat", "H20", first), service("code", kind, second)]
    alone: dict[str, tuple[ServiceRecord, list[list[int]]]] = {}
    for entry in entries:
        alone |= gone_through(assemble(scenario_of(seed, [entry]), check=True))
    assert gone_through(assemble(scenario_of(seed, entries), check=True)) == alone
    assert gone_through(assemble(scenario_of(seed, entries[::-1]), check=True)) == alone


def test_services_of_one_description_do_not_draw_the_same() -> None:
    drawn = {
        "priority": 50,
        "target": 2000.0,
        "rate_rps": 10.0,
        "factor": 3.0,
        "routing": "least_loaded",
        "kv_admission": "reserve",
        "weights_s": 20.0,
        "decode": 2,
        "nested": False,
    }
    entries = [service(name, "H20", drawn) for name in ("chat", "code")]
    found = gone_through(assemble(scenario_of(1, entries), check=True))
    assert found["chat"][1] != found["code"][1]


def cut(whole: ArrivalSource, sizes: list[int]) -> Iterator[ArrivalChunk]:
    """Yield a trace anew in chunks of given sizes, the last one again and again."""
    chunks = list(whole)
    times, inputs, outputs = (
        np.concatenate([getattr(chunk, name) for chunk in chunks])
        for name in ("arrival_ps", "input_tokens", "output_tokens")
    )
    first = at = 0
    while first < len(times):
        last = first + sizes[min(at, len(sizes) - 1)]
        yield ArrivalChunk(
            arrival_ps=times[first:last],
            input_tokens=inputs[first:last],
            output_tokens=outputs[first:last],
        )
        first, at = last, at + 1


@settings(max_examples=15)
@given(
    sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=6),
    rest=st.integers(20, 5_000),
    duration_s=st.sampled_from([None, 240.0, 290.0]),
)
def test_how_a_trace_is_cut_into_chunks_changes_nothing(
    sizes: list[int], rest: int, duration_s: float | None
) -> None:
    traced = small(duration_s=300.0)
    scenario = small(duration_s=duration_s)

    def played(parts: list[int]) -> object:
        requests = {"chat": cut(arrivals_of(traced), parts)}
        return gone_through(assemble(scenario, arrivals=requests))

    assert played([*sizes, rest]) == played([1_000_000])


@pytest.mark.parametrize("size", [1, 2])
def test_not_even_a_chunk_for_every_request(size: int) -> None:
    scenario = small(duration_s=60.0)
    found = [
        gone_through(assemble(scenario, arrivals={"chat": cut(arrivals_of(scenario), [length])}))
        for length in (size, 1_000_000)
    ]
    assert found[0] == found[1]
