"""Tells one decision of one service in plain words: seen, made of it, done.

The decision is computed again from the journal, so also a hold that was kept only as a digest has
all its reasons; `agrees` says whether it is the one that was recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from heteroscale.entities.action import Action, Outcome, ScaleAction
from heteroscale.entities.decision import Decision, Direction, Reason, Step
from heteroscale.entities.placement import Grant, PlacementPlan
from heteroscale.entities.reasons import describe
from heteroscale.entities.service import ServiceSpec
from heteroscale.entities.snapshot import Instance, Reading
from heteroscale.errors import ConfigError, Problem
from heteroscale.journal.codec import decision_digest, encoded
from heteroscale.journal.record import Evidence
from heteroscale.journal.replay import Fold, Line, Seen, intact


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldStep:
    """What one step made of what was seen."""

    step: Step
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldAction:
    """One change that the plan asked for, and what became of it."""

    text: str
    sent: bool
    #: the answer as the next record has it; None = not sent, or no answer in the journal
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One service at one tick."""

    service: str
    tick: int
    at_s: float
    #: `at_s` in ISO 8601, UTC
    at: str
    mode: str
    readings: tuple[Reading, ...]
    #: leaf role → state → instances
    replicas: Mapping[str, Mapping[str, int]]
    unreachable: tuple[str, ...]
    #: answers to the actions of earlier ticks that this tick saw
    outcomes: tuple[str, ...]
    #: None = the planner failed on this service; `error` says how
    direction: str | None
    #: leaf role → capacity units wanted
    capacity: Mapping[str, int]
    ratio: Mapping[str, int]
    steps: tuple[ToldStep, ...]
    placement: tuple[str, ...]
    actions: tuple[ToldAction, ...]
    error: str | None
    notices: tuple[str, ...]
    #: whether the decision told here is byte for byte the recorded one
    agrees: bool


def explanation(lines: Iterable[Line], service: str, at_s: float) -> Explanation:
    """Return what the last tick at or before `at_s` decided for a service.

    Args:
        lines: from the start of a segment to after `at_s`.
        service: a name of the fleet at that time.
        at_s: epoch seconds.

    Raises:
        ConfigError: no such service or time in the journal; says what there is.
        JournalBroken: the journal is damaged on the way there.
    """
    since: list[Seen] = []
    after: Seen | None = None
    for seen in intact(lines):
        if seen.record.now_s > at_s:
            after = seen
            break
        if seen.record.state is not None:
            since.clear()
        since.append(seen)
    if not since:
        start = "is empty" if after is None else f"starts at {moment(after.record.now_s)}"
        raise ConfigError([Problem(path="at", rule=f"the journal {start}", value=moment(at_s))])
    target = since[-1]
    _check_time(target, after, at_s)
    spec = _spec(target, service)
    fold = Fold()
    for seen in since[:-1]:
        fold.evidence(seen)
    return _told(target, fold.evidence(target), spec, after)


def moment(at_s: float) -> str:
    """Return an instant in ISO 8601, UTC, to the second where it is whole."""
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


def action_text(action: Action) -> str:
    """Return one change in words."""
    if isinstance(action, ScaleAction):
        gone = f", removing {', '.join(action.remove)}" if action.remove else ""
        return (
            f"set {action.role} on {action.accelerator} of group {action.group} in"
            f" {action.subcluster} from {action.expected_replicas} to {action.replicas}{gone}"
        )
    return f"move instance {action.uid} in {action.subcluster} to {action.to.value}"


def _check_time(target: Seen, after: Seen | None, at_s: float) -> None:
    """A time long after the last record asks for a tick that is not there."""
    last_s = target.record.now_s
    if after is None and at_s > last_s + target.fleet.interval_s:
        raise ConfigError(
            [Problem(path="at", rule=f"the journal ends at {moment(last_s)}", value=moment(at_s))]
        )


