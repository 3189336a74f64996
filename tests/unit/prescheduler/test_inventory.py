"""Raw records become nodes with a place; what is wrong is named, and the rest stays usable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from heteroscale.entities.topology import (
    InventoryFault,
    InventoryFaultKind,
    Node,
    NodeRecord,
    SwitchLabels,
)
from heteroscale.prescheduler.inventory import take_inventory

SWITCHES = SwitchLabels(levels=("S0", "S1", "S2"), keys=("rack", "pod", "hall"))


def record(name: str, place: str = "h1/p1/r1", **fields: object) -> NodeRecord:
    """Return a sound node; `place` is hall/pod/rack, and an empty part is a label left out."""
    labels = dict(zip(("hall", "pod", "rack"), place.split("/"), strict=True))
    node = NodeRecord(
        name=name,
        subcluster="east",
        accelerator="H20",
        gpus=8,
        labels={key: value for key, value in labels.items() if value},
    )
    return replace(node, **fields)  # type: ignore[arg-type]


def places(nodes: Sequence[Node]) -> dict[str, str]:
    return {node.name: "/".join(node.domain) for node in nodes}


def told(faults: Sequence[InventoryFault]) -> list[str]:
    """Return faults as "record field: rule, got value"."""
    return [
        f"{fault.record} {'.'.join(fault.field)}: {fault.rule}, got {fault.value}"
        for fault in faults
    ]


def test_a_sound_node_keeps_everything_and_gets_its_place() -> None:
    nodes, faults = take_inventory([record("b", healthy=False), record("a", gpus=4)], SWITCHES)
    domain = ("east", "h1", "p1", "r1")
    assert nodes == (
        Node(name="a", accelerator="H20", gpus=4, domain=domain),
        Node(name="b", accelerator="H20", gpus=8, domain=domain, healthy=False),
    )
    assert faults == ()


@pytest.mark.parametrize(
    ("wrong", "kind", "fault"),
    [
        pytest.param(
            [record("n", gpus=0)],
            InventoryFaultKind.GPU_COUNT,
            ["0 gpus: must be 1 to 1,024: the node is not used, got 0"],
            id="no GPUs",
        ),
        pytest.param(
            [record("n", gpus=-8)],
            InventoryFaultKind.GPU_COUNT,
            ["0 gpus: must be 1 to 1,024: the node is not used, got -8"],
            id="a negative count is no count",
        ),
        pytest.param(
            [record("n", gpus=1025)],
            InventoryFaultKind.GPU_COUNT,
            ["0 gpus: must be 1 to 1,024: the node is not used, got 1025"],
            id="more than any machine has",
        ),
        pytest.param(
            [record("n", accelerator="")],
            InventoryFaultKind.UNKNOWN_ACCELERATOR,
            ["0 accelerator: must say what the GPUs are: the node is not used, got None"],
            id="GPUs nobody has named",
        ),
        pytest.param(
            [record("n"), record("n", "h1/p1/r2")],
            InventoryFaultKind.DUPLICATE_NAME,
            [
                f"{at} name: must be unique in east: 2 nodes bear it, none is used, got n"
                for at in (0, 1)
            ],
            id="two nodes of one name: which one a plan would mean nobody can say",
        ),
    ],
)
def test_a_record_that_cannot_be_used_is_named_and_the_rest_is_used(
    wrong: list[NodeRecord], kind: InventoryFaultKind, fault: list[str]
) -> None:
    nodes, faults = take_inventory([*wrong, record("sound")], SWITCHES)
    assert [node.name for node in nodes] == ["sound"]
    assert told(faults) == fault
    assert {one.kind for one in faults} == {kind}


def test_sub_clusters_may_use_one_name_for_nodes_and_switches() -> None:
    west = record("n", "h2/p1/r1", subcluster="west")
    nodes, faults = take_inventory([record("n"), west], SWITCHES)
    assert [node.domain for node in nodes] == [
        ("east", "h1", "p1", "r1"),
        ("west", "h2", "p1", "r1"),
    ]
    assert faults == ()


def test_only_listed_accelerators_are_known_by_any_of_their_names() -> None:
    names = {"H20": "H20", "NVIDIA-H20": "H20"}
    records = [record("a", accelerator="NVIDIA-H20"), record("b", accelerator="H800")]
    nodes, faults = take_inventory(records, SWITCHES, names)
    assert [(node.name, node.accelerator) for node in nodes] == [("a", "H20")]
    assert told(faults) == [
        "1 accelerator: must be one of H20, NVIDIA-H20: the node is not used, got H800"
    ]


@pytest.mark.parametrize(
    ("place", "known", "fault"),
    [
        pytest.param("h1/p1/", "east/h1/p1", "rack: must name the S0 switch", id="no rack"),
        pytest.param(
            "h1//r1", "east/h1", "pod: must name the S1 switch", id="a gap ends the place"
        ),
        pytest.param("/p1/r1", "east", "hall: must name the S2 switch", id="nothing above the gap"),
        pytest.param("//", "east", "hall: must name the S2 switch", id="no labels at all"),
    ],
)
def test_a_node_without_a_switch_is_known_as_far_as_its_labels_go(
    place: str, known: str, fault: str
) -> None:
    nodes, faults = take_inventory([record("n", place)], SWITCHES)
    assert places(nodes) == {"n": known}
    assert told(faults) == [
        f"0 labels.{fault}: without it the node is only known to be in {known}, got None"
    ]
    assert faults[0].kind is InventoryFaultKind.NO_SWITCH


def test_an_empty_label_names_no_switch() -> None:
    labels = {"hall": "h1", "pod": "p1", "rack": ""}
    nodes, faults = take_inventory([record("n", labels=labels)], SWITCHES)
    assert places(nodes) == {"n": "east/h1/p1"}
    assert len(faults) == 1


def test_of_a_switch_under_two_others_what_most_nodes_say_is_believed() -> None:
    records = [
        record("a"),
        record("b"),
        record("c", "h2/p1/r1"),
        record("d", "h2/p1/r2"),
        record("e", "h1/p1/r3"),
    ]
    nodes, faults = take_inventory(records, SWITCHES)
    assert places(nodes) == {
        "a": "east/h1/p1/r1",
        "b": "east/h1/p1/r1",
        "c": "east",
        "d": "east",
        "e": "east/h1/p1/r3",
    }
    assert told(faults) == [
        (
            "2 labels.hall: must be one switch for all nodes of S1 p1: 3 nodes say h1, 2 nodes say"
            " h2; those of h2 are only known to be in east, got h2"
        )
    ]
    assert faults[0].kind is InventoryFaultKind.TWO_PARENTS


def test_where_no_majority_says_where_a_switch_is_nobody_is_believed() -> None:
    records = [record("a"), record("b", "h1/p2/r1"), record("c", "h1/p2/r2")]
    nodes, faults = take_inventory(records, SWITCHES)
    assert places(nodes) == {"a": "east/h1", "b": "east/h1", "c": "east/h1/p2/r2"}
    assert told(faults) == [
        f"{at} labels.pod: must be one switch for all nodes of S0 r1: 1 node says p1,"
        f" 1 node says p2; those of {pod} are only known to be in east/h1, got {pod}"
        for at, pod in ((0, "p1"), (1, "p2"))
    ]


def test_a_place_in_doubt_says_nothing_about_the_switches_in_it() -> None:
    # p1 is in h1; that makes c's rack r1 no witness against the r1 of a and b
    records = [record("a"), record("b"), record("c", "h2/p1/r1")]
    _, faults = take_inventory(records, SWITCHES)
    assert len(faults) == 1


def test_names_that_are_only_unique_under_their_parent_are_different_switches() -> None:
    switches = replace(SWITCHES, unique_names=False)
    nodes, faults = take_inventory([record("a"), record("b", "h2/p1/r1")], switches)
    assert places(nodes) == {"a": "east/h1/p1/r1", "b": "east/h2/p1/r1"}
    assert faults == ()


def test_the_order_of_the_records_changes_nothing() -> None:
    records = [
        record("a"),
        record("b", "h2/p1/r1"),
        record("c", "h1/p2/r1"),
        record("d", "h1/p2/"),
        record("e", "h3/p3/r3"),
        record("f", "h2/p3/r3"),
        record("f", "h2/p3/r4"),
        record("g", gpus=0),
        record("h"),
    ]
    nodes, faults = take_inventory(records, SWITCHES)
    for turn in range(1, len(records)):
        turned = [*records[turn:], *records[:turn]][:: -1 if turn % 2 else 1]
        again, others = take_inventory(turned, SWITCHES)
        assert again == nodes
        assert sorted(fault.rule for fault in others) == sorted(fault.rule for fault in faults)
