"""The simulator's side of the contracts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from heteroscale.entities.service import FleetSpec
from heteroscale.sim.ports import SimClock, SimMetrics, SimSubcluster
from heteroscale.workload.arrivals import PS_PER_S
from tests.unit.sim.small import requests, small, world_of


def sim_clock() -> SimClock:
    """Return a simulated clock one minute into a run."""
    clock = SimClock(1_700_000_000.0)
    clock.now_ps = 60 * PS_PER_S
    return clock


def sim_subcluster() -> tuple[SimSubcluster, Callable[[], float], Callable[[float], None], float]:
    """Return a sub-cluster, its time, what lets time pass, and how long a start-up takes."""
    scenario = small(start_up_s=60.0, initial={"prefill": 1, "decode": 2})
    world = world_of(scenario)

    def advance(seconds: float) -> None:
        world.plant.advance(world.clock.now_ps + round(seconds * PS_PER_S))

    return world.subclusters[0], world.clock.now_s, advance, scenario.own.start_up_s


def sim_metrics() -> tuple[SimMetrics, FleetSpec, float]:
    """Return metrics after two scrapes, a fleet of which they know the first service, the time."""
    scenario = small()
    chat = scenario.service
    fleet = replace(scenario.fleet, services=(chat, replace(chat, name="code")))
    world = world_of(scenario, requests([float(second) for second in range(60)]))
    for second in (15, 30):
        world.plant.advance(second * PS_PER_S)
        world.windows[chat.name].scrape(world.plant.services[chat.name].sample())
    metrics = SimMetrics(world.clock, world.windows)
    return metrics, fleet, world.clock.now_s()
