"""Counts that someone else changed: taken as they are, never fought."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.policy import GuardSpec
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import RolePath
from heteroscale.entities.snapshot import GroupRole
from heteroscale.entities.state import ServiceState
from heteroscale.lifecycle.waits import start_anew


def adopt(
    state: ServiceState,
    counts: Iterable[GroupRole],
    ours: Collection[RolePath],
    now_s: float,
    rules: GuardSpec,
) -> tuple[ServiceState, tuple[Reason, ...]]:
    """Return the memory with the counts as seen, both waits begun anew where someone changed them.

    Args:
        ours: leaf roles whose count may have moved by an action of ours: those are not compared.
    """
    seen: dict[RolePath, int] = {}
    for count in counts:
        seen[count.role] = seen.get(count.role, 0) + count.replicas
    before = state.replicas_seen
    if seen == before:
        return state, ()
    reasons = tuple(
        Reason(
            step=Step.LIFECYCLE,
            code=ReasonCode.ADOPTED,
            figures={"role": role, "before": before[role], "after": seen.get(role, 0)},
        )
        for role in sorted(before)
        if role not in ours and before[role] != seen.get(role, 0)
    )
    if reasons:
        state = start_anew(state, now_s, rules)
    return replace(state, replicas_seen=seen), reasons
