from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.decision import Decision, Direction
from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import InstanceState, ServiceSnapshot
from heteroscale.policy.supply import tally
from heteroscale.prescheduler.wish import NO_WISH, Wish, wish
from tests.builders import (
    H20,
    build_instances,
    build_role,
    build_service,
    build_snapshot,
)

SLOW = AcceleratorOption(type="L20", gpus=8, capacity=0.55)
SPEC = build_service(roles=(build_role("prefill"), build_role("decode", accelerators=(H20, SLOW))))
PENDING = build_instances("decode", 2, InstanceState.PENDING, first=4)


def snap(*extra: object, prefill: int = 2) -> ServiceSnapshot:
    instances = (*build_instances("decode", 2), *build_instances("prefill", prefill), *extra)
    return build_snapshot(instances=instances)  # type: ignore[arg-type]


def wished(
    snapshot: ServiceSnapshot, capacity: dict[str, int], restorable: dict[str, float] | None = None
) -> Wish:
    decision = Decision(
        service="chat", direction=Direction.HOLD, capacity=capacity, ratio={}, reasons=()
    )
    supply = tally(SPEC, snapshot.instances).supply
    return wish(SPEC, snapshot, decision, supply, restorable or {})


@pytest.mark.parametrize(
    ("snapshot", "capacity", "restorable", "expected"),
    [
        pytest.param(snap(), {"prefill": 2, "decode": 2}, {}, NO_WISH, id="all there"),
        pytest.param(
            snap(),
            {"prefill": 3, "decode": 4},
            {},
            Wish(short={"prefill": 1.0, "decode": 2.0}, add={"prefill": 1, "decode": 2}, remove={}),
            id="more of both",
        ),
        pytest.param(
            snap(),
            {"prefill": 1, "decode": 3},
            {},
            Wish(short={"decode": 1.0}, add={"decode": 1}, remove={"prefill": 1}),
            id="one more and one less",
        ),
        pytest.param(
            snap(*PENDING),
            {"prefill": 2, "decode": 5},
            {},
            Wish(short={"decode": 1.0}, add={"decode": 1}, remove={}, coming={"decode": 2.0}),
            id="what is pending was asked for",
        ),
        pytest.param(
            replace(snap(*PENDING), group_roles=()),
            {"prefill": 2, "decode": 4},
            {},
            Wish(short={}, add={}, remove={}, coming={"decode": 2.0}),
            id="pending without a count, too",
        ),
        pytest.param(
            replace(snap(*PENDING), instances=snap().instances),
            {"prefill": 2, "decode": 4},
            {},
            Wish(short={}, add={}, remove={}, coming={"decode": 2.0}),
            id="a replica that does not show is on its way",
        ),
        pytest.param(
            snap(*build_instances("decode", 2, InstanceState.WITHDRAWN, first=2)),
            {"prefill": 2, "decode": 5},
            {"decode": 2.0},
            Wish(short={"decode": 3.0}, add={"decode": 1}, remove={}),
            id="the withdrawn answer first",
        ),
        pytest.param(
            snap(*build_instances("decode", 2, InstanceState.WITHDRAWN, first=2)),
            {"prefill": 2, "decode": 4},
            {"decode": 2.0},
            Wish(short={"decode": 2.0}, add={}, remove={}),
            id="the withdrawn are enough",
        ),
        pytest.param(
            snap(*build_instances("decode", 2, InstanceState.FAILED, first=2)),
            {"prefill": 2, "decode": 3},
            {},
            Wish(short={"decode": 1.0}, add={"decode": 1}, remove={}),
            id="the failed do not count",
        ),
        pytest.param(
            replace(
                snap(*build_instances("decode", 1, InstanceState.TERMINATED, first=2)),
                group_roles=snap().group_roles,
            ),
            {"prefill": 2, "decode": 3},
            {},
            Wish(short={"decode": 1.0}, add={"decode": 1}, remove={}),
            id="what is terminated is no more",
        ),
        pytest.param(
            snap(*build_instances("decode", 1, accelerator="L20")),
            {"prefill": 2, "decode": 2},
            {},
            NO_WISH,
            id="a fraction more is kept",
        ),
        pytest.param(
            snap(*build_instances("decode", 1, accelerator="L20")),
            {"prefill": 2, "decode": 3},
            {},
            Wish(short={"decode": pytest.approx(0.45)}, add={"decode": 1}, remove={}),  # type: ignore[dict-item]
            id="a fraction short is a whole unit",
        ),
        pytest.param(
            snap(prefill=3),
            {"prefill": 2, "decode": 2},
            {},
            Wish(short={}, add={}, remove={"prefill": 1}),
            id="only less",
        ),
        pytest.param(
            snap(*PENDING),
            {"prefill": 2, "decode": 1},
            {},
            Wish(short={}, add={}, remove={"decode": 3}),
            id="less, and what is pending was asked for on top",
        ),
    ],
)
def test_wish(
    snapshot: ServiceSnapshot,
    capacity: dict[str, int],
    restorable: dict[str, float],
    expected: Wish,
) -> None:
    assert wished(snapshot, capacity, restorable) == expected


@pytest.mark.parametrize(
    ("unseen", "expected"),
    [
        pytest.param(
            1.0,
            Wish(short={"decode": 2.0}, add={"decode": 2}, remove={}, coming={"decode": 1.0}),
            id="growth that was sent and is not seen yet is coming",
        ),
        pytest.param(
            -1.0,
            Wish(short={"decode": 4.0}, add={"decode": 4}, remove={}),
            id="what will not come is asked for again",
        ),
    ],
)
def test_what_comes_beyond_what_shows(unseen: float, expected: Wish) -> None:
    decision = Decision(
        service="chat",
        direction=Direction.OUT,
        capacity={"prefill": 2, "decode": 5},
        ratio={},
        reasons=(),
    )
    supply = {"prefill": 2.0, "decode": 2.0}
    assert wish(SPEC, snap(), decision, supply, {}, {"decode": unseen}) == expected
