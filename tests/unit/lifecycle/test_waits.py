from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from heteroscale.entities.action import (
    Action,
    Effect,
    Outcome,
    OutcomeKind,
    Rotation,
    RotationAction,
    ScaleAction,
    target_of,
)
from heteroscale.entities.policy import GuardSpec
from heteroscale.entities.snapshot import InstanceState, ServiceSnapshot
from heteroscale.entities.state import PendingAction, ServiceState
from heteroscale.lifecycle.adoption import adopt
from heteroscale.lifecycle.waits import Settled, begin, blocked, restore_wait_s, settle, start_anew
from tests.builders import build_instances, build_snapshot

RULES = GuardSpec(cool_down_out_s=180.0, cool_down_in_s=600.0, restore_wait_max_s=2000.0)
PATIENCE_S = 75.0
SEEN = build_snapshot(prefill=2, decode=2)
#: nothing is left of the old versions
MOVED = ServiceSnapshot(
    instances=tuple(replace(one, version="2") for one in SEEN.instances),
    group_roles=tuple(replace(count, version="2") for count in SEEN.group_roles),
)


def grow(role: str = "decode") -> ScaleAction:
    return ScaleAction(
        id=f"grow-{role}",
        service="chat",
        subcluster="east",
        group="chat-a",
        role=role,
        accelerator="H20",
        domain=(),
        replicas=3,
        expected_replicas=2,
        version="1",
        effect=Effect.OUT,
    )


def rotate(to: Rotation, effect: Effect, ordinal: int = 0) -> RotationAction:
    return RotationAction(
        id=f"{to}-{ordinal}",
        service="chat",
        subcluster="east",
        uid=f"chat-a/decode/H20/{ordinal}",
        to=to,
        version="1",
        effect=effect,
    )


WITHDRAW = rotate(Rotation.WITHDRAWN, Effect.IN)
RESTORE = rotate(Rotation.READY, Effect.RESTORE)
DRAIN = rotate(Rotation.DRAINING, Effect.UPKEEP)


def began(*actions: Action, state: ServiceState = ServiceState()) -> ServiceState:
    return begin(state, actions, 1000.0, RULES)


def settled(
    state: ServiceState,
    snapshot: ServiceSnapshot = SEEN,
    outcomes: Sequence[Outcome] = (),
    now_s: float = 1015.0,
    unreachable: tuple[str, ...] = (),
) -> Settled:
    answers = {outcome.action_id: outcome for outcome in outcomes}
    return settle(state, snapshot, answers, unreachable, now_s, PATIENCE_S, RULES)


def answer(action: Action, kind: OutcomeKind, at_s: float = 1004.0) -> Outcome:
    return Outcome(action_id=action.id, service="chat", kind=kind, at_s=at_s)


def waits(state: ServiceState) -> tuple[float, float]:
    return (state.scale_out_until_s, state.scale_in_until_s)


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        pytest.param([grow()], (1180.0, 1600.0), id="scale-out starts both"),
        pytest.param([WITHDRAW], (0.0, 1600.0), id="scale-in starts its own only"),
        pytest.param([RESTORE], (0.0, 1600.0), id="a restore starts the scale-in wait"),
        pytest.param([DRAIN], (0.0, 0.0), id="upkeep starts none"),
        pytest.param([WITHDRAW, grow()], (1180.0, 1600.0), id="the later of all"),
    ],
)
def test_waits_begin_with_the_sending(actions: list[Action], expected: tuple[float, float]) -> None:
    assert waits(began(*actions)) == expected


def test_what_is_pending_says_how_to_go_back() -> None:
    state = ServiceState(scale_out_until_s=5.0, scale_in_until_s=7.0)
    after = began(grow(), WITHDRAW, state=state)
    common = {
        "sent_s": 1000.0,
        "out_until_before_s": 5.0,
        "in_until_before_s": 7.0,
        "versions": ("1",),
        "subcluster": "east",
    }
    assert after.pending == (
        PendingAction(
            action_id="grow-decode",
            targets=("east|chat-a|decode|H20",),
            role="decode",
            effect=Effect.OUT,
            group="chat-a",
            accelerator="H20",
            added=1,
            **common,  # type: ignore[arg-type]
        ),
        PendingAction(
            action_id="withdrawn-0",
            targets=("chat-a/decode/H20/0",),
            effect=Effect.IN,
            **common,  # type: ignore[arg-type]
        ),
    )
    assert blocked(after) == {target_of(grow()), "chat-a/decode/H20/0"}


