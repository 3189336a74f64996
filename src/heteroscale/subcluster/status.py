"""What is said of a ScaledService after a tick: counts, reasons and conditions, as plain data.

Pure: what was said before is given, and decides whether a condition has changed.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from heteroscale.config.scaled_service_status import LONGEST_MESSAGE, MOST_REASONS
from heteroscale.entities.action import Action, Outcome, OutcomeKind, ScaleAction, group_role_key
from heteroscale.entities.decision import Decision, Reason, Step
from heteroscale.entities.reasons import ReasonCode, describe
from heteroscale.entities.service import Mode, RoleSpec, ServiceSpec, Stage
from heteroscale.entities.snapshot import InstanceState, ServiceSnapshot
from heteroscale.loop import TickReport, actions_digest
from heteroscale.subcluster.scalables import KubeObject
from heteroscale.subcluster.scaled_services import Refusal

#: a status as it is written
Status: TypeAlias = Mapping[str, Any]

#: reasons that mean that something is lacking
_LACKS = frozenset(
    {
        ReasonCode.UNKNOWN,
        ReasonCode.TIMEZONE_UNKNOWN,
        ReasonCode.NOTHING_READY,
        ReasonCode.FOREIGN_ACCELERATOR,
        ReasonCode.RATIO_BROKEN,
        ReasonCode.NO_FIT,
        ReasonCode.WAY_NONE,
        ReasonCode.OUT_OF_REACH,
        ReasonCode.NEVER_SEEN,
        ReasonCode.RESTORED_UNKNOWN,
    }
)
_STAGES = (Stage.ENCODE, Stage.PREFILL, Stage.DECODE)
#: steps that decide how much; the last of them to say something had the last word
_DECIDING = frozenset({Step.SIGNAL, Step.RECOMMEND, Step.GUARD, Step.BRAKE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One resource, and what is known of its service after a tick."""

    resource: KubeObject
    #: None = it is not looked after, and `refusal` says why
    spec: ServiceSpec | None
    refusal: Refusal | None = None
    #: who else sets its counts; "" = nobody
    contested: str = ""
    #: what stands in its way, in words
    amiss: tuple[str, ...] = ()
    #: what became of its approval, in words; "" = it has none
    approval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One tick's report, by service."""

    report: TickReport
    frozen: bool
    decisions: Mapping[str, Decision]
    planned: Mapping[str, Sequence[Action]]
    #: what was sent, and what became of it
    sent: Mapping[str, Sequence[tuple[Action, Outcome]]]

    @staticmethod
    def of(report: TickReport, *, frozen: bool) -> Tick:
        """Return a report ready to be asked for one service after the other."""
        planned: dict[str, list[Action]] = {}
        for action in report.plan.actions:
            planned.setdefault(action.service, []).append(action)
        sent: dict[str, list[tuple[Action, Outcome]]] = {}
        for action, outcome in zip(report.sent, report.outcomes, strict=True):
            sent.setdefault(action.service, []).append((action, outcome))
        return Tick(
            report=report,
            frozen=frozen,
            decisions={one.service: one for one in report.plan.decisions},
            planned=planned,
            sent=sent,
        )


def status_of(case: Case, before: Status, tick: Tick, now_s: float) -> Status:
    """Return what is to be said of a resource by now; the texts of its reasons come later.

    Args:
        before: what was said of it last; empty = nothing.
    """
    generation = case.resource["metadata"]["generation"]
    said: dict[str, Any] = {"observedGeneration": generation, "changedAt": before.get("changedAt")}
    if case.spec is None:
        said |= _nothing(str((case.resource.get("spec") or {}).get("mode") or Mode.ENFORCE))
    else:
        said |= _of_service(case.spec, tick, now_s, before)
    conditions = (_ready(case, tick), _active(case, tick), _degraded(case, tick))
    known = {one.get("type"): one for one in before.get("conditions") or ()}
    said["conditions"] = [
        {
            **one,
            "message": one["message"][:LONGEST_MESSAGE],
            "observedGeneration": generation,
            "lastTransitionTime": _since(one, known.get(one["type"]), now_s),
        }
        for one in conditions
    ]
    return said


def with_texts(status: Status, decision: Decision | None) -> Status:
    """Return a status with the sentences of its reasons."""
    reasons = () if decision is None else decision.reasons[:MOST_REASONS]
    told = [{"code": one.code, "message": describe(one)} for one in reasons]
    return {**status, "reasons": told}


def news(before: Status, now: Status) -> frozenset[str]:
    """Return the keys under which there is news; the figures in a reason's sentence are none."""
    return frozenset(key for key in now if _plain(key, before.get(key)) != _plain(key, now[key]))


