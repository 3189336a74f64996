from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.placement import PlacementRequest, Scarcity
from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.prescheduler.victims import victims
from tests.builders import H20, build_instances, build_role, build_service, build_snapshot

SLOW = AcceleratorOption(type="L20", gpus=8, capacity=0.55)
SPEC = build_service(roles=(build_role("prefill"), build_role("decode", accelerators=(H20, SLOW))))


def chosen(
    instances: tuple[Instance, ...],
    remove: dict[str, int],
    closed: tuple[tuple[str, str], ...] = (),
    ratio: dict[str, int] | None = None,
) -> tuple[str, ...]:
    snapshot = build_snapshot(instances=instances, group_roles=())
    request = PlacementRequest(
        spec=SPEC, snapshot=snapshot, remove=remove, closed=closed, ratio=ratio or {}
    )
    return victims(request)


def of(
    group: str, replicas: int, state: InstanceState = InstanceState.READY, first: int = 0
) -> tuple[Instance, ...]:
    return build_instances("decode", replicas, state, group=group, first=first)


@pytest.mark.parametrize(
    ("instances", "asked", "uids"),
    [
        pytest.param(
            of("a", 3), 2, ("a/decode/H20/2", "a/decode/H20/1"), id="highest ordinals first"
        ),
        pytest.param(
            of("a", 3), 9, ("a/decode/H20/2", "a/decode/H20/1"), id="never the last ready"
        ),
        pytest.param(
            (*of("a", 4), *of("b", 2)),
            3,
            ("a/decode/H20/3", "a/decode/H20/2", "b/decode/H20/1"),
            id="from the fullest group",
        ),
        pytest.param(
            (*of("a", 1), *of("b", 3), *of("a", 2, InstanceState.STARTING, first=1)),
            2,
            ("b/decode/H20/2", "a/decode/H20/2"),
            id="starting ones count and go",
        ),
        pytest.param(
            (*of("a", 1, first=5), *of("a", 2, InstanceState.STARTING)),
            1,
            ("a/decode/H20/1",),
            id="the only ready one stays, whatever its ordinal",
        ),
        pytest.param(
            (*of("a", 3), *of("a", 2, InstanceState.PENDING, first=3)),
            3,
            ("a/decode/H20/4", "a/decode/H20/3", "a/decode/H20/2"),
            id="what is pending leaves first and counts",
        ),
        pytest.param(
            (*of("a", 3), *of("a", 2, InstanceState.PENDING, first=3)),
            1,
            ("a/decode/H20/4",),
            id="no more of it than was asked for",
        ),
        pytest.param(
            (
                *of("a", 2),
                *of("a", 1, InstanceState.WITHDRAWN, first=2),
                *of("a", 1, InstanceState.FAILED, first=3),
            ),
            1,
            ("a/decode/H20/1",),
            id="what leaves already is not chosen again",
        ),
        pytest.param(
            tuple(replace(one, accelerator="A100") for one in of("a", 3)),
            2,
            (),
            id="an accelerator that is not listed gives nothing back",
        ),
        pytest.param(of("a", 3), 0, (), id="nothing asked"),
    ],
)
def test_victims(instances: tuple[Instance, ...], asked: int, uids: tuple[str, ...]) -> None:
    assert chosen(instances, {"decode": asked}) == uids


def test_no_more_capacity_leaves_than_was_asked_for() -> None:
    slow = build_instances("decode", 3, group="a", accelerator="L20")
    # One unit: 0.55 goes, the next 0.55 would be more than what is left.
    assert chosen((*of("b", 1), *slow), {"decode": 1}) == ("a/decode/L20/2",)


def test_roles_leave_side_by_side_and_closed_groups_stay() -> None:
    both = (*of("a", 3), *of("b", 2), *build_instances("prefill", 3, group="b"))
    assert chosen(both, {"decode": 1, "prefill": 1}, closed=(("east", "a"),)) == (
        "b/prefill/H20/2",
        "b/decode/H20/1",
    )


