from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.entities.decision import Direction
from heteroscale.entities.policy import (
    FeedbackSpec,
    GuardSpec,
    OnlineRatioSpec,
    RatioSpec,
    ScheduleSpec,
)
from heteroscale.entities.service import AcceleratorOption, Pause
from heteroscale.entities.snapshot import InstanceState, Signal
from heteroscale.entities.state import FeedbackState, MixPoint, ServiceState
from heteroscale.policy.sized import Freedom
from tests.builders import (
    BY_DECODE_TPS,
    H20,
    NOW_S,
    build_instances,
    build_readings,
    build_role,
    build_service,
    build_snapshot,
    build_state,
)
from tests.unit.policy.deciding import codes, decide, run_size

IN, HOLD, OUT = Direction.IN, Direction.HOLD, Direction.OUT


@pytest.mark.parametrize(
    ("load_tps", "fields", "capacity", "why"),
    [
        pytest.param(10_000.0, {}, (10, 10), ["proportional", "within_tolerance"], id="steady"),
        pytest.param(
            13_000.0, {}, (13, 13), ["proportional", "scale_out", "follows"], id="more load"
        ),
        pytest.param(
            6_000.0,
            {},
            (9, 9),
            ["proportional", "step_limit", "scale_in", "follows"],
            id="less load",
        ),
        pytest.param(
            6_000.0,
            {"ttft_s": 3.0},
            (10, 10),
            ["proportional", "censored"],
            id="decode TPS falls because prefill is the bottleneck",
        ),
        pytest.param(None, {}, (10, 10), ["unknown"], id="a blackout of the metrics"),
    ],
)
def test_a_tick(
    load_tps: float | None, fields: dict[str, Any], capacity: tuple[int, int], why: list[str]
) -> None:
    snapshot = build_snapshot(load_tps, prefill=10, decode=10, **fields)
    decision, _ = decide(build_service(), snapshot)
    assert (decision.capacity["prefill"], decision.capacity["decode"]) == capacity
    assert codes(decision.reasons) == why


def test_the_memory_folds() -> None:
    state = build_state(window=((NOW_S - 100.0, 9.0),), restores=2)
    _, after = decide(build_service(), build_snapshot(6_000.0, prefill=10, decode=10), state)
    assert after == replace(
        state,
        window=((NOW_S - 100.0, 9.0), (NOW_S, 6.0)),
        window_fed_s=NOW_S,
        ratio_seen={"prefill": 1, "decode": 1},
    )


def test_the_memory_folds_also_when_frozen() -> None:
    decision, after = decide(
        build_service(), build_snapshot(15_000.0, prefill=10, decode=4), frozen=True
    )
    assert decision.capacity == {"prefill": 10, "decode": 4}
    assert codes(decision.reasons) == ["proportional", "frozen", "surplus_waits"]
    assert after.window == ((NOW_S, 15.0),)


def test_frozen_says_so_even_when_nothing_is_asked() -> None:
    decision, _ = decide(
        build_service(), build_snapshot(10_000.0, prefill=10, decode=10), frozen=True
    )
    assert codes(decision.reasons) == ["proportional", "within_tolerance", "frozen"]


@pytest.mark.parametrize(
    ("state", "why"),
    [
        pytest.param(build_state(scale_in_until_s=NOW_S + 9.0), "cool_down_in", id="cool-down"),
        pytest.param(build_state(fed_s=299.0), "window_filling", id="restored after a gap"),
        pytest.param(build_state(window=((NOW_S - 9.0, 10.0),)), "window", id="needed just now"),
    ],
)
def test_scale_in_waits(state: ServiceState, why: str) -> None:
    decision, _ = decide(build_service(), build_snapshot(5000.0, prefill=10, decode=10), state)
    assert (decision.direction, codes(decision.reasons)[-1]) == (HOLD, why)


def test_a_pause_stops_a_pin() -> None:
    spec = build_service(pin={"decode": 12}, pause=Pause(scale_out=True))
    decision, _ = decide(spec, build_snapshot(10_000.0, prefill=10, decode=10))
    assert decision.capacity == {"prefill": 10, "decode": 10}
    assert codes(decision.reasons)[-2:] == ["pinned", "paused_out"]


def test_a_pin_passes_every_wait() -> None:
    spec = build_service(pin={"decode": 5, "prefill": 5})
    decision, _ = decide(spec, build_snapshot(None, prefill=10, decode=10), ServiceState())
    assert (decision.direction, decision.capacity) == (IN, {"prefill": 5, "decode": 5})


def test_nothing_ready_keeps_what_was_asked_for() -> None:
    instances = tuple(
        one
        for role in ("decode", "prefill")
        for one in build_instances(role, 4, InstanceState.PENDING)
    )
    decision, _ = decide(build_service(), build_snapshot(0.0, instances=instances))
    assert (decision.direction, decision.capacity) == (HOLD, {"prefill": 4, "decode": 4})
    assert codes(decision.reasons) == ["proportional", "nothing_ready"]


