"""Who gives way to whom, found by asking the cycle itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from heteroscale.entities.placement import Concession, Lack, NoFit, PlacementRequest
from heteroscale.entities.reasons import ReasonCode, describe
from heteroscale.entities.service import AcceleratorOption, FleetSpec, Mode, ServiceSpec
from heteroscale.entities.snapshot import Instance, InstanceState, ServiceSnapshot, Snapshot
from heteroscale.prescheduler.make_way import ASKED_MAX, Cycle, Giver, WayMade, lacks_of, make_way
from tests.builders import H20, build_instances, build_role, build_snapshot
from tests.shortage import build_tier
from tests.world import build_inventory, build_nodes

CHAT = build_tier("chat", 80, essential=4)
CODE = build_tier("code", 50, essential=2, preemptible=True)
BATCH = build_tier("batch", 20, preemptible=True)
BULK = build_tier("bulk", 20, preemptible=True)


def seat(
    spec: ServiceSpec,
    units: int,
    *,
    first: int,
    domain: str = "",
    state: InstanceState = InstanceState.READY,
    start: int = 0,
) -> tuple[Instance, ...]:
    """Put as many instances of both roles on nodes of their own, counted from `first`."""
    both = [
        one
        for role in ("prefill", "decode")
        for one in build_instances(
            role, units, state, service=spec.name, group=f"{spec.name}-g", first=start
        )
    ]
    place = f"east-{domain}" if domain else "east"
    return tuple(
        replace(one, nodes=(f"h20-{place}-{first + number:04d}",), gpus=8)
        for number, one in enumerate(both)
    )


def fleet(
    nodes: int,
    held: Mapping[str, Sequence[Instance]],
    *asking: tuple[ServiceSpec, int],
    domains: Mapping[str, int] | None = None,
) -> Cycle:
    """Build a cycle in which services ask for so many units of each role beyond what they hold."""
    found = {name: build_snapshot(instances=tuple(own)) for name, own in held.items()}
    services = {spec.name: ServiceSnapshot() for spec, _ in asking} | found
    places = (
        build_nodes(nodes)
        if domains is None
        else [
            node
            for domain, count in domains.items()
            for node in build_nodes(count, domain=("east", domain))
        ]
    )
    return Cycle(
        requests=[
            PlacementRequest(
                spec=spec,
                snapshot=services[spec.name],
                add=dict.fromkeys(("prefill", "decode"), units),
            )
            for spec, units in asking
        ],
        no_fits=[
            NoFit(service=spec.name, missing=dict.fromkeys(("prefill", "decode"), units), causes={})
            for spec, units in asking
        ],
        wanted={
            spec.name: dict.fromkeys(
                ("prefill", "decode"), units + len(services[spec.name].instances) // 2
            )
            for spec, units in asking
        },
        snapshot=Snapshot(
            now_s=0.0, services=services, inventory=build_inventory(*places), unreachable=()
        ),
        fleet=FleetSpec(services=(), levels=("S2",)),
    )


def lack(spec: ServiceSpec, units: int) -> Lack:
    return Lack(spec=spec, missing=dict.fromkeys(("decode", "prefill"), units))


def giver(spec: ServiceSpec, cycle: Cycle, most: int = 0) -> Giver:
    limit = dict.fromkeys(("prefill", "decode"), most) if most else {}
    return Giver(spec=spec, snapshot=cycle.snapshot.services[spec.name], ratio={}, most=limit)


def kept(made: WayMade) -> dict[str, tuple[str, int, int]]:
    """Return giver → to whom, prefill and decode kept."""
    return {
        name: (one.to, one.most["prefill"], one.most["decode"])
        for name, one in made.concessions.items()
    }


NO_FIT = NoFit(service="chat", missing={"decode": 5, "prefill": 1}, causes={})


@pytest.mark.parametrize(
    ("spec", "wanted", "missing"),
    [
        pytest.param(CHAT, 6, {"decode": 3}, id="only what is essential counts"),
        pytest.param(CHAT, 5, {"decode": 4}, id="all of it"),
        pytest.param(build_tier("chat", 80), 6, {}, id="the minimum is there"),
        pytest.param(build_tier("chat", 80, minimum=2), 6, {"decode": 1}, id="below the minimum"),
        pytest.param(replace(CHAT, mode=Mode.OBSERVE), 6, {}, id="a service that is only observed"),
    ],
)
def test_what_is_essential_and_lacking(
    spec: ServiceSpec, wanted: int, missing: Mapping[str, int]
) -> None:
    wants = {"chat": dict.fromkeys(("decode", "prefill"), wanted)}
    found = lacks_of([NO_FIT], {"chat": spec}, wants)
    assert found == ((Lack(spec=spec, missing=missing),) if missing else ())


def test_lacks_come_by_priority_then_by_name() -> None:
    specs = {one.name: one for one in (BATCH, BULK, CHAT)}
    no_fits = [NoFit(service=name, missing={"decode": 1}, causes={}) for name in sorted(specs)]
    wants = {name: {"decode": 1, "prefill": 1} for name in specs}
    found = lacks_of(reversed(no_fits), specs, wants)
    assert [one.spec.name for one in found] == ["chat", "batch", "bulk"]


def test_the_lowest_priority_gives_way_first_and_no_more_than_is_needed() -> None:
    held = {"code": seat(CODE, 4, first=0), "batch": seat(BATCH, 4, first=8)}
    cycle = fleet(16, held, (CHAT, 2))
    made = make_way([lack(CHAT, 2)], [giver(CODE, cycle), giver(BATCH, cycle)], cycle)
    assert kept(made) == {"batch": ("chat", 2, 2)}
    assert [describe(reason) for reason in made.reasons["chat"]] == [
        "2 of its 4 essential units of decode are lacking: batch (priority 20) give way",
        "2 of its 4 essential units of prefill are lacking: batch (priority 20) give way",
    ]


def test_when_its_floor_is_reached_the_next_gives_way_too() -> None:
    held = {"code": seat(CODE, 4, first=0), "batch": seat(BATCH, 3, first=8)}
    cycle = fleet(14, held, (CHAT, 4))
    made = make_way([lack(CHAT, 4)], [giver(CODE, cycle), giver(BATCH, cycle)], cycle)
    assert kept(made) == {"batch": ("chat", 1, 1), "code": ("chat", 2, 2)}


def test_of_equal_priorities_the_one_with_more_above_its_floor_gives_first() -> None:
    held = {"batch": seat(BATCH, 2, first=0), "bulk": seat(BULK, 4, first=4)}
    cycle = fleet(12, held, (CHAT, 3))
    made = make_way([lack(CHAT, 3)], [giver(BATCH, cycle), giver(BULK, cycle)], cycle)
    # Three steps from four, two from three, and of one each the name decides.
    assert kept(made) == {"bulk": ("chat", 2, 2), "batch": ("chat", 1, 1)}


def test_nobody_gives_way_where_it_would_not_help() -> None:
    held = {"batch": seat(BATCH, 3, first=0, domain="a")}
    near = replace(CHAT, group=replace(CHAT.group, within="S2"))
    cycle = fleet(0, held, (near, 1), domains={"a": 6, "b": 1})
    other = replace(cycle, snapshot=replace(cycle.snapshot, unreachable=("east",)))
    helped = make_way([lack(near, 1)], [giver(BATCH, cycle)], cycle)
    assert kept(helped) == {"batch": ("chat", 2, 2)}
    cut_off = make_way([lack(near, 1)], [giver(BATCH, other)], other)
    assert cut_off.concessions == {}
    assert describe(cut_off.reasons["chat"][0]) == (
        "1 of its 4 essential units of decode are lacking, and no service of lower priority that"
        " may give way would make room for them"
    )


def test_whose_nodes_are_elsewhere_is_spared() -> None:
    held = {
        "batch": seat(BATCH, 3, first=0, domain="a"),
        "code": seat(CODE, 3, first=0, domain="b"),
    }
    cycle = fleet(0, held, (CHAT, 0), domains={"a": 6, "b": 6})
    # Its one group is in b and, with decode pinned, no other is opened: a is of no use to it.
    bound = replace(CHAT, group=replace(CHAT.group, within="S2"), pin={"decode": 1})
    decode = build_instances("decode", 1, service="chat", group="g0")[0]
    seen = build_snapshot(instances=[replace(decode, nodes=("h20-east-b-0099",), gpus=8)])
    roles = tuple(replace(one, domain=("east", "b")) for one in seen.group_roles)
    asking = PlacementRequest(
        spec=bound, snapshot=replace(seen, group_roles=roles), add={"prefill": 1}
    )
    wanted = {"chat": {"prefill": 1, "decode": 1}}
    no_fits = [NoFit(service="chat", missing={"prefill": 1}, causes={})]
    cycle = replace(cycle, requests=[asking], no_fits=no_fits, wanted=wanted)
    missing = Lack(spec=bound, missing={"prefill": 1})
    made = make_way([missing], [giver(BATCH, cycle), giver(CODE, cycle)], cycle)
    assert kept(made) == {"code": ("chat", 2, 2)}


def test_higher_and_equal_priorities_never_give_way() -> None:
    held = {"code": seat(CODE, 4, first=0), "batch": seat(BATCH, 4, first=8)}
    asking = build_tier("news", 20, essential=4)
    cycle = fleet(16, held, (asking, 2))
    made = make_way([lack(asking, 2)], [giver(CODE, cycle), giver(BATCH, cycle)], cycle)
    assert made.concessions == {}


def test_what_leaves_already_is_not_given_up_twice() -> None:
    leaving = seat(BATCH, 1, first=6, start=3, state=InstanceState.WITHDRAWN)
    draining = seat(BULK, 1, first=8, state=InstanceState.DRAINING)
    held = {"batch": (*seat(BATCH, 3, first=0), *leaving), "bulk": draining}
    cycle = fleet(10, held, (CHAT, 2))
    made = make_way([lack(CHAT, 2)], [giver(BATCH, cycle, most=3)], cycle)
    assert made.concessions == {}
    assert describe(made.reasons["chat"][0]) == (
        "2 of its 4 essential units of decode are lacking: room is being made for them"
    )


def test_a_limit_only_falls_while_others_lack() -> None:
    held = {"batch": seat(BATCH, 4, first=0)}
    cycle = fleet(8, held, (CHAT, 3))
    made = make_way([lack(CHAT, 3)], [giver(BATCH, cycle, most=3)], cycle)
    assert kept(made) == {"batch": ("chat", 1, 1)}


def test_several_lacks_are_met_one_after_another() -> None:
    held = {"batch": seat(BATCH, 4, first=0)}
    cycle = fleet(8, held, (CHAT, 1), (CODE, 1))
    lacks = [lack(CHAT, 1), lack(CODE, 1)]
    made = make_way(lacks, [giver(BATCH, cycle)], cycle)
    assert made.concessions == {
        "batch": Concession(service="batch", to="code", most={"prefill": 2, "decode": 2})
    }
    assert sorted(made.reasons) == ["chat", "code"]


def test_partners_go_along_in_the_ratio_and_stop_at_their_own_floor() -> None:
    roles = [build_role("prefill", share=2, min_replicas=3), build_role("decode", share=1)]
    spec = replace(BATCH, group=replace(BATCH.group, roles=tuple(roles)), essential={})
    own = [
        *build_instances("prefill", 6, service="batch", group="b"),
        *build_instances("decode", 3, service="batch", group="b"),
        *build_instances("decode", 1, service="batch", group="b", accelerator="L20"),
        *build_instances("encode", 1, service="batch", group="b"),
    ]
    placed = [
        replace(one, nodes=(f"h20-east-{number:04d}",), gpus=8) for number, one in enumerate(own)
    ]
    cycle = fleet(11, {"batch": placed}, (CHAT, 2))
    made = make_way([lack(CHAT, 2)], [giver(spec, cycle)], cycle)
    assert kept(made) == {"batch": ("chat", 3, 1)}


def test_behind_too_many_that_wait_for_the_same_nothing_is_tried() -> None:
    held = {"batch": seat(BATCH, 4, first=0)}
    ahead = [build_tier(f"n{number}", 90, essential=1) for number in range(4)]
    cycle = fleet(8, held, *((spec, 1) for spec in ahead), (CHAT, 1))
    made = make_way([lack(CHAT, 1)], [giver(BATCH, cycle)], cycle)
    assert made.concessions == {}
    assert [describe(reason) for reason in made.reasons["chat"]] == [
        f"1 of its 4 essential units of {role} are lacking: too many that are placed before it"
        " wait for the same accelerators"
        for role in ("decode", "prefill")
    ]


def test_after_so_many_trials_those_of_lower_priority_wait_for_another_tick() -> None:
    lacking = []
    for number in range(13):
        option = AcceleratorOption(type=f"T{number:02d}", gpus=8)
        roles = [build_role(role, accelerators=[option]) for role in ("prefill", "decode")]
        tier = build_tier(f"s{number:02d}", 90, essential=1)
        lacking.append(replace(tier, group=replace(tier.group, roles=tuple(roles))))
    # It could run on any of these accelerators, and runs on none: what it gives up helps nobody.
    options = [one.group.leaves()[0].accelerators[0] for one in lacking]
    every = [build_role(role, accelerators=[H20, *options]) for role in ("prefill", "decode")]
    batch = replace(BATCH, group=replace(BATCH.group, roles=tuple(every)))
    cycle = fleet(4, {"batch": seat(BATCH, 2, first=0)}, *((one, 1) for one in lacking))
    made = make_way([lack(one, 1) for one in lacking], [giver(batch, cycle)], cycle)
    codes = [{reason.code for reason in made.reasons[one.name]} for one in lacking]
    assert codes == [{ReasonCode.WAY_NONE}] * (ASKED_MAX // 2) + [{ReasonCode.WAY_LATER}]
    assert describe(made.reasons["s12"][0]) == (
        "1 of its 1 essential units of decode are lacking: whether anybody could give way is looked"
        " into once fewer before it lack something"
    )


def test_with_its_anchor_at_the_floor_a_giver_gives_up_what_its_other_roles_have() -> None:
    more = build_instances("prefill", 4, service="batch", group="batch-g", first=1)
    own = (
        *seat(BATCH, 1, first=0),
        *(replace(one, nodes=(f"h20-east-{at:04d}",), gpus=8) for at, one in enumerate(more, 2)),
    )
    cycle = fleet(6, {"batch": own}, (CHAT, 1))
    made = make_way([lack(CHAT, 1)], [giver(BATCH, cycle)], cycle)
    assert kept(made) == {"batch": ("chat", 3, 1)}
    cycle = fleet(6, {"batch": own}, (CHAT, 3))
    # Two prefill are left to give, and no more would make another pair.
    made = make_way([lack(CHAT, 3)], [giver(BATCH, cycle, most=3)], cycle)
    assert kept(made) == {"batch": ("chat", 1, 1)}
