"""The scenario files: services, the traffic they get, and the simulated world they stand in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from heteroscale.config.fault_sections import FaultSection
from heteroscale.config.fields import (
    Band,
    Count,
    Name,
    Part,
    Section,
    Share,
    Text,
    broken,
    need,
    optional,
)
from heteroscale.config.model_sections import ModelSection
from heteroscale.config.services import FleetSection, ServiceSection

#: int64 picoseconds end after 106 days.
MAX_RUN_S = 100 * 86_400
Duration = Annotated[float, Field(ge=1, le=MAX_RUN_S)]
#: at which something is done again and again: finer than a millisecond no run would end
Every = Annotated[float, Field(ge=1e-3, le=MAX_RUN_S)]
#: a moment or a delay inside a run
Moment = Annotated[float, Field(ge=0, le=MAX_RUN_S)]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
Factor = Annotated[float, Field(ge=0, le=1_000_000)]
#: GB/s
Bandwidth = Annotated[float, Field(ge=1e-3, le=1e6)]
#: beyond these the gaps of a gamma distribution are one endless burst, or a metronome
GapShape = Annotated[float, Field(ge=0.05, le=100)]
Tokens = Annotated[float, Field(ge=1, le=10_000_000)]
#: of a lognormal; 4 already spreads lengths over seven orders of magnitude
Sigma = Annotated[float, Field(ge=0, le=4)]


def _instant(text: str) -> str:
    """Return the text of a time that says which zone it is in."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise broken("must be an ISO 8601 time with a zone, e.g. 2025-06-02T00:00:00Z")
    return text


class TraceFormatName(StrEnum):
    """How a trace file is written."""

    AUTO = "auto"
    AZURE = "azure"
    MOONCAKE = "mooncake"
    CSV = "csv"


class RateCurveSection(Section):
    """Traffic that follows a curve of the day, with lognormal lengths."""

    curve: Text = optional("paper_day", "name of a built-in curve, or path of a curve file (*.csv)")
    peak_rps: Rate = need("requests/s where the curve is highest")
    input_tokens_mean: Tokens = need("mean prompt length over the day")
    output_tokens_mean: Tokens = need("mean answer length")
    input_sigma: Sigma = optional(0.6, "sigma of the lognormal prompt length")
    output_sigma: Sigma = optional(0.6, "sigma of the lognormal answer length")
    follow_mix: bool = optional(True, "whether prompt length follows the curve's prefill : decode")
    gap_shape: GapShape = optional(1.0, "gamma shape of the gaps; 1 = Poisson, less = burstier")


class TraceSection(Section):
    """Requests from a file, with their real gaps."""

    path: Text | None = optional(
        None, "relative to the scenario's folder; null = given on the command line with --trace"
    )
    format: Annotated[TraceFormatName, Field(strict=False)] = optional(
        TraceFormatName.AUTO, "auto, azure, mooncake or csv"
    )
    speedup: Annotated[float, Field(ge=1e-6, le=1e6)] = optional(1.0, "gaps are divided by it")
    repeat: Annotated[int, Field(ge=1, le=10_000)] = optional(1, "copies one after another")


class LengthSection(Section):
    """Lognormal lengths."""

    mean_tokens: Tokens = need("mean length")
    sigma: Sigma = need("sigma of the logarithm; 0 = always the mean")


class DriftSection(Section):
    """Prompt length times exp(amplitude · sin(2π(t − phase_s) / period_s))."""

    amplitude: Annotated[float, Field(ge=0, le=4)] = need(
        "of the logarithm; 0.1 swings by about 10 %"
    )
    period_s: Annotated[float, Field(ge=60)] = need("length of one swing")
    phase_s: Moment = optional(0.0, "shift of the swing's start")


class BurstSection(Section):
    """A time in which requests come faster or slower."""

    at_s: Moment = need("start, after the start of the run")
    duration_s: Every = need("length")
    factor: Factor = need("times the rate without it")


