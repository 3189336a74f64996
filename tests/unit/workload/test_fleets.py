"""Synthetic fleets are possible, of the kinds asked for, and the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from heteroscale.config.inventory import parse_inventory
from heteroscale.config.inventory_text import inventory_text
from heteroscale.config.label_presets import LABEL_PRESETS
from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption, ServiceSpec
from heteroscale.entities.topology import Node
from heteroscale.errors import ConfigError
from heteroscale.prescheduler.inventory import take_inventory
from heteroscale.prescheduler.topology import subgroups
from heteroscale.workload.fleet_hardware import FleetShape, Load
from heteroscale.workload.fleet_load import place_load
from heteroscale.workload.fleets import SyntheticFleet, synthetic_fleet
from tests.builders import build_role, build_service

SWITCHES = LABEL_PRESETS["topograph"]
SHAPES = [
    pytest.param(FleetShape(), id="the smallest default"),
    pytest.param(FleetShape(nodes=400, seed=2), id="packed"),
    pytest.param(FleetShape(nodes=400, seed=3, load=Load.SCATTERED), id="scattered"),
    pytest.param(FleetShape(nodes=400, seed=4, used_share=1.0), id="full"),
    pytest.param(FleetShape(nodes=60, seed=5, high_share=1.0, medium_share=0.0), id="all mixed"),
]


def fleet(shape: FleetShape) -> SyntheticFleet:
    return synthetic_fleet(shape, SWITCHES)


def free_gpus(made: SyntheticFleet) -> Counter[int]:
    """Return free GPUs → healthy nodes."""
    used = made.known().used_gpus()
    assert used is not None
    return Counter(
        node.gpus - used.get((node.domain[0], node.name), 0) for node in made.nodes if node.healthy
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_seed_gives_the_same_fleet_and_another_one_another(shape: FleetShape) -> None:
    assert fleet(shape) == fleet(shape)
    assert fleet(shape).records != fleet(replace(shape, seed=99)).records


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_runs_where_it_could_not(shape: FleetShape) -> None:
    made = fleet(shape)
    nodes = {node.name: node for node in made.nodes}
    services = {service.name: service for service in made.services}
    assert min(free_gpus(made)) >= 0
    for one in made.instances:
        option = services[one.service].option(one.role, one.accelerator)
        assert option is not None
        on = [nodes[name] for name in one.nodes]
        assert {(node.accelerator, node.healthy) for node in on} == {(option.type, True)}
        assert (len(on), one.gpus) == (option.nodes, option.gpus)
        assert len({node.domain for node in on}) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_every_group_is_whole_and_inside_its_affinity(shape: FleetShape) -> None:
    made = fleet(shape)
    nodes = {node.name: node for node in made.nodes}
    services = {service.name: service for service in made.services}
    groups: dict[tuple[str, str], list[tuple[str, Node]]] = {}
    for one in made.instances:
        on = [(one.role, nodes[name]) for name in one.nodes]
        groups.setdefault((one.service, one.group), []).extend(on)
    assert groups
    for (service, _), members in groups.items():
        spec = services[service].group
        depth = {None: 1, "S2": 2, "S1": 3}[spec.within]
        assert {role for role, _ in members} == {leaf.path for leaf in spec.leaves()}
        assert len({node.domain[:depth] for _, node in members}) == 1
        assert len({node.domain[:3] for role, node in members if "/" in role}) <= 1
    asked = Counter((one.service, one.group, one.role) for one in made.instances)
    assert {(c.service, c.group, c.role): c.replicas for c in made.group_roles} == asked


def test_a_fleet_has_subgroups_of_every_priority_and_failed_nodes() -> None:
    made = fleet(FleetShape(nodes=1000, unhealthy_share=0.05))
    halls = Counter(
        scarcity
        for path, scarcity in subgroups(made.nodes, SWITCHES.levels).items()
        if len(path) == 2
    )
    assert halls == {Scarcity.LOW: 17, Scarcity.MEDIUM: 5, Scarcity.HIGH: 2}
    assert sum(not node.healthy for node in made.nodes) == 50
    assert len({node.domain[0] for node in made.nodes}) == 8


def test_a_packed_fleet_keeps_more_whole_nodes_than_a_scattered_one() -> None:
    packed, scattered = (
        free_gpus(fleet(FleetShape(nodes=800, load=load, used_share=0.6))) for load in Load
    )
    assert packed[8] > scattered[8] * 1.1
    broken = [sum(free[gpus] for gpus in range(1, 8)) for free in (packed, scattered)]
    assert broken[0] < broken[1] / 4


@pytest.mark.parametrize("load", Load)
def test_as_much_is_used_and_wanted_as_asked_for(load: Load) -> None:
    made = fleet(FleetShape(nodes=1200, load=load, used_share=0.6, demand=1.5, services=300))
    total = sum(node.gpus for node in made.nodes if node.healthy)
    free = sum(gpus * nodes for gpus, nodes in free_gpus(made).items())
    assert 1 - free / total == pytest.approx(0.6, abs=0.02)
    shapes = {
        (service.name, leaf.path): leaf.accelerators[0]
        for service in made.services
        for leaf in service.group.leaves()
    }
    wanted = sum(
        shapes[service, role].gpus * shapes[service, role].nodes * units
        for service, roles in made.more.items()
        for role, units in roles.items()
    )
    assert len(made.more) == 60
    assert wanted / free == pytest.approx(1.5, abs=0.25)


def test_a_fleet_may_be_idle_and_ask_for_nothing() -> None:
    made = fleet(FleetShape(used_share=0.0, asking_share=0.0))
    assert (made.instances, made.group_roles, made.more) == ((), (), {})


def test_what_is_wanted_is_whole_units_of_the_group() -> None:
    made = fleet(FleetShape(nodes=200))
    services = {service.name: service for service in made.services}
    for name, roles in made.more.items():
        weights = services[name].group.weights({})
        assert len({roles[role] / weights[role] for role in weights}) == 1


@pytest.mark.parametrize("nodes", [1, 2, 7])
def test_the_tiniest_fleets_exist(nodes: int) -> None:
    assert len(fleet(FleetShape(nodes=nodes)).nodes) == nodes


def test_records_read_back_as_the_same_fleet() -> None:
    made = fleet(FleetShape(nodes=200))
    assert take_inventory(made.records[::-1], SWITCHES) == (made.nodes, ())
    assert {len(record.labels) for record in made.records} == {11}
    text = inventory_text("topograph", made.records, made.instances)
    read = parse_inventory(text, None, is_json=True)
    assert read.faults == ()
    assert read.fleet.inventory == made.known().inventory
    assert read.fleet.used_gpus() == made.known().used_gpus()
    assert [(one.service, one.group, one.role, one.nodes) for one in read.fleet.instances] == [
        (one.service, one.group, one.role, tuple(sorted(one.nodes))) for one in made.instances
    ]
    assert len(text.splitlines()) == 200 + 2
    assert json.loads(text)["preset"] == "topograph"


def test_the_hardware_does_not_change_with_what_runs_on_it() -> None:
    idle = FleetShape(used_share=0.0, services=50, load=Load.SCATTERED)
    assert fleet(idle).records == fleet(FleetShape()).records


def test_what_cannot_be_built_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        FleetShape(nodes=0, subclusters=3, used_share=1.5, medium_share=0.6, high_share=0.6)
    assert str(caught.value).splitlines() == [
        "nodes: must be 1 to 100000, got 0",
        "subclusters: must be 1 to 1, got 3",
        "used_share: must be 0 to 1, got 1.5",
        "high_share: must leave medium_share + high_share at most 1, got 0.6",
    ]


def two_nodes(*, healthy: bool = True) -> list[Node]:
    return [
        Node(name=name, accelerator="H20", gpus=8, domain=("sc", "h", "p", "r"), healthy=healthy)
        for name in ("a", "b")
    ]


def big(prefill_gpus: int, decode_gpus: int) -> ServiceSpec:
    return build_service(
        roles=[
            build_role(path, accelerators=[AcceleratorOption(type="H20", gpus=gpus)])
            for path, gpus in (("prefill", prefill_gpus), ("decode", decode_gpus))
        ]
    )


@pytest.mark.parametrize("load", Load)
def test_a_group_that_does_not_fit_whole_is_not_there_at_all(load: Load) -> None:
    rng = np.random.default_rng(1)
    # prefill fits once, decode beside it nowhere: what prefill took is given back
    nodes = [*two_nodes()[:1], replace(two_nodes()[1], healthy=False)]
    placed = place_load(nodes, [big(8, 8)], load, 16, rng)
    assert (placed.instances, placed.group_roles) == ((), ())


def test_no_more_is_placed_than_asked_for() -> None:
    placed = place_load(two_nodes(), [big(2, 2)], Load.PACKED, 0, np.random.default_rng(1))
    assert placed.instances == ()
