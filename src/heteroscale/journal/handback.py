"""What we took out of rotation comes back once its service may no longer be scaled in.

A service in mode `observe` has nobody to drain what was withdrawn before, and one that is no
longer asked for has nobody at all. Giving back touches no count and takes nothing from anyone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeAlias

from heteroscale.entities.action import Action, Effect, Rotation, RotationAction
from heteroscale.entities.decision import Decision
from heteroscale.entities.plan import Plan
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import FleetSpec, Mode
from heteroscale.entities.snapshot import Instance, InstanceState, ServiceSnapshot, Snapshot
from heteroscale.entities.state import FleetState
from heteroscale.lifecycle.changes import in_order, rotation
from heteroscale.lifecycle.explain import explain_moves
from heteroscale.lifecycle.rotation import Cue, Move, Turn
from heteroscale.lifecycle.waits import blocked

#: service → what of it comes back
Returning: TypeAlias = Mapping[str, tuple[Instance, ...]]

_WITHDRAWN = InstanceState.WITHDRAWN


def gives_back(action: Action) -> bool:
    """Return whether an action only puts an instance back into rotation, or lets it in."""
    return isinstance(action, RotationAction) and action.to is Rotation.READY


def given_back(
    plan: Plan,
    after: FleetState,
    snapshot: Snapshot,
    fleet: FleetSpec,
    excluded: Collection[str] = (),
) -> tuple[Plan, FleetState]:
    """Return a plan with what comes back as well, and the memory without what was forgotten.

    A service that is no longer asked for is remembered until nothing of it is out of rotation.

    Args:
        plan: of this tick.
        after: the memory after it.
        excluded: services the planner failed on; nothing of theirs moves.
    """
    asked = {spec.name for spec in fleet.services}
    dropped = sorted(after.services.keys() - asked)
    watched = [
        spec.name
        for spec in fleet.services
        if spec.mode is Mode.OBSERVE
        and spec.name in after.services
        and after.services[spec.name].observed_s
        and spec.name not in excluded
    ]
    if not (dropped or watched):
        return plan, after
    back = {name: _withdrawn(name, plan, after, snapshot) for name in watched}
    left = {name: _outside(name, snapshot) for name in dropped}
    forgotten = {
        name for name in dropped if not (left[name] or _may_hide(name, after, snapshot, fleet))
    }
    if forgotten:
        kept = {name: one for name, one in after.services.items() if name not in forgotten}
        after = replace(after, services=kept)
    return _with(plan, back, left), after


def _withdrawn(
    name: str, plan: Plan, after: FleetState, snapshot: Snapshot
) -> tuple[Instance, ...]:
    """Return what is withdrawn of a service and not on its way back yet."""
    taken = blocked(after.services[name]) | {
        one.uid for one in plan.actions if isinstance(one, RotationAction) and gives_back(one)
    }
    return tuple(
        one for one in _in_reach(name, snapshot) if one.state is _WITHDRAWN and one.uid not in taken
    )


def _outside(name: str, snapshot: Snapshot) -> tuple[Instance, ...]:
    """Return what is out of rotation, or will be once it has started, and can come back."""
    return tuple(
        one
        for one in _in_reach(name, snapshot)
        if one.held or one.state in (_WITHDRAWN, InstanceState.HELD)
    )


def _in_reach(name: str, snapshot: Snapshot) -> list[Instance]:
    seen = snapshot.services.get(name, ServiceSnapshot())
    return [one for one in seen.instances if one.subcluster not in snapshot.unreachable]


def _may_hide(name: str, after: FleetState, snapshot: Snapshot, fleet: FleetSpec) -> bool:
    """Return whether more may be out of rotation than was seen: out of reach, or just now."""
    patience_s = fleet.stale_s + fleet.interval_s
    return bool(snapshot.unreachable) or any(
        snapshot.now_s - one.sent_s < patience_s for one in after.services[name].pending
    )


def _with(plan: Plan, watched: Returning, dropped: Returning) -> Plan:
    """Return the plan with what comes back in place of what it planned for the same instances."""
    returns = {
        one.uid: _return(one) for part in (*watched.values(), *dropped.values()) for one in part
    }
    if not returns:
        return plan
    rest = (
        one for one in plan.actions if not (isinstance(one, RotationAction) and one.uid in returns)
    )
    return replace(
        plan,
        actions=in_order([*rest, *returns.values()]),
        decisions=tuple(_told(one, watched.get(one.service, ())) for one in plan.decisions),
    )


def _told(decision: Decision, back: tuple[Instance, ...]) -> Decision:
    """Return a decision that says why instances come back, and not that they drain."""
    if not back:
        return decision
    others = [one for one in decision.reasons if one.code != ReasonCode.DRAINED]
    returned = explain_moves([Turn(one, Move.RESTORE, Cue.CANCELLED) for one in back], ())
    return replace(decision, reasons=(*others, *returned))


def _return(instance: Instance) -> RotationAction:
    effect = Effect.RESTORE if instance.state is _WITHDRAWN else Effect.UPKEEP
    return rotation(instance, Rotation.READY, effect, 0)
