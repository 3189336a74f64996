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
from heteroscale.sim.hardware import network_table, nodes_by_subcluster, uplink_fs_per_byte
from heteroscale.sim.plant import Plant, ServingEngines
from heteroscale.sim.ports import SimClock, SimSubcluster
from heteroscale.sim.run import RunSettings
from heteroscale.sim.serving import KvAdmission, Routing, Serving, ServingOptions
from heteroscale.sim.signals import SignalSettings, SignalWindow
from heteroscale.sim.start_up import always, drawn
from heteroscale.sim.subcluster import Roster
from heteroscale.workload.arrivals import PS_PER_S, ArrivalSource

#: name of the deployment group that is there at the start, as the pre-scheduler would call it
FIRST_GROUP = "g0"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything simulated of one service, at the start of a run."""

    clock: SimClock
    plant: Plant
    window: SignalWindow
    #: sorted by name
    subclusters: tuple[SimSubcluster, ...]


def build_world(
    scenario: Scenario,
    model: PerformanceModel,
    arrivals: ArrivalSource,
    initial: Mapping[str, int] | None = None,
) -> World:
    """Return the world of a scenario with its first instances ready.

    Args:
        scenario: what to build.
        model: how fast engines are.
        arrivals: the requests, iterated once.
        initial: leaf role → instances at the start; None = the scenario's.

    Raises:
        ConfigError: the first instances do not fit any one domain they must share.
    """
    service = scenario.service
    speeds = _speeds(service, model)
    clock = SimClock(scenario.start_s)
    serving = _serving(scenario)
    nodes = nodes_by_subcluster(scenario.nodes)
    rosters = _rosters(scenario, nodes, ServingEngines(serving, speeds))
    _place_first(scenario, initial or scenario.initial, rosters, nodes)
    return World(
        clock=clock,
        plant=Plant(
            service=service.name,
            clock=clock,
            serving=serving,
            rosters=tuple(rosters.values()),
            arrivals=arrivals,
            occupancy=_occupancy(service, speeds),
        ),
        window=SignalWindow(
            SignalSettings(
                roles=stage_roles(service),
                quantile=service.slo.quantile,
                window_s=scenario.metrics.window_s,
                missing_share=_missing_share(scenario.metrics),
                seed=scenario.seed,
            )
        ),
        subclusters=tuple(SimSubcluster(name, clock, rosters[name]) for name in nodes),
    )


def _serving(scenario: Scenario) -> Serving:
    slo = scenario.service.slo
    return Serving(
        roles=stage_roles(scenario.service),
        prefill_token_budget=scenario.serving.prefill_token_budget,
        decode_max_batch=scenario.serving.decode_max_batch,
        admission_limit=scenario.serving.admission_limit,
        slo_ttft_ps=round(slo.ttft_s * PS_PER_S),
        slo_tbt_ps=round(slo.tbt_s * PS_PER_S),
        network=network_table(scenario.network),
        options=serving_options(scenario),
    )


def serving_options(scenario: Scenario) -> ServingOptions:
    """Return what a scenario chooses where engines could serve in more than one way."""
    return ServingOptions(
        routing=Routing(scenario.serving.routing.value),
        kv_admission=KvAdmission(scenario.serving.kv_admission.value),
        uplink_fs_per_byte=uplink_fs_per_byte(scenario.network),
        overlap_permille=round(1000 * scenario.network.overlap),
        cached_permille=round(1000 * scenario.serving.cached_share),
        seed=scenario.seed,
    )


def _rosters(
    scenario: Scenario, nodes: Mapping[str, tuple[Node, ...]], engines: ServingEngines
) -> Mapping[str, Roster]:
    service = scenario.service
    shapes = {
        (service.name, leaf.path, option.type): option
        for leaf in service.group.leaves()
        for option in leaf.accelerators
    }
    section = scenario.start_up
    start_ups = always(scenario.start_up_s) if section is None else drawn(section, scenario.seed)
    return {
        name: Roster(
            name=name,
            nodes=of_one,
            levels=scenario.fleet.levels,
            shapes=shapes,
            start_ups=start_ups,
            engines=engines,
            epoch_s=scenario.start_s,
        )
        for name, of_one in nodes.items()
    }


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
    scenario: Scenario,
    initial: Mapping[str, int],
    rosters: Mapping[str, Roster],
    nodes: Mapping[str, tuple[Node, ...]],
) -> None:
    """Put the first instances, on their preferred accelerator, into the first domain with room."""
    service = scenario.service
    wanted = {
        (leaf.path, leaf.accelerators[0].type): initial[leaf.path]
        for leaf in service.group.leaves()
    }
    for name, roster in rosters.items():
        for domain in _domains(nodes[name], service.group.within, scenario.fleet.levels):
            if not roster.has_room(service.name, wanted, domain):
                continue
            for (role, accelerator), replicas in wanted.items():
                roster.place((service.name, FIRST_GROUP, role, accelerator), domain, replicas)
            return
    level = service.group.within or "sub-cluster"
    counts = ", ".join(f"{replicas} {role}" for (role, _), replicas in wanted.items())
    rule = f"must fit one {level}: no {level} has free nodes for {counts} instances"
    raise ConfigError([Problem(path="initial", rule=rule)])


def _domains(
    nodes: tuple[Node, ...], within: str | None, levels: tuple[str, ...]
) -> tuple[DomainPath, ...]:
    """Return the domains one group may live in, in first-fit order."""
    if within is None:
        return (nodes[0].domain[:1],)
    paths = (node.domain[: len(node.domain) - levels.index(within)] for node in nodes)
    return tuple(dict.fromkeys(paths))
