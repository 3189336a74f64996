"""Advice on leaving scarce subgroups: whole groups, into room that is free and less scarce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from heteroscale.entities.fleet import KnownFleet
from heteroscale.entities.placement import Grant, Scarcity
from heteroscale.entities.service import AcceleratorOption, Pause, ServiceSpec
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.entities.topology import Node
from heteroscale.prescheduler import defragment as module
from heteroscale.prescheduler.defragment import Defragmentation, Relocation, defragment
from tests.builders import build_role, build_service
from tests.unit.prescheduler.test_what_if import LEVELS, instance, node
from tests.world import build_inventory

CHAT = build_service()
CHAT = replace(CHAT, group=replace(CHAT.group, within="S2"))
H800 = AcceleratorOption(type="H800", gpus=8)
#: one S1 of two types, one S2 of two types in S1s of their own, one S2 of one type
MIXED = [node("a", "h1/p1/r1"), node("b", "h1/p1/r1"), node("c", "h1/p1/r1", accelerator="H800")]
SPLIT = [node("d", "h2/p2/r2"), node("e", "h2/p2/r2"), node("f", "h2/p3/r3", accelerator="H800")]
PLAIN = [node("g", "h3/p4/r4"), node("h", "h3/p4/r4")]


def group(prefill: str, decode: str, name: str = "g0", **fields: object) -> list[Instance]:
    """Return a group of one prefill and one decode instance on these nodes."""
    return [
        instance("prefill", prefill, name, **fields),
        instance("decode", decode, name, **fields),
    ]


def advised(
    nodes: Sequence[Node], instances: Sequence[Instance], spec: ServiceSpec = CHAT
) -> Defragmentation:
    fleet = KnownFleet(inventory=build_inventory(*nodes), levels=LEVELS, instances=tuple(instances))
    return defragment(fleet, [spec])


def moved(found: Defragmentation) -> list[tuple[str, Scarcity]]:
    return [(one.group, one.scarcity) for one in found.moves]


def test_a_group_that_needs_no_scarce_subgroup_could_leave_it() -> None:
    own = group("a", "b")
    assert advised([*MIXED, *PLAIN], own) == Defragmentation(
        moves=(
            Relocation(
                service="chat",
                group="g0",
                subcluster="east",
                scarcity=Scarcity.HIGH,
                instances=(own[1], own[0]),
                freed_gpus={(("east", "h1", "p1"), "H20"): 16},
            ),
        ),
        grants=tuple(
            Grant(
                service="chat",
                group="g1",
                role=role,
                accelerator="H20",
                domain=("east", "h3"),
                subcluster="east",
                replicas=1,
                nodes=((name,),),
            )
            for role, name in (("decode", "g"), ("prefill", "h"))
        ),
    )


def test_the_scarcest_class_comes_first_and_may_move_to_the_middle() -> None:
    instances = [*group("a", "b"), *group("g", "h", "g1")]
    assert moved(advised([*MIXED, *SPLIT, *PLAIN], instances)) == [("g0", Scarcity.HIGH)]


def test_then_the_middle_where_nothing_of_the_scarcest_can() -> None:
    instances = [*group("d", "e")]
    assert moved(advised([*MIXED, *SPLIT, *PLAIN], instances)) == [("g0", Scarcity.MEDIUM)]


@pytest.mark.parametrize(
    ("instances", "spec"),
    [
        pytest.param(group("a", "b") + group("g", "h", "g1"), CHAT, id="no room elsewhere"),
        pytest.param(group("g", "h"), CHAT, id="it is not scarce where it is"),
        pytest.param(group("a", "b")[:1], CHAT, id="half a group"),
        pytest.param(
            group("a", "b", state=InstanceState.WITHDRAWN), CHAT, id="a group on its way out"
        ),
        pytest.param(group("x", "y"), CHAT, id="nodes that the inventory does not know"),
        pytest.param(group("a", "b", service="code"), CHAT, id="a service nobody asked about"),
        pytest.param(
            group("a", "b"), replace(CHAT, pause=Pause(scale_in=True)), id="its scale-in is paused"
        ),
        pytest.param(
            group("a", "b"), replace(CHAT, pause=Pause(scale_out=True)), id="it may not grow"
        ),
    ],
)
def test_nothing_moves(instances: list[Instance], spec: ServiceSpec) -> None:
    assert advised([*MIXED, *PLAIN], instances, spec) == Defragmentation()


def test_a_service_of_two_types_stays_where_it_must() -> None:
    roles = [build_role("prefill", accelerators=[H800]), build_role("decode")]
    spec = replace(CHAT, group=replace(CHAT.group, roles=tuple(roles)))
    own = [instance("prefill", "c", accelerator="H800"), instance("decode", "a")]
    assert advised([*MIXED, *PLAIN], own, spec) == Defragmentation()
    # Under an S2 of two types it would leave the S1 that mixes them.
    found = advised([*MIXED, *SPLIT], own, spec)
    assert moved(found) == [("g0", Scarcity.HIGH)]
    assert {grant.domain[:2] for grant in found.grants} == {("east", "h2")}


def test_no_more_move_than_fit_together_or_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    more = [node(name, "h1/p1/r1") for name in "ijkl"]
    instances = [*group("a", "b"), *group("i", "j", "g1"), *group("k", "l", "g2")]
    room = [*PLAIN, node("m", "h4/p5/r5"), node("n", "h4/p5/r5")]
    found = advised([*MIXED, *more, *room], instances)
    assert moved(found) == [("g0", Scarcity.HIGH), ("g1", Scarcity.HIGH)]
    monkeypatch.setattr(module, "MOVES_MAX", 1)
    assert moved(advised([*MIXED, *more, *room], instances)) == [("g0", Scarcity.HIGH)]