class StepSection(Section):
    """A rate that changes for good."""

    at_s: Moment = need("when, after the start of the run")
    factor: Factor = need("times the rate before")


class GeneratorSection(Section):
    """Synthetic traffic from published statistics or from figures of one's own."""

    preset: Text | None = optional(
        None, "built-in statistics, e.g. azure2023_conv; what is written beside it wins"
    )
    rate_rps: Rate | None = optional(None, "mean requests/s; needed without a preset")
    gap_shape: GapShape | None = optional(None, "gamma shape of the gaps; null = preset's, or 1")
    input: LengthSection | None = optional(None, "prompt length; needed without a preset")
    output: LengthSection | None = optional(None, "answer length; needed without a preset")
    drift: DriftSection | None = optional(None, "null = prompts do not drift")
    bursts: tuple[BurstSection, ...] = optional((), "times of other traffic, inside the run")
    steps: tuple[StepSection, ...] = optional((), "lasting changes of the rate, inside the run")


class TrafficSection(Section):
    """Where requests come from: exactly one of the three."""

    rate_curve: RateCurveSection | None = optional(None, "a curve of the day")
    trace: TraceSection | None = optional(None, "a file of requests")
    generator: GeneratorSection | None = optional(None, "synthetic requests")


class RoutingName(StrEnum):
    """How an instance of a deployment group is chosen."""

    LEAST_LOADED = "least_loaded"
    ROUND_ROBIN = "round_robin"
    POWER_OF_TWO = "power_of_two"
    PREFIX_AWARE = "prefix_aware"


class DecodeRoutingName(StrEnum):
    """How a decode instance is chosen where it is not chosen as a prefill instance is."""

    LEAST_LOADED = "least_loaded"
    ROUND_ROBIN = "round_robin"
    POWER_OF_TWO = "power_of_two"
    TOPOLOGY_AWARE = "topology_aware"


class KvAdmissionName(StrEnum):
    """When a sequence may join a decode batch."""

    RESERVE = "reserve"
    GROW = "grow"


class PrefixCacheSection(Section):
    """Blocks of prompts that each prefill instance keeps, the least recently used out first."""

    capacity_tokens: Annotated[int, Field(ge=1, le=999_999_999)] | None = optional(
        None, "of one instance; null = as many as its KV memory holds"
    )
    block_tokens: Annotated[int, Field(ge=16, le=65_536)] = optional(
        512, "length of the blocks that the trace names"
    )


class PrefillPartsSection(Section):
    """How the roles inside a nested prefill role compute one batch together."""

    work: Mapping[str, Part] = need("leaf role → its share of the prefill work; adds up to 1")
    layers: Annotated[int, Field(ge=1, le=10_000)] = need("layers, each with one hand-over")
    # Placeholder: there and back between neighbours under one S1. What is handed over is taken to
    # go along while another micro-batch is computed.
    hand_over_s: Annotated[float, Field(ge=0, le=1)] = optional(
        30e-6, "time a batch loses to the hand-over, per layer"
    )


