from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.placement import (
    Grant,
    NoFit,
    PlacementPlan,
    PlacementRequest,
    Release,
)
from heteroscale.entities.service import AcceleratorOption, Mode, RoleSpec
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState
from heteroscale.entities.topology import Node
from heteroscale.prescheduler.place import place
from heteroscale.prescheduler.topology import build_tree
from tests.builders import (
    H20,
    build_instances,
    build_role,
    build_service,
    build_snapshot,
)
from tests.world import build_inventory, build_nodes

LEVELS = ("S0", "S1", "S2")
A, B = ("east", "a"), ("east", "b")
PAIR = (build_role("prefill"), build_role("decode"))


def request(
    name: str = "chat",
    *,
    roles: tuple[RoleSpec, ...] = PAIR,
    within: str | None = "S2",
    priority: int = 50,
    counts: tuple[GroupRole, ...] = (),
    instances: tuple[Instance, ...] = (),
    add: dict[str, int] | None = None,
    remove: dict[str, int] | None = None,
    closed: tuple[tuple[str, str], ...] = (),
    mode: Mode = Mode.ENFORCE,
    pin: dict[str, int] | None = None,
) -> PlacementRequest:
    spec = build_service(name, roles=roles, priority=priority, mode=mode, pin=pin)
    return PlacementRequest(
        spec=replace(spec, group=replace(spec.group, within=within)),
        snapshot=build_snapshot(instances=instances, group_roles=counts),
        add=add or {},
        remove=remove or {},
        closed=closed,
    )


def placed(*requests: PlacementRequest, nodes: tuple[Node, ...]) -> PlacementPlan:
    """Return the cycle's answer, without the nodes by name."""
    inventory = build_inventory(*nodes)
    instances = [one for each in requests for one in each.snapshot.instances]
    plan = place(requests, inventory, build_tree(inventory, LEVELS), instances)
    assert all(len(one.nodes) == one.replicas for one in plan.grants)
    return replace(plan, grants=tuple(replace(one, nodes=()) for one in plan.grants))


def count(
    role: str, replicas: int, *, group: str = "g0", domain: tuple[str, ...] = A, on: str = "H20"
) -> GroupRole:
    return GroupRole(
        service="chat",
        group=group,
        role=role,
        accelerator=on,
        subcluster="east",
        domain=domain,
        replicas=replicas,
        version="1",
    )


def grant(
    role: str,
    replicas: int,
    *,
    group: str = "g0",
    domain: tuple[str, ...] = A,
    on: str = "H20",
    service: str = "chat",
) -> Grant:
    return Grant(
        service=service,
        group=group,
        role=role,
        accelerator=on,
        domain=domain,
        subcluster="east",
        replicas=replicas,
        nodes=(),
    )


def test_nobody_asks() -> None:
    assert placed(request(), nodes=build_nodes(2)) == PlacementPlan()


def test_a_new_group_opens_in_the_first_domain_that_holds_one_of_every_role() -> None:
    nodes = (*build_nodes(1, domain=A), *build_nodes(4, domain=B))
    assert placed(request(add={"prefill": 2, "decode": 2}), nodes=nodes) == PlacementPlan(
        grants=(grant("decode", 2, domain=B), grant("prefill", 2, domain=B))
    )


def test_a_domain_is_passed_where_its_roles_fit_one_by_one_but_not_together() -> None:
    nodes = (*build_nodes(1, domain=A), *build_nodes(2, domain=B, first=1))
    plan = placed(request(add={"prefill": 1, "decode": 1}), nodes=nodes)
    assert plan.grants == (grant("decode", 1, domain=B), grant("prefill", 1, domain=B))


def test_a_service_without_affinity_gets_a_sub_cluster() -> None:
    plan = placed(request(within=None, add={"prefill": 1, "decode": 1}), nodes=build_nodes(2))
    assert plan.grants == (grant("decode", 1, domain=()), grant("prefill", 1, domain=()))


def test_existing_groups_come_first_in_name_order_then_new_ones() -> None:
    counts = (
        count("prefill", 1, group="g1", domain=B),
        count("decode", 1, group="g1", domain=B),
        count("prefill", 1),
        count("decode", 1),
    )
    nodes = (
        *build_nodes(2, domain=A),
        *build_nodes(2, domain=B),
        *build_nodes(3, domain=("east", "c")),
    )
    plan = placed(request(counts=counts, add={"prefill": 4, "decode": 4}), nodes=nodes)
    assert plan == PlacementPlan(
        grants=(
            grant("decode", 1),
            grant("prefill", 1),
            grant("decode", 1, group="g1", domain=B),
            grant("prefill", 1, group="g1", domain=B),
            grant("decode", 1, group="g2", domain=("east", "c")),
            grant("prefill", 1, group="g2", domain=("east", "c")),
        ),
        no_fits=(
            NoFit(
                service="chat",
                missing={"decode": 1, "prefill": 1},
                causes={"full": 6, "too few together": 1},
            ),
        ),
    )


