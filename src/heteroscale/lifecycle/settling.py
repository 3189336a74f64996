"""A service's memory at the start of a tick: after what was done to it, by us and by others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from heteroscale.entities.action import Outcome
from heteroscale.entities.decision import Reason
from heteroscale.entities.policy import PolicySpec
from heteroscale.entities.service import FleetSpec, ServiceSpec
from heteroscale.entities.snapshot import Snapshot
from heteroscale.entities.state import ServiceState
from heteroscale.lifecycle import waits
from heteroscale.lifecycle.adoption import adopt
from heteroscale.lifecycle.reach import HIDDEN_MAX_S, hidden


@dataclass(frozen=True, slots=True)
class Start:
    """What one service brings into a tick."""

    state: ServiceState
    #: what settling and adoption say
    reasons: tuple[Reason, ...]
    #: GPUs counted as left that stayed after all, or came back
    stayed_gpus: int
    #: some of what it has may be where nobody can look
    hidden: bool = False


def start(
    spec: ServiceSpec,
    state: ServiceState,
    snapshot: Snapshot,
    fleet: FleetSpec,
    outcomes: Mapping[str, Outcome],
    unseen: Sequence[str],
) -> Start:
    """Settle what was sent before, then adopt what someone else changed.

    Args:
        outcomes: action id → answer, of this service.
        unseen: sub-clusters that have not been observed at all.
    """
    service, now_s = snapshot.services[spec.name], snapshot.now_s
    rules = spec.policy.guard
    settled = waits.settle(
        _clipped(state, spec.policy, now_s),
        service,
        outcomes,
        snapshot.unreachable,
        now_s,
        # By then every observation that is not stale was made an interval after the sending.
        fleet.stale_s + fleet.interval_s,
        rules,
    )
    state = settled.state
    why = hidden(state, service.group_roles, unseen)
    if why:
        since_s = now_s if state.hidden_since_s is None else min(state.hidden_since_s, now_s)
        state = replace(state, hidden_since_s=since_s)
        if now_s - since_s < HIDDEN_MAX_S:
            return Start(state, why, settled.stayed_gpus, hidden=True)
    elif state.hidden_since_s is not None:
        state = replace(state, hidden_since_s=None)
    state, reasons = adopt(state, service.group_roles, settled.ours, now_s, rules)
    return Start(state, reasons, settled.stayed_gpus)


def _clipped(state: ServiceState, policy: PolicySpec, now_s: float) -> ServiceState:
    """Return the memory without waits longer than any wait there is: the clock was set back."""
    rules, online = policy.guard, policy.ratio.online
    longest = waits.Deadlines(
        now_s + rules.cool_down_out_s,
        now_s + max(rules.cool_down_in_s, rules.restore_wait_max_s),
    )
    ratio_until_s = now_s if online is None else now_s + online.wait_s
    step_until_s = now_s + max((one.step_timeout_s for one in policy.feedback), default=0.0)
    if (
        state.scale_out_until_s <= longest.out_s
        and state.scale_in_until_s <= longest.in_s
        and state.ratio_until_s <= ratio_until_s
        and all(one.sent_s <= now_s for one in state.pending)
        and all(one.step_until_s <= step_until_s for one in state.feedback.values())
    ):
        return state
    return replace(
        state,
        scale_out_until_s=min(state.scale_out_until_s, longest.out_s),
        scale_in_until_s=min(state.scale_in_until_s, longest.in_s),
        ratio_until_s=min(state.ratio_until_s, ratio_until_s),
        feedback={
            signal: replace(one, step_until_s=min(one.step_until_s, step_until_s))
            for signal, one in state.feedback.items()
        },
        pending=tuple(
            replace(
                one,
                sent_s=min(one.sent_s, now_s),
                out_until_before_s=min(one.out_until_before_s, longest.out_s),
                in_until_before_s=min(one.in_until_before_s, longest.in_s),
            )
            for one in state.pending
        ),
    )