def test_from_nothing_the_minimum_is_started() -> None:
    roles = (build_role("prefill", min_replicas=3), build_role("decode", min_replicas=2))
    decision, _ = decide(build_service(roles=roles), build_snapshot(None), ServiceState())
    assert (decision.direction, decision.capacity) == (OUT, {"prefill": 3, "decode": 2})


def test_unlisted_accelerators_are_told() -> None:
    instances = (
        *build_instances("decode", 10),
        *build_instances("prefill", 10),
        *build_instances("decode", 2, accelerator="A100"),
    )
    decision, _ = decide(build_service(), build_snapshot(10_000.0, instances=instances))
    assert decision.reasons[0].figures == {"role": "decode", "accelerator": "A100", "replicas": 2}


def test_mixed_accelerators_are_counted_by_capacity() -> None:
    small = AcceleratorOption(type="L20", gpus=8, capacity=0.55)
    roles = (build_role("prefill"), build_role("decode", accelerators=(H20, small)))
    instances = (
        *build_instances("decode", 9),
        *build_instances("decode", 1, accelerator="L20"),
        *build_instances("prefill", 10),
    )
    sized, _ = run_size(build_service(roles=roles), build_snapshot(9_550.0, instances=instances))
    assert (sized.direction, sized.anchor_capacity) == (HOLD, 9)
    assert sized.supply == {"prefill": 10.0, "decode": 9.55}


def test_a_step_of_feedback_is_remembered_only_if_it_happens() -> None:
    spec = build_service(feedback=(FeedbackSpec(signal=Signal.TTFT),))
    snapshot = build_snapshot(readings=build_readings(ttft_s=1.5), prefill=10, decode=10)
    decision, after = decide(spec, snapshot)
    assert decision.capacity == {"prefill": 12, "decode": 12}
    assert after.feedback == {"ttft_s": FeedbackState(step_to=12.0, step_until_s=NOW_S + 600.0)}
    decision, after = decide(spec, snapshot, build_state(scale_out_until_s=NOW_S + 9.0))
    assert (decision.direction, after.feedback) == (HOLD, {"ttft_s": FeedbackState()})


def test_a_step_of_feedback_that_was_not_applied_is_asked_again_at_the_next_tick() -> None:
    spec = build_service(feedback=(FeedbackSpec(signal=Signal.TTFT),))
    snapshot = build_snapshot(readings=build_readings(ttft_s=1.5), prefill=10, decode=10)
    first, state = decide(spec, snapshot)
    again, after = decide(spec, snapshot, state, now_s=NOW_S + 15.0)
    assert (again.capacity, again.reasons) == (first.capacity, first.reasons)
    assert after.feedback == {"ttft_s": FeedbackState(step_to=12.0, step_until_s=NOW_S + 615.0)}


def test_low_latency_alone_holds_but_lets_a_surplus_go() -> None:
    spec = build_service(feedback=(FeedbackSpec(signal=Signal.TTFT),))
    snapshot = build_snapshot(readings=build_readings(ttft_s=0.5), prefill=15, decode=10)
    decision, _ = decide(spec, snapshot)
    assert decision.capacity == {"prefill": 14, "decode": 10}
    assert codes(decision.reasons) == ["nothing_asked", "surplus"]


def test_one_reason_is_told_once() -> None:
    feedback = (FeedbackSpec(signal=Signal.TTFT), FeedbackSpec(signal=Signal.TBT))
    spec = build_service(proportional=(BY_DECODE_TPS,), feedback=feedback)
    decision, _ = decide(spec, build_snapshot(5000.0, ttft_s=None, prefill=10, decode=10))
    assert codes(decision.reasons) == ["unknown", "proportional"]


DAY = ScheduleSpec(
    name="day",
    timezone="UTC",
    days=(2,),
    start_s=22 * 3600,
    end_s=23 * 3600,
    replicas={"prefill": 20, "decode": 10},
)
UTC = {"UTC": 0}


def test_a_schedule_sets_counts_and_ratio_in_bounded_moves() -> None:
    spec = build_service(schedules=(DAY,))
    state = build_state(ratio_seen={"prefill": 1, "decode": 1})
    snapshot = build_snapshot(prefill=10, decode=10)
    decision, after = decide(spec, snapshot, state, utc_offsets_s=UTC)
    assert decision.capacity == {"prefill": 11, "decode": 10}
    assert decision.ratio == {"prefill": 2, "decode": 1}
    assert codes(decision.reasons) == ["ratio_changed", "schedule", "short"]
    assert decision.reasons[0].figures == {
        "before": "1 prefill, 1 decode",
        "after": "2 prefill, 1 decode",
    }
    assert (after.ratio_seen, after.ratio_moving) == ({"prefill": 2, "decode": 1}, True)
    # The move goes on until the counts have arrived, and a later loss is replaced whole.
    _, after = decide(spec, build_snapshot(prefill=15, decode=10), after, utc_offsets_s=UTC)
    assert after.ratio_moving is True
    _, after = decide(spec, build_snapshot(prefill=19, decode=10), after, utc_offsets_s=UTC)
    assert after.ratio_moving is False
    decision, _ = decide(spec, build_snapshot(prefill=10, decode=10), after, utc_offsets_s=UTC)
    assert decision.capacity == {"prefill": 20, "decode": 10}


