from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.entities.decision import Direction
from heteroscale.entities.policy import RatioSpec
from heteroscale.entities.service import AcceleratorOption
from heteroscale.policy.coordinate import coordinate
from heteroscale.policy.sized import Freedom, Sized
from tests.builders import H20, build_role, build_service
from tests.unit.policy.deciding import codes

IN, HOLD, OUT = Direction.IN, Direction.HOLD, Direction.OUT
LOCKED, WAITING, FREE = Freedom.LOCKED, Freedom.WAITING, Freedom.FREE


def sized(
    direction: Direction,
    anchor: int,
    held: dict[str, float],
    *,
    ratio: dict[str, int] | None = None,
    **fields: Any,
) -> Sized:
    given: dict[str, Any] = {
        "asks_in": False,
        "forced": False,
        "supply": held,
        "anchor_pending": 0.0,
        "ratio_changed": False,
        "grow": FREE,
        "shrink": FREE,
        "reasons": (),
    }
    return Sized(
        direction=direction,
        anchor_capacity=anchor,
        held=held,
        ratio=ratio or {"prefill": 2, "decode": 1},
        **(given | fields),
    )


def at(prefill: float, decode: float) -> dict[str, float]:
    return {"prefill": prefill, "decode": decode}


@pytest.mark.parametrize(
    ("size", "prefill", "direction", "why"),
    [
        pytest.param(sized(HOLD, 10, at(20, 10)), 20, HOLD, [], id="a hold inside the ratio"),
        pytest.param(sized(HOLD, 10, at(22, 10)), 22, HOLD, [], id="the band above"),
        pytest.param(sized(HOLD, 10, at(18, 10)), 18, HOLD, [], id="the band below"),
        pytest.param(sized(HOLD, 3, at(7, 3)), 7, HOLD, [], id="one instance is always within"),
        pytest.param(sized(HOLD, 10, at(12, 10)), 20, OUT, ["short"], id="a lost partner"),
        pytest.param(
            sized(HOLD, 10, at(12, 10), grow=WAITING),
            12,
            HOLD,
            ["short_waits"],
            id="a lost partner waits its turn",
        ),
        pytest.param(
            sized(HOLD, 10, at(12, 10), ratio_changed=True),
            14,
            OUT,
            ["short"],
            id="a changed ratio moves in bounds",
        ),
        pytest.param(
            sized(HOLD, 10, at(24, 10)), 22, IN, ["surplus"], id="a surplus gives back by steps"
        ),
        pytest.param(
            sized(HOLD, 3, at(8, 3), ratio_changed=True), 7, IN, ["surplus"], id="by one at least"
        ),
        pytest.param(
            sized(HOLD, 10, at(24, 10), shrink=WAITING),
            24,
            HOLD,
            ["surplus_waits"],
            id="a surplus waits for the next scale-in",
        ),
        pytest.param(
            sized(HOLD, 10, at(24, 10), anchor_pending=2.0),
            24,
            HOLD,
            [],
            id="it is none when the anchor is on its way",
        ),
        pytest.param(sized(OUT, 12, at(20, 10)), 24, OUT, ["follows"], id="out together"),
        pytest.param(sized(OUT, 11, at(22, 10)), 22, OUT, [], id="out, already there"),
        pytest.param(sized(OUT, 11, at(30, 10)), 30, OUT, [], id="out never shrinks a partner"),
        pytest.param(sized(OUT, 12, at(10, 10)), 24, OUT, ["follows"], id="out restores as well"),
        pytest.param(
            sized(OUT, 10, at(20, 5)),
            20,
            OUT,
            [],
            id="out to where its partners are, after the anchor lost half",
        ),
        pytest.param(
            sized(OUT, 10, at(30, 5), ratio_changed=True),
            54,
            OUT,
            ["follows", "move_limited"],
            id="along with the anchor while a changed ratio is approached",
        ),
        pytest.param(
            sized(OUT, 12, at(10, 10), ratio_changed=True),
            14,
            OUT,
            ["follows", "move_limited"],
            id="along with the anchor and one bounded move",
        ),
        pytest.param(sized(OUT, 5, at(0, 0)), 10, OUT, ["follows"], id="out from nothing"),
        pytest.param(sized(IN, 9, at(20, 10)), 18, IN, ["follows"], id="in together"),
        pytest.param(sized(IN, 9, at(18, 10)), 18, IN, [], id="in, already there"),
        pytest.param(
            sized(IN, 9, at(30, 10)),
            25,
            IN,
            ["follows", "move_limited"],
            id="in, a surplus by a step more",
        ),
        pytest.param(sized(IN, 9, at(12, 10)), 18, IN, ["short"], id="in, yet a lost partner"),
        pytest.param(
            sized(IN, 9, at(12, 10), grow=WAITING), 12, IN, ["short_waits"], id="or it waits"
        ),
    ],
)
def test_the_partner_follows(
    size: Sized, prefill: int, direction: Direction, why: list[str]
) -> None:
    decision = coordinate(build_service(), size)
    assert decision.capacity == {"prefill": prefill, "decode": size.anchor_capacity}
    assert (decision.direction, codes(decision.reasons)) == (direction, why)
    assert decision.ratio == {"prefill": 2, "decode": 1}


