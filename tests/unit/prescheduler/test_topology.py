from __future__ import annotations

import pytest

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.topology import Inventory, TopologyTree
from heteroscale.errors import InvariantViolation
from heteroscale.prescheduler.topology import build_tree, depth_of, subgroups
from tests.world import build_nodes

LEVELS = ("S0", "S1", "S2")


def test_every_prefix_of_a_path_is_a_domain() -> None:
    inventory = Inventory(
        generation="7",
        nodes=(
            *build_nodes(1, domain=("east", "b", "b1", "b1x")),
            *build_nodes(1, domain=("east", "a", "a1", "a1x")),
            *build_nodes(1, domain=("east", "a", "a2", "a2x")),
            *build_nodes(1, domain=("west",)),
        ),
    )
    assert build_tree(inventory, LEVELS) == TopologyTree(
        generation="7",
        levels=LEVELS,
        domains={
            ("east",): (0, 1, 2),
            ("east", "a"): (1, 2),
            ("east", "a", "a1"): (1,),
            ("east", "a", "a1", "a1x"): (1,),
            ("east", "a", "a2"): (2,),
            ("east", "a", "a2", "a2x"): (2,),
            ("east", "b"): (0,),
            ("east", "b", "b1"): (0,),
            ("east", "b", "b1", "b1x"): (0,),
            ("west",): (3,),
        },
    )


def test_domains_come_sorted() -> None:
    nodes = (*build_nodes(1, domain=("b",)), *build_nodes(1, domain=("a",)))
    tree = build_tree(Inventory(generation="g", nodes=nodes), ())
    assert list(tree.domains) == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("level", "depth"),
    [
        pytest.param(None, 1, id="no level is the sub-cluster"),
        pytest.param("S2", 2, id="the widest level below it"),
        pytest.param("S0", 4, id="the narrowest level"),
    ],
)
def test_depth_of_a_level(level: str | None, depth: int) -> None:
    assert depth_of(LEVELS, level) == depth


def test_a_level_that_is_not_configured_is_our_fault() -> None:
    with pytest.raises(InvariantViolation, match="'rack' is not one of S0, S1, S2"):
        depth_of(LEVELS, "rack")


def test_subgroups_are_as_scarce_as_their_mix_of_accelerators() -> None:
    nodes = (
        *build_nodes(1, domain=("east", "pure", "p1", "x")),
        *build_nodes(1, domain=("east", "pure", "p2", "x")),
        *build_nodes(1, domain=("east", "several", "s1", "x")),
        *build_nodes(1, domain=("east", "several", "s2", "x"), accelerator="H800"),
        *build_nodes(1, domain=("east", "mixed", "m1", "x")),
        *build_nodes(1, domain=("east", "mixed", "m1", "y"), accelerator="H800"),
        *build_nodes(1, domain=("east", "mixed", "m2", "x")),
        *build_nodes(1, domain=("west",)),
    )
    assert subgroups(nodes, LEVELS) == {
        ("east", "mixed"): Scarcity.HIGH,
        ("east", "mixed", "m1"): Scarcity.HIGH,
        ("east", "mixed", "m2"): Scarcity.MEDIUM,
        ("east", "pure"): Scarcity.LOW,
        ("east", "pure", "p1"): Scarcity.LOW,
        ("east", "pure", "p2"): Scarcity.LOW,
        ("east", "several"): Scarcity.MEDIUM,
        ("east", "several", "s1"): Scarcity.MEDIUM,
        ("east", "several", "s2"): Scarcity.MEDIUM,
    }


def test_with_one_level_a_domain_of_several_types_is_the_tightest_there_is() -> None:
    nodes = (
        *build_nodes(1, domain=("east", "a")),
        *build_nodes(1, domain=("east", "a"), accelerator="H800"),
        *build_nodes(1, domain=("east", "b")),
    )
    assert subgroups(nodes, ("rack",)) == {
        ("east", "a"): Scarcity.HIGH,
        ("east", "b"): Scarcity.LOW,
    }
