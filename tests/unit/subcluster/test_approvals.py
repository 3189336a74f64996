"""An approval is good for the plan that it names, once, until it ends."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.config.scaled_service import Approval, Asked
from heteroscale.entities.service import Mode
from heteroscale.subcluster.approvals import Approvals
from tests.unit.journal.fleets import busy, service

UNTIL_S = 1_700_000_600.0
NOW_S = UNTIL_S - 1.0


def asked(plan: str = "p1", mode: Mode = Mode.RECOMMEND) -> Asked:
    spec = service("chat", mode=mode)
    return Asked(spec=spec, workloads=(), approval=Approval(plan=plan, until_s=UNTIL_S))


def test_an_approval_stands_until_it_ends_and_only_where_plans_wait() -> None:
    approvals = Approvals()
    assert approvals.standing([asked()], NOW_S) == {"chat": "p1"}
    assert approvals.standing([asked()], UNTIL_S) == {}
    assert approvals.standing([asked(mode=Mode.ENFORCE)], NOW_S) == {}
    assert approvals.standing([replace(asked(), approval=None)], NOW_S) == {}


def test_what_was_carried_out_is_not_carried_out_again_and_another_plan_is() -> None:
    approvals, report = Approvals(), busy(Mode.ENFORCE).tick()
    approvals.carried_out(approvals.standing([asked()], NOW_S), replace(report, sent=()))
    assert approvals.standing([asked()], NOW_S) == {"chat": "p1"}
    approvals.carried_out({"chat": "p1"}, report)
    assert approvals.standing([asked()], NOW_S) == {}
    assert approvals.in_words(asked(), NOW_S) == "plan p1 was approved and is carried out"
    assert approvals.standing([asked("p2")], NOW_S) == {"chat": "p2"}


def test_what_became_of_an_approval_is_said() -> None:
    approvals = Approvals()
    said = [
        approvals.in_words(replace(asked(), approval=None), NOW_S),
        approvals.in_words(asked(), NOW_S),
        approvals.in_words(asked(), UNTIL_S),
    ]
    assert said == [
        "",
        "plan p1 is approved, and is not the plan by now",
        "the approval of plan p1 has ended",
    ]
