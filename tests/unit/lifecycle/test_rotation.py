from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import pytest

from heteroscale.entities.policy import LifecycleSpec
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.lifecycle.rotation import (
    NOT_WATCHED,
    TRANSITIONS,
    Cue,
    Memory,
    Move,
    Occasion,
    Turn,
    Watch,
    chosen,
    completed,
    ordered_out,
    restorable,
    rotate,
    unplaced,
)
from tests.builders import NOW_S, build_instances, build_role, build_service

RULES = LifecycleSpec(observe_s=300.0, unknown_restore_s=120.0, drain_timeout_s=600.0)
SPEC = build_service(lifecycle=RULES)
CALM = Watch(ratio=0.5, known=True)
BLIND = Watch(ratio=None, known=False)
WITHDRAWN = build_instances("decode", 3, InstanceState.WITHDRAWN)
FIRST = WITHDRAWN[0].uid


def occasion(watch: Watch = CALM, **fields: object) -> Occasion:
    return Occasion(**{"now_s": NOW_S, "elapsed_s": 15.0, "watch": watch, **fields})  # type: ignore[arg-type]


def watched(seconds: float, unknown_since_s: float | None = None) -> Memory:
    observed = {one.uid: seconds for one in WITHDRAWN}
    return Memory(observed_s=observed, unknown_since_s=unknown_since_s)


def test_the_whole_table() -> None:
    moves = {
        (state.value, cue.value): TRANSITIONS[state, cue].value
        for state, cue in product(InstanceState, Cue)
        if (state, cue) in TRANSITIONS
    }
    assert moves == {
        ("pending", "chosen"): "remove",
        ("pending", "unplaced"): "remove",
        ("starting", "chosen"): "remove",
        ("ready", "chosen"): "withdraw",
        ("held", "chosen"): "withdraw",
        ("ready", "chosen_for_good"): "remove",
        ("held", "chosen_for_good"): "remove",
        ("withdrawn", "slo_degraded"): "restore",
        ("withdrawn", "unknown_too_long"): "restore",
        ("withdrawn", "cancelled"): "restore",
        ("withdrawn", "demand_returned"): "restore",
        ("withdrawn", "observed"): "drain",
        ("draining", "idle"): "remove",
        ("draining", "drain_timed_out"): "remove",
        ("failed", "broken"): "remove",
    }


def test_victims_begin_to_leave_by_what_they_are() -> None:
    states = (InstanceState.READY, InstanceState.PENDING, InstanceState.DRAINING)
    one, two, three = (
        replace(each, state=state)
        for each, state in zip(build_instances("decode", 3), states, strict=True)
    )
    assert chosen((one, two, three)) == (
        Turn(one, Move.WITHDRAW, Cue.CHOSEN),
        Turn(two, Move.REMOVE, Cue.CHOSEN),
    )


def test_a_victim_that_could_not_come_back_goes_at_once_for_nothing_is_gained_by_watching() -> None:
    ready, held, starting = (
        replace(each, state=state, reversible=False)
        for each, state in zip(
            build_instances("decode", 3),
            (InstanceState.READY, InstanceState.HELD, InstanceState.STARTING),
            strict=True,
        )
    )
    assert chosen((ready, held, starting)) == (
        Turn(ready, Move.REMOVE, Cue.CHOSEN_FOR_GOOD),
        Turn(held, Move.REMOVE, Cue.CHOSEN_FOR_GOOD),
        Turn(starting, Move.REMOVE, Cue.CHOSEN),
    )


