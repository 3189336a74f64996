from __future__ import annotations

from typing import Any

import pytest

from heteroscale.entities.decision import Direction, Recommendation
from heteroscale.entities.policy import GuardSpec
from heteroscale.entities.service import AcceleratorOption, Pause
from heteroscale.entities.state import ServiceState
from heteroscale.policy.guard import Guarded, Leave, guard, leave
from heteroscale.policy.sized import Freedom
from heteroscale.policy.window import Window
from tests.builders import H20, NOW_S, build_role, build_service
from tests.unit.policy.deciding import codes

IN, HOLD, OUT = Direction.IN, Direction.HOLD, Direction.OUT
LOCKED, WAITING, FREE = Freedom.LOCKED, Freedom.WAITING, Freedom.FREE
L20 = AcceleratorOption(type="L20", gpus=8, capacity=0.55)


def run(
    demand: float,
    base: float,
    *,
    highest: float | None = None,
    full: bool = True,
    grow: Freedom = FREE,
    shrink: Freedom = FREE,
    lowest: int = 1,
    most: int = 1000,
    pin: dict[str, int] | None = None,
    pause: Pause = Pause(),
    accelerators: tuple[AcceleratorOption, ...] = (H20,),
    **rules: Any,
) -> Guarded:
    leaf = build_role("decode", min_replicas=lowest, max_replicas=most, accelerators=accelerators)
    spec = build_service(
        roles=(build_role("prefill"), leaf), guard=GuardSpec(**rules), pin=pin, pause=pause
    )
    direction = Direction((demand > base) - (demand < base))
    window = Window(
        entries=((NOW_S - 60.0, demand if highest is None else highest),),
        since_s=NOW_S - 200.0,
        full=full,
    )
    state = ServiceState(scale_out_until_s=NOW_S + 30.0, scale_in_until_s=NOW_S + 90.0)
    asked = Recommendation(source="s", direction=direction, demand=demand, reasons=())
    return guard(spec, leaf, state, asked, base, window, Leave(grow=grow, shrink=shrink), NOW_S)


@pytest.mark.parametrize(
    ("demand", "base", "fields", "capacity", "why"),
    [
        pytest.param(10.0, 10.0, {}, 10, [], id="nothing asked"),
        pytest.param(9.4, 9.4, {}, 9, [], id="a fractional supply is kept, rounded down"),
        pytest.param(11.2, 10.0, {}, 12, ["scale_out"], id="out, rounded up"),
        pytest.param(11.0000000001, 10.0, {}, 11, ["scale_out"], id="out, but not for noise"),
        pytest.param(30.0, 10.0, {}, 15, ["step_limit", "scale_out"], id="out, half at most"),
        pytest.param(9.0, 1.0, {}, 2, ["step_limit", "scale_out"], id="out by one at least"),
        pytest.param(
            14.0, 10.0, {"damping_out": 0.5}, 12, ["damped", "scale_out"], id="out, damped"
        ),
        pytest.param(
            12.0, 10.0, {"damping_out": 0.1}, 11, ["damped", "scale_out"], id="damped to one"
        ),
        pytest.param(
            11.0, 10.0, {"damping_out": 0.1}, 11, ["scale_out"], id="one is not damped away"
        ),
        pytest.param(5.0, 10.0, {"step_in": 1.0}, 5, ["scale_in"], id="in"),
        pytest.param(4.2, 10.0, {"step_in": 1.0}, 5, ["scale_in"], id="in, rounded up"),
        pytest.param(4.0, 40.0, {}, 36, ["step_limit", "scale_in"], id="in, a tenth at most"),
        pytest.param(4.0, 8.0, {}, 7, ["step_limit", "scale_in"], id="in by one at least"),
        pytest.param(
            5.0,
            25.0,
            {"step_in": 1.0, "damping_in": 0.25},
            20,
            ["damped", "scale_in"],
            id="in, damped",
        ),
        pytest.param(4.4, 5.0, {}, 5, ["rounded_away"], id="less than an instance to give back"),
        pytest.param(
            5.0, 10.0, {"highest": 9.0, "step_in": 1.0}, 9, ["scale_in"], id="the window's highest"
        ),
        pytest.param(5.0, 10.0, {"highest": 10.0}, 10, ["window"], id="the window forbids"),
        pytest.param(5.0, 10.0, {"full": False}, 10, ["window_filling"], id="not full yet"),
        pytest.param(
            5.0,
            10.1,
            {"accelerators": (H20, L20)},
            9,
            ["step_limit", "scale_in"],
            id="rounding does not eat the whole step",
        ),
        pytest.param(
            9.0, 9.55, {"accelerators": (H20, L20)}, 9, ["scale_in"], id="the small one goes"
        ),
        pytest.param(
            9.2,
            9.55,
            {"accelerators": (H20, L20)},
            9,
            ["rounded_away"],
            id="the small one is needed",
        ),
        pytest.param(15.0, 10.0, {"grow": WAITING}, 10, ["cool_down_out"], id="out waits"),
        pytest.param(5.0, 10.0, {"shrink": WAITING}, 10, ["cool_down_in"], id="in waits"),
        pytest.param(15.0, 10.0, {"grow": LOCKED}, 10, ["frozen"], id="frozen"),
        pytest.param(
            15.0,
            10.0,
            {"grow": LOCKED, "pause": Pause(scale_out=True)},
            10,
            ["paused_out"],
            id="out is paused",
        ),
        pytest.param(
            5.0,
            10.0,
            {"shrink": LOCKED, "pause": Pause(scale_in=True)},
            10,
            ["paused_in"],
            id="in is paused",
        ),
        pytest.param(
            15.0, 10.0, {"most": 12}, 12, ["scale_out", "above_maximum"], id="up to the maximum"
        ),
        pytest.param(
            2.0,
            10.0,
            {"lowest": 9, "step_in": 1.0},
            9,
            ["scale_in", "below_minimum"],
            id="down to the minimum",
        ),
        pytest.param(
            3.0, 3.0, {"lowest": 5, "grow": WAITING}, 5, ["below_minimum"], id="bounds pass waits"
        ),
        pytest.param(
            3.0,
            3.0,
            {"lowest": 5, "grow": LOCKED},
            3,
            ["below_minimum", "frozen"],
            id="but no freeze",
        ),
        pytest.param(
            9.0,
            9.0,
            {"most": 5, "shrink": LOCKED, "pause": Pause(scale_in=True)},
            9,
            ["above_maximum", "paused_in"],
            id="and no pause",
        ),
        pytest.param(15.0, 10.0, {"pin": {"decode": 10}}, 10, ["scale_out", "pinned"], id="pinned"),
        pytest.param(
            10.0,
            10.0,
            {"pin": {"decode": 20}, "most": 12, "grow": WAITING},
            12,
            ["pinned", "above_maximum"],
            id="pinned beyond a bound",
        ),
    ],
)
def test_guard(
    demand: float, base: float, fields: dict[str, Any], capacity: int, why: list[str]
) -> None:
    guarded = run(demand, base, **fields)
    assert (guarded.capacity, codes(guarded.reasons)) == (capacity, why)
    kept = int(base)
    assert guarded.direction is Direction((capacity > kept) - (capacity < kept))