def group(
    name: str, prefill: int, decode: int, state: InstanceState = InstanceState.READY
) -> tuple[Instance, ...]:
    """Build a group of prefill and decode instances in one state."""
    return (
        *build_instances("prefill", prefill, state, group=name),
        *build_instances("decode", decode, state, group=name),
    )


def left_of(
    instances: tuple[Instance, ...], remove: dict[str, int], prefill: int = 1
) -> dict[str, tuple[int, int]]:
    """Return group → prefill and decode instances after a removal, by a ratio of `prefill` to 1."""
    gone = set(chosen(instances, remove, ratio={"prefill": prefill}))
    left: dict[str, list[int]] = {}
    for one in instances:
        counts = left.setdefault(one.group, [0, 0])
        counts[one.role == "decode"] += one.uid not in gone
    return {name: (counts[0], counts[1]) for name, counts in left.items()}


@pytest.mark.parametrize(
    ("instances", "remove", "left"),
    [
        pytest.param(
            (*group("a", 3, 1), *group("b", 2, 2)),
            {"prefill": 1, "decode": 1},
            {"a": (3, 1), "b": (1, 1)},
            id="a step is taken in one group, which keeps one of each role",
        ),
        pytest.param(
            (*group("a", 1, 1), *group("b", 1, 1)),
            {"prefill": 1, "decode": 1},
            {"a": (1, 1), "b": (0, 0)},
            id="where no group can give a step, a whole one leaves",
        ),
        pytest.param(
            (*group("a", 1, 3), *group("b", 1, 3)),
            {"prefill": 1, "decode": 2},
            {"a": (1, 2), "b": (1, 2)},
            id="the anchor does not wait for its partners",
        ),
        pytest.param(
            (*group("a", 4, 1), *group("b", 1, 4)),
            {"prefill": 1, "decode": 1},
            {"a": (3, 1), "b": (1, 3)},
            id="role by role where each has its surplus elsewhere",
        ),
        pytest.param(
            (*group("a", 9, 9), *group("b", 2, 0)),
            {"prefill": 2},
            {"a": (9, 9), "b": (0, 0)},
            id="a group that lacks a role serves nothing and goes first",
        ),
        pytest.param(
            (*group("a", 9, 9), *group("b", 1, 1, InstanceState.PENDING)),
            {"prefill": 1, "decode": 1},
            {"a": (9, 9), "b": (0, 0)},
            id="a group that only waits for its nodes goes first",
        ),
        pytest.param(
            (*group("a", 6, 4), *group("b", 5, 7)),
            {"prefill": 2},
            {"a": (4, 4), "b": (5, 7)},
            id="from the group whose ratio is kept",
        ),
    ],
)
def test_groups_shrink_whole(
    instances: tuple[Instance, ...], remove: dict[str, int], left: dict[str, tuple[int, int]]
) -> None:
    assert left_of(instances, remove) == left


@pytest.mark.parametrize(
    ("instances", "remove", "left"),
    [
        pytest.param(
            (*group("a", 3, 1), *group("b", 3, 1)),
            {"prefill": 2, "decode": 1},
            {"a": (3, 1), "b": (3, 1)},
            id="while the anchor cannot leave, its partners do not fall behind it",
        ),
        pytest.param(
            (*group("a", 5, 1), *group("b", 3, 1)),
            {"prefill": 2, "decode": 1},
            {"a": (3, 1), "b": (3, 1)},
            id="what is ahead of an anchor that cannot leave goes all the same",
        ),
    ],
)
def test_partners_of_an_anchor_that_cannot_leave(
    instances: tuple[Instance, ...], remove: dict[str, int], left: dict[str, tuple[int, int]]
) -> None:
    assert left_of(instances, remove, prefill=3) == left


def test_the_last_ready_of_a_role_stays_although_others_start() -> None:
    both = (*group("a", 1, 1), *of("a", 2, InstanceState.STARTING, first=1), *group("b", 2, 2))
    assert chosen(both, {"decode": 4}) == ("a/decode/H20/2", "b/decode/H20/1", "a/decode/H20/1")


