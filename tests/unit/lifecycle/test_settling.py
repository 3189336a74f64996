from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.policy import FeedbackSpec, OnlineRatioSpec, RatioSpec
from heteroscale.entities.service import FleetSpec, ServiceSpec
from heteroscale.entities.snapshot import Signal, Snapshot
from heteroscale.entities.state import FeedbackState, PendingAction, ServiceState
from heteroscale.lifecycle.reach import HIDDEN_MAX_S
from heteroscale.lifecycle.settling import Start, start
from tests.builders import NOW_S, build_service, build_snapshot
from tests.world import build_inventory

SPEC = build_service()
SEEN = {"decode": 2, "prefill": 2}


def started(
    state: ServiceState, spec: ServiceSpec = SPEC, unseen: tuple[str, ...] = (), decode: int = 2
) -> Start:
    snapshot = Snapshot(
        now_s=NOW_S,
        services={"chat": build_snapshot(prefill=2, decode=decode)},
        inventory=build_inventory(),
    )
    return start(spec, state, snapshot, FleetSpec(services=(spec,)), {}, unseen)


def test_what_is_as_remembered_stays_as_it_is() -> None:
    state = ServiceState(replicas_seen=SEEN, scale_in_until_s=NOW_S + 600.0)
    assert started(state) == Start(state, (), 0)


def test_waits_from_a_time_that_is_yet_to_come_are_shortened() -> None:
    pending = PendingAction(
        action_id="a",
        sent_s=NOW_S + 86_400.0,
        out_until_before_s=NOW_S + 86_400.0,
        in_until_before_s=NOW_S + 86_400.0,
        targets=("gone",),
        versions=("",),
    )
    state = ServiceState(replicas_seen=SEEN, pending=(pending,))
    (kept,) = started(state).state.pending
    assert (kept.sent_s, kept.out_until_before_s) == (NOW_S, NOW_S + 180.0)
    assert kept.in_until_before_s == NOW_S + 3600.0


@pytest.mark.parametrize(
    ("wait_s", "kept_s"),
    [
        pytest.param(600.0, 600.0, id="a wait that there may be is kept"),
        pytest.param(900.0, 600.0, id="a longer one is not"),
    ],
)
def test_the_wait_of_the_ratio(wait_s: float, kept_s: float) -> None:
    online = OnlineRatioSpec(capacity_tps={"prefill": 1.0, "decode": 1.0}, wait_s=600.0)
    spec = build_service(ratio=RatioSpec(online=online))
    state = ServiceState(replicas_seen=SEEN, ratio_until_s=NOW_S + wait_s)
    assert started(state, spec).state.ratio_until_s == NOW_S + kept_s


def test_the_wait_of_a_latency_step() -> None:
    spec = build_service(feedback=(FeedbackSpec(signal=Signal.TTFT, step_timeout_s=300.0),))
    felt = {"ttft_s": FeedbackState(step_to=4.0, step_until_s=NOW_S + 86_400.0)}
    after = started(ServiceState(replicas_seen=SEEN, feedback=felt), spec).state
    assert after.feedback == {"ttft_s": FeedbackState(step_to=4.0, step_until_s=NOW_S + 300.0)}


def test_what_may_be_where_nobody_can_look_is_waited_for_and_then_taken_as_lost() -> None:
    state = ServiceState(replicas_seen=SEEN)
    hiding = started(state, unseen=("west",), decode=1)
    assert (hiding.hidden, hiding.state) == (True, replace(state, hidden_since_s=NOW_S))
    since_s = NOW_S - HIDDEN_MAX_S + 1.0
    assert started(replace(state, hidden_since_s=since_s), unseen=("west",), decode=1).hidden
    lost = started(replace(state, hidden_since_s=since_s - 1.0), unseen=("west",), decode=1)
    assert (lost.hidden, lost.state.replicas_seen) == (False, {"decode": 1, "prefill": 2})
    assert [reason.code for reason in lost.reasons] == ["adopted"]
    assert started(lost.state, unseen=("west",), decode=1).state.hidden_since_s is None
