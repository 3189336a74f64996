from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption
from heteroscale.prescheduler.objective import (
    COMPATIBLE,
    USED,
    broken_nodes,
    faults,
    stood_in,
    worth,
)
from heteroscale.prescheduler.problem import (
    Block,
    Cell,
    Home,
    Narrow,
    Need,
    Placed,
    Problem,
    Request,
    need_of,
)

H20 = AcceleratorOption(type="H20", gpus=8)
H800 = AcceleratorOption(type="H800", gpus=8)
HALF = AcceleratorOption(type="H20", gpus=4)
A = ("east", "a", "a1")

NEEDS = (
    Need(role="decode", units=4, options=(H20,)),
    Need(role="prefill", units=2, options=(H800, replace(H20, capacity=0.5))),
)
CHAT = Request(name="chat", weight=2.0, steps=2, needs=NEEDS, depths=(2, 1), new_groups=1)
PLENTY = Cell(
    domain=A, accelerator="H20", scarcity=Scarcity.HIGH, node_gpus=8, whole=(4, 4), price=3.0
)
CELLS = (PLENTY, replace(PLENTY, accelerator="H800", idle=True, price=0.0))
PROBLEM = Problem(cells=CELLS, requests=(CHAT,), cell_depth=3)
BLOCKS = (
    Block(cell=0, need=0, option=0, replicas=2),
    Block(cell=1, need=1, option=0, replicas=1),
)
ONE = Placed(request=0, domain=A[:2], home=None, steps=1, blocks=BLOCKS)


@pytest.mark.parametrize(
    ("partial", "whole", "counts", "broken"),
    [
        pytest.param({}, (2,), {8: 2}, 0, id="whole nodes given whole are not broken"),
        pytest.param({}, (2,), {8: 3}, None, id="too many"),
        pytest.param({4: 1}, (1,), {4: 1}, 0, id="what is partly used takes the small first"),
        pytest.param({4: 1}, (1,), {4: 2}, 1, id="and then a whole one is broken"),
        pytest.param({2: 1}, (3,), {2: 8}, 2, id="seven more fill one and break another"),
        pytest.param({6: 2}, (), {3: 4}, 0, id="sizes that are no power of two"),
        pytest.param({6: 2}, (), {4: 2, 2: 2}, 0, id="largest first"),
        pytest.param({4: 2}, (), {8: 1}, None, id="two halves are no whole"),
        pytest.param({}, (1, 1), {16: 1}, None, id="two whole nodes under two switches"),
        pytest.param({}, (3, 2), {16: 2, 8: 1}, 0, id="pairs leave the odd node"),
        pytest.param({}, (3,), {24: 1}, 0, id="three nodes under one switch"),
        pytest.param({}, (), {1: 1}, None, id="nothing free"),
    ],
)
def test_whole_nodes_that_small_instances_break(
    partial: dict[int, int], whole: tuple[int, ...], counts: dict[int, int], broken: int | None
) -> None:
    cell = replace(PLENTY, partial=partial, whole=whole)
    assert broken_nodes(cell, counts) == broken


def test_a_step_is_worth_its_gpus_on_preferred_accelerators() -> None:
    assert CHAT.step_gpus == 24.0
    used = 24 * (0.02 + 0.05 * 1) + 16 * 0.01 * 3.0
    assert worth(PROBLEM, (ONE,)) == pytest.approx(2.0 * 24 - used - 0.2 - 0.3)


def test_an_existing_group_opens_nothing_and_a_compatible_accelerator_costs() -> None:
    home = Home(name="g0", domain=A[:1])
    problem = replace(PROBLEM, requests=(replace(CHAT, homes=(home,), quota={"H20": 32}),))
    grown = replace(
        ONE, home=0, domain=A[:1], blocks=(BLOCKS[0], Block(cell=0, need=1, option=1, replicas=2))
    )
    # Two instances of half a unit stand in for one of eight GPUs.
    used = 32 * (0.02 + 0.05 + 0.03) + 8 * 0.05
    assert worth(problem, (grown,)) == pytest.approx(48 - used)
    assert faults(problem, (grown,)) == []


