from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.action import (
    Effect,
    Rotation,
    RotationAction,
    ScaleAction,
    action_id,
    target_of,
)
from heteroscale.entities.placement import Grant
from heteroscale.entities.reasons import describe
from heteroscale.entities.snapshot import InstanceState, Snapshot
from heteroscale.entities.state import ServiceState
from heteroscale.lifecycle.changes import in_order, in_turn, rotations, scalings, untouched
from heteroscale.lifecycle.explain import explain_moves
from heteroscale.lifecycle.gate import Passage, Verdict
from heteroscale.lifecycle.reach import hidden, never_seen, out_of_reach
from heteroscale.lifecycle.rotation import Cue, Move, Turn
from tests.builders import NOW_S, build_instances, build_service, build_snapshot
from tests.world import build_inventory, build_nodes

SPEC = build_service()
SEEN = build_snapshot(prefill=2, decode=3)
READY = build_instances("decode", 3)
GRANT = Grant(
    service="chat",
    group="chat-a",
    role="decode",
    accelerator="H20",
    domain=("east", "a"),
    subcluster="east",
    replicas=2,
    nodes=(("n00",), ("n01",)),
)


def scaled(**fields: object) -> ScaleAction:
    plain = {
        "id": "",
        "service": "chat",
        "subcluster": "east",
        "group": "chat-a",
        "role": "decode",
        "accelerator": "H20",
        "domain": (),
        "replicas": 5,
        "expected_replicas": 3,
        "version": "1",
        "effect": Effect.OUT,
    }
    action = ScaleAction(**{**plain, **fields})  # type: ignore[arg-type]
    return replace(action, id=action_id(action))


def rotated(uid: str, to: Rotation, effect: Effect, gpus: int = 0) -> RotationAction:
    action = RotationAction(
        id="",
        service="chat",
        subcluster="east",
        uid=uid,
        to=to,
        version="1",
        effect=effect,
        gpus=gpus,
    )
    return replace(action, id=action_id(action))


def test_ids_are_made_of_content() -> None:
    action = scaled()
    assert action_id(action) == action.id
    assert len(action.id) == 24
    assert scaled(replicas=6).id != action.id
    assert scaled(version="2").id != action.id


def test_growth_of_a_count_and_of_nothing_yet() -> None:
    new = replace(GRANT, group="g0", replicas=1)
    actions, removed = scalings(SPEC, SEEN.group_roles, [GRANT, new], ())
    assert actions == [
        scaled(),
        scaled(group="g0", domain=("east", "a"), replicas=1, expected_replicas=0, version=""),
    ]
    assert removed == []


def test_removals_name_who_goes() -> None:
    turns = [Turn(READY[i], Move.REMOVE, cue) for i, cue in ((2, Cue.IDLE), (0, Cue.BROKEN))]
    actions, removed = scalings(SPEC, SEEN.group_roles, (), turns)
    uids = (READY[0].uid, READY[2].uid)
    assert actions == [scaled(replicas=1, remove=uids, effect=Effect.UPKEEP)]
    assert removed == turns


def test_calling_off_is_a_scale_in() -> None:
    foreign = replace(READY[1], accelerator="A100")
    counts = (*SEEN.group_roles, replace(SEEN.group_roles[0], accelerator="A100", replicas=0))
    turns = [Turn(one, Move.REMOVE, Cue.CHOSEN) for one in (READY[0], foreign)]
    actions, _ = scalings(SPEC, counts, (), turns)
    assert actions == [
        scaled(
            accelerator="A100",
            replicas=0,
            expected_replicas=0,
            remove=(foreign.uid,),
            effect=Effect.IN,
        ),
        scaled(replicas=2, remove=(READY[0].uid,), effect=Effect.IN, gpus=8),
    ]


def test_a_count_that_loses_somebody_grows_with_the_next_tick() -> None:
    elsewhere = replace(GRANT, role="prefill")
    lost = replace(READY[0], group="unknown")
    turns = [Turn(one, Move.REMOVE, Cue.IDLE) for one in (READY[2], lost)]
    turns.append(Turn(READY[1], Move.DRAIN, Cue.OBSERVED))
    assert in_turn(SEEN.group_roles, [GRANT, elsewhere], turns) == ([elsewhere], turns)
    assert in_turn(SEEN.group_roles, [GRANT], turns[1:]) == ([GRANT], turns[1:])
    actions, removed = scalings(SPEC, SEEN.group_roles, [], turns)
    assert actions == [scaled(replicas=2, remove=(READY[2].uid,), effect=Effect.UPKEEP)]
    assert removed == turns[:1]


def test_what_waits_for_its_node_gives_no_gpus_back() -> None:
    waiting = replace(READY[2], state=InstanceState.PENDING)
    turns = [Turn(waiting, Move.REMOVE, Cue.CHOSEN)]
    actions, _ = scalings(SPEC, SEEN.group_roles, (), turns)
    assert actions == [scaled(replicas=2, remove=(waiting.uid,), effect=Effect.IN)]