def test_a_lost_partner_is_replaced_in_the_group_that_lost_it() -> None:
    counts = (
        count("prefill", 6),
        count("decode", 4),
        count("prefill", 2, group="g1", domain=B),
        count("decode", 6, group="g1", domain=B),
    )
    nodes = (*build_nodes(4, domain=A), *build_nodes(4, domain=B))
    plan = placed(request(counts=counts, add={"prefill": 2}), nodes=nodes)
    assert plan == PlacementPlan(grants=(grant("prefill", 2, group="g1", domain=B),))


def test_where_balance_has_no_room_the_ratio_gives_way() -> None:
    counts = (
        count("prefill", 6),
        count("decode", 4),
        count("prefill", 2, group="g1", domain=B),
        count("decode", 6, group="g1", domain=B),
    )
    plan = placed(request(counts=counts, add={"prefill": 2}), nodes=build_nodes(4, domain=A))
    assert plan == PlacementPlan(grants=(grant("prefill", 2),))


def test_a_group_that_would_still_lack_a_role_gets_nothing() -> None:
    plan = placed(
        request(counts=(count("prefill", 0), count("decode", 0)), add={"prefill": 1}),
        nodes=(*build_nodes(1, domain=A), *build_nodes(1, domain=B)),
    )
    assert plan == PlacementPlan(
        no_fits=(
            NoFit(
                service="chat",
                missing={"prefill": 1},
                causes={"too few together": 2},
            ),
        )
    )


def test_a_new_group_is_completed_where_what_is_left_does_not_hold_every_role() -> None:
    counts = (count("prefill", 2), count("decode", 6))
    nodes = build_nodes(3, domain=B)
    plan = placed(request(counts=counts, add={"decode": 2}), nodes=nodes)
    assert plan == PlacementPlan(
        grants=(grant("decode", 2, group="g1", domain=B), grant("prefill", 1, group="g1", domain=B))
    )


def test_each_group_that_is_opened_gets_one_of_every_role() -> None:
    nodes = (*build_nodes(2, domain=A), *build_nodes(2, domain=B))
    plan = placed(request(add={"decode": 2}), nodes=nodes)
    assert plan.grants == (
        grant("decode", 1),
        grant("prefill", 1),
        grant("decode", 1, group="g1", domain=B),
        grant("prefill", 1, group="g1", domain=B),
    )


FAILED = build_instances("decode", 1, InstanceState.FAILED, group="g0")
NEARLY_FULL = (build_role("prefill", max_replicas=2), build_role("decode"))


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(request(roles=NEARLY_FULL, add={"decode": 2}), id="it is at its maximum"),
        pytest.param(request(add={"decode": 2}, remove={"prefill": 1}), id="it is to shrink"),
        pytest.param(request(add={"decode": 2}, pin={"prefill": 2}), id="it is pinned"),
        pytest.param(
            request(add={"decode": 2}, instances=FAILED),
            id="one has failed: its place is free next time",
        ),
    ],
)
def test_no_group_is_completed_with_a_role_that_may_not_grow(asked: PlacementRequest) -> None:
    counts = (count("prefill", 2), count("decode", 6))
    asked = replace(asked, snapshot=replace(asked.snapshot, group_roles=counts))
    plan = placed(asked, nodes=build_nodes(9, domain=B))
    assert plan.grants == ()
    assert plan.no_fits == (
        NoFit(service="chat", missing={"decode": 2}, causes={"other domain": 9}),
    )


def test_while_something_is_awaited_no_group_is_opened_and_the_rest_waits() -> None:
    asked = replace(request(add={"prefill": 1, "decode": 1}), awaiting=True)
    assert placed(asked, nodes=build_nodes(4, domain=A)) == PlacementPlan()


def test_what_will_not_be_acted_on_takes_no_node_from_what_will() -> None:
    each = {"prefill": 1, "decode": 1}
    watched = request("watched", priority=90, add=each, mode=Mode.OBSERVE)
    plan = placed(watched, request("acted", priority=10, add=each), nodes=build_nodes(2, domain=A))
    assert {one.service for one in plan.grants} == {"acted"}
    assert [no_fit.service for no_fit in plan.no_fits] == ["watched"]


