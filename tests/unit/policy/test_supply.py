from __future__ import annotations

import pytest

from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState
from heteroscale.policy.supply import (
    Tally,
    explain_foreign,
    smallest_unit,
    tally,
    to_hold,
)
from tests.builders import (
    H20,
    build_instances,
    build_role,
    build_service,
    count_group_roles,
)

L20 = AcceleratorOption(type="L20", gpus=8, capacity=0.5)
SPEC = build_service(roles=(build_role("prefill"), build_role("decode", accelerators=(H20, L20))))


def everything() -> tuple[Instance, ...]:
    """One decode instance in every state, and two ready L20."""
    each = tuple(
        build_instances("decode", 1, state, first=ordinal)[0]
        for ordinal, state in enumerate(InstanceState)
    )
    return (*each, *build_instances("decode", 2, accelerator="L20"), *build_instances("prefill", 1))


def test_tally_counts_capacity_by_state() -> None:
    assert tally(SPEC, everything()) == Tally(
        supply={"prefill": 1.0, "decode": 4.0},
        ready={"prefill": 1.0, "decode": 2.0},
        ready_replicas={"prefill": 1, "decode": 3},
        pending={"prefill": 0.0, "decode": 1.0},
        draining={"prefill": 0.0, "decode": 1.0},
        failed={"prefill": 0.0, "decode": 1.0},
        foreign=(),
    )


def test_what_the_service_does_not_list_counts_nothing_and_is_told_once() -> None:
    counted = tally(
        SPEC,
        (*build_instances("prefill", 2, accelerator="L20"), *build_instances("encode", 1)),
    )
    assert counted.supply == {"prefill": 0.0, "decode": 0.0}
    assert explain_foreign(counted) == (
        Reason(
            step=Step.SIGNAL,
            code="foreign_accelerator",
            figures={"role": "encode", "accelerator": "H20", "replicas": 1},
        ),
        Reason(
            step=Step.SIGNAL,
            code="foreign_accelerator",
            figures={"role": "prefill", "accelerator": "L20", "replicas": 2},
        ),
    )


def test_smallest_unit() -> None:
    assert smallest_unit(SPEC.group.roles[1]) == 0.5


DRAINING = build_instances("decode", 1, InstanceState.DRAINING, first=8)


@pytest.mark.parametrize(
    ("instances", "asked", "held"),
    [
        pytest.param(
            (*build_instances("decode", 2), *build_instances("prefill", 1)),
            (),
            {"prefill": 1.0, "decode": 2.0},
            id="all ready holds the supply, whatever was asked for",
        ),
        pytest.param((), (), {"prefill": 0.0, "decode": 0.0}, id="nothing asked for, nothing held"),
        pytest.param(
            (*build_instances("decode", 3, InstanceState.PENDING), *DRAINING),
            None,
            {"prefill": 0.0, "decode": 3.0},
            id="what was asked for is held, but not what is on its way out",
        ),
        pytest.param(
            build_instances("decode", 3, InstanceState.FAILED),
            None,
            {"prefill": 0.0, "decode": 3.0},
            id="what has failed is held until it is replaced",
        ),
        pytest.param(
            (
                *build_instances("decode", 3, InstanceState.FAILED),
                *build_instances("decode", 3, InstanceState.STARTING, first=3),
            ),
            None,
            {"prefill": 0.0, "decode": 3.0},
            id="what has failed and is replaced is not held twice",
        ),
        pytest.param(
            (
                *build_instances("decode", 3, InstanceState.FAILED),
                *build_instances("decode", 1, InstanceState.PENDING, first=3),
            ),
            None,
            {"prefill": 0.0, "decode": 3.0},
            id="what is replaced in part is held as it was",
        ),
        pytest.param(
            build_instances("decode", 3, InstanceState.STARTING),
            (),
            {"prefill": 0.0, "decode": 3.0},
            id="what starts is held even if nobody asked",
        ),
        pytest.param(
            (),
            count_group_roles(
                (*build_instances("encode", 1), *build_instances("decode", 1, accelerator="A100"))
            ),
            {"prefill": 0.0, "decode": 0.0},
            id="groups of an unlisted role or accelerator are nothing",
        ),
    ],
)
def test_to_hold(
    instances: tuple[Instance, ...], asked: tuple[GroupRole, ...] | None, held: dict[str, float]
) -> None:
    group_roles = count_group_roles(instances) if asked is None else asked
    assert to_hold(SPEC, tally(SPEC, instances), group_roles) == held