def test_the_exact_share_is_rounded_up() -> None:
    decision = coordinate(
        build_service(), sized(OUT, 9, at(9, 8), ratio={"prefill": 9, "decode": 7})
    )
    assert decision.capacity == {"prefill": 12, "decode": 9}
    assert decision.reasons[0].figures == {
        "role": "prefill",
        "supply": 9,
        "exact": pytest.approx(11.571, abs=1e-3),
        "capacity": 12,
    }


def test_the_band_is_configured() -> None:
    spec = build_service(ratio=RatioSpec(band=0.3))
    assert coordinate(spec, sized(HOLD, 10, at(14, 10))).direction is HOLD
    assert coordinate(spec, sized(HOLD, 10, at(13, 10))).direction is OUT


@pytest.mark.parametrize(
    ("size", "roles", "prefill", "why"),
    [
        pytest.param(
            sized(OUT, 12, at(20, 10)),
            {"max_replicas": 22},
            22,
            ["follows", "above_maximum", "ratio_broken"],
            id="a maximum breaks the ratio",
        ),
        pytest.param(
            sized(IN, 4, at(10, 5)),
            {"min_replicas": 9},
            9,
            ["follows", "below_minimum", "ratio_broken"],
            id="so does a minimum",
        ),
        pytest.param(
            sized(HOLD, 10, at(20, 10), grow=WAITING),
            {"min_replicas": 24},
            24,
            ["below_minimum", "ratio_broken"],
            id="bounds pass waits",
        ),
        pytest.param(
            sized(HOLD, 10, at(20, 10), grow=LOCKED),
            {"min_replicas": 24},
            20,
            ["below_minimum", "frozen"],
            id="but no freeze",
        ),
        pytest.param(
            sized(HOLD, 10, at(20, 10), shrink=LOCKED),
            {"max_replicas": 15},
            20,
            ["above_maximum", "frozen"],
            id="in either direction",
        ),
    ],
)
def test_bounds_come_last(size: Sized, roles: dict[str, Any], prefill: int, why: list[str]) -> None:
    spec = build_service(roles=(build_role("prefill", **roles), build_role("decode")))
    decision = coordinate(spec, size)
    assert (decision.capacity["prefill"], codes(decision.reasons)) == (prefill, why)


def test_the_brake_does_not_lift_the_anchors_bound() -> None:
    spec = build_service(roles=(build_role("prefill"), build_role("decode", max_replicas=9)))
    decision = coordinate(spec, sized(HOLD, 10, at(20, 10), shrink=WAITING))
    assert decision.capacity == {"prefill": 20, "decode": 9}
    assert (decision.direction, codes(decision.reasons)) == (IN, ["above_maximum"])


def test_a_pinned_partner() -> None:
    spec = build_service(pin={"prefill": 3})
    decision = coordinate(spec, sized(HOLD, 10, at(20, 10), shrink=WAITING))
    assert decision.capacity == {"prefill": 3, "decode": 10}
    assert codes(decision.reasons) == ["pinned", "ratio_broken"]


def test_nested_roles_follow_at_every_level() -> None:
    nested = build_role(
        "prefill", roles=(build_role("prefill/attention"), build_role("prefill/ffn", share=4))
    )
    spec = build_service(roles=(nested, build_role("decode")))
    held = {"prefill/attention": 4.0, "prefill/ffn": 16.0, "decode": 2.0}
    decision = coordinate(spec, sized(OUT, 3, held))
    assert decision.capacity == {"prefill/attention": 6, "prefill/ffn": 24, "decode": 3}


