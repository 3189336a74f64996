"""What is said of a ScaledService after a tick: whole statuses, and what counts as news."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.config.scaled_service_status import ScaledServiceStatus
from heteroscale.entities.action import OutcomeKind
from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import Mode, Pause, ServiceSpec
from heteroscale.loop import TickReport, actions_digest
from heteroscale.subcluster.scaled_services import Refusal
from heteroscale.subcluster.status import Case, Status, Tick, news, status_of, time_of, with_texts
from tests.unit.journal.fleets import busy, service

NOW_S = 1_700_000_000.0
NOW = "2023-11-14T22:13:20Z"
LATER_S = NOW_S + 60.0


def resource(generation: int = 3) -> dict[str, Any]:
    return {
        "metadata": {"name": "chat", "namespace": "ns", "uid": "u", "generation": generation},
        "spec": {"mode": "enforce"},
    }


def ticked(mode: Mode = Mode.ENFORCE) -> TickReport:
    return busy(mode).tick()


def case(mode: Mode = Mode.ENFORCE, **known: Any) -> Case:
    return Case(resource=resource(), **{"spec": service("chat", mode=mode), **known})


def said(
    one: Case, report: TickReport, before: Status | None = None, *, frozen: bool = False
) -> dict[str, Any]:
    return dict(status_of(one, before or {}, Tick.of(report, frozen=frozen), NOW_S))


def conditions(status: Status) -> dict[str, tuple[str, str, str]]:
    return {
        one["type"]: (one["status"], one["reason"], one["message"]) for one in status["conditions"]
    }


def counts(role: str, current: int, desired: int, would_be: int) -> dict[str, Any]:
    figures = {"current": current, "desired": desired, "wouldBe": would_be}
    return {"name": role, **figures, "ready": 2, "withdrawn": 0}


def test_what_was_changed_is_desired_and_when_it_was_is_said() -> None:
    report = ticked()
    status = said(case(), report)
    decision = report.plan.decisions[0]
    assert status == {
        "observedGeneration": 3,
        "mode": "enforce",
        "current": "prefill 2, decode 2",
        "desired": "prefill 3, decode 3",
        "wouldBe": "prefill 3, decode 3",
        "roles": [counts("prefill", 2, 3, 3), counts("decode", 2, 3, 3)],
        "reason": "ScaleOut",
        "reasons": [{"code": one.code} for one in decision.reasons],
        "plan": "",
        "changedAt": NOW,
        "conditions": [
            {
                "type": kind,
                "status": holds,
                "reason": reason,
                "message": "",
                "observedGeneration": 3,
                "lastTransitionTime": NOW,
            }
            for kind, holds, reason in (
                ("Ready", "True", "Planned"),
                ("Active", "True", "Enforcing"),
                ("Degraded", "False", "NothingLacking"),
            )
        ],
    }
    told = with_texts(status, decision)
    assert all(one["message"] for one in told["reasons"])
    ScaledServiceStatus.model_validate(
        {
            **told,
            "mode": Mode.ENFORCE,
            **{key: tuple(told[key]) for key in ("roles", "reasons", "conditions")},
        }
    )


def test_what_is_only_looked_at_would_be_and_is_not_desired() -> None:
    status = said(case(Mode.OBSERVE), ticked(Mode.OBSERVE))
    assert status["roles"] == [counts("prefill", 2, 2, 3), counts("decode", 2, 2, 3)]
    assert (status["changedAt"], status["plan"]) == (None, "")
    assert conditions(status)["Active"][:2] == ("False", "Observing")


def test_a_plan_that_waits_is_named_and_what_became_of_its_approval_is_said() -> None:
    report = ticked(Mode.RECOMMEND)
    status = said(case(Mode.RECOMMEND, approval="the approval of plan x has ended"), report)
    assert status["plan"] == actions_digest(report.plan, "chat")
    assert conditions(status)["Active"] == (
        "False",
        "Recommending",
        "the approval of plan x has ended",
    )


PAUSED = replace(service("chat"), pause=Pause(scale_out=True, scale_in=True))


@pytest.mark.parametrize(
    ("known", "frozen", "reason"),
    [
        pytest.param({}, True, "Frozen", id="frozen"),
        pytest.param({"contested": "HPA x"}, False, "SecondWriter", id="a second writer"),
        pytest.param({"spec": PAUSED}, False, "Paused", id="paused both ways"),
        pytest.param({"spec": None}, False, "NotReady", id="not looked after"),
    ],
)
def test_why_nothing_is_changed(known: dict[str, Any], frozen: bool, reason: str) -> None:
    status = said(case(**known), ticked(), frozen=frozen)
    assert conditions(status)["Active"][:2] == ("False", reason)


def test_of_what_is_not_looked_after_only_the_reason_is_said() -> None:
    refusal = Refusal(reason="WorkloadMissing", message="Deployment ns/x is not there")
    status = said(case(spec=None, refusal=refusal), ticked())
    assert (status["mode"], status["current"], status["roles"]) == ("enforce", "", [])
    assert conditions(status)["Ready"] == (
        "False",
        "WorkloadMissing",
        "Deployment ns/x is not there",
    )


def test_a_service_that_planning_failed_on_or_has_not_met_yet_says_so() -> None:
    report = ticked()
    failed = said(case(), replace(report, excluded={"chat": "a bug"}))
    assert conditions(failed)["Ready"] == ("False", "PlanningFailed", "a bug")
    unmet = said(case(spec=replace(service("chat"), name="other")), report)
    assert conditions(unmet)["Ready"][:2] == ("Unknown", "NotPlannedYet")


def test_what_is_lacking_is_said_without_figures_that_change_all_the_time() -> None:
    report = ticked()
    figures = {"signal": "ttft_s", "role": "prefill", "cause": "stale"}
    lacking = (
        Reason(step=Step.SIGNAL, code=ReasonCode.UNKNOWN, figures=figures),
        Reason(step=Step.PLACE, code=ReasonCode.NO_FIT, figures={"role": "decode", "capacity": 3}),
    )
    decision = replace(report.plan.decisions[0], reasons=lacking)
    outcomes = tuple(
        replace(one, kind=OutcomeKind.REFUSED, detail="not for us") for one in report.outcomes
    )
    report = replace(report, plan=replace(report.plan, decisions=(decision,)), outcomes=outcomes)
    status = said(case(amiss=("decode is replacing its pods",)), report)
    assert conditions(status)["Degraded"] == (
        "True",
        "InTheWay",
        "decode is replacing its pods; not for us; unknown: ttft_s prefill stale; no fit: decode",
    )
    assert (status["desired"], status["changedAt"]) == ("prefill 2, decode 2", None)


def test_a_condition_keeps_the_time_since_which_it_holds() -> None:
    report = ticked()
    before = said(case(), report)
    tick = Tick.of(report, frozen=True)
    after = status_of(case(), before, tick, LATER_S)
    times = {one["type"]: one["lastTransitionTime"] for one in after["conditions"]}
    assert times == {"Ready": NOW, "Active": time_of(LATER_S), "Degraded": NOW}


def test_figures_of_a_reason_are_no_news_and_another_reason_is() -> None:
    report = ticked()
    decision = report.plan.decisions[0]
    before = with_texts(said(case(), report), decision)
    again = said(case(), report, before)
    assert news(before, again) == frozenset()
    fewer = {**again, "reasons": again["reasons"][1:]}
    assert news(before, fewer) == {"reasons"}
    absent = {key: one for key, one in before.items() if key != "plan"}
    assert news(absent, again) == frozenset()


def test_another_specification_is_news_even_where_nothing_else_is() -> None:
    report = ticked()
    spec: ServiceSpec = service("chat")
    before = said(case(), report)
    changed = Case(resource=resource(generation=4), spec=spec)
    assert news(before, said(changed, report, before)) == {"observedGeneration", "conditions"}