def time_of(at_s: float) -> str:
    """Return epoch seconds as Kubernetes writes a time."""
    return dt.datetime.fromtimestamp(at_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def telling(decision: Decision | None) -> Reason | None:
    """Return the reason that had the last word on how much; None = none was given."""
    reasons = () if decision is None else decision.reasons
    return next((one for one in reversed(reasons) if one.step in _DECIDING), None)


def one_word(code: str) -> str:
    """Return `ScaleOut` for `scale_out`."""
    return "".join(part.capitalize() for part in code.split("_"))


def _plain(key: str, said: Any) -> Any:
    """Return what of an entry counts as news."""
    if key == "reasons":
        return [one.get("code") for one in said or ()]
    return said or None


def _nothing(mode: str) -> dict[str, Any]:
    """Return what is said of the counts of a service that is not looked after."""
    counts = dict.fromkeys(("current", "desired", "wouldBe"), "")
    return {"mode": mode, **counts, "roles": [], "reason": "", "reasons": [], "plan": ""}


def _of_service(spec: ServiceSpec, tick: Tick, now_s: float, before: Status) -> dict[str, Any]:
    report = tick.report
    decision = tick.decisions.get(spec.name)
    sent = tick.sent.get(spec.name, ())
    applied = {action.id for action, one in sent if one.kind is OutcomeKind.APPLIED}
    roles = _roles(spec, tick, applied)
    reason = telling(decision)
    waits = spec.mode is Mode.RECOMMEND and not applied
    return {
        "mode": spec.mode.value,
        "current": _in_words(roles, "current"),
        "desired": _in_words(roles, "desired"),
        "wouldBe": _in_words(roles, "wouldBe"),
        "roles": roles,
        "reason": "" if reason is None else one_word(reason.code),
        "reasons": [{"code": one.code} for one in _shown(decision)],
        "plan": (actions_digest(report.plan, spec.name) or "") if waits else "",
        "changedAt": time_of(now_s) if applied else before.get("changedAt"),
    }


def _shown(decision: Decision | None) -> Iterable[Reason]:
    return () if decision is None else decision.reasons[:MOST_REASONS]


def _roles(spec: ServiceSpec, tick: Tick, applied: Collection[str]) -> list[dict[str, Any]]:
    """Return the counts of each role with instances, over all of its workloads."""
    seen = tick.report.snapshot.services.get(spec.name, ServiceSnapshot())
    planned = {
        group_role_key(one.subcluster, one.group, one.role, one.accelerator): one
        for one in tick.planned.get(spec.name, ())
        if isinstance(one, ScaleAction)
    }
    current: Counter[str] = Counter()
    desired: Counter[str] = Counter()
    would_be: Counter[str] = Counter()
    for count in seen.group_roles:
        key = group_role_key(count.subcluster, count.group, count.role, count.accelerator)
        action = planned.get(key)
        then = count.replicas if action is None else action.replicas
        current[count.role] += count.replicas
        would_be[count.role] += then
        desired[count.role] += then if action and action.id in applied else count.replicas
    states = Counter((one.role, one.state) for one in seen.instances)
    return [
        {
            "name": leaf.path,
            "current": current[leaf.path],
            "desired": desired[leaf.path],
            "wouldBe": would_be[leaf.path],
            "ready": states[leaf.path, InstanceState.READY],
            "withdrawn": states[leaf.path, InstanceState.WITHDRAWN],
        }
        for leaf in sorted(spec.group.leaves(), key=_in_order)
    ]


def _in_order(leaf: RoleSpec) -> tuple[int, str]:
    """Return where a role stands among the others: in the order in which requests meet them."""
    return _STAGES.index(leaf.stage), leaf.path


def _in_words(roles: Iterable[Mapping[str, Any]], key: str) -> str:
    return ", ".join(f"{one['name']} {one[key]}" for one in roles)


def _condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _ready(case: Case, tick: Tick) -> dict[str, Any]:
    if case.spec is None:
        refusal = case.refusal or Refusal(reason="Unknown", message="")
        return _condition("Ready", "False", refusal.reason, refusal.message)
    error = tick.report.excluded.get(case.spec.name)
    if error is not None:
        return _condition("Ready", "False", "PlanningFailed", error)
    if case.spec.name not in tick.decisions:
        return _condition("Ready", "Unknown", "NotPlannedYet")
    return _condition("Ready", "True", "Planned")


def _active(case: Case, tick: Tick) -> dict[str, Any]:
    status, reason, message = _activity(case, tick)
    return _condition("Active", status, reason, message)


def _activity(case: Case, tick: Tick) -> tuple[str, str, str]:
    """Return whether the workloads are changed where the plan says so, and why (not)."""
    spec = case.spec
    if spec is None:
        return "False", "NotReady", ""
    if tick.frozen:
        return "False", "Frozen", "the fleet is frozen: nothing changes, restores excepted"
    if case.contested:
        return "False", "SecondWriter", f"{case.contested}: nothing of it is changed"
    if spec.mode is Mode.OBSERVE:
        return "False", "Observing", "plans are made and not carried out"
    if spec.pause.scale_out and spec.pause.scale_in:
        return "False", "Paused", "scale-out and scale-in are paused"
    if spec.mode is Mode.RECOMMEND:
        message = case.approval or "a plan is carried out once spec.approval names status.plan"
        return "False", "Recommending", message
    return "True", "Enforcing", ""


def _degraded(case: Case, tick: Tick) -> dict[str, Any]:
    found = list(_lacks(case, tick)) if case.spec is not None else []
    if not found:
        return _condition("Degraded", "False", "NothingLacking")
    texts = dict.fromkeys(text for _, text in found)
    return _condition("Degraded", "True", found[0][0], "; ".join(texts))


def _lacks(case: Case, tick: Tick) -> Iterator[tuple[str, str]]:
    """Yield what is lacking, in one word and in words that stay as they are while it is."""
    for text in case.amiss:
        yield "InTheWay", text
    name = case.spec.name if case.spec else ""
    for _, outcome in tick.sent.get(name, ()):
        if outcome.kind in (OutcomeKind.REFUSED, OutcomeKind.UNKNOWN):
            yield f"Change{one_word(outcome.kind)}", outcome.detail
    decision = tick.decisions.get(name)
    for reason in decision.reasons if decision else ():
        if reason.code in _LACKS:
            whose = (reason.figures.get(key) for key in ("signal", "role", "cause"))
            words = " ".join(str(word) for word in whose if word is not None)
            yield one_word(reason.code), f"{reason.code.replace('_', ' ')}: {words}".rstrip(": ")


def _since(now: Mapping[str, Any], before: Mapping[str, Any] | None, now_s: float) -> str:
    """Return when a condition's status changed last."""
    if before is not None and before.get("status") == now["status"]:
        return str(before.get("lastTransitionTime") or time_of(now_s))
    return time_of(now_s)