def test_rotations() -> None:
    turns = (
        Turn(READY[0], Move.WITHDRAW, Cue.CHOSEN),
        Turn(READY[1], Move.RESTORE, Cue.SLO_DEGRADED),
        Turn(READY[2], Move.DRAIN, Cue.OBSERVED),
        Turn(READY[2], Move.REMOVE, Cue.IDLE),
    )
    passages = (
        Passage(READY[0], True, Verdict.AHEAD),
        Passage(READY[1], False, Verdict.ADMITTED),
    )
    uid = [one.uid for one in READY]
    assert rotations(SPEC, turns, passages) == [
        rotated(uid[0], Rotation.WITHDRAWN, Effect.IN, gpus=8),
        rotated(uid[1], Rotation.READY, Effect.RESTORE, gpus=8),
        rotated(uid[2], Rotation.DRAINING, Effect.UPKEEP),
        rotated(uid[0], Rotation.HELD, Effect.UPKEEP),
        rotated(uid[1], Rotation.READY, Effect.UPKEEP),
    ]


def test_order_of_actions() -> None:
    removal = scaled(replicas=1)
    growth = scaled(role="zeta")
    draining = rotated("z", Rotation.DRAINING, Effect.UPKEEP)
    other = replace(removal, service="a-first")
    assert in_order([removal, growth, draining, other]) == (other, draining, growth, removal)
    assert target_of(draining) == "z"


def test_blocked_targets_are_left_alone() -> None:
    drain = Turn(READY[0], Move.DRAIN, Cue.OBSERVED)
    remove = Turn(READY[0], Move.REMOVE, Cue.IDLE)
    assert untouched([drain, remove], {READY[0].uid}) == [remove]
    assert untouched([drain, remove], {"east|chat-a|decode|H20"}) == [drain]


def test_moves_are_told_in_plain_words() -> None:
    starting = build_instances("prefill", 1, InstanceState.STARTING)[0]
    turns = (
        Turn(READY[0], Move.WITHDRAW, Cue.CHOSEN),
        Turn(READY[1], Move.WITHDRAW, Cue.CHOSEN),
        Turn(starting, Move.REMOVE, Cue.CHOSEN),
        *(Turn(READY[0], Move.RESTORE, cue) for cue in Cue if cue is not Cue.CHOSEN),
    )
    passages = tuple(Passage(READY[0], False, verdict) for verdict in Verdict)
    assert [describe(reason) for reason in explain_moves(turns, passages)] == [
        "1 prefill that do not serve yet are called off",
        "1 decode have got no node for too long and are called off",
        "1 decode were not missed while watched: they finish their requests",
        "1 decode wait outside rotation: the other roles of their group are not as far",
        "1 decode may enter rotation: what they waited for cannot come",
        "1 decode may enter rotation: the other roles have caught up",
        "1 decode may enter rotation: they have waited long enough",
        "1 decode have failed and are removed",
        "1 decode go at once, unwatched: nothing takes them out of rotation and back",
        "1 decode come back: scale-in was paused on the way",
        "1 decode come back: demand returned",
        "1 decode come back: latency reached its limit without them",
        "1 decode come back: latency has been unknown too long",
        "1 decode have finished their requests and go",
        "1 decode go with requests unfinished: draining took too long",
        "2 decode leave rotation and are watched",
    ]


def test_what_is_out_of_reach_is_named_and_told() -> None:
    here = replace(READY[0], subcluster="west")
    snapshot = replace(SEEN, instances=(*READY[1:], here))
    targets, reasons = out_of_reach(snapshot, ("east",))
    keys = {"east|chat-a|decode|H20", "east|chat-a|prefill|H20"}
    assert targets == {READY[1].uid, READY[2].uid} | keys
    assert [describe(reason) for reason in reasons] == [
        "east is out of reach: its 2 instances stay as they are"
    ]
    assert out_of_reach(snapshot, ("south",)) == (frozenset(), ())


def test_a_sub_cluster_of_which_not_even_nodes_are_known_was_never_seen() -> None:
    snapshot = Snapshot(
        now_s=NOW_S,
        services={},
        inventory=build_inventory(*build_nodes(1), *build_nodes(1, domain=())),
    )
    assert never_seen(snapshot) == ()
    assert never_seen(replace(snapshot, unreachable=("east", "north", "west"))) == ("north", "west")


@pytest.mark.parametrize(
    ("before", "replicas", "unseen", "told"),
    [
        pytest.param({"decode": 4}, 3, (), False, id="everything was seen: someone took one"),
        pytest.param({"decode": 4}, 3, ("west",), True, id="one is missing: it may be out there"),
        pytest.param({"decode": 3}, 3, ("west",), False, id="nothing is missing"),
        pytest.param({}, 3, ("west",), False, id="no memory, but some are here"),
        pytest.param({}, 0, ("west",), True, id="no memory, and none is here"),
    ],
)
def test_what_may_be_where_nobody_can_look(
    before: dict[str, int], replicas: int, unseen: tuple[str, ...], told: bool
) -> None:
    counts = build_snapshot(decode=replicas).group_roles
    reasons = hidden(ServiceState(replicas_seen=before), counts, unseen)
    assert [describe(reason) for reason in reasons] == told * [
        "west: not observed yet, and may hold what is missing: nothing is added or taken away"
    ]


def test_a_count_that_would_be_left_with_nobody_grows_first() -> None:
    (count,) = [
        one for one in SEEN.group_roles if one.role == GRANT.role and one.group == GRANT.group
    ]
    everybody = [Turn(one, Move.REMOVE, Cue.BROKEN) for one in READY[: count.replicas]]
    drained = Turn(replace(READY[0], uid="other", group="unknown"), Move.DRAIN, Cue.OBSERVED)
    assert len(everybody) == count.replicas
    assert in_turn([count], [GRANT], [*everybody, drained]) == ([GRANT], [drained])
    assert in_turn([count], [], everybody) == ([], everybody)
