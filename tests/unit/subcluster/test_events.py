"""Events of a ScaledService: one for what a tick did in one way, and never a flood."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from heteroscale.entities.action import Effect, OutcomeKind, Rotation, RotationAction
from heteroscale.entities.service import Mode
from heteroscale.loop import TickReport
from heteroscale.subcluster.events import EventBook, Told, Write, told_of
from tests.unit.journal.fleets import busy

NOW_S = 1_700_000_000.0
RESOURCE: dict[str, Any] = {"metadata": {"name": "chat", "namespace": "ns", "uid": "u-1"}}
FOLDER = "/apis/events.k8s.io/v1/namespaces/ns/events"
REFUSED = Told(reason="ChangeRefused", note="decode 2 → 3: no", warning=True, actions=("a",))


def out(number: int = 0) -> Told:
    return Told(reason="ScaledOut", note="decode 2 → 3", warning=False, actions=(f"a{number}",))


def written(book: EventBook, told: Told, at_s: float) -> list[Write]:
    return list(book.writes(RESOURCE, told, at_s))


def changed(report: TickReport, kind: OutcomeKind, detail: str = "") -> TickReport:
    outcomes = tuple(replace(one, kind=kind, detail=detail) for one in report.outcomes)
    return replace(report, outcomes=outcomes)


def test_both_roles_of_one_change_are_one_event_with_its_reason() -> None:
    report = busy(Mode.ENFORCE).tick()
    (only,) = told_of("chat", report, report.plan.decisions[0])
    assert (only.reason, only.warning) == ("ScaledOut", False)
    assert only.note.startswith("decode 2 → 3, prefill 2 → 3: scale out from 2 to 3 units")
    assert only.actions == tuple(one.id for one in report.sent)
    assert told_of("other", report, None) == ()


def test_what_was_refused_is_a_warning_and_what_was_stale_no_event() -> None:
    report = busy(Mode.ENFORCE).tick()
    (only,) = told_of("chat", changed(report, OutcomeKind.REFUSED, "not for us"), None)
    assert (only.reason, only.warning) == ("ChangeRefused", True)
    assert only.note == "decode 2 → 3, prefill 2 → 3: not for us"
    assert told_of("chat", changed(report, OutcomeKind.STALE), None) == ()


def test_instances_that_move_are_told_by_role_and_way() -> None:
    report = busy(Mode.ENFORCE).tick()
    first, second = report.snapshot.services["chat"].instances[:2]
    moves = tuple(
        RotationAction(
            id=one.uid,
            service="chat",
            subcluster=one.subcluster,
            uid=one.uid,
            to=to,
            version="",
            effect=effect,
        )
        for one, to, effect in (
            (first, Rotation.WITHDRAWN, Effect.IN),
            (second, Rotation.READY, Effect.RESTORE),
        )
    )
    outcomes = tuple(replace(report.outcomes[0], action_id=one.id) for one in moves)
    told = told_of("chat", replace(report, sent=moves, outcomes=outcomes), None)
    assert [(one.reason, one.note) for one in told] == [
        ("Restored", f"1 of {second.role}"),
        ("Withdrawn", f"1 of {first.role}"),
    ]


def test_an_event_names_its_resource_and_is_named_by_what_it_tells_of() -> None:
    (write,) = written(EventBook("pod-1"), out(), NOW_S)
    assert (write.path, write.series) == (FOLDER, False)
    name = write.body["metadata"]["name"]
    assert name.startswith("chat.")
    assert write.body == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "ns"},
        "eventTime": "2023-11-14T22:13:20.000000Z",
        "reportingController": "heteroscale.dev/controller",
        "reportingInstance": "pod-1",
        "type": "Normal",
        "reason": "ScaledOut",
        "action": "ScaledOut",
        "note": "decode 2 → 3",
        "regarding": {
            "apiVersion": "heteroscale.dev/v1alpha1",
            "kind": "ScaledService",
            "namespace": "ns",
            "name": "chat",
            "uid": "u-1",
        },
    }
    (again,) = written(EventBook("pod-2"), out(), NOW_S + 5.0)
    (other,) = written(EventBook("pod-2"), out(1), NOW_S + 5.0)
    assert again.body["metadata"]["name"] == name != other.body["metadata"]["name"]


def test_the_same_warning_is_counted_and_its_count_told_once_a_minute() -> None:
    book = EventBook("pod-1")
    (first,) = written(book, REFUSED, NOW_S)
    event = f"{FOLDER}/{first.body['metadata']['name']}"
    assert [written(book, REFUSED, NOW_S + 15.0 * n) for n in (1, 2, 3)] == [[], [], []]
    series = {"count": 5, "lastObservedTime": "2023-11-14T22:14:20.000000Z"}
    (fifth,) = written(book, REFUSED, NOW_S + 60.0)
    assert fifth == Write(path=event, body={"series": series}, series=True)
    book.forget(NOW_S + 600.0)
    (anew,) = written(book, replace(REFUSED, actions=("b",)), NOW_S + 600.0)
    assert not anew.series


def test_nobody_is_flooded_and_everybody_is_told_again_later() -> None:
    book = EventBook("pod-1")
    told = [written(book, out(number), NOW_S) for number in range(30)]
    assert [len(one) for one in told] == [1] * 25 + [0] * 5
    book.forget(NOW_S + 60.0)
    assert len(written(book, out(31), NOW_S + 60.0)) == 1
    assert written(book, out(32), NOW_S + 60.0) == []
