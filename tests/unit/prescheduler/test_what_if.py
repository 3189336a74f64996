"""A what-if asks the cycle on a fleet as it stands, and forgets nobody who holds GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heteroscale.entities.fleet import KnownFleet
from heteroscale.entities.placement import Grant, PlacementPlan
from heteroscale.entities.service import GroupSpec, ServiceSpec
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState
from heteroscale.entities.topology import Node
from heteroscale.prescheduler.what_if import WhatIf, supplied, what_if
from tests.builders import build_role, build_service
from tests.world import build_inventory

LEVELS = ("S0", "S1", "S2")
CHAT = build_service()


def node(name: str, place: str = "h1/p1/r1", **fields: object) -> Node:
    domain = ("east", *place.split("/"))
    return replace(Node(name=name, accelerator="H20", gpus=8, domain=domain), **fields)  # type: ignore[arg-type]


def instance(role: str, nodes: str, group: str = "g0", **fields: object) -> Instance:
    """Return a ready instance on nodes named by single letters."""
    one = Instance(
        uid=f"{group}/{role}/{nodes}",
        service="chat",
        role=role,
        group=group,
        subcluster="east",
        accelerator="H20",
        ordinal=0,
        state=InstanceState.READY,
        since_s=0.0,
        nodes=tuple(nodes),
        gpus=8,
    )
    return replace(one, **fields)  # type: ignore[arg-type]


def ask(
    nodes: Sequence[Node],
    instances: Sequence[Instance] = (),
    *,
    spec: ServiceSpec = CHAT,
    others: dict[tuple[str, str], int] | None = None,
    **want: int,
) -> WhatIf:
    fleet = KnownFleet(
        inventory=build_inventory(*nodes),
        levels=LEVELS,
        instances=tuple(instances),
        others_gpus=others,
    )
    return what_if(fleet, [spec], {spec.name: want})


def grants(plan: PlacementPlan) -> list[tuple[str, str, str, int]]:
    def told(grant: Grant) -> tuple[str, str, str, int]:
        return grant.group, grant.role, "/".join(grant.domain), grant.replicas

    return [told(grant) for grant in plan.grants]


def counts(asked: WhatIf) -> dict[tuple[str, str], str]:
    """Return (group, role) → domain of the counts a sub-cluster would keep."""

    def told(count: GroupRole) -> str:
        return "/".join(count.domain)

    return {(c.group, c.role): told(c) for c in asked.requests[0].snapshot.group_roles}


def test_what_is_there_already_is_not_placed_again() -> None:
    nodes = [node(name) for name in "abcd"]
    there = [instance("prefill", "a"), instance("decode", "b")]
    assert ask(nodes, there, prefill=1, decode=1).requests == ()
    asked = ask(nodes, there, prefill=2, decode=2)
    assert grants(asked.plan) == [("g0", "decode", "", 1), ("g0", "prefill", "", 1)]


def test_a_role_that_is_not_named_keeps_what_it_has() -> None:
    there = [instance("prefill", "a"), instance("decode", "b")]
    asked = ask([node(name) for name in "abc"], there, decode=2)
    assert dict(asked.requests[0].add) == {"decode": 1}
    assert dict(asked.requests[0].remove) == {}


def test_a_service_that_has_nothing_starts_a_group() -> None:
    asked = ask([node("a"), node("b")], prefill=1, decode=1)
    assert grants(asked.plan) == [("g0", "decode", "", 1), ("g0", "prefill", "", 1)]


def test_less_is_given_up_by_name() -> None:
    there = [
        instance("prefill", "a"),
        instance("decode", "b"),
        instance("prefill", "c", ordinal=1),
        instance("decode", "d", ordinal=1),
    ]
    asked = ask([node(name) for name in "abcd"], there, prefill=1, decode=1)
    assert [set(release.uids) for release in asked.plan.releases] == [
        {"g0/prefill/c", "g0/decode/d"}
    ]


def test_what_is_withdrawn_comes_back_before_anything_is_placed() -> None:
    there = [
        instance("prefill", "a"),
        instance("decode", "b", state=InstanceState.WITHDRAWN),
    ]
    assert ask([node(name) for name in "abc"], there, prefill=1, decode=1).requests == ()


def test_gpus_that_others_hold_are_not_free() -> None:
    nodes = [node(name) for name in "ab"]
    asked = ask(nodes, others={("east", "a"): 1}, prefill=1, decode=1)
    assert grants(asked.plan) == []
    assert asked.plan.no_fits[0].causes == {"full": 1, "too few together": 1}
    assert len(ask(nodes, others={}, prefill=1, decode=1).plan.grants) == 2


def test_instances_of_services_nobody_asked_about_hold_their_gpus() -> None:
    stranger = instance("decode", "a", service="other")
    asked = ask([node(name) for name in "ab"], [stranger], prefill=1, decode=1)
    assert grants(asked.plan) == []


def within(level: str | None) -> ServiceSpec:
    return replace(CHAT, group=replace(CHAT.group, within=level))


def test_a_group_lives_in_the_narrowest_place_around_its_nodes() -> None:
    nodes = [node("a"), node("b", "h1/p2/r2"), node("c", "h1/p2/r2"), node("d", "h2/p3/r3")]
    there = [instance("prefill", "a"), instance("decode", "bc")]
    assert counts(ask(nodes, there, spec=within("S2"), decode=2)) == {
        ("g0", "prefill"): "east/h1/p1/r1",
        ("g0", "decode"): "east/h1/p2/r2",
    }
    # it is wider than it may be: that is where it is, and where it grows
    assert counts(ask(nodes, there, spec=within("S1"), decode=2)) == {
        ("g0", "prefill"): "east/h1",
        ("g0", "decode"): "east/h1",
    }
    assert set(counts(ask(nodes, there, decode=2)).values()) == {""}


def test_a_group_that_is_nowhere_yet_is_anywhere_in_its_sub_cluster() -> None:
    there = [
        instance("prefill", "", state=InstanceState.PENDING),
        instance("decode", "x"),
    ]
    assert counts(ask([node("a")], there, spec=within("S2"), decode=3)) == {
        ("g0", "prefill"): "",
        ("g0", "decode"): "",
    }
    waiting = [replace(one, nodes=(), state=InstanceState.PENDING) for one in there]
    assert set(counts(ask([node("a")], waiting, spec=within("S2"), decode=3)).values()) == {""}


def test_a_service_without_wishes_is_no_reason_for_anything() -> None:
    fleet = KnownFleet(inventory=build_inventory(node("a")), levels=LEVELS)
    assert what_if(fleet, [CHAT], {}) == WhatIf(requests=(), plan=PlacementPlan())


def test_only_listed_roles_and_accelerators_are_capacity() -> None:
    roles = (build_role("prefill"), build_role("decode"))
    spec = replace(CHAT, group=GroupSpec(roles=roles))
    there = [
        instance("prefill", "a"),
        instance("prefill", "b", accelerator="L20"),
        instance("encode", "c"),
        instance("decode", "d", state=InstanceState.DRAINING),
    ]
    assert supplied(spec, there) == {"prefill": 1.0, "decode": 0.0}
