from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.entities.action import Effect
from heteroscale.entities.decision import Direction, Recommendation
from heteroscale.entities.policy import FeedbackSpec
from heteroscale.entities.snapshot import Instance, InstanceState, Reading, Signal, UnknownCause
from heteroscale.entities.state import FeedbackState, PendingAction, ServiceState
from heteroscale.policy.feedback import recommend, remember
from tests.builders import NOW_S, build_instances, build_service, build_snapshot
from tests.unit.policy.deciding import codes, situate

IN, HOLD, OUT = Direction.IN, Direction.HOLD, Direction.OUT


def ask(
    *readings: Reading, state: FeedbackState | None = None, decode: int = 10, **fields: Any
) -> tuple[Recommendation, ...]:
    spec = build_service(feedback=(FeedbackSpec(signal=Signal.TTFT, **fields),))
    snapshot = build_snapshot(readings=readings, prefill=10, decode=decode)
    memory = ServiceState(feedback={} if state is None else {"ttft_s": state})
    return recommend(situate(spec, snapshot, memory))


def ttft(value: float | None, cause: UnknownCause | None = None, role: str = "prefill") -> Reading:
    return Reading(signal=Signal.TTFT, role=role, value=value, cause=cause)


ZERO = Reading(signal=Signal.TPS, role="decode", value=0.0)
BUSY = Reading(signal=Signal.TPS, role="decode", value=9.0)
STALE = ttft(None, UnknownCause.STALE, role="encode")


@pytest.mark.parametrize(
    ("readings", "direction", "demand", "code"),
    [
        pytest.param((ttft(2.0),), OUT, 12.0, "feedback_out", id="far above the SLO"),
        pytest.param((ttft(1.2),), OUT, 12.0, "feedback_out", id="the highest tier reached"),
        pytest.param((ttft(1.15),), OUT, 11.0, "feedback_out", id="the first tier"),
        pytest.param((ttft(1.09),), HOLD, 10.0, "feedback_hold", id="between low and first tier"),
        pytest.param((ttft(0.81),), HOLD, 10.0, "feedback_hold", id="just above low"),
        pytest.param((), HOLD, 10.0, "unknown", id="missing"),
        pytest.param((ttft(None, UnknownCause.NO_EVENTS), BUSY), HOLD, 10.0, "unknown", id="stuck"),
        pytest.param((ttft(0.5), STALE), HOLD, 10.0, "unknown", id="low, but one role is unknown"),
        pytest.param((ttft(1.5), STALE), OUT, 12.0, "feedback_out", id="high is enough to grow"),
    ],
)
def test_tiers(
    readings: tuple[Reading, ...], direction: Direction, demand: float, code: str
) -> None:
    (asked,) = ask(*readings)
    assert (asked.source, asked.direction, asked.blocks) == ("feedback ttft_s", direction, True)
    assert asked.demand == pytest.approx(demand)
    assert codes(asked.reasons) == [code]


@pytest.mark.parametrize(
    "readings",
    [
        pytest.param((ttft(0.8),), id="low"),
        pytest.param((ttft(None, UnknownCause.NO_EVENTS), ZERO), id="nothing to measure"),
    ],
)
def test_low_latency_has_nothing_to_say(readings: tuple[Reading, ...]) -> None:
    assert ask(*readings) == ()


LOW = FeedbackState(low_since_s=NOW_S - 600.0)


@pytest.mark.parametrize(
    ("state", "step_in", "demands"),
    [
        pytest.param(LOW, 0.05, [9.5], id="low for long enough"),
        pytest.param(LOW, 0.0, [], id="a safety net only"),
        pytest.param(FeedbackState(low_since_s=NOW_S - 599.0), 0.05, [], id="not long enough"),
        pytest.param(None, 0.05, [], id="low for the first time"),
    ],
)
def test_giving_back(state: FeedbackState | None, step_in: float, demands: list[float]) -> None:
    asked = ask(ttft(0.5), state=state, step_in=step_in)
    assert [one.demand for one in asked] == pytest.approx(demands)
    assert all(one.direction is IN and not one.blocks for one in asked)


def decoding(
    ready: int, coming: int = 0, state: InstanceState = InstanceState.PENDING
) -> tuple[Instance, ...]:
    """Ten prefill, and decode that is ready or on its way."""
    return (
        *build_instances("decode", ready),
        *build_instances("decode", coming, state, first=ready),
        *build_instances("prefill", 10),
    )


def sent(effect: Effect) -> PendingAction:
    return PendingAction(
        action_id="a",
        sent_s=NOW_S - 15.0,
        out_until_before_s=0.0,
        in_until_before_s=0.0,
        targets=(),
        versions=(),
        effect=effect,
    )


