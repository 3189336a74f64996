from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.decision import Direction, Reason, Step
from heteroscale.entities.service import BrakeSpec, ServiceSpec
from heteroscale.policy.brake import brake
from heteroscale.policy.sized import Freedom, Sized
from tests.builders import NOW_S, build_service
from tests.unit.policy.deciding import codes

IN, HOLD, OUT = Direction.IN, Direction.HOLD, Direction.OUT
RULES = BrakeSpec(share=0.3, services=2, gpus_per_hour_share=0.5)


def one(direction: Direction, anchor: int = 9, *, forced: bool = False) -> Sized:
    return Sized(
        direction=direction,
        anchor_capacity=10 if direction is HOLD else anchor,
        forced=forced,
        supply={"prefill": 10.0, "decode": 10.0},
        held={"prefill": 10.0, "decode": 10.0},
        anchor_pending=0.0,
        ratio={"prefill": 1, "decode": 1},
        ratio_changed=False,
        grow=Freedom.FREE,
        shrink=Freedom.FREE,
        reasons=(),
    )


def specs(sizes: dict[str, Sized], **priority: int) -> dict[str, ServiceSpec]:
    return {name: build_service(name, priority=priority.get(name, 50)) for name in sizes}


def run(
    sizes: dict[str, Sized],
    *,
    rules: BrakeSpec = RULES,
    gpus: int = 1000,
    left: tuple[tuple[float, int], ...] = (),
    **priority: int,
) -> dict[str, Sized]:
    return dict(
        brake(
            sizes,
            specs=specs(sizes, **priority),
            rules=rules,
            fleet_gpus=gpus,
            left_gpus=left,
            now_s=NOW_S,
        )
    )


CALM = {name: one(HOLD) for name in "defghijk"}


def test_few_may_scale_in() -> None:
    sizes = {"a": one(IN), "b": one(IN), **CALM}
    assert run(sizes) == sizes


def test_nothing_asked_changes_nothing() -> None:
    assert run(CALM) == CALM


def test_too_many_at_once_hold_and_say_so() -> None:
    sizes = {"a": one(IN), "b": one(OUT), "c": one(IN), "d": one(HOLD)}
    figures = {"asking": 2, "services": 4, "share": 0.3}
    reason = Reason(step=Step.BRAKE, code="brake_share", figures=figures)
    held = replace(one(HOLD), shrink=Freedom.WAITING, reasons=(reason,))
    assert run(sizes) == {
        "a": held,
        "b": replace(one(OUT), shrink=Freedom.WAITING),
        "c": held,
        "d": replace(one(HOLD), shrink=Freedom.WAITING),
    }


def test_many_by_share_but_few_by_count_may() -> None:
    sizes = {"a": one(IN), "b": one(HOLD)}
    assert run(sizes) == sizes


def test_exactly_the_share_may() -> None:
    sizes = {"a": one(IN), "b": one(IN), "c": one(IN), **dict(list(CALM.items())[:7])}
    assert run(sizes) == sizes


def test_what_the_operator_forces_passes_and_does_not_count() -> None:
    forced = one(IN, forced=True)
    assert run({"a": forced, "b": forced, "c": one(HOLD)})["a"] == forced
    braked = run({"a": forced, "b": one(IN), "c": one(IN)})
    assert braked["a"] == replace(forced, shrink=Freedom.WAITING)
    assert codes(braked["b"].reasons) == ["brake_share"]


# One unit of decode and its prefill are 16 GPUs.


@pytest.mark.parametrize(
    ("gpus", "left", "capacity", "why"),
    [
        pytest.param(96, (), 7, [], id="exactly the budget"),
        pytest.param(95, (), 8, ["brake_gpus_cap"], id="as many as fit"),
        pytest.param(31, (), 10, ["brake_gpus"], id="none fits"),
        pytest.param(
            96, ((NOW_S - 3599.0, 40),), 10, ["brake_gpus"], id="most left within the hour"
        ),
        pytest.param(96, ((NOW_S - 3600.0, 40),), 7, [], id="an hour ago is over"),
    ],
)
def test_no_more_than_a_share_of_the_fleet_leaves_in_an_hour(
    gpus: int, left: tuple[tuple[float, int], ...], capacity: int, why: list[str]
) -> None:
    allowed = run({"a": one(IN, 7), **CALM}, gpus=gpus, left=left)
    assert (allowed["a"].anchor_capacity, codes(allowed["a"].reasons)) == (capacity, why)
    assert allowed["a"].direction is (HOLD if capacity == 10 else IN)


def test_the_least_important_give_back_first_and_ties_go_by_name() -> None:
    sizes = {"a": one(IN, 8), "b": one(IN, 8), "c": one(IN, 8, forced=True), **CALM}
    allowed = run(sizes, gpus=128, a=90, b=10)
    assert [allowed[name].anchor_capacity for name in "abc"] == [10, 8, 8]
    allowed = run(sizes, gpus=128)
    assert [allowed[name].anchor_capacity for name in "abc"] == [8, 10, 8]


def test_partners_do_not_give_back_either_once_the_hour_is_spent() -> None:
    allowed = run(CALM, gpus=96, left=((NOW_S, 48),))
    assert allowed == {name: replace(size, shrink=Freedom.WAITING) for name, size in CALM.items()}
    locked = {"a": replace(one(HOLD), shrink=Freedom.LOCKED)}
    assert run(locked, gpus=0) == locked
