"""The example of a relocation: a scarce subgroup is freed, and who waited for it is placed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from heteroscale.config.scenario import load_scenario
from heteroscale.entities.service import DefragmentSpec
from heteroscale.entities.snapshot import SUPPLY_STATES, InstanceState
from heteroscale.loop import TickReport
from tests.diary import reports_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "scenarios" / "relocation.yaml"


def stands(report: TickReport, service: str) -> dict[str, int]:
    """Return switches → instances of a service that are supply under them."""
    found: dict[str, int] = {}
    domains = {node.name: node.domain[1] for node in report.snapshot.inventory.nodes}
    for one in report.snapshot.services[service].instances:
        if one.state in SUPPLY_STATES:
            domain = domains[one.nodes[0]]
            found[domain] = found.get(domain, 0) + 1
    return found


def test_batch_leaves_the_mixed_switch_and_chat_grows_there() -> None:
    ticks = reports_of(load_scenario(EXAMPLE))
    assert stands(ticks[0], "batch") == {"s2-mixed-0000": 3}
    assert stands(ticks[0], "chat") == {"s2-mixed-0000": 2}
    assert stands(ticks[-1], "batch") == {"s2-plain-0000": 3}
    assert stands(ticks[-1], "chat") == {"s2-mixed-0000": 6}
    lacking = [one.tick for one in ticks if one.plan.placement.no_fits]
    placed = [
        one.tick
        for one in ticks
        if any(grant.service == "chat" for grant in one.plan.placement.grants)
    ]
    assert min(lacking) < max(lacking) < min(placed)


def test_batch_has_all_it_had_at_every_moment_and_moves_once() -> None:
    ticks = reports_of(load_scenario(EXAMPLE))
    for one in ticks:
        batch = one.snapshot.services["batch"].instances
        assert sum(each.state is InstanceState.READY for each in batch) >= 3
    sent = [action for one in ticks for action in one.sent if action.service == "batch"]
    opened = [action for action in sent if action.effect == "out"]
    left = [action for action in sent if action.effect == "in"]
    assert (len(opened), len(left)) == (2, 3)


def test_where_nothing_may_move_chat_waits_for_ever() -> None:
    scenario = load_scenario(EXAMPLE)
    fleet = dataclasses.replace(scenario.fleet, defragment=DefragmentSpec())
    last = reports_of(dataclasses.replace(scenario, fleet=fleet))[-1]
    assert stands(last, "batch") == {"s2-mixed-0000": 3}
    assert stands(last, "chat") == {"s2-mixed-0000": 2}
    assert [one.service for one in last.plan.placement.no_fits] == ["chat"]
