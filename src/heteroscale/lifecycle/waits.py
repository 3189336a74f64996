"""When a service may change again: waits that begin as an action is sent and end settled.

A wait counts from the moment an action is applied. Until that moment is known it has begun
provisionally with the sending; the outcome corrects or cancels it. What was sent blocks its target
until an observation shows it, so no answer that is lost or late leads to a second change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from heteroscale.entities.action import (
    Action,
    Effect,
    Outcome,
    OutcomeKind,
    RotationAction,
    ScaleAction,
    group_role_key,
    target_of,
)
from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.policy import GuardSpec
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import RolePath
from heteroscale.entities.snapshot import ServiceSnapshot
from heteroscale.entities.state import PendingAction, ServiceState

#: An exponent beyond which doubling reaches any cap in use (2 ** 32 s is more than a century).
_DOUBLINGS_MAX = 32


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When each direction is free again, epoch seconds."""

    out_s: float
    in_s: float

    def extended(self, other: Deadlines) -> Deadlines:
        """Return the later of both, per direction."""
        return Deadlines(max(self.out_s, other.out_s), max(self.in_s, other.in_s))


@dataclass(frozen=True, slots=True)
class Settled:
    """A service's memory after its outcomes, and which counts we changed ourselves."""

    state: ServiceState
    #: leaf roles whose count may differ from what was seen last through our own actions
    ours: frozenset[RolePath]
    #: GPUs that were counted as leaving and stayed, or that a restore brought back
    stayed_gpus: int = 0


def begin(
    state: ServiceState, sent: Sequence[Action], now_s: float, rules: GuardSpec
) -> ServiceState:
    """Return the memory with the waits of what is about to be sent, provisionally begun.

    Actions that are pending already are not begun twice.
    """
    known = {pending.action_id for pending in state.pending}
    base = _base(state)
    fresh = tuple(
        PendingAction(
            action_id=action.id,
            sent_s=now_s,
            out_until_before_s=base.out_s,
            in_until_before_s=base.in_s,
            targets=(target_of(action),),
            versions=(action.version,),
            subcluster=action.subcluster,
            role=action.role if isinstance(action, ScaleAction) else None,
            effect=action.effect,
            group=action.group if isinstance(action, ScaleAction) else "",
            accelerator=action.accelerator if isinstance(action, ScaleAction) else "",
            added=_added(action),
            gpus=action.gpus,
        )
        for action in sorted(sent, key=lambda each: each.id)
        if action.id not in known
    )
    return _with_pending(state, base, (*state.pending, *fresh), rules) if fresh else state


def settle(
    state: ServiceState,
    snapshot: ServiceSnapshot,
    outcomes: Mapping[str, Outcome],
    unreachable: Sequence[str],
    now_s: float,
    patience_s: float,
    rules: GuardSpec,
) -> Settled:
    """Return the memory after what became of the pending actions.

    Args:
        outcomes: action id → answer, of this service.
        unreachable: sub-clusters whose observation is too old to show anything.
        patience_s: an unchanged target that has been observed for longer was not touched.
    """
    if not state.pending:
        return Settled(state, frozenset())
    seen = _Seen(snapshot)
    base, restored, stayed = _base(state), False, 0
    remaining: list[PendingAction] = []
    ours: set[RolePath] = set()
    for pending in state.pending:
        outcome = outcomes.get(pending.action_id)
        if outcome is not None and outcome.kind in (OutcomeKind.STALE, OutcomeKind.REFUSED):
            stayed += 0 if pending.effect is Effect.RESTORE else pending.gpus
            continue
        moved = seen.moved(pending)
        applied_s = _applied_s(pending, outcome, moved)
        if applied_s is not None and not pending.applied:
            base = base.extended(_deadlines(state, pending.effect, applied_s, rules))
            if pending.effect is Effect.RESTORE:
                restored = True
                stayed += pending.gpus
        late = now_s - pending.sent_s >= patience_s and pending.subcluster not in unreachable
        if pending.role is not None and (applied_s is not None or not late):
            ours.add(pending.role)
        if not moved and not late:
            remaining.append(replace(pending, applied=applied_s is not None))
        elif applied_s is None and pending.effect is not Effect.RESTORE:
            stayed += pending.gpus
    state = _with_pending(state, base, tuple(remaining), rules)
    if restored:
        # However many instances one restore brings back, it is one.
        state = replace(state, restores=state.restores + 1)
    return Settled(state, frozenset(ours), stayed)


