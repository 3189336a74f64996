"""What moves in and out of rotation and which counts change, of one service in one tick."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import InstanceState, Snapshot
from heteroscale.lifecycle.changes import in_turn, rotations, scalings, untouched
from heteroscale.lifecycle.explain import explain_moves
from heteroscale.lifecycle.gate import Passage, gate
from heteroscale.lifecycle.relocation import ended
from heteroscale.lifecycle.rotation import (
    NOT_WATCHED,
    Memory,
    Move,
    Occasion,
    Turn,
    Watch,
    chosen,
    completed,
    ordered_out,
    rotate,
    watched_s,
)
from heteroscale.planner.case import Case
from heteroscale.policy.signal import judged, worst_latency
from heteroscale.prescheduler.explain import explain_placement

_WITHDRAWN = InstanceState.WITHDRAWN
_STARTING = InstanceState.STARTING
_HELD = InstanceState.HELD


def move(case: Case, snapshot: Snapshot, fleet: FleetSpec) -> None:
    """Move instances in and out of rotation, change counts, and say why."""
    spec, counts = case.spec, case.snapshot.group_roles
    turns: tuple[Turn, ...] = ()
    if case.moving or case.before.observed_s:
        turns = _rotated(case, snapshot, fleet)
    restores = any(turn.move is Move.RESTORE for turn in turns)
    if restores and case.state.relocating is not None:
        # Part of the old group is on its way back, for it was missed.
        case.state = ended(case.state, fleet, snapshot.now_s)
    if case.leaving and not restores:
        # What comes back and what leaves in one tick would contradict each other.
        turns += chosen(one for one in case.snapshot.instances if one.uid in case.leaving)
    passages = _gated(case, turns, snapshot, fleet)
    if not (turns or passages or case.grants or case.no_fits):
        return
    grants, free = in_turn(counts, case.grants, untouched(turns, case.blocked))
    scaled, removed = scalings(spec, counts, grants, free)
    rotated = [turn for turn in free if turn.move is not Move.REMOVE]
    case.actions = [*rotations(spec, rotated, passages), *scaled]
    case.reasons += explain_placement(grants, case.no_fits)
    case.reasons += explain_moves([*rotated, *removed], passages)


def _rotated(case: Case, snapshot: Snapshot, fleet: FleetSpec) -> tuple[Turn, ...]:
    """Return the moves of what is leaving, and remember how long it was watched."""
    spec, before, instances = case.spec, case.before, case.snapshot.instances
    memory = Memory(observed_s=before.observed_s, unknown_since_s=before.unknown_since_s)
    withdrawn = any(one.state is _WITHDRAWN for one in case.moving)
    occasion = Occasion(
        now_s=snapshot.now_s,
        elapsed_s=watched_s(before.window_fed_s, snapshot.now_s, fleet.interval_s),
        watch=_watch(case) if withdrawn else NOT_WATCHED,
        returned=case.wish.short,
        cancelled=spec.pause.scale_in,
        frozen=fleet.freeze,
        blocked=case.blocked,
        ordered=ordered_out(spec, case.moving, case.supply) if withdrawn else (),
    )
    turns, after = rotate(spec, case.moving, memory, occasion)
    case.state = replace(
        case.state,
        observed_s=after.observed_s,
        unknown_since_s=after.unknown_since_s,
        restores=0 if completed(memory, instances) else case.state.restores,
    )
    return turns


def _watch(case: Case) -> Watch:
    """Return what the SLO signals say of the service without what is withdrawn."""
    signals = judged(case.snapshot.readings, case.spec.policy.trust)
    ratio, known = worst_latency(signals, case.spec.slo, case.spec.policy)
    return Watch(ratio=ratio, known=known)


def _gated(
    case: Case, turns: tuple[Turn, ...], snapshot: Snapshot, fleet: FleetSpec
) -> list[Passage]:
    """Return what changes at the readiness gate, for instances that nothing else moves."""
    if not any(one.state is _STARTING or one.state is _HELD for one in case.moving):
        return []
    taken = {turn.instance.uid for turn in turns} | case.blocked
    passages = gate(
        case.spec,
        case.spec.group.weights(case.decision.ratio),
        case.snapshot.instances,
        case.snapshot.group_roles,
        frozenset(role for no_fit in case.no_fits for role in no_fit.missing),
        snapshot.now_s,
    )
    return [
        passage
        for passage in passages
        if passage.instance.uid not in taken and not (passage.hold and fleet.freeze)
    ]
