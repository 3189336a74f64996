"""Reasons for what the lifecycle did, one per code and role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.snapshot import InstanceState
from heteroscale.lifecycle.gate import Passage, Verdict
from heteroscale.lifecycle.rotation import Cue, Turn

#: why an instance moved → the code that says so; victims are told apart by what becomes of them
_CUES = {
    Cue.SLO_DEGRADED: ReasonCode.RESTORED_SLO,
    Cue.UNKNOWN_TOO_LONG: ReasonCode.RESTORED_UNKNOWN,
    Cue.CANCELLED: ReasonCode.RESTORED_CANCELLED,
    Cue.DEMAND_RETURNED: ReasonCode.RESTORED_DEMAND,
    Cue.OBSERVED: ReasonCode.DRAINED,
    Cue.IDLE: ReasonCode.TERMINATED_IDLE,
    Cue.DRAIN_TIMED_OUT: ReasonCode.TERMINATED_TIMEOUT,
    Cue.BROKEN: ReasonCode.REMOVED_FAILED,
    Cue.CHOSEN_FOR_GOOD: ReasonCode.REMOVED_PLAINLY,
    Cue.UNPLACED: ReasonCode.CALLED_OFF_UNPLACED,
}
_VERDICTS = {
    Verdict.ADMITTED: ReasonCode.GATE_RELEASED,
    Verdict.AHEAD: ReasonCode.GATE_HELD,
    Verdict.TIMED_OUT: ReasonCode.GATE_TIMED_OUT,
    Verdict.PARTNER_CANNOT_COME: ReasonCode.GATE_PARTNER_CANNOT_COME,
}
_NOT_SERVING = frozenset({InstanceState.PENDING, InstanceState.STARTING})


def explain_moves(turns: Iterable[Turn], passages: Iterable[Passage]) -> tuple[Reason, ...]:
    """Return why instances moved, sorted by code and role."""
    counts: Counter[tuple[ReasonCode, str]] = Counter()
    for turn in turns:
        counts[_code(turn), turn.instance.role] += 1
    for passage in passages:
        counts[_VERDICTS[passage.verdict], passage.instance.role] += 1
    return tuple(
        Reason(
            step=Step.LIFECYCLE, code=code, figures={"role": role, "replicas": counts[code, role]}
        )
        for code, role in sorted(counts)
    )


def _code(turn: Turn) -> ReasonCode:
    if turn.cue is Cue.CHOSEN:
        serves = turn.instance.state not in _NOT_SERVING
        return ReasonCode.WITHDRAWN if serves else ReasonCode.CALLED_OFF
    return _CUES[turn.cue]