def test_a_closed_group_gets_nothing_and_keeps_its_name() -> None:
    counts = (count("prefill", 1), count("decode", 1))
    plan = placed(
        request(counts=counts, add={"prefill": 1, "decode": 1}, closed=(("east", "g0"),)),
        nodes=build_nodes(2, domain=A),
    )
    assert plan.grants == (grant("decode", 1, group="g1"), grant("prefill", 1, group="g1"))


def test_a_step_is_placed_whole_or_reported() -> None:
    plan = placed(request(add={"prefill": 2, "decode": 2}), nodes=build_nodes(3, domain=A))
    assert plan == PlacementPlan(
        grants=(grant("decode", 1), grant("prefill", 1)),
        no_fits=(
            NoFit(
                service="chat",
                missing={"decode": 1, "prefill": 1},
                causes={"full": 2, "too few together": 1},
            ),
        ),
    )


def test_causes_are_counted_over_every_node() -> None:
    nodes = (
        *build_nodes(1, domain=A, gpus=4),
        *build_nodes(2, domain=A, accelerator="L20"),
        *build_nodes(3, domain=A, first=10, healthy=False),
        *build_nodes(4, domain=("east",), first=20),
    )
    plan = placed(request(add={"prefill": 1, "decode": 1}), nodes=nodes)
    assert plan.no_fits == (
        NoFit(
            service="chat",
            missing={"decode": 1, "prefill": 1},
            causes={"other domain": 4, "unhealthy": 3, "wrong accelerator": 2, "full": 1},
        ),
    )


def test_higher_priority_is_served_first_then_the_name_decides() -> None:
    each = {"prefill": 1, "decode": 1}
    plan = placed(
        request("low", priority=10, add=each),
        request("b", priority=90, add=each),
        request("a", priority=90, add=each),
        nodes=build_nodes(4, domain=A),
    )
    assert {one.service for one in plan.grants} == {"a", "b"}
    assert [no_fit.service for no_fit in plan.no_fits] == ["low"]


def test_the_preferred_accelerator_first_then_others_by_their_capacity() -> None:
    slow = AcceleratorOption(type="L20", gpus=8, capacity=0.55)
    roles = (build_role("prefill", accelerators=(H20, slow)), build_role("decode"))
    nodes = (*build_nodes(2, domain=A), *build_nodes(6, domain=A, accelerator="L20"))
    counts = (count("prefill", 1), count("decode", 1))
    plan = placed(request(roles=roles, counts=counts, add={"prefill": 4}), nodes=nodes)
    # 2 units on H20; 4 × 0.55 for the other 2: the surplus of one step serves the next.
    assert plan == PlacementPlan(grants=(grant("prefill", 2), grant("prefill", 4, on="L20")))


def test_roles_of_a_narrower_scope_share_its_domain() -> None:
    moe = build_role(
        "prefill",
        within="S1",
        roles=(build_role("prefill/attention"), build_role("prefill/ffn", share=2)),
    )
    roles = (moe, build_role("decode"))
    nodes = (
        *build_nodes(2, domain=(*A, "a1", "x")),
        *build_nodes(4, domain=(*A, "a2", "x")),
    )
    plan = placed(
        request(roles=roles, add={"prefill/attention": 1, "prefill/ffn": 2, "decode": 1}),
        nodes=nodes,
    )
    near = (*A, "a2")
    # Decode takes a node of a1, and the other one there is too little for both parts of prefill.
    assert plan == PlacementPlan(
        grants=(
            grant("decode", 1),
            grant("prefill/attention", 1, domain=near),
            grant("prefill/ffn", 2, domain=near),
        )
    )
    grown = placed(
        request(
            roles=roles,
            counts=(
                count("decode", 1),
                count("prefill/attention", 1, domain=near),
                count("prefill/ffn", 1, domain=near),
            ),
            add={"prefill/ffn": 1},
        ),
        nodes=nodes,
    )
    assert grown == PlacementPlan(grants=(grant("prefill/ffn", 1, domain=near),))


def test_a_narrow_scope_that_fits_nowhere_fails_the_step() -> None:
    wide = replace(H20, nodes=2)
    roles = (build_role("prefill", within="S1", accelerators=(wide,)), build_role("decode"))
    nodes = (
        *build_nodes(1, domain=(*A, "a1", "x")),
        *build_nodes(1, domain=(*A, "a2", "x")),
        *build_nodes(1, domain=(*A, "a3", "x")),
    )
    plan = placed(request(roles=roles, add={"prefill": 1, "decode": 1}), nodes=nodes)
    assert plan.no_fits == (
        NoFit(
            service="chat",
            missing={"decode": 1, "prefill": 1},
            causes={"too few together": 3},
        ),
    )