@pytest.mark.parametrize(
    ("memory", "when", "move", "cue"),
    [
        pytest.param(watched(0.0), occasion(), None, None, id="watched for too short a time"),
        pytest.param(
            watched(285.0), occasion(), Move.DRAIN, Cue.OBSERVED, id="watched for long enough"
        ),
        pytest.param(Memory(), occasion(elapsed_s=999.0), None, None, id="not remembered: anew"),
        pytest.param(
            watched(999.0),
            occasion(Watch(ratio=1.0, known=True)),
            Move.RESTORE,
            Cue.SLO_DEGRADED,
            id="latency at its limit",
        ),
        pytest.param(
            watched(999.0),
            occasion(Watch(ratio=1.5, known=False)),
            Move.RESTORE,
            Cue.SLO_DEGRADED,
            id="one latency over its limit, the other unknown",
        ),
        pytest.param(watched(999.0), occasion(BLIND), None, None, id="unknown: the clock stands"),
        pytest.param(
            watched(9.0, NOW_S - 119.0), occasion(BLIND), None, None, id="unknown, not too long"
        ),
        pytest.param(
            watched(9.0, NOW_S - 120.0),
            occasion(BLIND),
            Move.RESTORE,
            Cue.UNKNOWN_TOO_LONG,
            id="unknown too long",
        ),
        pytest.param(watched(9.0, NOW_S - 999.0), occasion(), None, None, id="known again in time"),
        pytest.param(
            watched(999.0),
            occasion(cancelled=True),
            Move.RESTORE,
            Cue.CANCELLED,
            id="scale-in is paused",
        ),
        pytest.param(
            watched(999.0),
            occasion(returned={"decode": 3.0}),
            Move.RESTORE,
            Cue.DEMAND_RETURNED,
            id="all the demand is back",
        ),
        pytest.param(watched(999.0), occasion(frozen=True), None, None, id="frozen: no drain"),
        pytest.param(
            watched(9.0),
            occasion(Watch(ratio=2.0, known=True), frozen=True),
            Move.RESTORE,
            Cue.SLO_DEGRADED,
            id="frozen: restored all the same",
        ),
        pytest.param(
            watched(999.0),
            occasion(blocked=frozenset(one.uid for one in WITHDRAWN)),
            None,
            None,
            id="not to be touched now",
        ),
        pytest.param(
            watched(285.0),
            occasion(
                Watch(ratio=2.0, known=False), ordered=frozenset(one.uid for one in WITHDRAWN)
            ),
            Move.DRAIN,
            Cue.OBSERVED,
            id="ordered by the operator: latency does not bring it back",
        ),
    ],
)
def test_withdrawn(memory: Memory, when: Occasion, move: Move | None, cue: Cue | None) -> None:
    turns, _ = rotate(SPEC, WITHDRAWN, memory, when)
    expected = () if move is None or cue is None else tuple(Turn(i, move, cue) for i in WITHDRAWN)
    assert turns == expected


def test_demand_brings_back_no_more_than_it_needs_lowest_ordinals_first() -> None:
    turns, _ = rotate(SPEC, WITHDRAWN, watched(0.0), occasion(returned={"decode": 1.5}))
    assert [turn.instance.ordinal for turn in turns] == [0, 1]
    blocked = occasion(returned={"decode": 1.0}, blocked={FIRST})
    turns, _ = rotate(SPEC, WITHDRAWN, watched(0.0), blocked)
    assert [turn.instance.ordinal for turn in turns] == [1]


@pytest.mark.parametrize(
    ("memory", "watch", "observed_s", "unknown_since_s"),
    [
        pytest.param(watched(30.0), CALM, 45.0, None, id="known time adds up"),
        pytest.param(watched(30.0), BLIND, 30.0, NOW_S, id="unknown time does not"),
        pytest.param(watched(30.0, 5.0), BLIND, 30.0, 5.0, id="unknown since the first time"),
        pytest.param(watched(30.0, 5.0), CALM, 45.0, None, id="known again"),
        pytest.param(Memory(), CALM, 0.0, None, id="seen for the first time"),
        pytest.param(
            watched(30.0), Watch(ratio=1.2, known=True), 30.0, None, id="degraded time does not"
        ),
    ],
)
def test_the_observation_clock(
    memory: Memory, watch: Watch, observed_s: float, unknown_since_s: float | None
) -> None:
    _, after = rotate(SPEC, WITHDRAWN, memory, occasion(watch))
    assert after == Memory(
        observed_s={one.uid: observed_s for one in WITHDRAWN}, unknown_since_s=unknown_since_s
    )


