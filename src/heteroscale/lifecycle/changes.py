"""What moves and grants become: absolute, conditional actions with an id made of their content."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from heteroscale.entities.action import (
    Action,
    Effect,
    Rotation,
    RotationAction,
    ScaleAction,
    action_id,
    group_role_key,
    target_of,
)
from heteroscale.entities.placement import Grant
from heteroscale.entities.service import ServiceSpec
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState
from heteroscale.lifecycle.gate import Passage
from heteroscale.lifecycle.rotation import Cue, Move, Turn

_PENDING = InstanceState.PENDING
_CHOSEN = frozenset({Cue.CHOSEN, Cue.CHOSEN_FOR_GOOD})
#: move in rotation → where the instance goes, and what that means for the waits
_ROTATIONS = {
    Move.WITHDRAW: (Rotation.WITHDRAWN, Effect.IN),
    Move.RESTORE: (Rotation.READY, Effect.RESTORE),
    Move.DRAIN: (Rotation.DRAINING, Effect.UPKEEP),
}


def rotations(
    spec: ServiceSpec, turns: Iterable[Turn], passages: Iterable[Passage]
) -> list[Action]:
    """Return the actions that move instances in and out of rotation."""
    actions: list[Action] = []
    for turn in turns:
        if turn.move is not Move.REMOVE:
            to, effect = _ROTATIONS[turn.move]
            gpus = 0 if turn.move is Move.DRAIN else _gpus(spec, turn.instance)
            actions.append(rotation(turn.instance, to, effect, gpus))
    for passage in passages:
        to = Rotation.HELD if passage.hold else Rotation.READY
        actions.append(rotation(passage.instance, to, Effect.UPKEEP, 0))
    return actions


def scalings(
    spec: ServiceSpec,
    counts: Sequence[GroupRole],
    grants: Iterable[Grant],
    turns: Iterable[Turn],
) -> tuple[list[Action], list[Turn]]:
    """Return the actions that change counts, and the removals they carry out.

    Args:
        spec: of the service.
        counts: the service's, as observed; a removal from a count that is not there waits.
        grants: of the service, those that may go now.
        turns: of the service; only removals count.
    """
    known = {_key(count): count for count in counts}
    actions = [_growth(grant, known.get(_granted(grant))) for grant in grants]
    leaving = _leaving(known, turns)
    removed: list[Turn] = []
    for key in sorted(leaving):
        actions.append(_removal(spec, known[key], leaving[key]))
        removed += leaving[key]
    return actions, removed


def in_turn(
    counts: Sequence[GroupRole], grants: Sequence[Grant], turns: Sequence[Turn]
) -> tuple[list[Grant], list[Turn]]:
    """Return the grants and the turns that may go now: one action on one target.

    Where a count would both lose somebody and grow, what leaves goes first: growth that is
    refused, as by a quota, would be asked for again each tick and keep what has ended where it is.
    But a count that would be left with nobody grows first: what was asked for would be forgotten.
    """
    known = {_key(count): count for count in counts}
    losing = _leaving(known, turns)
    growing = {_granted(grant) for grant in grants}
    emptied = {key for key in losing if key in growing and len(losing[key]) >= known[key].replicas}
    kept = {turn.instance.uid for key in emptied for turn in losing[key]}
    return (
        [grant for grant in grants if (key := _granted(grant)) not in losing or key in emptied],
        [turn for turn in turns if turn.instance.uid not in kept],
    )


def in_order(actions: Iterable[Action]) -> tuple[Action, ...]:
    """Return actions by service, sub-cluster and target; rotations, then growth, then removals."""
    return tuple(sorted(actions, key=_order))


def untouched(turns: Iterable[Turn], blocked: Collection[str]) -> list[Turn]:
    """Return the turns that change no blocked target: neither the instance nor its count."""
    return [turn for turn in turns if _target(turn) not in blocked]


def _leaving(known: Mapping[str, GroupRole], turns: Iterable[Turn]) -> dict[str, list[Turn]]:
    """Return count → its removals; one from a count that is not there waits."""
    leaving: dict[str, list[Turn]] = {}
    for turn in turns:
        one = turn.instance
        key = group_role_key(one.subcluster, one.group, one.role, one.accelerator)
        if turn.move is Move.REMOVE and key in known:
            leaving.setdefault(key, []).append(turn)
    return leaving


def _granted(grant: Grant) -> str:
    return group_role_key(grant.subcluster, grant.group, grant.role, grant.accelerator)


def _target(turn: Turn) -> str:
    one = turn.instance
    if turn.move is not Move.REMOVE:
        return one.uid
    return group_role_key(one.subcluster, one.group, one.role, one.accelerator)


def rotation(instance: Instance, to: Rotation, effect: Effect, gpus: int) -> RotationAction:
    """Return the action that moves one instance, conditional on what was seen of it."""
    action = RotationAction(
        id="",
        service=instance.service,
        subcluster=instance.subcluster,
        uid=instance.uid,
        to=to,
        version=instance.version,
        effect=effect,
        gpus=gpus,
    )
    return replace(action, id=action_id(action))


def _growth(grant: Grant, count: GroupRole | None) -> Action:
    replicas = 0 if count is None else count.replicas
    action = ScaleAction(
        id="",
        service=grant.service,
        subcluster=grant.subcluster,
        group=grant.group,
        role=grant.role,
        accelerator=grant.accelerator,
        domain=grant.domain if count is None else count.domain,
        replicas=replicas + grant.replicas,
        expected_replicas=replicas,
        version="" if count is None else count.version,
        effect=Effect.OUT,
    )
    return replace(action, id=action_id(action))


def _removal(spec: ServiceSpec, count: GroupRole, turns: Sequence[Turn]) -> Action:
    called_off = [turn.instance for turn in turns if turn.cue in _CHOSEN]
    action = ScaleAction(
        id="",
        service=count.service,
        subcluster=count.subcluster,
        group=count.group,
        role=count.role,
        accelerator=count.accelerator,
        domain=count.domain,
        replicas=max(0, count.replicas - len(turns)),
        expected_replicas=count.replicas,
        version=count.version,
        remove=tuple(sorted(turn.instance.uid for turn in turns)),
        effect=Effect.IN if called_off else Effect.UPKEEP,
        # What waits for its node holds none.
        gpus=sum(_gpus(spec, one) for one in called_off if one.state is not _PENDING),
    )
    return replace(action, id=action_id(action))


def _gpus(spec: ServiceSpec, instance: Instance) -> int:
    option = spec.option(instance.role, instance.accelerator)
    return 0 if option is None else option.gpus * option.nodes


def _key(count: GroupRole) -> str:
    return group_role_key(count.subcluster, count.group, count.role, count.accelerator)


def _order(action: Action) -> tuple[str, str, int, str, str]:
    rank = 0
    if isinstance(action, ScaleAction):
        rank = 1 if action.replicas > action.expected_replicas else 2
    return (action.service, action.subcluster, rank, target_of(action), action.id)
