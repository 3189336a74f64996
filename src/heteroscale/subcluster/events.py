"""Events of a ScaledService: one for what a tick changed in one way, none for what is planned.

Pure but for what was told before: the same warning again is counted, and not told anew.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heteroscale.config.scaled_service_sections import GROUP, KIND, VERSION
from heteroscale.entities.action import (
    Action,
    Effect,
    Outcome,
    OutcomeKind,
    Rotation,
    RotationAction,
    ScaleAction,
)
from heteroscale.entities.decision import Decision
from heteroscale.entities.reasons import describe
from heteroscale.entities.snapshot import ServiceSnapshot
from heteroscale.loop import TickReport
from heteroscale.subcluster.scalables import KubeObject
from heteroscale.subcluster.status import telling

CONTROLLER = f"{GROUP}/controller"
_LONGEST_NOTE = 1024
#: events of one resource: at once, and one more per so many seconds
_BURST = 25
_REFILL_S = 60.0
#: the same warning is one event so long, and its count is told this often
_SAME_S = 600.0
_SERIES_S = 60.0
_ROTATIONS: Mapping[Rotation, str] = {
    Rotation.WITHDRAWN: "Withdrawn",
    Rotation.DRAINING: "Draining",
    Rotation.HELD: "Held",
    Rotation.READY: "Released",
}
_WARNINGS: Mapping[OutcomeKind, str] = {
    OutcomeKind.REFUSED: "ChangeRefused",
    OutcomeKind.UNKNOWN: "ChangeUnknown",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What happened to one service in one way."""

    #: one word: ScaledOut, Withdrawn, ChangeRefused, ...
    reason: str
    note: str
    warning: bool
    #: ids of the actions that it tells of
    actions: tuple[str, ...]


def told_of(service: str, report: TickReport, decision: Decision | None) -> tuple[Told, ...]:
    """Return what a tick did to a service: each action in one of them, what was stale in none."""
    ways: dict[tuple[str, bool, str], list[Action]] = {}
    for action, outcome in zip(report.sent, report.outcomes, strict=True):
        way = _way(action, outcome) if action.service == service else None
        if way is not None:
            ways.setdefault(way, []).append(action)
    reason = telling(decision)
    why = "" if reason is None else f": {describe(reason)}"
    seen = report.snapshot.services.get(service, ServiceSnapshot()).instances if ways else ()
    roles = {one.uid: one.role for one in seen}
    return tuple(
        Told(
            reason=word,
            note=f"{_changes(actions, roles)}{f': {detail}' if warning else why}"[:_LONGEST_NOTE],
            warning=warning,
            actions=tuple(action.id for action in actions),
        )
        for (word, warning, detail), actions in sorted(ways.items())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One request that tells an event: made anew, or counted once more."""

    path: str
    body: Mapping[str, Any]
    #: whether the event is there already and only its count changes
    series: bool = False


class EventBook:
    """Remembers what was told, so that nothing is told twice and nobody is flooded."""

    def __init__(self, instance: str) -> None:
        """Have told nothing yet; `instance` says which controller tells."""
        self._instance = instance
        #: uid → events it may have at once, and since when
        self._left: dict[str, tuple[float, float]] = {}
        #: (uid, reason, note) → path of its event, how often, since when, when last told
        self._warned: dict[tuple[str, str, str], tuple[str, int, float, float]] = {}

    def writes(self, resource: KubeObject, told: Told, now_s: float) -> Iterator[Write]:
        """Yield what is to be written of one thing that happened; mostly one, at times nothing."""
        metadata = resource["metadata"]
        key = metadata["uid"], told.reason, told.note
        folder = f"/apis/events.k8s.io/v1/namespaces/{metadata['namespace']}/events"
        known = self._warned.get(key) if told.warning else None
        if known is not None and now_s - known[2] < _SAME_S:
            path, times, since_s, last_s = known
            due = now_s - last_s >= _SERIES_S
            self._warned[key] = path, times + 1, since_s, now_s if due else last_s
            if due:
                series = {"count": times + 1, "lastObservedTime": micro_time(now_s)}
                yield Write(path=path, body={"series": series}, series=True)
            return
        if not self._may(metadata["uid"], now_s):
            return
        event = self._event(resource, told, now_s)
        if told.warning:
            self._warned[key] = f"{folder}/{event['metadata']['name']}", 1, now_s, now_s
        yield Write(path=folder, body=event)

    def forget(self, now_s: float) -> None:
        """Drop what is too old to matter."""
        self._warned = {k: one for k, one in self._warned.items() if now_s - one[2] < _SAME_S}
        self._left = {
            uid: (left, at_s)
            for uid, (left, at_s) in self._left.items()
            if left + (now_s - at_s) / _REFILL_S < _BURST
        }

    def _may(self, uid: str, now_s: float) -> bool:
        left, at_s = self._left.get(uid, (float(_BURST), now_s))
        left = min(float(_BURST), left + max(0.0, now_s - at_s) / _REFILL_S)
        self._left[uid] = (left - 1.0 if left >= 1.0 else left), now_s
        return left >= 1.0

    def _event(self, resource: KubeObject, told: Told, now_s: float) -> Mapping[str, Any]:
        metadata = resource["metadata"]
        content = "\n".join((metadata["uid"], told.reason, *told.actions))
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            # Named by what it tells of: told again, it is there already.
            "metadata": {
                "name": f"{metadata['name']}.{digest}",
                "namespace": metadata["namespace"],
            },
            "eventTime": micro_time(now_s),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "type": "Warning" if told.warning else "Normal",
            "reason": told.reason,
            "action": told.reason,
            "note": told.note,
            "regarding": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }


def micro_time(at_s: float) -> str:
    """Return epoch seconds as Kubernetes writes a time with microseconds."""
    return dt.datetime.fromtimestamp(at_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _way(action: Action, outcome: Outcome) -> tuple[str, bool, str] | None:
    """Return the word for what became of an action, whether it is a warning, and its detail.

    None = nothing worth an event: the next tick plans anew.
    """
    if outcome.kind in _WARNINGS:
        return _WARNINGS[outcome.kind], True, outcome.detail
    if outcome.kind is not OutcomeKind.APPLIED:
        return None
    if isinstance(action, ScaleAction):
        grows = action.replicas > action.expected_replicas
        return ("ScaledOut" if grows else "ScaledIn"), False, ""
    restored = action.effect is Effect.RESTORE
    return ("Restored" if restored else _ROTATIONS[action.to]), False, ""


def _changes(actions: Sequence[Action], roles: Mapping[str, str]) -> str:
    """Return what was or would have been changed, by role."""
    counts = [
        f"{one.role} {one.expected_replicas} → {one.replicas}"
        for one in actions
        if isinstance(one, ScaleAction)
    ]
    moved = Counter(roles.get(one.uid, "?") for one in actions if isinstance(one, RotationAction))
    return ", ".join((*counts, *(f"{count} of {role}" for role, count in sorted(moved.items()))))
