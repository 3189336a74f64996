"""From a scenario to a simulated world that is ready to run; no control loop in it yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from heteroscale.config.scenario import Scenario
from heteroscale.config.scenario_sections import MetricsSection
from heteroscale.entities.service import (
    AcceleratorOption,
    RolePath,
    RoleSpec,
    ServiceSpec,
    Stage,
)
from heteroscale.entities.topology import DomainPath, Node
from heteroscale.errors import ConfigError, Problem
from heteroscale.performance.model import PerformanceModel, StepCoefficients
from heteroscale.sim.course import RunSettings
from heteroscale.sim.engines import ServingEngines, Speeds
from heteroscale.sim.hardware import network_table, nodes_by_subcluster, uplink_fs_per_byte
from heteroscale.sim.nodes import NodePool
from heteroscale.sim.plant import Plant
from heteroscale.sim.ports import SimClock, SimSubcluster
from heteroscale.sim.service import SimService
from heteroscale.sim.serving import KvAdmission, PrefixCache, Routing, Serving, ServingOptions
from heteroscale.sim.signals import SignalSettings, SignalWindow
from heteroscale.sim.stages import stage_roles, unit_shares
from heteroscale.sim.start_up import always, drawn
from heteroscale.sim.subcluster import Roster, Tenant
from heteroscale.sim.unit_engines import UnitEngines
from heteroscale.sim.unit_speed import Parts, unit_speed
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
    servings, engines, tenants, occupancies = {}, {}, {}, {}
    for alone in scenario.alone():
        service = alone.service
        speeds = _speeds(service, models[service.name])
        servings[service.name] = _serving(alone)
        engines[service.name] = _engines(alone, servings[service.name], speeds)
        tenants[service.name] = _tenant(alone, engines[service.name])
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
            engines=engines[name],
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
    prefill, _ = unit_shares(alone.service)
    return SignalWindow(
        SignalSettings(
            roles=stage_roles(alone.service),
            parts=tuple(prefill) if len(prefill) > 1 else (),
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


def _engines(alone: Scenario, serving: Serving, speeds: Speeds) -> ServingEngines | UnitEngines:
    parts = prefill_parts(alone)
    if parts is None:
        return ServingEngines(serving, speeds)
    return UnitEngines(stage_roles(alone.service)[0], serving, speeds, parts)


def prefill_parts(alone: Scenario) -> Parts | None:
    """Return how the roles inside prefill work together; None = there are none inside."""
    section = alone.own.serving.prefill_parts
    if section is None:
        return None
    shares, _ = unit_shares(alone.service)
    return Parts(
        shares=shares,
        work=section.work,
        hand_over_ps=section.layers * round(section.hand_over_s * PS_PER_S),
        full_batch=alone.own.serving.prefill_token_budget,
    )


def stage_speeds(
    alone: Scenario, model: PerformanceModel
) -> tuple[StepCoefficients, StepCoefficients]:
    """Return how fast one unit of prefill and of decode is, on its preferred accelerators."""
    speeds, parts = _speeds(alone.service, model), prefill_parts(alone)
    first = {leaf.path: leaf.accelerators[0] for leaf in alone.service.group.leaves()}
    of_one = {role: speeds[role, option.type] for role, option in first.items()}
    prefill, decode = stage_roles(alone.service)
    if parts is None:
        return of_one[prefill], of_one[decode]
    members = {role: [of_one[role]] * share for role, share in parts.shares.items()}
    return unit_speed(parts, members).coefficients, of_one[decode]


def _tenant(alone: Scenario, engines: ServingEngines | UnitEngines) -> Tenant:
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
    levels = alone.fleet.levels
    for name, roster in rosters.items():
        for domain in _domains(nodes[name], service.group.within, levels):
            found = _found(service.group.roles, initial, roster.pool, domain, levels)
            if found is None:
                continue
            for role, (shape, inside, replicas) in found.items():
                roster.place((service.name, FIRST_GROUP, role, shape.type), inside, replicas)
            return
    level = service.group.within or "sub-cluster"
    counts = ", ".join(f"{initial[leaf.path]} {leaf.path}" for leaf in service.group.leaves())
    rule = f"must fit one {level}: no {level} has free nodes for {counts} instances"
    raise ConfigError([Problem(path=f"{alone.own.place}initial", rule=rule)])


#: leaf role → its shape, the domain it shares, and how many
_Found: TypeAlias = dict[RolePath, tuple[AcceleratorOption, DomainPath, int]]


def _found(
    roles: Sequence[RoleSpec],
    initial: Mapping[RolePath, int],
    pool: NodePool,
    domain: DomainPath,
    levels: tuple[str, ...],
) -> _Found | None:
    """Return where the first instances of some roles go inside a domain; None = nowhere in it."""
    found: _Found = {}
    for role in roles:
        inside = [node for node in pool.nodes if node.domain[: len(domain)] == domain]
        for narrower in _domains(inside, role.within, levels) if role.within else (domain,):
            more: _Found | None = (
                {role.path: (role.accelerators[0], narrower, initial[role.path])}
                if role.is_leaf
                else _found(role.roles, initial, pool, narrower, levels)
            )
            together = [*found.values(), *(more or {}).values()]
            if more is not None and pool.has_room(together):
                found |= more
                break
        else:
            return None
    return found


def _domains(
    nodes: Sequence[Node], within: str | None, levels: tuple[str, ...]
) -> tuple[DomainPath, ...]:
    """Return the domains one group may live in, in first-fit order."""
    if within is None:
        return (nodes[0].domain[:1],)
    paths = (node.domain[: len(node.domain) - levels.index(within)] for node in nodes)
    return tuple(dict.fromkeys(paths))