@pytest.mark.parametrize(
    ("demand", "fields", "forced"),
    [
        pytest.param(9.0, {"most": 5, "shrink": WAITING}, True, id="above its maximum"),
        pytest.param(9.0, {"pin": {"decode": 4}}, True, id="pinned below"),
        pytest.param(2.0, {}, False, id="the load asks"),
        pytest.param(9.0, {"pin": {"decode": 12}}, False, id="pinned above is no scale-in"),
        pytest.param(9.0, {"most": 5, "shrink": LOCKED}, False, id="frozen"),
    ],
)
def test_what_the_operator_forces(demand: float, fields: dict[str, Any], forced: bool) -> None:
    assert run(demand, 9.0, **fields).forced is forced


@pytest.mark.parametrize(
    ("demand", "fields", "asks"),
    [
        pytest.param(5.0, {}, True, id="free"),
        pytest.param(5.0, {"shrink": WAITING}, True, id="a collapse, in its cool-down"),
        pytest.param(5.1, {"shrink": WAITING}, False, id="an evening, in its cool-down"),
        pytest.param(9.0, {}, True, id="an evening, free"),
        pytest.param(5.0, {"shrink": LOCKED}, False, id="paused or frozen"),
        pytest.param(5.0, {"lowest": 10}, False, id="at its minimum"),
        pytest.param(5.0, {"pin": {"decode": 10}}, False, id="pinned where it is"),
        pytest.param(5.0, {"full": False}, False, id="the window fills"),
        pytest.param(5.0, {"highest": 10.0}, False, id="needed just now"),
        pytest.param(10.0, {}, False, id="nothing asked"),
        pytest.param(15.0, {}, False, id="more asked"),
        pytest.param(10.0, {"most": 5}, False, id="only the operator asks"),
    ],
)
def test_who_asks_for_scale_in_before_its_wait(
    demand: float, fields: dict[str, Any], asks: bool
) -> None:
    assert run(demand, 10.0, **fields).asks_in is asks


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, Leave(grow=FREE, shrink=FREE), id="free"),
        pytest.param({"frozen": True}, Leave(grow=LOCKED, shrink=LOCKED), id="frozen"),
        pytest.param({"blocked": True}, Leave(grow=FREE, shrink=WAITING), id="unknown"),
        pytest.param({"full": False}, Leave(grow=FREE, shrink=WAITING), id="window not full"),
        pytest.param(
            {"state": ServiceState(scale_in_until_s=NOW_S + 1.0)},
            Leave(grow=FREE, shrink=WAITING),
            id="scale-in waits",
        ),
        pytest.param(
            {"state": ServiceState(scale_out_until_s=NOW_S + 1.0)},
            Leave(grow=WAITING, shrink=FREE),
            id="scale-out waits",
        ),
        pytest.param(
            {"state": ServiceState(scale_out_until_s=NOW_S, scale_in_until_s=NOW_S)},
            Leave(grow=FREE, shrink=FREE),
            id="the deadline itself is free",
        ),
        pytest.param(
            {"pause": Pause(scale_out=True)}, Leave(grow=LOCKED, shrink=FREE), id="out paused"
        ),
        pytest.param(
            {"pause": Pause(scale_in=True)}, Leave(grow=FREE, shrink=LOCKED), id="in paused"
        ),
    ],
)
def test_leave(fields: dict[str, Any], expected: Leave) -> None:
    spec = build_service(pause=fields.pop("pause", Pause()))
    given: dict[str, Any] = {
        "state": ServiceState(),
        "now_s": NOW_S,
        "frozen": False,
        "blocked": False,
        "full": True,
    } | fields
    state = given.pop("state")
    assert leave(spec, state, **given) == expected


def test_reasons_carry_the_time_left() -> None:
    (out,) = run(15.0, 10.0, grow=WAITING).reasons
    (back,) = run(5.0, 10.0, shrink=WAITING).reasons
    assert (out.figures, back.figures) == ({"left_s": 30.0}, {"left_s": 90.0})
