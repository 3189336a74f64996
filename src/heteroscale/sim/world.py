"""From a scenario to a simulated world that is ready to run; no control loop in it yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.config.scenario import Scenario
from heteroscale.config.scenario_sections import MetricsSection
from heteroscale.entities.service import ServiceSpec, Stage
from heteroscale.entities.topology import DomainPath, Node
from heteroscale.errors import ConfigError, Problem
from heteroscale.performance.model import PerformanceModel, StepCoefficients
from heteroscale.sim.course import RunSettings
from heteroscale.sim.hardware import network_table, nodes_by_subcluster, uplink_fs_per_byte
from heteroscale.sim.plant import Plant
from heteroscale.sim.ports import SimClock, SimSubcluster
from heteroscale.sim.service import ServingEngines, SimService
from heteroscale.sim.serving import KvAdmission, PrefixCache, Routing, Serving, ServingOptions
from heteroscale.sim.signals import SignalSettings, SignalWindow
from heteroscale.sim.start_up import always, drawn
from heteroscale.sim.subcluster import Roster, Tenant
from heteroscale.workload.arrivals import PS_PER_S, ArrivalSource

#: name of the deployment group that is there at the start, as the pre-scheduler would call it
FIRST_GROUP = "g0"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything simulated, at the start of a run."""

    clock: SimClock
    plant: Plant
    #: service → its scrapes
    windows: Mapping[str, SignalWindow]
    #: sorted by name
    subclusters: tuple[SimSubcluster, ...]


def build_world(
    scenario: Scenario,
    models: Mapping[str, PerformanceModel],
    arrivals: Mapping[str, ArrivalSource],
) -> World:
    """Return the world of a scenario with its first instances ready.

    Args:
        scenario: what to build.
        models: service → how fast its engines are.
        arrivals: service → its requests, iterated once.

    Raises:
        ConfigError: the first instances of a service do not fit any one domain they must share.
    """
    clock = SimClock(scenario.start_s)
    nodes = nodes_by_subcluster(scenario.nodes)
    servings, tenants, occupancies = {}, {}, {}
    for alone in scenario.alone():
        service = alone.service
        speeds = _speeds(service, models[service.name])
        servings[service.name] = _serving(alone)
        tenants[service.name] = _tenant(alone, ServingEngines(servings[service.name], speeds))
        occupancies[service.name] = _occupancy(service, speeds)
    rosters = {
        name: Roster(
            name=name,
            nodes=of_one,
            levels=scenario.fleet.levels,
            tenants=tenants,
            epoch_s=scenario.start_s,
        )
        for name, of_one in nodes.items()
    }
    for alone in scenario.alone():
        _place_first(alone, rosters, nodes)
    services = [
        SimService(
            name=name,
            clock=clock,
            serving=serving,
            rosters=tuple(rosters.values()),
            arrivals=arrivals[name],
            occupancy=occupancies[name],
        )
        for name, serving in servings.items()
    ]
    return World(
        clock=clock,
        plant=Plant(clock, services, tuple(rosters.values())),
        windows={alone.service.name: _window(alone) for alone in scenario.alone()},
        subclusters=tuple(SimSubcluster(name, clock, rosters[name]) for name in nodes),
    )


def _window(alone: Scenario) -> SignalWindow:
    return SignalWindow(
        SignalSettings(
            roles=stage_roles(alone.service),
            quantile=alone.service.slo.quantile,
            window_s=alone.metrics.window_s,
            missing_share=_missing_share(alone.metrics),
            seed=alone.seed,
        )
    )


def _serving(alone: Scenario) -> Serving:
    slo, serving = alone.service.slo, alone.own.serving
    return Serving(
        roles=stage_roles(alone.service),
        prefill_token_budget=serving.prefill_token_budget,
        decode_max_batch=serving.decode_max_batch,
        admission_limit=serving.admission_limit,
        slo_ttft_ps=round(slo.ttft_s * PS_PER_S),
        slo_tbt_ps=round(slo.tbt_s * PS_PER_S),
        network=network_table(alone.network),
        options=serving_options(alone),
    )


