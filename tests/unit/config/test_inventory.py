"""Inventory files: presets, who runs where, faults beside the fleet, and files of no use at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from heteroscale.config.check import check_file
from heteroscale.config.inventory import ReadInventory, load_inventory, parse_inventory
from heteroscale.config.label_presets import LABEL_PRESETS
from heteroscale.entities.fleet import KnownFleet
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.errors import ConfigError
from tests.unit.config.texts import REPO

EXAMPLE = REPO / "examples" / "inventory.yaml"
PLACE = {"S0": "r1", "S1": "p1", "S2": "h1"}


def parse(**content: Any) -> ReadInventory:
    """Return what an inventory of this content holds."""
    return parse_inventory(json.dumps(content), "fleet.json", is_json=True)


def node(name: str = "n", **fields: Any) -> dict[str, Any]:
    return {"name": name, "accelerator": "H20", "gpus": 8, "labels": PLACE} | fields


def run(role: str = "decode", gpus: int = 8, **fields: Any) -> dict[str, Any]:
    return {"service": "chat", "group": "g0", "role": role, "gpus": gpus} | fields


def told(read: ReadInventory) -> list[str]:
    return [f"{fault.kind}: {fault.problem}" for fault in read.faults]


def names(fleet: KnownFleet) -> list[str]:
    return [one.name for one in fleet.inventory.nodes]


@pytest.mark.parametrize("preset", LABEL_PRESETS)
def test_every_preset_finds_its_switches(preset: str) -> None:
    switches = LABEL_PRESETS[preset]
    labels = dict(zip(switches.keys, ("narrow", "middle", "wide"), strict=True))
    read = parse(preset=preset, nodes=[node(labels={**labels, "other": "label"})])
    assert read.fleet.inventory.nodes[0].domain == ("main", "wide", "middle", "narrow")
    assert read.fleet.levels == ("S0", "S1", "S2")
    assert read.faults == ()


def test_no_label_means_two_things_in_a_preset() -> None:
    for switches in LABEL_PRESETS.values():
        assert len({*switches.keys}) == len(switches.levels) == 3


def test_racks_of_two_zones_may_share_a_name() -> None:
    keys = LABEL_PRESETS["zone-rack"].keys
    nodes = [
        node(name, labels=dict(zip(keys, (name, "rack-1", zone), strict=True)))
        for name, zone in (("a", "z1"), ("b", "z2"))
    ]
    assert parse(preset="zone-rack", nodes=nodes).faults == ()
    assert len(parse(preset="zone-rack", unique_names=True, nodes=nodes).faults) == 2


def test_levels_and_labels_of_ones_own() -> None:
    levels = {"rack": "dc/rack", "hall": "dc/hall"}
    read = parse(levels=levels, nodes=[node(labels={"dc/rack": "r1", "dc/hall": "h1"})])
    assert read.fleet.levels == ("rack", "hall")
    assert read.fleet.inventory.nodes[0].domain == ("main", "h1", "r1")


def test_type_and_count_come_from_labels_where_the_node_does_not_say() -> None:
    labels = {**PLACE, "nvidia.com/gpu.product": "NVIDIA-H20", "nvidia.com/gpu.count": "4"}
    bare = {"name": "n", "labels": labels}
    kinds = {"H20": {"names": ["NVIDIA-H20"], "price_per_gpu_hour": 1.5}, "L20": {}}
    read = parse(accelerators=kinds, nodes=[bare])
    assert [(one.accelerator, one.gpus) for one in read.fleet.inventory.nodes] == [("H20", 4)]
    assert read.fleet.prices == {"H20": 1.5}


@pytest.mark.parametrize("count", ["", "many", "-8", "4.0", "99999"])
def test_a_count_label_that_is_no_count_is_no_gpus(count: str) -> None:
    labels = {**PLACE, "nvidia.com/gpu.count": count}
    read = parse(nodes=[node("a"), {"name": "b", "accelerator": "H20", "labels": labels}])
    assert names(read.fleet) == ["a"]
    assert told(read) == [
        "GPU count: fleet.json: nodes[1].gpus: must be 1 to 1,024: the node is not used, got 0"
    ]


def test_the_generation_changes_exactly_with_the_nodes() -> None:
    one, two = node("a"), node("b")
    first = parse(nodes=[one, two]).fleet.inventory
    assert parse(nodes=[two, one]).fleet.inventory == first
    assert parse(nodes=[one, {**two, "runs": [run()]}]).fleet.inventory == first
    assert parse(nodes=[one, {**two, "gpus": 4}]).fleet.inventory.generation != first.generation


def instance(uid: str, nodes: Sequence[str], ordinal: int, **fields: Any) -> Instance:
    written: dict[str, Any] = {
        "service": "chat",
        "role": "decode",
        "group": "g0",
        "subcluster": "main",
        "accelerator": "H20",
        "state": InstanceState.READY,
        "since_s": 0.0,
        "gpus": 8,
    }
    return Instance(uid=uid, nodes=tuple(nodes), ordinal=ordinal, **(written | fields))


def test_an_instance_over_two_nodes_is_one() -> None:
    both = [run(instance="d0")]
    nodes = [node("b", runs=both), node("a", runs=both), node("c", runs=[run(state="withdrawn")])]
    fleet = parse(nodes=nodes).fleet
    assert fleet.instances == (
        instance("main/chat/g0/decode/H20/c.0", ["c"], 0, state=InstanceState.WITHDRAWN),
        instance("main/chat/g0/decode/H20/d0", ["a", "b"], 1),
    )
    assert fleet.used_gpus() == {("main", "a"): 8, ("main", "b"): 8, ("main", "c"): 8}


def test_what_others_hold_counts_as_in_use() -> None:
    nodes = [node("a", used_gpus=3, runs=[run(gpus=4)]), node("b")]
    fleet = parse(nodes=nodes).fleet
    assert fleet.others_gpus == {("main", "a"): 3}
    assert fleet.used_gpus() == {("main", "a"): 7}


def test_use_that_nobody_mentions_is_unknown_and_a_zero_is_known() -> None:
    assert parse(nodes=[node("a")]).fleet.used_gpus() is None
    assert parse(nodes=[node("a"), node("b", used_gpus=0)]).fleet.used_gpus() == {}


def test_more_in_use_than_there_is_is_named() -> None:
    nodes = [node("a", runs=[run(gpus=6), run(gpus=4)]), node("b", used_gpus=9), node("c")]
    read = parse(nodes=nodes)
    assert names(read.fleet) == ["a", "b", "c"]
    assert told(read) == [
        (
            "overbooked: fleet.json: nodes[0].runs: must leave at most 8 GPUs in use: the node"
            " counts as full, got 10"
        ),
        (
            "overbooked: fleet.json: nodes[1].used_gpus: must leave at most 8 GPUs in use: the node"
            " counts as full, got 9"
        ),
    ]


def test_an_instance_holds_equally_many_gpus_on_each_of_its_nodes() -> None:
    nodes = [node("a", runs=[run(instance="d0")]), node("b", runs=[run(gpus=4, instance="d0")])]
    read = parse(nodes=nodes)
    assert [one.gpus for one in read.fleet.instances] == [8]
    assert told(read) == [
        (
            "malformed: fleet.json: nodes[1].runs.0.gpus: must be 8 as on the instance's first"
            " node: taken as that, got 4"
        )
    ]


def test_what_runs_on_a_node_of_no_use_is_not_counted() -> None:
    read = parse(nodes=[node("a"), node("b", gpus=0, runs=[run()])])
    assert read.fleet.instances == ()


def test_a_malformed_node_does_not_hide_the_others() -> None:
    read = parse(nodes=[node("a"), node("b", gpus="8", color="red"), node("c", gpus=0), "d"])
    assert names(read.fleet) == ["a"]
    assert told(read) == [
        (
            "malformed: fleet.json: nodes[1].color: is not a known key; known keys: accelerator,"
            " gpus, healthy, labels, name, runs, subcluster, used_gpus"
        ),
        "malformed: fleet.json: nodes[1].gpus: must be a whole number, got '8'",
        "GPU count: fleet.json: nodes[2].gpus: must be 1 to 1,024: the node is not used, got 0",
        "malformed: fleet.json: nodes[3]: must be a mapping of keys to values, got 'd'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("{", "fleet.json:1: must be valid JSON: Expecting property", id="no JSON"),
        pytest.param("[]", "fleet.json: must be a mapping of keys to values", id="a list"),
        pytest.param(
            "[" * 100_000, "fleet.json: must nest at most 40 levels deep", id="endless depth"
        ),
        pytest.param(
            '{"nodes": ' + "9" * 5000 + "}",
            "fleet.json: must hold numbers of at most a few thousand digits",
            id="a number without end",
        ),
        pytest.param('{"nodes": []}', "nodes: must have at least 1 entry", id="no nodes"),
        pytest.param('{"nodes": 3}', "nodes: must be a list, got 3", id="nodes are a number"),
        pytest.param(
            '{"subcluster": "a", "subcluster": "b", "nodes": [{"name": "n"}]}',
            "fleet.json: subcluster: is written twice",
            id="a key written twice",
        ),
        pytest.param(
            '{"preset": "azure", "nodes": [{"name": "n"}]}',
            "preset: must be one of levels, topograph, topograph-v0, aws, gcp, oci, zone-rack,"
            " got 'azure'",
            id="a family nobody knows",
        ),
        pytest.param(
            '{"preset": "aws", "levels": {"S0": "a"}, "nodes": [{"name": "n"}]}',
            "levels: must not stand beside a preset: a node would have two places",
            id="two ways to say where nodes are",
        ),
        pytest.param(
            '{"levels": {"S0": "a", "S1": "a"}, "nodes": [{"name": "n"}]}',
            "levels: must have a label of its own for each level",
            id="two levels in one label",
        ),
        pytest.param(
            '{"nodes": [{"name": ""}, {"gpus": 8}]}',
            "nodes[1].name: is required",
            id="no node is left",
        ),
    ],
)
def test_a_file_that_cannot_be_used_at_all(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_inventory(text, "fleet.json", is_json=True)
    assert problem in str(caught.value)


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "fleet.json"
    file.write_text(json.dumps({"nodes": [node("a"), node("b", gpus=0)]}), encoding="utf-8")
    twin = tmp_path / "fleet.yaml"
    twin.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_inventory(file).fleet == load_inventory(twin).fleet
    assert [fault.problem.line for fault in load_inventory(twin).faults] == [1]
    for path in (file, twin):
        with pytest.raises(ConfigError, match=r"nodes\[1\].gpus: must be 1 to 1,024"):
            check_file(path)


def test_the_example_is_faultless_and_shows_an_instance_over_two_nodes() -> None:
    read = check_file(EXAMPLE)
    assert isinstance(read, ReadInventory)
    assert len(read.fleet.inventory.nodes) == 16
    assert [one.nodes for one in read.fleet.instances if len(one.nodes) > 1] == [
        ("e-05", "e-06"),
        ("e-07", "e-08"),
    ]
