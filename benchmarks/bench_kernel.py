"""Speed of the event kernel alone, on loads like the public traces. Ends with one line of JSON."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from dataclasses import dataclass, replace

import numpy as np

from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.serving import (
    AdvanceStatus,
    KvAdmission,
    NetworkTable,
    PrefixCache,
    Routing,
    Serving,
    ServingOptions,
)
from heteroscale.workload.arrivals import PS_PER_S, ArrivalChunk, PrefixBlocks

CHUNK = 65_536
TICK_S = 15
#: short, so that prompts of the traces' lengths have as many blocks as long ones have of 512
BLOCK_TOKENS = 64

# Like Llama-3 70B at TP8 on H100: 8.9 ms at batch 1, 70 µs per prefilled token.
SPEED = StepCoefficients(
    prefill_base_ps=8_000_000_000,
    prefill_per_token_ps=52_000_000,
    prefill_per_token2_ps=600,
    decode_base_ps=8_400_000_000,
    decode_per_sequence_ps=40_000_000,
    decode_per_kv_token_ps=24_000,
    prefill_host_ps=1_500_000_000,
    decode_host_ps=1_000_000_000,
    kv_capacity_tokens=1_200_000,
    kv_bytes_per_token=327_680,
    prefill_occupancy=0.8,
    decode_occupancy=0.4,
)
NETWORK = NetworkTable(
    latency_ps=(10_000_000, 20_000_000, 20_000_000, 30_000_000, 50_000_000, 500_000_000),
    fs_per_byte=(2_222, 40_000, 40_000, 40_000, 80_000, 400_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A stationary Poisson load with lognormal lengths, and the fleet that carries it."""

    rate_rps: float
    input_mean: float
    output_mean: float
    sigma: float
    prefill: int
    decode: int
    prefill_per_token_ps: int = SPEED.prefill_per_token_ps


#: the first two: the lengths of the Azure 2023 conversation trace; the last: the paper's service
LOADS = {
    "azure-native": Load(
        rate_rps=5.53, input_mean=1155, output_mean=211, sigma=0.9, prefill=25, decode=15
    ),
    "azure-70rps": Load(
        rate_rps=70, input_mean=1155, output_mean=211, sigma=0.9, prefill=25, decode=15
    ),
    "paper-190rps": Load(
        rate_rps=190,
        input_mean=3000,
        output_mean=350,
        sigma=0.6,
        prefill=23,
        decode=18,
        prefill_per_token_ps=24_000_000,
    ),
}


def requests_of(load: Load, count: int) -> ArrivalChunk:
    """Return the load's first requests, the same ones every time."""
    draw = np.random.default_rng(7)
    gaps = draw.exponential(PS_PER_S / load.rate_rps, count)
    shift = load.sigma**2 / 2
    inputs = draw.lognormal(np.log(load.input_mean) - shift, load.sigma, count)
    outputs = draw.lognormal(np.log(load.output_mean) - shift, load.sigma, count)
    return ArrivalChunk(
        arrival_ps=np.cumsum(gaps.astype(np.int64)),
        input_tokens=np.clip(inputs, 1, 32_000).astype(np.int32),
        output_tokens=np.clip(outputs, 1, 4_000).astype(np.int32),
    )