def serving_options(alone: Scenario) -> ServingOptions:
    """Return what a scenario of one service chooses where engines could serve in several ways."""
    serving = alone.own.serving
    decode, cache = serving.decode_routing, serving.prefix_cache
    return ServingOptions(
        routing=Routing(serving.routing.value),
        decode_routing=None if decode is None else Routing(decode.value),
        prefix_cache=None
        if cache is None
        else PrefixCache(block_tokens=cache.block_tokens, capacity_tokens=cache.capacity_tokens),
        kv_admission=KvAdmission(serving.kv_admission.value),
        uplink_fs_per_byte=uplink_fs_per_byte(alone.network),
        overlap_permille=round(1000 * alone.network.overlap),
        cached_permille=round(1000 * serving.cached_share),
        chunked_prefill=serving.chunked_prefill,
        seed=alone.seed,
    )


def _tenant(alone: Scenario, engines: ServingEngines) -> Tenant:
    own = alone.own
    return Tenant(
        shapes={
            (leaf.path, option.type): option
            for leaf in alone.service.group.leaves()
            for option in leaf.accelerators
        },
        start_ups=always(own.start_up_s)
        if own.start_up is None
        else drawn(own.start_up, alone.seed),
        engines=engines,
    )


def settings_of(scenario: Scenario, policy: str, duration_s: float | None) -> RunSettings:
    """Return when things happen in a run of a scenario."""
    return RunSettings(
        scenario=scenario.name,
        seed=scenario.seed,
        policy=policy,
        start_s=scenario.start_s,
        duration_s=duration_s,
        tick_s=scenario.fleet.interval_s,
        scrape_s=scenario.metrics.scrape_interval_s,
        jitter_s=scenario.metrics.jitter_s,
        interval_s=scenario.timeline_interval_s,
    )


def _missing_share(section: MetricsSection) -> float | None:
    """Return the share of failing scrapes; None = instances are not scraped one by one."""
    one_by_one = section.per_instance or section.missing_share > 0
    return section.missing_share if one_by_one else None


def stage_roles(service: ServiceSpec) -> tuple[str, str]:
    """Return the names of a service's prefill and decode role."""
    by_stage = {leaf.stage: leaf.path for leaf in service.group.leaves()}
    return by_stage[Stage.PREFILL], by_stage[Stage.DECODE]


def _speeds(
    service: ServiceSpec, model: PerformanceModel
) -> Mapping[tuple[str, str], StepCoefficients]:
    return {
        (leaf.path, option.type): model.coefficients(option.type, option.gpus * option.nodes)
        for leaf in service.group.leaves()
        for option in leaf.accelerators
    }


def _occupancy(
    service: ServiceSpec, speeds: Mapping[tuple[str, str], StepCoefficients]
) -> Mapping[str, Mapping[str, float]]:
    occupancy: dict[str, dict[str, float]] = {}
    for leaf in service.group.leaves():
        for option in leaf.accelerators:
            speed = speeds[leaf.path, option.type]
            prefill = leaf.stage is Stage.PREFILL
            share = speed.prefill_occupancy if prefill else speed.decode_occupancy
            occupancy.setdefault(leaf.path, {})[option.type] = share
    return occupancy


def _place_first(
    alone: Scenario, rosters: Mapping[str, Roster], nodes: Mapping[str, tuple[Node, ...]]
) -> None:
    """Put the first instances, on their preferred accelerator, into the first domain with room."""
    service, initial = alone.service, alone.own.initial
    wanted = [(leaf, leaf.accelerators[0], initial[leaf.path]) for leaf in service.group.leaves()]
    for name, roster in rosters.items():
        for domain in _domains(nodes[name], service.group.within, alone.fleet.levels):
            shapes = [(shape, replicas) for _, shape, replicas in wanted]
            if not roster.pool.has_room(shapes, domain):
                continue
            for leaf, shape, replicas in wanted:
                roster.place((service.name, FIRST_GROUP, leaf.path, shape.type), domain, replicas)
            return
    level = service.group.within or "sub-cluster"
    counts = ", ".join(f"{replicas} {leaf.path}" for leaf, _, replicas in wanted)
    rule = f"must fit one {level}: no {level} has free nodes for {counts} instances"
    raise ConfigError([Problem(path=f"{alone.own.place}initial", rule=rule)])


def _domains(
    nodes: tuple[Node, ...], within: str | None, levels: tuple[str, ...]
) -> tuple[DomainPath, ...]:
    """Return the domains one group may live in, in first-fit order."""
    if within is None:
        return (nodes[0].domain[:1],)
    paths = (node.domain[: len(node.domain) - levels.index(within)] for node in nodes)
    return tuple(dict.fromkeys(paths))
