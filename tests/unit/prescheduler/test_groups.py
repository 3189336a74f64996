from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.placement import PlacementRequest
from heteroscale.entities.service import GroupSpec
from heteroscale.entities.snapshot import GroupRole
from heteroscale.prescheduler.groups import (
    Group,
    Scope,
    existing_groups,
    growth_steps,
    imbalance,
    keeps_ratio,
    new_group_name,
    scope_of,
)
from tests.builders import build_role, build_service, build_snapshot

ATTENTION = build_role("prefill/attention")
FFN = build_role("prefill/ffn", share=4)
DECODE = build_role("decode", share=2)
MOE = build_role("prefill", within="S1", roles=(ATTENTION, FFN))


def count(group: str, role: str, replicas: int, domain: tuple[str, ...] = ()) -> GroupRole:
    return GroupRole(
        service="chat",
        group=group,
        role=role,
        accelerator="H20",
        subcluster="east",
        domain=domain,
        replicas=replicas,
        version="1",
    )


def test_scopes_follow_the_levels_that_roles_share() -> None:
    near = build_role("near", within="S0")
    loose = build_role("loose", roles=(build_role("loose/a"), near))
    same = build_role("same", within="S2")
    group = GroupSpec(within="S2", roles=(MOE, DECODE, loose, same))
    scope = scope_of(group)
    assert scope == Scope(
        path="",
        within="S2",
        leaves=(DECODE, build_role("loose/a"), same),
        scopes=(
            Scope(path="prefill", within="S1", leaves=(ATTENTION, FFN), scopes=()),
            Scope(path="near", within="S0", leaves=(near,), scopes=()),
        ),
    )
    assert list(scope.roles()) == [
        "decode",
        "loose/a",
        "same",
        "prefill/attention",
        "prefill/ffn",
        "near",
    ]


def test_weights_multiply_down_the_levels_by_the_ratio_in_force() -> None:
    spec = build_service(roles=(MOE, DECODE))
    request = PlacementRequest(spec=spec, snapshot=build_snapshot(), ratio={"prefill": 3})
    assert request.spec.group.weights(request.ratio) == {
        "prefill/attention": 3,
        "prefill/ffn": 12,
        "decode": 2,
    }


def test_groups_are_read_off_their_counts() -> None:
    inner = build_role("prefill/ffn", share=4, within="S0")
    nested = build_role("prefill", within="S1", roles=(ATTENTION, inner))
    spec = build_service(roles=(nested, DECODE))
    near = ("east", "a", "a1", "a1x")
    snapshot = build_snapshot(
        group_roles=(
            count("g1", "decode", 2),
            count("g0", "decode", 3),
            count("g0", "prefill/ffn", 4, near),
            count("g0", "prefill/attention", 0, near),
            count("g0", "unknown", 4),
            count("shut", "decode", 1),
            replace(count("g0", "decode", 5), subcluster="west"),
        )
    )
    request = PlacementRequest(spec=spec, snapshot=snapshot, closed=(("east", "shut"),))
    assert existing_groups(request, ("S0", "S1", "S2")) == [
        Group(
            name="g0",
            subcluster="east",
            domain=(),
            scopes={"prefill": ("east", "a", "a1"), "prefill/ffn": near},
            units={"decode": 3.0, "prefill/ffn": 4.0, "prefill/attention": 0.0, "unknown": 0.0},
        ),
        Group(name="g0", subcluster="west", domain=(), units={"decode": 5.0}),
        Group(name="g1", subcluster="east", domain=(), units={"decode": 2.0}),
    ]


@pytest.mark.parametrize(
    ("add", "steps"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param(
            {"p": 3, "d": 2},
            [{"p": 1, "d": 1}, {"p": 1, "d": 1}, {"p": 1}],
            id="the first step holds one of every role",
        ),
        pytest.param({"p": 2}, [{"p": 1}, {"p": 1}], id="one role alone"),
        pytest.param(
            {"a": 1, "f": 4},
            [{"a": 1, "f": 1}, {"f": 1}, {"f": 1}, {"f": 1}],
            id="a wide ratio",
        ),
    ],
)
def test_growth_steps(add: dict[str, int], steps: list[dict[str, int]]) -> None:
    assert list(growth_steps(add)) == steps


@pytest.mark.parametrize(
    ("units", "step", "kept"),
    [
        pytest.param({"p": 9.0, "d": 7.0}, {"p": 1}, True, id="within one unit of the exact part"),
        pytest.param({"p": 9.0, "d": 7.0}, {"p": 4}, False, id="beyond it"),
        pytest.param({"p": 2.0, "d": 9.0}, {"p": 1}, True, id="out of balance, and less so after"),
        pytest.param({"p": 2.0, "d": 9.0}, {"d": 1}, False, id="out of balance, and more so after"),
    ],
)
def test_keeps_ratio(units: dict[str, float], step: dict[str, int], kept: bool) -> None:
    group = Group(name="g0", subcluster="east", domain=(), units=units)
    assert keeps_ratio(group, step, {"p": 9, "d": 7}) is kept


def test_a_role_that_a_group_has_no_count_of_is_its_whole_imbalance() -> None:
    assert imbalance({"d": 2.0}, {"p": 1, "d": 1}) == 1.0


def test_new_groups_take_the_smallest_free_name() -> None:
    assert [new_group_name(set()), new_group_name({"g0", "g2", "main"})] == ["g0", "g1"]