def test_a_faster_accelerator_is_not_taken_for_being_few() -> None:
    fast = AcceleratorOption(type="H800", gpus=2, capacity=6.0)
    need = Need(role="decode", units=6, options=(AcceleratorOption(type="H20", gpus=8), fast))
    assert stood_in(need, 0) == 0.0
    assert stood_in(need, 1) == 48.0
    # Six units: 48 preferred GPUs, or two that stand in for as many.
    assert 2 * USED + COMPATIBLE * stood_in(need, 1) > 48 * USED


def test_a_wider_domain_within_the_allowance_costs_but_is_no_fault() -> None:
    wide = replace(ONE, domain=A[:1])
    assert faults(PROBLEM, (wide,)) == []
    assert worth(PROBLEM, (ONE,)) - worth(PROBLEM, (wide,)) == pytest.approx(24 * 0.05)


def test_a_broken_node_is_counted_once_for_all_who_share_it() -> None:
    small = replace(CHAT, needs=(Need(role="decode", units=2, options=(HALF,)),))
    half = replace(ONE, blocks=(Block(cell=0, need=0, option=0, replicas=1),))
    problem = replace(PROBLEM, requests=(small, replace(small, name="other")))
    one = worth(problem, (half,))
    both = worth(problem, (half, replace(half, request=1)))
    assert both - 2 * one == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("prefill", "within", "need"),
    [
        pytest.param(H20, 2, Scarcity.LOW, id="one type is content anywhere"),
        pytest.param(H800, 1, Scarcity.LOW, id="two types without affinity too"),
        pytest.param(H800, 2, Scarcity.MEDIUM, id="two types under one S2"),
        pytest.param(H800, 3, Scarcity.HIGH, id="two types under one S1"),
    ],
)
def test_what_a_request_needs(prefill: AcceleratorOption, within: int, need: Scarcity) -> None:
    needs = (NEEDS[0], Need(role="prefill", units=1, options=(prefill,)))
    assert need_of(replace(CHAT, needs=needs, depths=(within,)), 3) is need


@pytest.mark.parametrize(
    ("ffn", "depth", "need"),
    [
        pytest.param(H20, 3, Scarcity.LOW, id="one type"),
        pytest.param(H800, 3, Scarcity.HIGH, id="two types under one S1"),
        pytest.param(H800, 2, Scarcity.MEDIUM, id="two types under one S2"),
    ],
)
def test_nested_roles_may_need_more_than_their_group(
    ffn: AcceleratorOption, depth: int, need: Scarcity
) -> None:
    needs = tuple(
        Need(role=role, units=1, options=(option,))
        for role, option in (("decode", H20), ("prefill/attention", H20), ("prefill/ffn", ffn))
    )
    narrow = Narrow(path="prefill", depth=depth, roles=("prefill/attention", "prefill/ffn"))
    request = replace(CHAT, needs=needs, depths=(1,), narrows=(narrow,))
    assert need_of(request, 3) is need


def test_every_fault_of_a_solution_is_named() -> None:
    narrow = Narrow(path="prefill", depth=3, roles=("prefill",))
    home = Home(name="g0", domain=("west",))
    chat = replace(CHAT, homes=(home,), narrows=(narrow,), quota={"H20": 8, "H800": 8})
    problem = replace(PROBLEM, requests=(chat,), cells=(replace(PLENTY, whole=(1,)), CELLS[1]))
    wrong = (
        replace(ONE, domain=A, narrows={"prefill": ("east", "a", "a2")}),
        replace(
            ONE,
            home=0,
            steps=2,
            narrows={"prefill": A},
            blocks=(Block(cell=1, need=0, option=0, replicas=1), BLOCKS[1]),
        ),
        replace(ONE, narrows={"prefill": A}),
    )
    assert faults(problem, wrong) == [
        "chat: a new group in a domain of no level it may have",
        "chat: prefill: outside its domain",
        "chat: a group outside its domain",
        "chat: decode: on another accelerator",
        "chat: decode: half a step",
        "chat: prefill: half a step",
        "east/a/a1: H20: more is placed than is free",
        "chat: more steps than were asked for",
        "chat: more new groups than may be opened",
        "chat: H20: over its quota",
        "chat: H800: over its quota",
    ]