def test_instances_in_the_way_and_victims_stay_in_the_ledger() -> None:
    nodes = build_nodes(2, domain=A)
    held = build_instances("decode", 2, group="g0")
    held = tuple(replace(one, nodes=(nodes[i].name,)) for i, one in enumerate(held))
    leaving = request("old", instances=held, counts=(count("decode", 2),), remove={"decode": 1})
    asking = request("new", add={"prefill": 1, "decode": 1})
    plan = placed(leaving, asking, nodes=nodes)
    assert plan == PlacementPlan(
        releases=(Release(service="old", uids=(held[1].uid,)),),
        no_fits=(NoFit(service="new", missing={"decode": 1, "prefill": 1}, causes={"full": 2}),),
    )


@pytest.mark.parametrize("domain", [(), A], ids=["anywhere", "a domain"])
def test_without_any_node_there_is_no_cause_to_count(domain: tuple[str, ...]) -> None:
    counts = (count("prefill", 1, domain=domain), count("decode", 1, domain=domain))
    plan = placed(request(counts=counts, add={"prefill": 1}), nodes=())
    assert plan == PlacementPlan(
        no_fits=(NoFit(service="chat", missing={"prefill": 1}, causes={}),)
    )


def test_pending_instances_keep_their_place() -> None:
    waiting = build_instances("decode", 1, InstanceState.PENDING, group="other")
    plan = placed(
        request(instances=waiting, add={"prefill": 1, "decode": 1}), nodes=build_nodes(2, domain=A)
    )
    assert plan.grants == ()


@pytest.mark.parametrize(
    ("of_a", "of_b"), [pytest.param(9, 8, id="5 + 4"), pytest.param(8, 9, id="4 + 5")]
)
def test_what_only_each_domains_rounding_asked_for_is_not_placed(of_a: int, of_b: int) -> None:
    # 9:7 in two domains: five steps need four decode, four steps need four; seven were asked for.
    roles = (build_role("prefill", share=9), build_role("decode", share=7))
    nodes = (*build_nodes(of_a, domain=A), *build_nodes(of_b, domain=B))
    plan = placed(request(roles=roles, add={"prefill": 9, "decode": 7}), nodes=nodes)
    assert plan.no_fits == ()
    replicas = {(one.role, one.domain): one.replicas for one in plan.grants}
    assert sum(replicas.values()) == 16
    assert {
        role: sum(n for (r, _), n in replicas.items() if r == role) for role, _ in replicas
    } == {
        "decode": 7,
        "prefill": 9,
    }


def test_a_group_more_than_the_smaller_role_has_units_for_is_completed() -> None:
    roles = (build_role("prefill", share=2), build_role("decode"))
    nodes = tuple(node for s2 in "abcd" for node in build_nodes(2, domain=("east", s2)))
    plan = placed(request(roles=roles, add={"prefill": 4, "decode": 2}), nodes=nodes)
    assert plan.no_fits == ()
    assert {(one.group, one.role, one.replicas) for one in plan.grants} == {
        (group, role, 1) for group in ("g0", "g1", "g2", "g3") for role in ("prefill", "decode")
    }


def test_small_instances_share_a_node_and_pairs_span_two() -> None:
    small = replace(H20, gpus=2)
    pair = replace(H20, nodes=2, within="S0")
    roles = (
        build_role("prefill", accelerators=(small,)),
        build_role("decode", accelerators=(pair,)),
    )
    rack = (*A, "a1", "x")
    nodes = (*build_nodes(3, domain=rack), *build_nodes(1, domain=(*A, "a1", "y")))
    plan = placed(request(roles=roles, add={"prefill": 2, "decode": 2}), nodes=nodes)
    assert plan.grants == (grant("decode", 1), grant("prefill", 1))
    assert plan.no_fits == (
        NoFit(
            service="chat",
            missing={"decode": 1, "prefill": 1},
            causes={"full": 2, "too few together": 2},
        ),
    )


def test_instances_on_parts_of_several_nodes_are_placed_one_by_one() -> None:
    parts = replace(H20, gpus=4, nodes=2, within="S0")
    roles = (build_role("prefill"), build_role("decode", accelerators=(parts,)))
    nodes = build_nodes(3, domain=(*A, "a1", "x"))
    plan = placed(request(roles=roles, add={"prefill": 1, "decode": 1}), nodes=nodes)
    assert plan.grants == (grant("decode", 1), grant("prefill", 1))