@pytest.mark.parametrize(
    ("requests", "since_s", "cue"),
    [
        pytest.param(0, NOW_S, Cue.IDLE, id="idle"),
        pytest.param(2, NOW_S - 599.0, None, id="busy"),
        pytest.param(None, NOW_S - 599.0, None, id="unknown is not idle"),
        pytest.param(2, NOW_S - 600.0, Cue.DRAIN_TIMED_OUT, id="busy too long"),
        pytest.param(None, NOW_S - 600.0, Cue.DRAIN_TIMED_OUT, id="unknown too long"),
    ],
)
def test_draining(requests: int | None, since_s: float, cue: Cue | None) -> None:
    one = build_instances("decode", 1, InstanceState.DRAINING)[0]
    one = replace(one, requests=requests, since_s=since_s)
    turns, after = rotate(SPEC, (one,), Memory(unknown_since_s=1.0), occasion(NOT_WATCHED))
    assert turns == (() if cue is None else (Turn(one, Move.REMOVE, cue),))
    # It is remembered until it is gone: that is how a completed scale-in is noticed.
    assert after == Memory(observed_s={one.uid: 0.0})


def test_the_failed_are_removed_and_others_are_left_alone() -> None:
    failed = build_instances("decode", 1, InstanceState.FAILED)
    others = build_instances("prefill", 1, InstanceState.STARTING)
    turns, after = rotate(SPEC, (*failed, *others), Memory(), occasion(NOT_WATCHED))
    assert turns == (Turn(failed[0], Move.REMOVE, Cue.BROKEN),)
    assert after == Memory()


def test_a_scale_in_is_complete_when_what_left_is_gone() -> None:
    ready = build_instances("decode", 3)
    gone = (*ready[:2], replace(ready[2], state=InstanceState.TERMINATED))
    assert not completed(Memory(), ready)
    assert not completed(watched(1.0), ready)
    assert completed(watched(1.0), ready[:2])
    assert completed(watched(1.0), gone)


def test_restorable_capacity_by_role() -> None:
    foreign = build_instances("decode", 1, InstanceState.WITHDRAWN, accelerator="A100")
    both: tuple[Instance, ...] = (*WITHDRAWN, *foreign, *build_instances("prefill", 2))
    assert restorable(SPEC, both) == {"decode": 3.0}


@pytest.mark.parametrize(
    ("pin", "supply", "ordinals"),
    [
        pytest.param({}, {"decode": 2.0}, [2], id="beyond the maximum of four"),
        pytest.param({"decode": 3}, {"decode": 2.0}, [1, 2], id="beyond the pin"),
        pytest.param({}, {}, [], id="room for all"),
    ],
)
def test_what_the_operator_ordered_out(
    pin: Mapping[str, int], supply: Mapping[str, float], ordinals: list[int]
) -> None:
    roles = (build_role("prefill"), build_role("decode", max_replicas=4))
    spec = build_service(roles=roles, pin=pin)
    uids = ordered_out(spec, (*WITHDRAWN, *build_instances("prefill", 1)), supply)
    assert uids == {WITHDRAWN[ordinal].uid for ordinal in ordinals}


@pytest.mark.parametrize(
    ("waited_s", "turns"),
    [
        pytest.param(599.0, [], id="still waited for"),
        pytest.param(600.0, [(Move.REMOVE, Cue.UNPLACED)], id="called off"),
    ],
)
def test_what_gets_no_node_is_called_off(waited_s: float, turns: list[tuple[Move, Cue]]) -> None:
    waiting = build_instances("decode", 1, InstanceState.PENDING)
    waiting = (replace(waiting[0], since_s=NOW_S - waited_s),)
    made, _ = rotate(SPEC, waiting, Memory(), occasion(NOT_WATCHED))
    assert [(turn.move, turn.cue) for turn in made] == turns
    assert unplaced(SPEC, waiting, NOW_S) == list(waiting)[: len(turns)]


def test_a_clock_set_back_does_not_put_off_a_restore() -> None:
    _, after = rotate(SPEC, WITHDRAWN, watched(0.0, NOW_S + 86_400.0), occasion(BLIND))
    assert after.unknown_since_s == NOW_S
