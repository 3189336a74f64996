"""What routing decode by the network is worth: how far KV travels, and what the batches pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.bench_kernel import LOADS, NETWORK, SPEED, Load, empty_plane, requests_of
from heteroscale.sim.sampling import quantile_s
from heteroscale.sim.serving import Routing, Serving, ServingOptions
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk

LOAD = LOADS["paper-190rps"]
REQUESTS = 60_000
#: nodes under an S0 and under an S1
NODES = (2, 8)
#: so narrow that transfers wait for one another, fs per byte of an S0, S1 and S2
CROWDED = (20_000, 10_000, 1_000)
FIRST_TOKEN, KV_ARRIVED = 2, 3


def served(load: Load, trace: ArrivalChunk, options: ServingOptions) -> tuple[Serving, list[int]]:
    """Return a plane that has served the trace, and each instance's node: drawn, one on each."""
    serving = empty_plane(NETWORK, options, log=True)
    speed = replace(SPEED, prefill_per_token_ps=load.prefill_per_token_ps)
    nodes: list[int] = np.random.default_rng(5).permutation(load.prefill + load.decode).tolist()
    for index, node in enumerate(nodes):
        role = "prefill" if index < load.prefill else "decode"
        location = (0, 0, node // NODES[1], node // NODES[0], node)
        serving.add_instance(role, speed, group=0, location=location, in_rotation=True)
    serving.feed(trace)
    serving.close_arrivals()
    serving.advance(int(trace.arrival_ps[-1]) + 600 * PS_PER_S)
    return serving, nodes


def row(name: str, trace: ArrivalChunk, options: ServingOptions) -> str:
    """Return one line of the table."""
    serving, nodes = served(LOAD, trace, options)
    log = serving.event_log()
    times = np.zeros((2, len(trace.arrival_ps)), np.int64)
    places = np.zeros_like(times)
    for side, kind in enumerate((FIRST_TOKEN, KV_ARRIVED)):
        of_kind = log[log[:, 1] == kind]
        times[side, of_kind[:, 2]] = of_kind[:, 0]
        places[side, of_kind[:, 2]] = np.array(nodes)[of_kind[:, 3]]
    moved = times[1] > 0
    takes_ms = (times[1] - times[0])[moved] / (PS_PER_S / 1000)
    near = [(places[0] // size == places[1] // size)[moved].mean() for size in NODES]
    shares = [f"{100 * share:.0f} %" for share in near]
    tbt_s = quantile_s(serving.tbt_histogram(), 0.99) or 0.0
    return f"| {name} | {' | '.join(shares)} | {takes_ms.mean():.1f} | {1000 * tbt_s:.1f} |"


def main() -> None:
    """Print each routing with and without contention."""
    trace = requests_of(LOAD, REQUESTS)
    print("| decode routing | same S0 | same S1 | transfer, mean ms | TBT p99, ms |")
    print("| --- | --- | --- | --- | --- |")
    for contention, uplinks in (("", None), (", crowded uplinks", CROWDED)):
        for routing in (Routing.LEAST_LOADED, Routing.TOPOLOGY_AWARE):
            options = ServingOptions(decode_routing=routing, uplink_fs_per_byte=uplinks)
            print(row(f"{routing.value}{contention}", trace, options))


if __name__ == "__main__":
    main()