@pytest.mark.parametrize(
    ("instances", "pending", "until_s", "direction"),
    [
        pytest.param(decoding(10, 2), (), NOW_S + 1.0, HOLD, id="on its way"),
        pytest.param(decoding(10, 2, InstanceState.STARTING), (), NOW_S + 1.0, HOLD, id="starting"),
        pytest.param(decoding(10), (sent(Effect.OUT),), NOW_S + 1.0, HOLD, id="sent, not seen yet"),
        pytest.param(decoding(12), (), NOW_S + 1.0, OUT, id="ready"),
        pytest.param(decoding(10, 2), (), NOW_S, OUT, id="timed out"),
        pytest.param(decoding(10), (), NOW_S + 1.0, OUT, id="refused, or never sent"),
        pytest.param(decoding(10, 1), (), NOW_S + 1.0, OUT, id="only half of it came"),
        pytest.param(decoding(10), (sent(Effect.UPKEEP),), NOW_S + 1.0, OUT, id="another was sent"),
    ],
)
def test_the_next_step_waits_for_the_last_while_that_is_under_way(
    instances: tuple[Instance, ...],
    pending: tuple[PendingAction, ...],
    until_s: float,
    direction: Direction,
) -> None:
    spec = build_service(feedback=(FeedbackSpec(signal=Signal.TTFT),))
    step = FeedbackState(step_to=12.0, step_until_s=until_s)
    memory = ServiceState(feedback={"ttft_s": step}, pending=pending)
    snapshot = build_snapshot(readings=(ttft(2.0),), instances=instances)
    (asked,) = recommend(situate(spec, snapshot, memory))
    assert (asked.direction, asked.blocks) == (direction, True)


@pytest.mark.parametrize(
    ("states", "direction"),
    [
        pytest.param({"failed": 2}, OUT, id="all of the step has failed"),
        pytest.param({"failed": 1, "starting": 1}, OUT, id="a part of it has"),
        pytest.param({"failed": 1, "starting": 2}, HOLD, id="what failed is replaced already"),
        pytest.param({"failed": 1, "pending": 2}, HOLD, id="and waits for GPUs"),
    ],
)
def test_a_step_that_failed_is_not_waited_for(states: dict[str, int], direction: Direction) -> None:
    spec = build_service(feedback=(FeedbackSpec(signal=Signal.TTFT),))
    coming = [
        one
        for first, (state, count) in enumerate(states.items(), start=1)
        for one in build_instances("decode", count, InstanceState(state), first=10 * first)
    ]
    snapshot = build_snapshot(readings=(ttft(2.0),), prefill=10, decode=10)
    snapshot = replace(snapshot, instances=(*snapshot.instances, *coming))
    memory = ServiceState(feedback={"ttft_s": FeedbackState(step_to=12.0, step_until_s=NOW_S + 1)})
    situation = situate(spec, snapshot, memory)
    (asked,) = recommend(situation)
    assert asked.direction is direction
    kept = remember(situation, (asked,), None)["ttft_s"]
    assert (kept.step_to is None) == (direction is OUT)


def after(
    value: float, state: FeedbackState | None, wanted: float | None, decode: int = 10
) -> FeedbackState:
    spec = build_service(feedback=(FeedbackSpec(signal=Signal.TTFT),))
    snapshot = build_snapshot(readings=(ttft(value),), instances=decoding(decode, 12 - decode))
    memory = ServiceState(feedback={} if state is None else {"ttft_s": state})
    situation = situate(spec, snapshot, memory)
    return remember(situation, recommend(situation), wanted)["ttft_s"]


WAITING = FeedbackState(step_to=12.0, step_until_s=NOW_S + 60.0)
STEPPED = FeedbackState(step_to=12.0, step_until_s=NOW_S + 600.0)


@pytest.mark.parametrize(
    ("value", "state", "wanted", "decode", "expected"),
    [
        pytest.param(1.5, None, 12.0, 10, STEPPED, id="a step that follows is waited for"),
        pytest.param(1.5, None, 15.0, 10, STEPPED, id="also when more follows for another reason"),
        pytest.param(
            1.5,
            None,
            11.0,
            10,
            FeedbackState(step_to=11.0, step_until_s=NOW_S + 600.0),
            id="as far as it was allowed",
        ),
        pytest.param(1.5, None, None, 10, FeedbackState(), id="a step that was stopped is not"),
        pytest.param(1.0, None, 15.0, 10, FeedbackState(), id="nor is another's scale-out"),
        pytest.param(1.5, WAITING, None, 10, WAITING, id="waiting goes on"),
        pytest.param(1.0, WAITING, None, 12, FeedbackState(), id="until it is ready"),
        pytest.param(0.5, None, None, 10, FeedbackState(low_since_s=NOW_S), id="low from now on"),
        pytest.param(0.5, LOW, None, 10, LOW, id="still low"),
        pytest.param(0.9, LOW, None, 10, FeedbackState(), id="no longer low"),
    ],
)
def test_memory(
    value: float,
    state: FeedbackState | None,
    wanted: float | None,
    decode: int,
    expected: FeedbackState,
) -> None:
    assert after(value, state, wanted, decode) == expected
