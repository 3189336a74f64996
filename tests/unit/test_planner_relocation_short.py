"""Relocation while something essential is lacking: only what can be spared, only where it helps."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.entities.service import AcceleratorOption, DefragmentSpec, ServiceSpec
from heteroscale.entities.snapshot import SUPPLY_STATES
from heteroscale.entities.state import FleetState
from tests.builders import build_role, build_service, build_state
from tests.relocation import Street, build_tenant
from tests.ticking import GUARD, LIFECYCLE
from tests.world import build_inventory

H800 = AcceleratorOption(type="H800", gpus=8)
CHAT = build_tenant()
OFF, ON = DefragmentSpec(), DefragmentSpec(groups=1)


def build_mixed(name: str = "mixed", essential: int = 1) -> ServiceSpec:
    """Build a service that needs both types under one S1 switch."""
    spec = build_service(
        name,
        priority=80,
        roles=[build_role("prefill", accelerators=[H800]), build_role("decode")],
        guard=GUARD,
        lifecycle=LIFECYCLE,
    )
    units = {"prefill": essential, "decode": essential}
    return replace(spec, group=replace(spec.group, within="S1"), essential=units)


def short(units: int, other: ServiceSpec, *, h800_healthy: bool = True) -> Street:
    """Return a street on which chat holds the scarce nodes, and another finds none of them.

    Args:
        units: of each role that chat has: the first on scarce nodes, a second elsewhere.
    """
    run = Street(CHAT, plain=6, rules=OFF)
    run.loads["chat"] = units
    run.pass_ticks(60)
    run.fleet = replace(run.fleet, services=(CHAT, other), defragment=ON)
    run.world.fleet = run.fleet
    run.loads[other.name] = 1
    run.state = FleetState(services={**run.state.services, other.name: build_state()})
    run.world.inventory = build_inventory(
        *(
            replace(node, healthy=h800_healthy or node.accelerator == "H20")
            for node in run.world.inventory.nodes
        )
    )
    return run


def test_a_group_that_can_be_spared_leaves_and_who_waits_is_placed() -> None:
    run = short(2, build_mixed())
    assert run.stands() == {"g0": ["h1", "h1"], "g1": ["h3", "h3"]}
    run.tick()
    assert [one.service for one in run.plan.placement.no_fits] == ["mixed"]
    assert run.said() == [
        "group east/g0 is to leave a high subgroup to others: east/g2 is opened in its place first"
    ]
    run.pass_ticks(60)
    assert run.stands() == {"g1": ["h3", "h3"], "g2": ["h3", "h3"]}
    assert run.stands("mixed") == {"g0": ["h1", "h1"]}


def test_chat_serves_all_the_while() -> None:
    run = short(2, build_mixed())
    for _ in range(60):
        run.tick()
        states = [run.world.states("chat", role).count("ready") for role in ("prefill", "decode")]
        assert min(states) >= 2


def test_what_is_essential_to_its_service_stays() -> None:
    run = short(1, build_mixed())
    run.pass_ticks(60)
    assert run.stands() == {"g0": ["h1", "h1"]}
    assert run.chat.relocating is None


def test_nothing_leaves_where_it_would_not_help() -> None:
    run = short(2, build_mixed(), h800_healthy=False)
    run.pass_ticks(60)
    assert run.stands() == {"g0": ["h1", "h1"], "g1": ["h3", "h3"]}
    assert run.chat.relocating is None


def test_where_only_a_wish_is_lacking_the_group_leaves_like_any() -> None:
    run = short(1, build_mixed())
    run.fleet = replace(run.fleet, services=(CHAT,))
    run.loads.pop("mixed")
    run.pass_ticks(60)
    assert run.stands() == {"g1": ["h3", "h3"]}
    supply = [one for one in run.world.instances.values() if one.state in SUPPLY_STATES]
    assert len(supply) == 2
