from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.decision import Direction, Reason, Step
from heteroscale.entities.service import BrakeSpec, Mode, ServiceSpec
from heteroscale.policy.brake import brake
from heteroscale.policy.sized import Freedom, Sized
from tests.builders import NOW_S, build_service
from tests.unit.policy.deciding import codes

IN, HOLD, OUT = Direction.IN, Direction.HOLD, Direction.OUT
RULES = BrakeSpec(share=0.3, services=2, gpus_per_hour_share=0.5)


def one(
    direction: Direction, anchor: int = 9, *, forced: bool = False, asks_in: bool | None = None
) -> Sized:
    return Sized(
        direction=direction,
        anchor_capacity=10 if direction is HOLD else anchor,
        asks_in=direction is IN if asks_in is None else asks_in,
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


def specs(sizes: dict[str, Sized], watched: str, **priority: int) -> dict[str, ServiceSpec]:
    modes = {name: Mode.OBSERVE if name < "n" else Mode.RECOMMEND for name in watched}
    return {
        name: build_service(
            name, priority=priority.get(name, 50), mode=modes.get(name, Mode.ENFORCE)
        )
        for name in sizes
    }


def run(
    sizes: dict[str, Sized],
    *,
    rules: BrakeSpec = RULES,
    gpus: int = 1000,
    left: tuple[tuple[float, int], ...] = (),
    watched: str = "",
    **priority: int,
) -> dict[str, Sized]:
    return dict(
        brake(
            sizes,
            specs=specs(sizes, watched, **priority),
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
    held = replace(one(HOLD, asks_in=True), shrink=Freedom.WAITING, reasons=(reason,))
    assert run(sizes) == {
        "a": held,
        "b": replace(one(OUT), shrink=Freedom.WAITING),
        "c": held,
        "d": replace(one(HOLD), shrink=Freedom.WAITING),
    }


def test_those_that_still_wait_for_their_cool_down_ask_as_well() -> None:
    waiting = replace(one(HOLD, asks_in=True), shrink=Freedom.WAITING)
    braked = run({"a": one(IN), "b": waiting, "c": one(HOLD), "d": one(HOLD)})
    assert codes(braked["a"].reasons) == ["brake_share"]
    assert braked["b"] == waiting
    assert braked["c"] == replace(one(HOLD), shrink=Freedom.WAITING)


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
        pytest.param(31, (), 9, ["brake_gpus_one"], id="one goes even if it does not fit"),
        pytest.param(31, ((NOW_S, 1),), 10, ["brake_gpus"], id="but not after another"),
        pytest.param(0, (), 10, ["brake_gpus"], id="nor from a fleet that nobody can see"),
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


def test_one_unit_that_does_not_fit_goes_in_the_whole_fleet() -> None:
    sizes = {"a": one(IN, 9), "b": one(IN, 9), **CALM}
    allowed = run(sizes, gpus=31)
    assert [allowed[name].anchor_capacity for name in "ab"] == [9, 10]
    (reason,) = allowed["a"].reasons
    assert reason.figures == {"budget": 15.5, "left": 0, "unit": 16.0, "asked": 9, "capacity": 9}
    allowed = run({**sizes, "a": one(IN, 9, forced=True)}, gpus=31)
    assert [allowed[name].anchor_capacity for name in "ab"] == [9, 10]


def test_who_is_only_watched_does_not_count_among_those_who_act() -> None:
    sizes = {"a": one(IN), "b": one(IN), "x": one(IN), **CALM}
    assert len(sizes) == 11
    # Two of ten who act may; three of eleven may as well, for what is only watched.
    assert run(sizes, watched="x") == sizes
    # Four of twelve may not, were they all to act; two of ten who act still may.
    sizes["y"] = one(IN)
    allowed = run(sizes, watched="xy")
    assert [codes(allowed[name].reasons) for name in "abxy"] == [
        [],
        [],
        ["brake_share"],
        ["brake_share"],
    ]
    # One of two who act: the ten calm ones that are only watched do not make it fewer.
    allowed = run({"a": one(IN), "b": one(IN), **CALM}, watched="".join(CALM))
    assert codes(allowed["a"].reasons) == ["brake_share"]
    assert list(allowed) == ["a", "b", *CALM]


def test_who_is_only_watched_takes_nothing_of_the_hour() -> None:
    sizes = {"a": one(IN, 8), "x": one(IN, 8), **CALM}
    allowed = run(sizes, gpus=64, watched="x", a=90, x=10)
    assert [allowed[name].anchor_capacity for name in "ax"] == [8, 8]
    allowed = run(sizes, gpus=64, watched="x", a=10, x=90)
    assert [allowed[name].anchor_capacity for name in "ax"] == [8, 10]


def test_partners_do_not_give_back_either_once_the_hour_is_spent() -> None:
    allowed = run(CALM, gpus=96, left=((NOW_S, 48),))
    assert allowed == {name: replace(size, shrink=Freedom.WAITING) for name, size in CALM.items()}
    locked = {"a": replace(one(HOLD), shrink=Freedom.LOCKED)}
    assert run(locked, gpus=0) == locked