def test_beginning_twice_is_beginning_once() -> None:
    once = began(grow(), WITHDRAW)
    assert begin(once, [grow(), WITHDRAW], 2000.0, RULES) == once
    assert begin(once, [], 2000.0, RULES) is once


def test_nothing_pending_nothing_settled() -> None:
    state = ServiceState(scale_in_until_s=3.0)
    assert settled(state) == Settled(state, frozenset())


@pytest.mark.parametrize("kind", [OutcomeKind.STALE, OutcomeKind.REFUSED])
def test_what_changed_nothing_gives_its_wait_back(kind: OutcomeKind) -> None:
    before = ServiceState(scale_out_until_s=5.0, scale_in_until_s=7.0)
    state = began(grow(), state=before)
    assert settled(state, outcomes=[answer(grow(), kind)]) == Settled(before, frozenset())


def test_an_applied_action_counts_from_when_it_was_applied() -> None:
    result = settled(began(grow()), MOVED, [answer(grow(), OutcomeKind.APPLIED)])
    assert waits(result.state) == (1184.0, 1604.0)
    assert result.state.pending == ()
    assert result.ours == {"decode"}


def test_one_of_two_refused_leaves_the_wait_of_the_other() -> None:
    other = grow("prefill")
    outcomes = [answer(grow(), OutcomeKind.REFUSED), answer(other, OutcomeKind.APPLIED, 1002.0)]
    result = settled(began(grow(), other), MOVED, outcomes)
    assert (waits(result.state), sorted(result.ours)) == ((1182.0, 1602.0), ["prefill"])


def test_applied_and_not_seen_yet_stays_blocked_and_counts_once() -> None:
    applied = [answer(grow(), OutcomeKind.APPLIED)]
    first = settled(began(grow()), SEEN, applied).state
    assert waits(first) == (1184.0, 1604.0)
    assert blocked(first) == {target_of(grow())}
    second = settled(first, MOVED, applied, now_s=1030.0)
    assert (waits(second.state), second.state.pending) == ((1184.0, 1604.0), ())
    late = settled(first, SEEN, now_s=1000.0 + PATIENCE_S)
    assert (waits(late.state), late.state.pending) == ((1184.0, 1604.0), ())
    assert late.ours == {"decode"}


def test_unknown_and_moved_is_taken_as_applied() -> None:
    result = settled(began(grow()), MOVED, [answer(grow(), OutcomeKind.UNKNOWN)])
    assert (waits(result.state), result.state.pending) == ((1180.0, 1600.0), ())


def test_no_answer_blocks_until_it_is_known_to_be_nothing() -> None:
    state = began(grow())
    waiting = settled(state)
    assert (waits(waiting.state), waiting.state.pending) == ((1180.0, 1600.0), state.pending)
    assert waiting.ours == {"decode"}
    away = settled(state, now_s=9999.0, unreachable=("east",))
    assert away.state.pending == state.pending
    given_up = settled(state, now_s=1000.0 + PATIENCE_S)
    assert given_up == Settled(ServiceState(), frozenset())


def test_a_target_that_is_gone_has_moved() -> None:
    result = settled(began(WITHDRAW), build_snapshot(prefill=2), [])
    assert (waits(result.state), result.state.pending) == ((0.0, 1600.0), ())


def test_a_later_batch_keeps_what_was_settled_before_it() -> None:
    first = began(WITHDRAW)
    second = begin(first, [grow()], 1015.0, RULES)
    assert waits(second) == (1195.0, 1615.0)
    refused = settled(second, SEEN, [answer(grow(), OutcomeKind.REFUSED)], now_s=1030.0).state
    assert waits(refused) == (0.0, 1600.0)


@pytest.mark.parametrize(
    ("restores", "wait_s"),
    [(0, 600.0), (1, 1200.0), (2, 2000.0), (99_999, 2000.0)],
    ids=["the first", "doubled", "capped", "far beyond any power"],
)
def test_restores_in_a_row_double_the_wait_up_to_a_cap(restores: int, wait_s: float) -> None:
    assert restore_wait_s(restores, RULES) == wait_s


def test_a_cap_below_the_cool_down_does_not_shorten_it() -> None:
    assert restore_wait_s(3, replace(RULES, restore_wait_max_s=10.0)) == 600.0