@pytest.mark.parametrize(
    ("bounds", "pin", "prefill"),
    [
        pytest.param({"max_replicas": 12}, {}, 12, id="a maximum"),
        pytest.param({"min_replicas": 30}, {}, 30, id="a minimum"),
        pytest.param({}, {"prefill": 5}, 5, id="a pin"),
        pytest.param({"max_replicas": 7}, {"prefill": 9}, 7, id="a pin beyond a bound"),
    ],
)
def test_a_changed_ratio_has_arrived_where_the_operator_keeps_it_broken(
    bounds: dict[str, Any], pin: dict[str, int], prefill: int
) -> None:
    roles = (build_role("prefill", **bounds), build_role("decode"))
    spec = build_service(roles=roles, pin=pin, schedules=(DAY,))
    state = build_state(ratio_seen={"prefill": 1, "decode": 1})
    away = build_snapshot(prefill=prefill + 5, decode=10)
    _, after = decide(spec, away, state, utc_offsets_s=UTC)
    assert after.ratio_moving is True
    there = build_snapshot(prefill=prefill, decode=10)
    _, after = decide(spec, there, after, utc_offsets_s=UTC)
    assert after.ratio_moving is False


def test_outside_every_period_a_scheduled_service_holds() -> None:
    spec = build_service(schedules=(replace(DAY, days=(3,)),))
    decision, after = decide(spec, build_snapshot(prefill=30, decode=10), utc_offsets_s=UTC)
    assert decision.capacity == {"prefill": 30, "decode": 10}
    assert codes(decision.reasons) == ["nothing_asked", "surplus_waits"]
    assert after.ratio_seen == {"prefill": 1, "decode": 1}


def test_a_scheduled_service_scales_in_when_a_smaller_period_begins() -> None:
    spec = build_service(schedules=(DAY,), guard=GuardSpec(step_in=1.0))
    decision, _ = decide(spec, build_snapshot(prefill=40, decode=20), utc_offsets_s=UTC)
    assert decision.capacity == {"prefill": 20, "decode": 10}


@pytest.mark.parametrize(
    ("seen", "ratio"),
    [
        pytest.param({"prefill": 2, "decode": 1}, {"prefill": 2, "decode": 1}, id="stays"),
        pytest.param({}, {"prefill": 1, "decode": 1}, id="never known"),
        pytest.param({"encode": 1}, {"prefill": 1, "decode": 1}, id="of other roles"),
    ],
)
def test_while_local_time_is_unknown_the_ratio_stays(
    seen: dict[str, int], ratio: dict[str, int]
) -> None:
    spec = build_service(schedules=(DAY,))
    state = build_state(ratio_seen=seen)
    sized, _ = run_size(spec, build_snapshot(prefill=20, decode=10), state)
    assert (sized.ratio, sized.shrink) == (ratio, Freedom.WAITING)


def test_the_online_ratio_is_in_force() -> None:
    online = OnlineRatioSpec(capacity_tps={"prefill": 1000.0, "decode": 1000.0}, parts=16)
    spec = build_service(ratio=RatioSpec(online=online))
    loads = {"prefill": 20_000.0, "decode": 10_000.0}
    mix = (MixPoint(at_s=NOW_S - 1790.0, samples=1, loads_tps=loads),)
    snapshot = build_snapshot(10_000.0, prefill_tps=20_000.0, prefill=10, decode=10)
    decision, after = decide(spec, snapshot, build_state(mix=mix))
    assert decision.ratio == after.ratio == {"prefill": 9, "decode": 7}
    assert codes(decision.reasons)[0] == "ratio_share_moved"
    assert after.ratio_until_s == NOW_S + online.wait_s
    frozen, _ = decide(spec, snapshot, build_state(mix=mix), frozen=True)
    assert frozen.ratio == {"prefill": 1, "decode": 1}


def test_without_the_online_ratio_its_memory_goes() -> None:
    state = build_state(ratio={"prefill": 3, "decode": 1}, ratio_until_s=NOW_S)
    decision, after = decide(
        build_service(), build_snapshot(10_000.0, prefill=10, decode=10), state
    )
    assert decision.ratio == {"prefill": 1, "decode": 1}
    assert (after.ratio, after.ratio_until_s) == ({}, 0.0)
