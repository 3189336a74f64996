from __future__ import annotations

from dataclasses import replace

from heteroscale.entities.action import Effect
from heteroscale.entities.snapshot import InstanceState
from heteroscale.entities.state import PendingAction, ServiceState
from heteroscale.lifecycle.coming import AS_SEEN, Coming, coming
from tests.builders import NOW_S, build_instances, build_service

SPEC = build_service()
LATE = tuple(
    replace(one, since_s=NOW_S - 600.0)
    for one in build_instances("decode", 2, InstanceState.PENDING)
)
GROWTH = PendingAction(
    action_id="a",
    sent_s=NOW_S,
    out_until_before_s=0.0,
    in_until_before_s=0.0,
    targets=("west|g1|decode|H20",),
    versions=("1",),
    subcluster="west",
    role="decode",
    effect=Effect.OUT,
    group="g1",
    accelerator="H20",
    added=3,
)


def test_most_services_have_coming_what_shows() -> None:
    starting = build_instances("decode", 1, InstanceState.STARTING)
    assert coming(SPEC, ServiceState(), starting, (), NOW_S) is AS_SEEN


def test_growth_that_was_sent_is_coming_and_its_group_closed() -> None:
    rotated = replace(GROWTH, role=None, group="", accelerator="", added=0)
    state = ServiceState(pending=(GROWTH, rotated))
    assert coming(SPEC, state, (), (), NOW_S) == Coming(
        units={"decode": 3.0}, closed=frozenset({("west", "g1")})
    )


def test_what_waits_for_too_long_is_coming_no_more() -> None:
    assert coming(SPEC, ServiceState(), LATE, {LATE[0].uid}, NOW_S) == Coming(
        units={"decode": -1.0}, closed=frozenset({("east", "chat-a")})
    )
