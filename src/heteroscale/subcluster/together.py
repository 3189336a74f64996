"""Counts of one step of a group change together or not at all, even where objects are several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import TypeAlias

from heteroscale.entities.action import Action, OutcomeKind, RotationAction, ScaleAction
from heteroscale.subcluster.change import Change
from heteroscale.subcluster.writing import Writer

#: service, group, and whether counts fall
_Step: TypeAlias = tuple[str, str, bool]


def carried_out(
    writer: Writer, threads: Executor, actions: Sequence[Action], deadline_s: float
) -> Mapping[str, Change]:
    """Return action → what became of it; several are under way at once."""
    moves = writer.moves(actions)
    held = _held_together(writer, threads, moves, deadline_s)

    def changed(move: Sequence[Action]) -> Change:
        before = held.get(move[0].id)
        return before if before is not None else _changed(writer, move, deadline_s)

    made = threads.map(changed, moves)
    return {action.id: change for move, change in zip(moves, made, strict=True) for action in move}


def _changed(writer: Writer, move: Sequence[Action], deadline_s: float) -> Change:
    counts = _counts_of(move)
    if counts:
        return writer.scale(counts, deadline_s)
    (action,) = move
    assert isinstance(action, RotationAction)
    return writer.rotate(action, deadline_s)


def _counts_of(move: Sequence[Action]) -> tuple[ScaleAction, ...]:
    return tuple(one for one in move if isinstance(one, ScaleAction))


def _held_together(
    writer: Writer, threads: Executor, moves: Sequence[Sequence[Action]], deadline_s: float
) -> Mapping[str, Change]:
    """Return action → why it is not carried out: it could not be, or another of its step.

    Nothing is changed: what takes more than one write is rehearsed, several at a time.
    """
    counts = [scaling for move in moves if (scaling := _counts_of(move))]
    several = Counter(_step_of(scaling[0]) for scaling in counts)
    parts = [scaling for scaling in counts if several[_step_of(scaling[0])] > 1]
    rehearsed = threads.map(lambda one: writer.rehearse(one, deadline_s), parts)
    held: dict[str, Change] = {}
    first: dict[_Step, Change] = {}
    for scaling, change in zip(parts, rehearsed, strict=True):
        if change.kind is not OutcomeKind.APPLIED:
            held.update((one.id, change) for one in scaling)
            cause = scaling[0]
            without = f"not without {cause.role} on {cause.accelerator}: {change.detail}"
            first.setdefault(_step_of(cause), Change(OutcomeKind.REFUSED, without))
    for scaling in parts:
        for one in scaling:
            if _step_of(one) in first:
                held.setdefault(one.id, first[_step_of(one)])
    return held


def _step_of(action: ScaleAction) -> _Step:
    return action.service, action.group, action.replicas < action.expected_replicas