class ServingSection(Section):
    """How the simulated engines serve."""

    prefill_token_budget: Annotated[int, Field(ge=1, le=10_000_000)] = optional(
        8192, "prompt tokens of one prefill batch"
    )
    decode_max_batch: Annotated[int, Field(ge=1, le=65_536)] = optional(
        128, "sequences of one decode step"
    )
    admission_limit: Annotated[int, Field(ge=1, le=999_999_999)] = optional(
        256, "requests waiting per prefill instance in rotation above which a request is refused"
    )
    routing: Annotated[RoutingName, Field(strict=False)] = optional(
        RoutingName.LEAST_LOADED,
        "instance of its group, in prefill and decode, that a request goes to: least_loaded, "
        "round_robin, or power_of_two (the less loaded of two that a hash picks); or, in prefill "
        "only, prefix_aware (of any group, where the least is left to compute)",
    )
    decode_routing: Annotated[DecodeRoutingName, Field(strict=False)] | None = optional(
        None,
        "the same for decode; topology_aware: the nearest to the prefill instance of the less "
        "loaded; null = as routing, or least_loaded beside prefix_aware",
    )
    kv_admission: Annotated[KvAdmissionName, Field(strict=False)] = optional(
        KvAdmissionName.RESERVE,
        "a sequence joins a decode batch once all it will ever need is free (reserve), or once its "
        "tokens so far and one step fit (grow: without room the newest is preempted and its KV "
        "computed anew)",
    )
    cached_share: Annotated[float, Field(ge=0, lt=1)] = optional(
        0.0,
        "share of every prompt that is cached where it is prefilled: neither computed nor counted",
    )
    chunked_prefill: bool = optional(
        False,
        "whether a prefill batch is filled to the last token: a prompt is cut there and goes on in "
        "the next (otherwise prompts stay whole, and one above the budget goes alone)",
    )
    prefix_cache: PrefixCacheSection | None = optional(
        None,
        "what prefill instances keep of prompts whose blocks a trace names (hash_ids); takes the "
        "place of cached_share for those; null = nothing",
    )
    prefill_parts: PrefillPartsSection | None = optional(
        None, "with roles inside prefill, and only then: how they work together"
    )


class NodesSection(Section):
    """Equal nodes of one sub-cluster, wired in equal parts."""

    subcluster: Name = optional("main", "sub-cluster they belong to")
    accelerator: Text = need("accelerator type, e.g. H20")
    nodes: Annotated[int, Field(ge=1, le=100_000)] = need("how many")
    gpus_per_node: Count = optional(8, "GPUs of each")
    nodes_per_s0: Count = optional(4, "nodes under one rack switch (S0)")
    s0_per_s1: Count = optional(4, "S0 under one S1")
    s1_per_s2: Count = optional(8, "S1 under one S2")
    switches: Name | None = optional(
        None, "entries of one sub-cluster with one name here share switches; null = its own"
    )


class LinkSection(Section):
    """A KV transfer over one network distance."""

    gb_per_s: Bandwidth = need("bandwidth, 10⁹ bytes/s")
    latency_s: Annotated[float, Field(ge=0, le=60)] = need(
        "time from the last byte's sending to its arrival; no uplink is busy with it"
    )


class ContentionName(StrEnum):
    """Whether KV transfers slow one another down."""

    NONE = "none"
    FAIR_SHARE = "fair_share"


class UplinksSection(Section):
    """Bandwidth of one domain's uplink in each direction, 10⁹ bytes/s. Placeholder figures."""

    # Half of what 8 GPUs a node with 50 GB/s each could send, halved again at every level.
    S0: Bandwidth = optional(800.0, "of an S0")
    S1: Bandwidth = optional(1600.0, "of an S1")
    S2: Bandwidth = optional(6400.0, "of an S2")


class NetworkSection(Section):
    """KV transfer by the narrowest thing that both ends share. Placeholder figures."""

    node: LinkSection = optional(LinkSection(gb_per_s=200.0, latency_s=5e-6), "same node")
    S0: LinkSection = optional(LinkSection(gb_per_s=50.0, latency_s=10e-6), "same rack switch")
    S1: LinkSection = optional(LinkSection(gb_per_s=50.0, latency_s=15e-6), "same S1")
    S2: LinkSection = optional(LinkSection(gb_per_s=40.0, latency_s=20e-6), "same S2")
    subcluster: LinkSection = optional(
        LinkSection(gb_per_s=20.0, latency_s=50e-6), "same sub-cluster"
    )
    other: LinkSection = optional(
        LinkSection(gb_per_s=5.0, latency_s=1e-3), "different sub-clusters"
    )
    contention: Annotated[ContentionName, Field(strict=False)] = optional(
        ContentionName.NONE,
        "none: a transfer is as fast as if it were alone; fair_share: those that cross one uplink "
        "get equal parts of it",
    )
    uplinks: UplinksSection = optional(UplinksSection(), "what fair_share shares")
    overlap: Annotated[float, Field(ge=0, le=1)] = optional(
        0.0, "share of a transfer that goes ahead layer by layer during prefill, as time allows"
    )