def parts(attention: float, ffn: float, decode: float) -> dict[str, float]:
    return {"prefill/attention": attention, "prefill/ffn": ffn, "decode": decode}


@pytest.mark.parametrize(
    ("size", "attention", "ffn", "why"),
    [
        pytest.param(sized(OUT, 5, parts(2, 4, 4)), 3, 6, ["follows", "follows"], id="out"),
        pytest.param(sized(IN, 5, parts(4, 8, 8)), 3, 6, ["follows", "follows"], id="in"),
        pytest.param(sized(HOLD, 5, parts(3, 6, 5)), 3, 6, [], id="rounded up is no surplus"),
        pytest.param(sized(HOLD, 5, parts(2, 4, 5)), 2, 4, [], id="half a unit less is none short"),
        pytest.param(
            sized(HOLD, 6, parts(2, 4, 6)), 3, 6, ["short", "short"], id="short of a unit"
        ),
        pytest.param(
            sized(HOLD, 6, parts(2, 4, 6), grow=WAITING),
            2,
            4,
            ["short_waits", "short_waits"],
            id="short of a unit, which waits",
        ),
        pytest.param(sized(HOLD, 6, parts(3, 4, 6)), 3, 6, ["short"], id="one part is short"),
        pytest.param(
            sized(HOLD, 5, parts(4, 8, 5)), 3, 6, ["surplus", "surplus"], id="more than a unit over"
        ),
        pytest.param(sized(HOLD, 4, parts(4, 4, 4)), 3, 4, ["surplus"], id="one part is over"),
        pytest.param(
            sized(OUT, 9, parts(2, 4, 8), ratio_changed=True),
            4,
            8,
            ["follows", "move_limited", "follows", "move_limited"],
            id="a changed ratio moves by whole units",
        ),
    ],
)
def test_the_parts_of_a_nested_role_come_in_whole_units(
    size: Sized, attention: int, ffn: int, why: list[str]
) -> None:
    inside = (build_role("prefill/attention"), build_role("prefill/ffn", share=2))
    spec = build_service(roles=(build_role("prefill", roles=inside), build_role("decode", share=2)))
    decision = coordinate(spec, replace(size, ratio={"prefill": 1, "decode": 2}))
    assert decision.capacity == {
        "prefill/attention": attention,
        "prefill/ffn": ffn,
        "decode": size.anchor_capacity,
    }
    assert codes(decision.reasons) == why


def test_a_part_at_its_maximum_keeps_no_other_from_giving_back() -> None:
    inside = (build_role("prefill/attention"), build_role("prefill/ffn", share=2, max_replicas=3))
    spec = build_service(roles=(build_role("prefill", roles=inside), build_role("decode", share=2)))
    size = sized(HOLD, 6, parts(5, 3, 6), ratio={"prefill": 1, "decode": 2})
    assert coordinate(spec, size).capacity == {
        "prefill/attention": 4,
        "prefill/ffn": 3,
        "decode": 6,
    }


def test_a_fraction_that_no_instance_fills_is_not_given_back() -> None:
    small = AcceleratorOption(type="L20", gpus=8, capacity=0.9)
    roles = (build_role("prefill", accelerators=(H20, small)), build_role("decode"))
    spec = build_service(roles=roles)
    surplus = coordinate(spec, sized(HOLD, 5, at(8.7, 5), ratio={"prefill": 3, "decode": 2}))
    assert (surplus.capacity["prefill"], codes(surplus.reasons)) == (8, ["surplus_rounded"])
    inward = coordinate(spec, sized(IN, 4, at(8.6, 5)))
    assert (inward.capacity["prefill"], codes(inward.reasons)) == (8, [])


def test_rounding_does_not_eat_the_giving_back_of_a_fractional_surplus() -> None:
    small = AcceleratorOption(type="L20", gpus=8, capacity=0.55)
    roles = (build_role("prefill", accelerators=(H20, small)), build_role("decode"))
    ratio = {"prefill": 1, "decode": 1}
    decision = coordinate(build_service(roles=roles), sized(HOLD, 2, at(3.3, 2), ratio=ratio))
    assert (decision.capacity["prefill"], codes(decision.reasons)) == (2, ["surplus"])
