from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.placement import PlacementRequest
from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.prescheduler.victims import victims
from tests.builders import H20, build_instances, build_role, build_service, build_snapshot

SLOW = AcceleratorOption(type="L20", gpus=8, capacity=0.55)
SPEC = build_service(roles=(build_role("prefill"), build_role("decode", accelerators=(H20, SLOW))))


def chosen(
    instances: tuple[Instance, ...], remove: dict[str, int], closed: tuple[str, ...] = ()
) -> tuple[str, ...]:
    snapshot = build_snapshot(instances=instances, group_roles=())
    request = PlacementRequest(spec=SPEC, snapshot=snapshot, remove=remove, closed=closed)
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
            1,
            ("a/decode/H20/3", "a/decode/H20/4", "a/decode/H20/2"),
            id="what is pending goes as well: it is no supply",
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
    assert chosen(both, {"decode": 1, "prefill": 1}, closed=("a",)) == (
        "b/prefill/H20/2",
        "b/decode/H20/1",
    )