def _spec(target: Seen, service: str) -> ServiceSpec:
    for spec in target.fleet.services:
        if spec.name == service:
            return spec
    names = ", ".join(sorted(spec.name for spec in target.fleet.services)) or "none"
    raise ConfigError(
        [Problem(path="service", rule=f"must be one of the fleet's: {names}", value=service)]
    )


def _told(target: Seen, evidence: Evidence, spec: ServiceSpec, after: Seen | None) -> Explanation:
    record, name = target.record, spec.name
    plan = evidence.plan
    decision = next((one for one in plan.decisions if one.service == name), None)
    seen = target.snapshot.services[name]
    answers = after.snapshot.outcomes if after else ()
    return Explanation(
        service=name,
        tick=record.tick,
        at_s=record.now_s,
        at=moment(record.now_s),
        mode=spec.mode.value,
        readings=seen.readings,
        replicas=_counts(seen.instances),
        unreachable=record.unreachable,
        outcomes=tuple(_outcome_text(one) for one in record.outcomes if one.service == name),
        direction=Direction(decision.direction).name.lower() if decision else None,
        capacity=decision.capacity if decision else {},
        ratio=decision.ratio if decision else {},
        steps=_steps(decision.reasons) if decision else (),
        placement=_placement_texts(plan.placement, name),
        actions=tuple(
            _told_action(action, record.sent, answers)
            for action in plan.actions
            if action.service == name
        ),
        error=record.excluded.get(name),
        notices=record.notices,
        agrees=_agrees(target, decision),
    )


def _agrees(target: Seen, decision: Decision | None) -> bool:
    if decision is None:
        return True
    row = target.record.services[decision.service]
    if row.digest:
        return row.digest == decision_digest(decision)
    return bytes(row.decision) == encoded(decision)


def _counts(instances: Iterable[Instance]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for one in instances:
        states = counts.setdefault(one.role, {})
        states[one.state.value] = states.get(one.state.value, 0) + 1
    return counts


def _steps(reasons: Iterable[Reason]) -> tuple[ToldStep, ...]:
    return tuple(
        ToldStep(step=step, texts=tuple(_text(reason) for reason in group))
        for step, group in groupby(reasons, key=lambda reason: reason.step)
    )


def _text(reason: Reason) -> str:
    try:
        return describe(reason)
    except (KeyError, ValueError):
        # a reason of another release: its code and figures still tell more than an error
        figures = ", ".join(f"{name} {value}" for name, value in sorted(reason.figures.items()))
        return f"{reason.code} ({figures})" if figures else reason.code


def _outcome_text(outcome: Outcome) -> str:
    detail = f": {outcome.detail}" if outcome.detail else ""
    return f"action {outcome.action_id} {outcome.kind.value}{detail}"


def _placement_texts(placement: PlacementPlan, name: str) -> tuple[str, ...]:
    grants = [
        f"{one.replicas} {one.role} on {one.accelerator} granted to group {one.group} in"
        f" {'/'.join((one.subcluster, *one.domain[1:]))}{_priced(one)}"
        for one in placement.grants
        if one.service == name
    ]
    releases = [
        f"chosen to leave: {', '.join(one.uids)}"
        for one in placement.releases
        if one.service == name
    ]
    missing = [
        f"not placed: {_listed(one.missing)}; nodes ruled out: {_listed(one.causes) or 'none'}"
        for one in placement.no_fits
        if one.service == name
    ]
    return tuple(grants + releases + missing)


def _priced(grant: Grant) -> str:
    """Return every node, and the price where it is stated."""
    nodes = ", ".join("+".join(names) for names in grant.nodes)
    price = grant.price_per_hour
    return f" on {nodes}" if price is None else f" on {nodes}; {price:,.2f} an hour"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _told_action(action: Action, sent: tuple[str, ...], answers: tuple[Outcome, ...]) -> ToldAction:
    answer = next((one for one in answers if one.action_id == action.id), None)
    detail = f": {answer.detail}" if answer and answer.detail else ""
    return ToldAction(
        text=action_text(action),
        sent=action.id in sent,
        outcome=f"{answer.kind.value}{detail}" if answer else None,
    )