def test_one_restore_of_several_instances_is_one() -> None:
    actions = [rotate(Rotation.READY, Effect.RESTORE, ordinal) for ordinal in (0, 1)]
    outcomes = [
        answer(action, OutcomeKind.APPLIED, 1001.0 + place) for place, action in enumerate(actions)
    ]
    state = began(*actions, state=ServiceState(restores=1))
    assert waits(state) == (0.0, 2200.0)
    after = settled(state, MOVED, outcomes).state
    assert (after.restores, waits(after)) == (2, (0.0, 2202.0))


@pytest.mark.parametrize(
    ("snapshot", "kind", "now_s", "gpus"),
    [
        pytest.param(SEEN, OutcomeKind.REFUSED, 1015.0, 8, id="refused"),
        pytest.param(SEEN, OutcomeKind.STALE, 1015.0, 8, id="stale"),
        pytest.param(SEEN, OutcomeKind.UNKNOWN, 1015.0, 0, id="not known yet"),
        pytest.param(SEEN, OutcomeKind.UNKNOWN, 1075.0, 8, id="known to be nothing"),
        pytest.param(MOVED, OutcomeKind.APPLIED, 1015.0, 0, id="applied"),
    ],
)
def test_gpus_that_did_not_leave_are_given_back(
    snapshot: ServiceSnapshot, kind: OutcomeKind, now_s: float, gpus: int
) -> None:
    leaving = replace(WITHDRAW, gpus=8)
    result = settled(began(leaving), snapshot, [answer(leaving, kind)], now_s)
    assert result.stayed_gpus == gpus


@pytest.mark.parametrize(
    ("snapshot", "kind", "now_s", "gpus"),
    [
        pytest.param(MOVED, OutcomeKind.APPLIED, 1015.0, 8, id="applied"),
        pytest.param(SEEN, OutcomeKind.REFUSED, 1015.0, 0, id="refused"),
        pytest.param(SEEN, OutcomeKind.UNKNOWN, 1075.0, 0, id="known to be nothing"),
    ],
)
def test_gpus_of_what_came_back_have_not_left(
    snapshot: ServiceSnapshot, kind: OutcomeKind, now_s: float, gpus: int
) -> None:
    back = replace(RESTORE, gpus=8)
    result = settled(began(back), snapshot, [answer(back, kind)], now_s)
    assert result.stayed_gpus == gpus


def test_what_an_applied_restore_brought_back_is_given_back_once() -> None:
    back = replace(RESTORE, gpus=8)
    first = settled(began(back), SEEN, [answer(back, OutcomeKind.APPLIED)])
    assert first.stayed_gpus == 8
    assert settled(first.state, MOVED, now_s=1030.0).stayed_gpus == 0


def test_starting_anew_survives_a_refused_action() -> None:
    state = start_anew(began(grow()), 1010.0, RULES)
    assert waits(state) == (1190.0, 1610.0)
    refused = settled(state, SEEN, [answer(grow(), OutcomeKind.REFUSED)]).state
    assert waits(refused) == (1190.0, 1610.0)


def test_adoption_of_counts() -> None:
    counts = build_snapshot(prefill=2, decode=3).group_roles
    new, reasons = adopt(ServiceState(), counts, (), 1000.0, RULES)
    assert (new, reasons) == (ServiceState(replicas_seen={"decode": 3, "prefill": 2}), ())
    assert adopt(new, counts, (), 1001.0, RULES) == (new, ())
    fewer = build_snapshot(decode=4).group_roles
    adopted, reasons = adopt(new, fewer, (), 1001.0, RULES)
    assert [reason.figures for reason in reasons] == [
        {"role": "decode", "before": 3, "after": 4},
        {"role": "prefill", "before": 2, "after": 0},
    ]
    assert (adopted.replicas_seen, waits(adopted)) == ({"decode": 4}, (1181.0, 1601.0))
    ours, reasons = adopt(new, fewer, ("decode", "prefill"), 1001.0, RULES)
    assert (ours, reasons) == (replace(new, replicas_seen={"decode": 4}), ())


def test_a_withdrawn_instance_is_blocked_while_its_withdrawal_is_open() -> None:
    seen = replace(SEEN, instances=build_instances("decode", 1, InstanceState.READY))
    assert blocked(settled(began(WITHDRAW), seen).state) == {"chat-a/decode/H20/0"}
