from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import product

import pytest

from heteroscale.entities.policy import LifecycleSpec
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.lifecycle.gate import TRANSITIONS, Verdict, gate
from tests.builders import (
    NOW_S,
    build_instances,
    build_role,
    build_service,
    build_snapshot,
)

SPEC = build_service(lifecycle=LifecycleSpec(gate_band=0.5, gate_timeout_s=600.0))
STARTING, HELD = InstanceState.STARTING, InstanceState.HELD


def of(
    role: str, ready: int = 0, starting: int = 0, held: int = 0, group: str = "chat-a"
) -> tuple[Instance, ...]:
    """Ready ones first, then held, then starting; held since a minute."""
    return (
        *build_instances(role, ready, group=group),
        *(
            replace(one, since_s=NOW_S - 60.0, held=True)
            for one in build_instances(role, held, HELD, group=group, first=ready)
        ),
        *build_instances(role, starting, STARTING, group=group, first=ready + held),
    )


def at_gate(
    instances: Sequence[Instance],
    *,
    weights: dict[str, float] | None = None,
    no_fit: Collection[str] = (),
    missing: int = 0,
) -> list[tuple[str, bool, str]]:
    """Return (uid without its group, hold, verdict); `missing` decode replicas do not show."""
    counts = [
        replace(count, replicas=count.replicas + missing * (count.role == "decode"))
        for count in build_snapshot(instances=instances).group_roles
    ]
    passages = gate(SPEC, weights or {"prefill": 1, "decode": 1}, instances, counts, no_fit, NOW_S)
    return [(f"{p.instance.role}/{p.instance.ordinal}", p.hold, p.verdict.value) for p in passages]


def test_the_table_is_total() -> None:
    assert set(TRANSITIONS) == set(product((False, True), Verdict))


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        pytest.param((*of("prefill", 2), *of("decode", 2)), [], id="nobody is new"),
        pytest.param(
            (*of("prefill", 0, 3), *of("decode", 0, 3)),
            [
                ("decode/1", True, "ahead"),
                ("decode/2", True, "ahead"),
                ("prefill/1", True, "ahead"),
                ("prefill/2", True, "ahead"),
            ],
            id="at the start the first of each role goes in, the rest waits",
        ),
        pytest.param(
            (*of("prefill", 1, 0, 2), *of("decode", 1, 2)),
            [("prefill/1", False, "admitted")],
            id="one ahead is within tolerance: released",
        ),
        pytest.param(
            (*of("prefill", 4, 1, 2), *of("decode", 4, 2)),
            [
                ("prefill/4", False, "admitted"),
                ("prefill/5", False, "admitted"),
                ("prefill/6", True, "ahead"),
            ],
            id="half of the share ahead is within the band, more is not; the held go first",
        ),
        pytest.param(
            (*of("prefill", 0, 0, 3), *of("decode", 0, 0, 3)),
            [
                *((f"decode/{ordinal}", False, "admitted") for ordinal in range(3)),
                *((f"prefill/{ordinal}", False, "admitted") for ordinal in range(3)),
            ],
            id="all have caught up at the gate: all go in at once",
        ),
        pytest.param(
            (*of("prefill", 6, 1), *of("decode", 2, 2)),
            [("prefill/6", True, "ahead")],
            id="what is in rotation already is never held",
        ),
        pytest.param(
            (*of("prefill", 3, 0, 1), *of("decode", 1)),
            [("prefill/3", False, "partner_cannot_come")],
            id="nothing more is coming: released",
        ),
        pytest.param(
            (*of("prefill", 3, 0, 1), *build_instances("decode", 2, InstanceState.FAILED)),
            [("prefill/3", False, "partner_cannot_come")],
            id="the partner has failed: released",
        ),
        pytest.param(
            (*of("prefill", 3, 0, 1), *build_instances("decode", 1, InstanceState.PENDING)),
            [],
            id="the partner is pending: still held",
        ),
        pytest.param(
            tuple(
                replace(one, since_s=NOW_S - 600.0) if one.state is HELD else one
                for one in (*of("prefill", 3, 0, 2), *of("decode", 1, 2))
            ),
            [("prefill/3", False, "timed_out"), ("prefill/4", False, "timed_out")],
            id="held too long: released",
        ),
        pytest.param(
            (
                *of("prefill", 1, 0, 0),
                *of("decode", 1, 1),
                *of("prefill", 2, 1, 0, group="chat-b"),
                *of("decode", 0, 1, 0, group="chat-b"),
            ),
            [("prefill/2", True, "ahead")],
            id="each group by itself",
        ),
    ],
)
def test_gate(instances: tuple[Instance, ...], expected: list[tuple[str, bool, str]]) -> None:
    assert at_gate(instances) == expected