def in_conversations(trace: ArrivalChunk) -> ArrivalChunk:
    """Return the requests as turns of conversations, five each on average, that begin alike."""
    draw = np.random.default_rng(11)
    requests = len(trace.arrival_ps)
    conversation = draw.integers(0, max(1, requests // 5), requests)
    counts = trace.input_tokens.astype(np.int64) // BLOCK_TOKENS
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    place = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
    ids = (np.repeat(conversation, counts) << 20) + place
    return replace(trace, blocks=PrefixBlocks(starts=starts, ids=ids))


#: name on the command line → what is switched on
FEATURES = {
    "plain": ServingOptions(),
    "power-of-two": ServingOptions(routing=Routing.POWER_OF_TWO, seed=1),
    "grow": ServingOptions(routing=Routing.POWER_OF_TWO, kv_admission=KvAdmission.GROW, seed=1),
    "all": ServingOptions(
        routing=Routing.POWER_OF_TWO,
        kv_admission=KvAdmission.GROW,
        uplink_fs_per_byte=(1_250, 625, 156),
        overlap_permille=500,
        seed=1,
    ),
    # Uplinks so narrow that at the last load the busiest ones are used to about 80 %.
    "all-crowded": ServingOptions(
        routing=Routing.POWER_OF_TWO,
        kv_admission=KvAdmission.GROW,
        uplink_fs_per_byte=(20_000, 10_000, 1_000),
        seed=1,
    ),
    "prefix-cache": ServingOptions(prefix_cache=PrefixCache(block_tokens=BLOCK_TOKENS)),
    "prefix-aware": ServingOptions(
        prefix_cache=PrefixCache(block_tokens=BLOCK_TOKENS), routing=Routing.PREFIX_AWARE
    ),
}


def empty_plane(network: NetworkTable, options: ServingOptions, *, log: bool = False) -> Serving:
    """Return a plane that serves as all of these benchmarks do, without instances."""
    return Serving(
        prefill_token_budget=8192,
        decode_max_batch=256,
        admission_limit=64,
        slo_ttft_ps=PS_PER_S,
        slo_tbt_ps=PS_PER_S // 25,
        network=network,
        options=options,
        log=log,
    )


def plane_of(load: Load, options: ServingOptions) -> Serving:
    """Return the load's fleet: one group, every instance on its own node under one S2."""
    serving = empty_plane(NETWORK, options)
    speed = replace(SPEED, prefill_per_token_ps=load.prefill_per_token_ps)
    for index in range(load.prefill + load.decode):
        role = "prefill" if index < load.prefill else "decode"
        location = (0, 0, index // 8, index // 2, index)
        serving.add_instance(role, speed, group=0, location=location, in_rotation=True)
    return serving


def seconds_of(load: Load, trace: ArrivalChunk, options: ServingOptions) -> tuple[float, Serving]:
    """Return the wall seconds of the whole trace, counters read every tick."""
    serving = plane_of(load, options)
    at = 0
    until_ps = 0
    begun_s = time.perf_counter()
    while not serving.idle:
        until_ps += TICK_S * PS_PER_S
        while serving.advance(until_ps) is AdvanceStatus.NEEDS_ARRIVALS:
            serving.feed(trace.of(slice(at, at + CHUNK)))
            at += CHUNK
            if at >= len(trace.arrival_ps):
                serving.close_arrivals()
        serving.counters(until_ps)
    return time.perf_counter() - begun_s, serving


def main() -> None:
    """Run each load and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--load", choices=LOADS, action="append")
    parser.add_argument("--features", choices=FEATURES, default="plain")
    arguments = parser.parse_args()
    options = FEATURES[arguments.features]
    begun_s = time.perf_counter()
    seconds_of(LOADS["azure-70rps"], requests_of(LOADS["azure-70rps"], 100), options)
    figures: dict[str, float | str] = {
        "features": arguments.features,
        "requests": arguments.requests,
        "compile_s": round(time.perf_counter() - begun_s, 3),
    }
    for name in arguments.load or LOADS:
        load = LOADS[name]
        trace = requests_of(load, arguments.requests)
        if options.prefix_cache is not None:
            trace = in_conversations(trace)
        runs = [seconds_of(load, trace, options) for _ in range(arguments.repeat)]
        median_s = statistics.median(seconds for seconds, _ in runs)
        counters = runs[0][1].counters(runs[0][1].now_ps)
        refused, attained = counters.refused.requests, counters.attained
        rate_rps = arguments.requests / median_s
        print(f"{name:14} {rate_rps:12,.0f} requests/s  {attained:,} attained  {refused:,} refused")
        figures[f"{name.replace('-', '_')}_requests_per_s"] = round(rate_rps)
    figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