class MetricsSection(Section):
    """How signals are sampled, as Prometheus would."""

    scrape_interval_s: Every = optional(15.0, "time between samples")
    window_s: Every = optional(60.0, "span of rates and quantiles; at least one scrape")
    jitter_s: Moment = optional(
        0.0, "a scrape comes up to this much before or after its time, drawn"
    )
    missing_share: Band = optional(0.0, "share of scrapes of an instance that fail, drawn")
    per_instance: bool = optional(
        False, "whether each instance is scraped by itself; true where missing_share > 0"
    )


class StartUpSection(Section):
    """Start-up times drawn per instance; each of the three parts is lognormal around its mean."""

    image_pull_s: Moment = optional(30.0, "mean time to pull the image")
    weights_s: Moment = optional(120.0, "mean time to load the weights")
    warm_up_s: Moment = optional(45.0, "mean time to compile and warm up")
    spread: Sigma = optional(0.3, "sigma of the logarithm of each part; 0 = always the mean")
    fail_share: Share = optional(0.0, "share of starts that end in failure instead of readiness")
    slow_share: Share = optional(0.0, "share of starts that are slow")
    slow_factor: Annotated[float, Field(ge=1, le=1_000)] = optional(
        4.0, "times the time of a slow start"
    )


class StaticPeakSection(Section):
    """The smallest fixed fleet that attains as much, found by search, to compare with."""

    search: bool = optional(True, "whether to search")
    busiest_hours: Annotated[float, Field(gt=0, le=2_400)] = optional(
        2.0, "hours of the run that the search looks at"
    )
    colocated_token_budget: Annotated[int, Field(ge=1, le=10_000_000)] | None = optional(
        None,
        "tokens of one step of co-located engines on decode's instances, whose smallest fixed pool "
        "is then searched as well; null = none is",
    )


class SimulatedSection(Section):
    """One service: its spec, the traffic it gets and the engines it runs on."""

    service: ServiceSection = need("the service, as in a services file")
    traffic: TrafficSection = need("where requests come from")
    model: ModelSection = need("what is served")
    serving: ServingSection = optional(ServingSection(), "how engines serve")
    start_up_s: Moment = optional(195.0, "from running a new instance to being ready")
    start_up: StartUpSection | None = optional(
        None, "start-up times drawn per instance, in place of start_up_s; null = always start_up_s"
    )
    initial: Mapping[str, Count] = need("leaf role → instances at the start, every leaf named")


class WorldSection(Section):
    """What every service of a run shares."""

    name: Name = need("names the run in reports")
    seed: Annotated[int, Field(ge=0, le=999_999_999)] = optional(
        1, "of every random draw; the same seed gives the same run"
    )
    start: Annotated[str, AfterValidator(_instant)] = optional(
        "2025-06-02T00:00:00Z", "when the run starts; schedules see this day"
    )
    duration_s: Duration | None = optional(
        None,
        "where the run ends, also inside a trace; null = with the trace, or after the curve's day",
    )
    fleet: FleetSection = optional(FleetSection(), "settings of the controller")
    nodes: Annotated[tuple[NodesSection, ...], Field(min_length=1)] = need("the hardware")
    network: NetworkSection = optional(NetworkSection(), "KV transfer by distance")
    metrics: MetricsSection = optional(MetricsSection(), "how signals are sampled")
    faults: tuple[FaultSection, ...] = optional((), "what goes wrong")
    static_peak: StaticPeakSection = optional(StaticPeakSection(), "the fleet to compare with")
    timeline_interval_s: Every = optional(60.0, "step of the plotted series")


class ScenarioFile(SimulatedSection, WorldSection):
    """One service in a simulated world, its keys beside those of the world."""


class FleetScenarioFile(WorldSection):
    """Several services in one simulated world: one fleet, one control loop."""

    services: Annotated[tuple[SimulatedSection, ...], Field(min_length=1)] = need(
        "every service, with the keys it would have in a file of its own"
    )