def test_a_partner_without_an_instance_is_awaited_unless_it_fits_nowhere() -> None:
    instances = (*of("prefill", 2, 0, 1), *of("decode", 1))
    assert at_gate(instances, missing=1) == []
    assert at_gate(instances, missing=1, no_fit={"decode"}) == [
        ("prefill/2", False, "partner_cannot_come")
    ]


def test_a_starting_instance_marked_to_be_held_is_unmarked() -> None:
    one = replace(of("prefill", 0, 1)[0], held=True)
    assert at_gate((one, *of("decode", 1))) == [("prefill/0", False, "admitted")]


def test_a_newcomer_that_cannot_be_kept_out_is_let_in() -> None:
    free = tuple(replace(one, reversible=False) for one in of("prefill", 0, 3))
    assert at_gate((*free, *of("decode", 1))) == []


def test_the_exact_share_follows_the_ratio() -> None:
    instances = (*of("prefill", 0, 6), *of("decode", 1, 1))
    assert at_gate(instances, weights={"prefill": 3, "decode": 1}) == [
        ("decode/1", True, "ahead"),
        ("prefill/4", True, "ahead"),
        ("prefill/5", True, "ahead"),
    ]


def test_a_service_of_one_role_has_no_gate() -> None:
    instances = of("decode", 1, 5)
    assert at_gate(instances, weights={"decode": 1}) == []


def test_strangers_are_ignored() -> None:
    stranger = build_instances("unlisted", 2)
    foreign = build_instances("prefill", 3, STARTING, accelerator="A100")
    instances = (*of("decode", 1, 1), *of("prefill", 1), *stranger, *foreign)
    # A foreign accelerator is worth nothing, so it is never too much.
    assert at_gate(instances) == []


def test_roles_of_three() -> None:
    spec = build_service(roles=(build_role("prefill"), build_role("encode"), build_role("decode")))
    instances = (*of("prefill", 3, 1), *of("encode", 1), *of("decode", 3, 1))
    weights = {"prefill": 1.0, "encode": 1.0, "decode": 1.0}
    passages = gate(
        spec, weights, instances, build_snapshot(instances=instances).group_roles, (), 0
    )
    # Encode cannot come, so it holds nobody back; decode is as far as prefill.
    assert passages == ()


def test_groups_of_one_name_in_two_sub_clusters_do_not_wait_for_one_another() -> None:
    away = tuple(
        replace(one, uid=f"west-{one.uid}", subcluster="west") for one in of("decode", 0, 3)
    )
    at_home = (*of("prefill", 1, 0, 2), *of("decode", 1))
    passages = gate(
        SPEC,
        {"prefill": 1, "decode": 1},
        (*at_home, *away),
        build_snapshot(instances=at_home).group_roles,
        (),
        NOW_S,
    )
    assert [(one.instance.uid, one.verdict) for one in passages] == [
        ("chat-a/prefill/H20/1", Verdict.ADMITTED),
        ("chat-a/prefill/H20/2", Verdict.PARTNER_CANNOT_COME),
    ]