def by_service(outcomes: Iterable[Outcome]) -> dict[str, dict[str, Outcome]]:
    """Return service → action id → what became of it."""
    found: dict[str, dict[str, Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.service, {})[outcome.action_id] = outcome
    return found


def start_anew(state: ServiceState, now_s: float, rules: GuardSpec) -> ServiceState:
    """Return the memory with both waits begun: someone else changed the counts."""
    base = _base(state).extended(_deadlines(state, Effect.OUT, now_s, rules))
    return _with_pending(state, base, state.pending, rules)


def blocked(state: ServiceState) -> frozenset[str]:
    """Return the targets that may not be touched until an observation shows them."""
    return frozenset(target for pending in state.pending for target in pending.targets)


def awaits_count(state: ServiceState, unreachable: Collection[str]) -> bool:
    """Return whether a count that was changed within reach is not seen yet."""
    return any(one.role is not None and one.subcluster not in unreachable for one in state.pending)


def explain_pending(state: ServiceState) -> Reason:
    """Return why the targets of what was sent are left alone."""
    figures = {"actions": len(state.pending)}
    return Reason(step=Step.ACT, code=ReasonCode.AWAITING_OUTCOME, figures=figures)


def _added(action: Action) -> int:
    if isinstance(action, RotationAction):
        return 0
    return max(0, action.replicas - action.expected_replicas)


def _base(state: ServiceState) -> Deadlines:
    """Return the deadlines without any provisional wait."""
    if state.pending:
        first = state.pending[0]
        return Deadlines(first.out_until_before_s, first.in_until_before_s)
    return Deadlines(state.scale_out_until_s, state.scale_in_until_s)


def _with_pending(
    state: ServiceState, base: Deadlines, pending: tuple[PendingAction, ...], rules: GuardSpec
) -> ServiceState:
    """Return the memory with these actions pending, their waits on top of the settled ones."""
    total = base
    for one in pending:
        if not one.applied:
            total = total.extended(_deadlines(state, one.effect, one.sent_s, rules))
    return replace(
        state,
        scale_out_until_s=total.out_s,
        scale_in_until_s=total.in_s,
        pending=tuple(
            replace(one, out_until_before_s=base.out_s, in_until_before_s=base.in_s)
            for one in pending
        ),
    )


def _deadlines(state: ServiceState, effect: Effect, at_s: float, rules: GuardSpec) -> Deadlines:
    """Return the waits an action of this effect starts."""
    if effect is Effect.UPKEEP:
        return Deadlines(0.0, 0.0)
    if effect is Effect.RESTORE:
        return Deadlines(0.0, at_s + restore_wait_s(state.restores, rules))
    out_s = at_s + rules.cool_down_out_s if effect is Effect.OUT else 0.0
    return Deadlines(out_s, at_s + rules.cool_down_in_s)


def restore_wait_s(restores: int, rules: GuardSpec) -> float:
    """Return the scale-in wait after a restore that follows so many others in a row.

    It doubles each time up to the cap, and never is less than the plain cool-down.
    """
    doubled_s = rules.cool_down_in_s * 2.0 ** min(restores, _DOUBLINGS_MAX)
    return max(rules.cool_down_in_s, min(doubled_s, rules.restore_wait_max_s))


def _applied_s(pending: PendingAction, outcome: Outcome | None, moved: bool) -> float | None:
    """Return when an action was applied; None = it is not known to be.

    A target that moved while the answer is open is taken as applied when it was sent: then the
    provisional wait simply becomes the wait.
    """
    if pending.applied:
        return pending.sent_s
    if outcome is not None and outcome.kind is OutcomeKind.APPLIED:
        return outcome.at_s
    return pending.sent_s if moved else None


class _Seen:
    """Versions of a service's objects in one snapshot."""

    def __init__(self, snapshot: ServiceSnapshot) -> None:
        self._versions = {one.uid: one.version for one in snapshot.instances}
        for count in snapshot.group_roles:
            key = group_role_key(count.subcluster, count.group, count.role, count.accelerator)
            self._versions[key] = count.version

    def moved(self, pending: PendingAction) -> bool:
        """Return whether any of an action's targets is no longer as it was when it was sent."""
        return any(
            self._versions.get(target, "") != version
            for target, version in zip(pending.targets, pending.versions, strict=True)
        )