def test_groups_of_one_name_in_two_sub_clusters_are_two() -> None:
    west = tuple(replace(one, uid=f"west-{one.uid}", subcluster="west") for one in group("a", 1, 1))
    # Taken as one group, one instance of each role could leave and would leave two halves.
    both = (*group("a", 1, 2), *west)
    assert chosen(both, {"prefill": 1}) == ()
    assert chosen(both, {"prefill": 1, "decode": 1}) == (
        "west-a/decode/H20/0",
        "west-a/prefill/H20/0",
    )


def test_the_least_preferred_accelerator_leaves_first_whatever_the_ordinals() -> None:
    slow = build_instances("decode", 2, group="a", accelerator="L20")
    assert chosen((*of("a", 5), *slow), {"decode": 2}) == (
        "a/decode/L20/1",
        "a/decode/L20/0",
    )


def test_an_instance_worth_more_than_is_left_stays_and_a_smaller_one_goes() -> None:
    large = AcceleratorOption(type="B200", gpus=8, capacity=2.0)
    spec = build_service(
        roles=(build_role("prefill"), build_role("decode", accelerators=(H20, large)))
    )
    instances = (*of("a", 2), *build_instances("decode", 2, group="a", accelerator="B200", first=2))
    snapshot = build_snapshot(instances=instances, group_roles=())

    def asked(units: int) -> tuple[str, ...]:
        return victims(PlacementRequest(spec=spec, snapshot=snapshot, remove={"decode": units}))

    assert asked(1) == ("a/decode/H20/1",)
    assert asked(3) == (
        "a/decode/H20/1",
        "a/decode/H20/0",
    )


def pair(group: str, replicas: int, node: str) -> tuple[Instance, ...]:
    own = (
        *build_instances("prefill", replicas, group=group),
        *build_instances("decode", replicas, group=group),
    )
    return tuple(replace(one, nodes=(node,)) for one in own)


def freed(remove: int, *instances: Instance) -> set[str]:
    """Return the groups that lose somebody when node n1 is in a scarce subgroup."""
    snapshot = build_snapshot(instances=instances, group_roles=())
    asked = {"prefill": remove, "decode": remove}
    request = PlacementRequest(spec=SPEC, snapshot=snapshot, remove=asked)
    scarcity = {(instances[0].subcluster, "n1"): Scarcity.HIGH}
    return {uid.split("/")[0] for uid in victims(request, scarcity)}


def test_who_is_in_a_scarce_subgroup_gives_first_however_full_the_others_are() -> None:
    assert freed(1, *pair("a", 3, "n1"), *pair("b", 9, "n2")) == {"a"}


def test_a_group_leaves_whole_if_it_can_the_scarcest_first() -> None:
    assert freed(2, *pair("a", 2, "n2"), *pair("b", 5, "n2")) == {"a"}
    assert freed(2, *pair("a", 2, "n2"), *pair("b", 2, "n1"), *pair("c", 2, "n2")) == {"b"}


def test_a_group_out_of_its_ratio_does_not_leave_whole_at_the_others_cost() -> None:
    odd = build_instances("prefill", 1, group="a"), build_instances("decode", 4, group="a")
    assert freed(4, *odd[0], *odd[1], *pair("b", 9, "n2")) == {"b"}


def test_a_group_out_of_its_ratio_leaves_whole_where_none_can_give_a_step() -> None:
    odd = (
        *build_instances("prefill", 1, group="a"),
        *build_instances("decode", 4, group="a"),
    )
    others = (
        *build_instances("prefill", 3, group="b"),
        *build_instances("decode", 1, group="b"),
    )
    snapshot = build_snapshot(instances=(*odd, *others), group_roles=())
    request = PlacementRequest(spec=SPEC, snapshot=snapshot, remove={"prefill": 1, "decode": 4})
    assert set(victims(request)) == {one.uid for one in odd}