def test_a_service_that_only_restores_its_ratio_waits_for_the_more_urgent() -> None:
    counts = (count("prefill", 6), count("decode", 2))
    odd = request("odd", priority=10, counts=counts, add={"decode": 2})
    urgent = request("urgent", priority=90, add={"prefill": 1, "decode": 1})
    plan = placed(odd, urgent, nodes=build_nodes(3, domain=A))
    assert {(one.service, one.role, one.replicas) for one in plan.grants} == {
        ("urgent", "prefill", 1),
        ("urgent", "decode", 1),
        ("odd", "decode", 1),
    }


def test_roles_three_deep_are_placed_one_by_one() -> None:
    experts = build_role(
        "prefill/experts",
        within="S0",
        roles=(build_role("prefill/experts/up"), build_role("prefill/experts/down")),
    )
    prefill = build_role("prefill", within="S1", roles=(build_role("prefill/attention"), experts))
    nodes = (
        *build_nodes(1, domain=(*A, "a1", "x")),
        *build_nodes(1, domain=(*A, "a1", "y")),
        *build_nodes(2, domain=(*A, "a2", "x")),
        *build_nodes(2, domain=(*A, "a2", "y")),
    )
    each = dict.fromkeys(
        ("prefill/attention", "prefill/experts/up", "prefill/experts/down", "decode"), 1
    )
    plan = placed(request(roles=(prefill, build_role("decode")), add=each), nodes=nodes)
    s1 = (*A, "a2")
    assert plan == PlacementPlan(
        grants=(
            grant("decode", 1),
            grant("prefill/attention", 1, domain=s1),
            grant("prefill/experts/down", 1, domain=(*s1, "y")),
            grant("prefill/experts/up", 1, domain=(*s1, "y")),
        )
    )
    none = placed(request(roles=(prefill, build_role("decode")), add=each), nodes=nodes[:3])
    assert none.grants == ()


def test_a_quota_holds_for_what_is_placed_one_by_one_too() -> None:
    counts = (count("prefill", 3), count("decode", 1))
    asked = request(counts=counts, add={"decode": 2})
    asked = replace(asked, spec=replace(asked.spec, quota={"H20": 40}))
    plan = placed(asked, nodes=build_nodes(9, domain=A))
    assert plan == PlacementPlan(
        grants=(grant("decode", 1),),
        no_fits=(
            NoFit(
                service="chat",
                missing={"decode": 1},
                causes={"quota used up": 9},
            ),
        ),
    )


def test_victims_on_nodes_of_a_scarce_subgroup_go_first() -> None:
    mixed = (
        *build_nodes(2, domain=(*A, "a1")),
        *build_nodes(1, accelerator="L20", domain=(*A, "a1")),
    )
    plain = build_nodes(4, domain=(*B, "b1"))
    own = []
    for group, nodes, replicas in (("g0", mixed, 1), ("g1", plain, 2)):
        members = (
            *build_instances("prefill", replicas, group=group),
            *build_instances("decode", replicas, group=group),
        )
        own += [replace(one, nodes=(nodes[i].name,)) for i, one in enumerate(members)]
    nowhere = build_nodes(1, domain=())
    asked = request(instances=tuple(own), remove={"prefill": 1, "decode": 1})
    plan = placed(asked, nodes=(*mixed, *plain, *nowhere))
    assert plan.releases == (Release(service="chat", uids=("g0/decode/H20/0", "g0/prefill/H20/0")),)


def test_two_services_that_fit_nowhere_are_told_the_same() -> None:
    each = {"prefill": 1, "decode": 1}
    plan = placed(request("a", add=each), request("b", add=each), nodes=build_nodes(1, domain=A))
    assert [no_fit.causes for no_fit in plan.no_fits] == [{"too few together": 1}] * 2


def test_a_grant_names_the_nodes_of_each_instance_and_its_price() -> None:
    wide = AcceleratorOption(type="H800", gpus=8, nodes=2, within="S0")
    small = AcceleratorOption(type="H20", gpus=4)
    asked = request(
        roles=(
            build_role("prefill", accelerators=[wide]),
            build_role("decode", accelerators=[small], share=2),
        ),
        add={"prefill": 1, "decode": 2},
    )
    leaf = (*A, "a1", "a11")
    nodes = (
        *build_nodes(2, domain=leaf),
        *build_nodes(2, domain=leaf, accelerator="H800", first=2),
    )
    inventory = build_inventory(*nodes)
    tree = build_tree(inventory, LEVELS)
    assert place([asked], inventory, tree, (), {"H20": 1.5}).grants == (
        replace(
            grant("decode", 2), nodes=((nodes[0].name,), (nodes[0].name,)), price_per_hour=12.0
        ),
        replace(
            grant("prefill", 1, on="H800"),
            nodes=((nodes[2].name, nodes[3].name),),
            price_per_hour=None,
        ),
    )
