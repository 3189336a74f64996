from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.entities.topology import Node
from heteroscale.errors import InvariantViolation
from heteroscale.prescheduler.ledger import Ledger, Shapes
from heteroscale.prescheduler.topology import build_tree
from tests.builders import H20, build_instances
from tests.world import build_inventory, build_nodes, free_gpus

EAST = ("east",)
HALF = AcceleratorOption(type="H20", gpus=4)


def ledger_of(
    *nodes: Node, instances: Sequence[Instance] = (), shapes: Shapes | None = None
) -> Ledger:
    inventory = build_inventory(*nodes)
    return Ledger.of(inventory, build_tree(inventory, ("S1", "S2")), instances, shapes)


def test_instances_take_gpus_off_their_nodes() -> None:
    nodes = build_nodes(5)
    one, two, three, gone, lost = build_instances("decode", 5)
    ledger = ledger_of(
        *nodes,
        instances=(
            replace(one, nodes=(nodes[0].name,), gpus=2),
            replace(two, nodes=(nodes[1].name,)),
            replace(three, nodes=(nodes[2].name, nodes[3].name), role="wide"),
            replace(gone, nodes=(nodes[4].name,), state=InstanceState.TERMINATED),
            replace(lost, nodes=("elsewhere",)),
        ),
        shapes={("chat", "wide", "H20"): AcceleratorOption(type="H20", gpus=3, nodes=2)},
    )
    assert list(free_gpus(ledger).values()) == [6, 0, 5, 5, 8]


def test_more_taken_than_there_is_leaves_nothing() -> None:
    nodes = build_nodes(1)
    both = [replace(one, nodes=(nodes[0].name,), gpus=6) for one in build_instances("decode", 2)]
    assert free_gpus(ledger_of(*nodes, instances=both)) == {("east", nodes[0].name): 0}


def test_the_same_node_name_in_two_sub_clusters_is_two_nodes() -> None:
    here, there = build_nodes(1)[0], replace(build_nodes(1)[0], domain=("west",))
    one = replace(build_instances("decode", 1)[0], nodes=(here.name,))
    ledger = ledger_of(here, there, instances=(one,))
    assert free_gpus(ledger) == {("east", here.name): 0, ("west", here.name): 8}


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        pytest.param({"gpus": 2}, [6, 8], id="its own word on GPUs"),
        pytest.param({}, [0, 8], id="unknown: a whole node"),
        pytest.param({"role": "half"}, [4, 8], id="a known shape"),
        pytest.param({"accelerator": "A100"}, [8, 8], id="no such node: nothing to set aside"),
        pytest.param({"gpus": 9}, [8, 8], id="it fits nowhere: nothing to set aside"),
    ],
)
def test_what_waits_for_a_node_is_set_aside(changes: dict[str, object], free: list[int]) -> None:
    waiting = replace(build_instances("decode", 1, InstanceState.PENDING)[0], **changes)  # type: ignore[arg-type]
    ledger = ledger_of(
        *build_nodes(2), instances=(waiting,), shapes={("chat", "half", "H20"): HALF}
    )
    assert list(free_gpus(ledger).values()) == free


def test_first_fit_takes_nodes_in_order_of_domain_and_name() -> None:
    ledger = ledger_of(
        *build_nodes(1, domain=("east", "b")),
        *build_nodes(2, domain=("east", "a"), gpus=4),
        *build_nodes(1, domain=("east", "a"), first=2, healthy=False),
    )
    assert ledger.take(EAST, HALF)
    assert ledger.take(EAST, H20)
    assert not ledger.take(EAST, H20)
    assert ledger.take(EAST, HALF)
    assert not ledger.has_room(("east", "a"), HALF)
    assert not ledger.has_room(("west",), HALF)
    assert list(free_gpus(ledger).values()) == [0, 0, 4 * 2, 0]


def test_a_node_without_switch_labels_is_in_its_sub_cluster_only() -> None:
    ledger = ledger_of(*build_nodes(1, domain=EAST), *build_nodes(1, domain=("east", "a")))
    assert ledger.take(("east", "a"), H20)
    assert not ledger.take(("east", "a"), H20)
    assert ledger.take(EAST, H20)
    assert not ledger.has_room(EAST, H20)


def test_nodes_of_one_instance_share_its_domain() -> None:
    ledger = ledger_of(
        *build_nodes(1, domain=("east", "a", "a1")),
        *build_nodes(1, domain=("east", "a", "a2")),
        *build_nodes(2, domain=("east", "b", "b1")),
    )
    wide = AcceleratorOption(type="H20", gpus=8, nodes=2)
    assert not ledger.has_room(("east", "a"), replace(wide, within="S1"))
    assert ledger.take(EAST, replace(wide, within="S1"))
    assert list(free_gpus(ledger).values()) == [8, 8, 0, 0]
    assert ledger.take(("east", "a"), wide)
    assert not ledger.take(EAST, wide)


def test_domains_of_a_level_inside_another() -> None:
    ledger = ledger_of(
        *build_nodes(1, domain=("east", "a", "a1")),
        *build_nodes(1, domain=("west", "c", "c1")),
    )
    assert ledger.domains(None) == (("east",), ("west",))
    assert ledger.domains("S2") == (("east", "a"), ("west", "c"))
    assert ledger.domains("S1", ("west",)) == (("west", "c", "c1"),)
    assert ledger.domains("S2", ("east", "a", "a1")) == (("east", "a", "a1"),)


def test_a_fork_is_not_noticed_until_it_is_committed() -> None:
    ledger = ledger_of(*build_nodes(1))
    trial = ledger.fork()
    assert trial.take(EAST, H20)
    assert ledger.has_room(EAST, H20)
    ledger.commit(trial)
    assert not ledger.has_room(EAST, H20)


def test_a_stranger_is_not_committed() -> None:
    ledger = ledger_of(*build_nodes(1))
    with pytest.raises(InvariantViolation, match="only its own fork"):
        ledger.commit(ledger.fork().fork())


def test_census_counts_inside_and_outside() -> None:
    ledger = ledger_of(
        *build_nodes(2, domain=("east", "a")),
        *build_nodes(1, domain=("east", "a"), accelerator="L20", healthy=False),
        *build_nodes(3, domain=("east", "b")),
    )
    assert ledger.census([("east", "a"), ("east", "zzz")]) == (
        Counter({("H20", 8): 2, (None, 8): 1}),
        3,
    )
