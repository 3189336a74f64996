"""Properties of taking an inventory, whatever labels and faults the records carry.

1. The order of the records changes neither the nodes nor which faults there are.
2. A node's place never says more than its labels do: it is the beginning of what they say.
3. No switch stands under two others where a name is one switch.
4. Every record is a node or has a fault; every node without a fault stands as deep as the levels.
5. The tree holds each node in exactly the domains that its place begins with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heteroscale.entities.topology import Inventory, NodeRecord, SwitchLabels
from heteroscale.prescheduler.inventory import take_inventory
from heteroscale.prescheduler.topology import build_tree

LEVELS = ("S0", "S1", "S2")
KEYS = ("rack", "pod", "hall")
#: so few names that records meet under one switch, and contradict one another, all the time
SWITCH_NAMES = st.sampled_from(["a", "b", "c", ""])


@st.composite
def records(draw: st.DrawFn) -> NodeRecord:
    """Draw a record that is sound more often than not."""
    labels = {key: draw(SWITCH_NAMES) for key in KEYS if draw(st.integers(0, 9)) > 0}
    return NodeRecord(
        name=f"n{draw(st.integers(0, 30))}",
        subcluster=draw(st.sampled_from(["east", "west"])),
        accelerator=draw(st.sampled_from(["H20", "H20", "H800", ""])),
        gpus=draw(st.sampled_from([8, 8, 8, 4, 0, -1])),
        labels=labels,
        healthy=draw(st.booleans()),
    )


FLEETS = st.lists(records(), max_size=24)
SWITCHES = st.builds(
    SwitchLabels, levels=st.just(LEVELS), keys=st.just(KEYS), unique_names=st.booleans()
)


def said(record: NodeRecord) -> tuple[str, ...]:
    """Return a record's place as far as its labels say it, widest first."""
    names = [record.labels.get(key, "") for key in reversed(KEYS)]
    return (record.subcluster, *(names[: names.index("")] if "" in names else names))


@given(FLEETS, SWITCHES, st.randoms(use_true_random=False))
def test_1_any_order_of_the_records(
    fleet: Sequence[NodeRecord], switches: SwitchLabels, shuffling: Any
) -> None:
    turned = list(fleet)
    shuffling.shuffle(turned)
    nodes, faults = take_inventory(fleet, switches)
    again, others = take_inventory(turned, switches)
    assert again == nodes
    assert sorted(fault.rule for fault in others) == sorted(fault.rule for fault in faults)


@given(FLEETS, SWITCHES)
def test_2_a_place_is_the_beginning_of_what_the_labels_say(
    fleet: Sequence[NodeRecord], switches: SwitchLabels
) -> None:
    nodes, _ = take_inventory(fleet, switches)
    by_name = {(record.subcluster, record.name): record for record in fleet}
    for node in nodes:
        place = said(by_name[node.domain[0], node.name])
        assert node.domain == place[: len(node.domain)]


@given(FLEETS)
def test_3_one_switch_has_one_place(fleet: Sequence[NodeRecord]) -> None:
    nodes, _ = take_inventory(fleet, SwitchLabels(levels=LEVELS, keys=KEYS))
    parents: dict[tuple[str, int, str], set[tuple[str, ...]]] = {}
    for node in nodes:
        for depth in range(1, len(node.domain)):
            switch = (node.domain[0], depth, node.domain[depth])
            parents.setdefault(switch, set()).add(node.domain[:depth])
    assert {switch: above for switch, above in parents.items() if len(above) > 1} == {}


@given(FLEETS, SWITCHES)
def test_4_what_is_not_named_is_sound(fleet: Sequence[NodeRecord], switches: SwitchLabels) -> None:
    nodes, faults = take_inventory(fleet, switches)
    faulty = {fault.record for fault in faults}
    used = {(node.domain[0], node.name) for node in nodes}
    for index, record in enumerate(fleet):
        assert index in faulty or (record.subcluster, record.name) in used
    if not faults:
        assert {len(node.domain) for node in nodes} <= {len(LEVELS) + 1}


@given(FLEETS, SWITCHES)
def test_5_the_tree_holds_each_node_where_it_stands(
    fleet: Sequence[NodeRecord], switches: SwitchLabels
) -> None:
    nodes, _ = take_inventory(fleet, switches)
    tree = build_tree(Inventory(generation="g", nodes=nodes), LEVELS)
    for path, indices in tree.domains.items():
        inside = [i for i, node in enumerate(nodes) if node.domain[: len(path)] == path]
        assert list(indices) == inside
