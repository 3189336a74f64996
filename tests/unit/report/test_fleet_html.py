"""The page of a fleet: whole, offline, safe whatever things are called, and complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from heteroscale.config.inventory import ReadInventory, parse_inventory
from heteroscale.config.label_presets import LABEL_PRESETS
from heteroscale.entities.topology import Node
from heteroscale.report.fleet_html import Overlay, render_fleet
from heteroscale.workload.fleet_hardware import FleetShape, Load
from heteroscale.workload.fleets import synthetic_fleet
from tests.unit.report.test_html import Page, embedded

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "inventory.yaml"


def example() -> ReadInventory:
    return parse_inventory(EXAMPLE.read_text(encoding="utf-8"), "inventory.yaml")


def page(read: ReadInventory) -> str:
    return render_fleet(read.fleet, "a fleet", read.faults)


def test_the_page_is_whole_and_loads_nothing() -> None:
    text = page(example())
    read = Page(text)
    assert (read.open, read.crossed) == ([], [])
    assert read.loads() == ["data:,"]
    assert not re.search(
        r"url\(|@import|\bimport\(|fetch\(|XMLHttpRequest|WebSocket|https?://", text
    )
    assert "default-src 'none'" in text


def test_every_domain_and_node_is_in_the_picture_with_its_use() -> None:
    read = example()
    drawn = embedded(page(read))
    assert drawn["levels"] == ["fleet", "sub-cluster", "S2", "S1", "S0"]
    assert drawn["types"] == ["H20", "H800"]
    assert drawn["domains"][0] == ["fleet", -1, 0, -1]
    paths: list[tuple[str, ...]] = [()]
    for name, parent, depth, _ in drawn["domains"][1:]:
        paths.append((*paths[parent], name))
        assert depth == len(paths[-1])
    found = {
        node[0]: (paths[node[1]], drawn["types"][node[2]], *node[3:6]) for node in drawn["nodes"]
    }

    def figures(node: Node, used: int) -> tuple[tuple[str, ...], str, int, int, int]:
        return node.domain, node.accelerator, node.gpus, used, int(node.healthy)

    used = read.fleet.used_gpus()
    assert used is not None
    assert found == {
        node.name: figures(node, used.get((node.domain[0], node.name), 0))
        for node in read.fleet.inventory.nodes
    }
    runs = {node[0]: node[6] for node in drawn["nodes"] if len(node) > 6}
    service, role, gpus = runs["e-05"][0]
    assert (drawn["names"][service], drawn["names"][role], gpus) == ("chat-large", "decode", 8)


def test_subgroups_can_be_read_without_scripts() -> None:
    words = re.sub(r"<script.*?</script>|<[^>]+>", "|", page(example()), flags=re.DOTALL)
    assert "S2 east/core-2||high||4||1||32||4||20||2||16 H20, 16 H800" in words
    assert "76 of 128 GPUs in use (59 %)." in words
    assert "2 sub-clusters, 3 S2, 4 S1, 5 S0, 16 nodes" in words


def test_use_that_nobody_knows_is_not_drawn_as_none() -> None:
    text = '{"nodes": [{"name": "n", "accelerator": "H20", "gpus": 8, "labels": {"S2": "h"}}]}'
    shown = page(parse_inventory(text, None, is_json=True))
    assert embedded(shown)["nodes"] == [["n", 2, 0, 8, -1, 1]]
    assert "nothing is known about their use" in shown
    assert "use unknown" in shown
    assert "free GPUs" not in shown
    assert "1 no switch" in shown


def test_no_name_can_end_the_script_or_start_an_element() -> None:
    hostile = "</script><b>&"
    text = (
        f'{{"nodes": [{{"name": "{hostile}", "accelerator": "{hostile}", "gpus": 8,'
        f' "labels": {{"S2": "{hostile}", "S1": "", "{hostile}": "x"}}}}]}}'
    )
    shown = page(parse_inventory(text, None, is_json=True))
    assert hostile not in shown
    assert embedded(shown)["nodes"][0][0] == hostile
    assert Page(shown).crossed == []


@pytest.mark.parametrize("load", Load)
def test_a_page_of_six_thousand_nodes_stays_small(load: Load) -> None:
    made = synthetic_fleet(FleetShape(nodes=6000, load=load), LABEL_PRESETS["topograph"])
    text = render_fleet(made.known(), "six thousand")
    assert len(embedded(text)["nodes"]) == 6000
    assert len(text) < 700_000


def test_a_plan_lies_over_the_fleet() -> None:
    read = example()
    plan = Overlay(
        heading="What if?",
        verdict="1 moves & 1 comes",
        before="<section>told</section>",
        moves={
            ("west", "w-03"): [("chat", "decode", 8)],
            ("west", "w-02"): [("chat", "decode", -8)],
        },
        grants=[(("west", "core-1"), "chat", "prefill", 2)],
    )
    text = render_fleet(read.fleet, "a fleet", read.faults, plan)
    drawn = embedded(text)
    moves = {
        node[0]: [(drawn["names"][a], drawn["names"][b], gpus) for a, b, gpus in node[7]]
        for node in drawn["nodes"]
        if len(node) > 7
    }
    assert moves == {"w-02": [("chat", "decode", -8)], "w-03": [("chat", "decode", 8)]}
    (at, service, role, replicas), *others = drawn["grants"]
    assert drawn["domains"][at][0] == "core-1"
    assert (drawn["names"][service], drawn["names"][role], replicas) == ("chat", "prefill", 2)
    assert others == []
    assert drawn["moved"]
    assert "<h1>What if?</h1>" in text
    assert "1 moves &amp; 1 comes" in text
    assert "<section>told</section>" in text
