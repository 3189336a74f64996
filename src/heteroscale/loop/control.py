"""One tick after the other, with what lies between them.

It decides nothing but whose actions are sent: the plan is the same in every mode, but for what an
observed service gives back. One thread calls `tick`; `approve` and `reload` may come from another.
"""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from heteroscale.entities.action import Action, Outcome, OutcomeKind
from heteroscale.entities.plan import Plan
from heteroscale.entities.service import FleetSpec, Mode
from heteroscale.entities.snapshot import Reading, Snapshot
from heteroscale.entities.state import FleetState
from heteroscale.errors import SubclusterUnavailable
from heteroscale.journal.codec import SHORT_BYTES, digest, settled_fleet, settled_state
from heteroscale.journal.fold import begun, planned_around_faults
from heteroscale.journal.handback import gives_back
from heteroscale.journal.record import Evidence
from heteroscale.journal.recorder import Recorder
from heteroscale.loop.observe import Observer
from heteroscale.ports import Clock, MetricsSource, Store, Subcluster
from heteroscale.prescheduler.remembering import Remembering

#: the store is also written this often when nothing is sent
CHECKPOINT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """One tick, for whoever publishes or checks it."""

    #: number of the journal's record, or of the tick since the start without a journal
    tick: int
    snapshot: Snapshot
    plan: Plan
    #: after the plan and with the waits of what was sent begun
    state: FleetState
    #: in the plan's order
    sent: tuple[Action, ...]
    #: one per sent action, same order; the next tick's planner sees them
    outcomes: tuple[Outcome, ...]
    #: service → error, for services the planner failed on
    excluded: Mapping[str, str]
    #: what else went wrong, in words
    notices: tuple[str, ...]


def actions_digest(plan: Plan, service: str) -> str | None:
    """Return what names a service's part of a plan for approval; None = it has no actions."""
    ids = [action.id for action in plan.actions if action.service == service]
    return digest("\n".join(ids).encode(), SHORT_BYTES) if ids else None


class ControlLoop:
    """Holds what lies between two ticks: the planner's memory, outcomes, approvals, caches."""

    def __init__(
        self,
        fleet: FleetSpec,
        clock: Clock,
        metrics: MetricsSource,
        subclusters: Sequence[Subcluster],
        store: Store,
        journal: Recorder | None,
    ) -> None:
        """Start from what the store has; `journal` None leaves no evidence (searches, trials)."""
        self._clock = clock
        self._metrics = metrics
        self._subclusters = {one.name: one for one in sorted(subclusters, key=lambda one: one.name)}
        self._store = store
        self._journal = journal
        self._observer = Observer(tuple(self._subclusters.values()))
        self._state = settled_state(store.load())
        self._solver = Remembering()
        self._outcomes: tuple[Outcome, ...] = ()
        #: (service, digest of the only actions that may be sent), from whichever thread
        self._approved: deque[tuple[str, str]] = deque()
        self._saved_s: float | None = None
        self._ticks = 0
        #: the newest specs nobody has taken yet, from whichever thread
        self._waiting: deque[FleetSpec] = deque(maxlen=1)
        self._take(fleet)

    def reload(self, fleet: FleetSpec) -> None:
        """Use other specs from the next tick on; those that cannot be used change nothing."""
        self._waiting.append(fleet)

    def approve(self, service: str, plan_digest: str) -> None:
        """Let one service's actions through at the next tick, if they still are the ones approved.

        Args:
            service: one in mode `recommend`.
            plan_digest: as `actions_digest` gives it for the plan that was shown.
        """
        self._approved.append((service, plan_digest))

    def tick(self) -> TickReport:
        """Observe, plan, record and act once.

        Everything a tick makes is free of cycles and goes when it is no longer referred to; a
        collector that walks the whole fleet in the middle only makes the tick late.
        """
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._tick()
        finally:
            if collecting:
                gc.enable()

    def _tick(self) -> TickReport:
        notices: list[str] = []
        if self._waiting:
            self._reload(notices)
        # a clock that counts whole seconds must not make replay write another figure
        now_s = float(self._clock.now_s())
        snapshot = self._snapshot(now_s, notices)
        state = self._journal.checkpoint(self._state) if self._journal else self._state
        plan, after, excluded = planned_around_faults(state, snapshot, self._fleet, self._solver)
        sent, after = self._begin(plan, after, now_s, notices)
        evidence = Evidence(
            fleet=self._fleet,
            state=state,
            snapshot=snapshot,
            plan=plan,
            sent=tuple([action.id for action in sent]),
            excluded=excluded,
            notices=tuple(notices),
        )
        self._record(evidence, notices)
        self._outcomes = self._act(sent) if sent else ()
        self._state = after
        self._ticks += 1
        return TickReport(
            tick=(self._journal.tick if self._journal else self._ticks) - 1,
            snapshot=snapshot,
            plan=plan,
            state=after,
            sent=sent,
            outcomes=self._outcomes,
            excluded=excluded,
            notices=tuple(notices),
        )

    def _reload(self, notices: list[str]) -> None:
        try:
            self._take(self._waiting.pop())
        except Exception as error:  # noqa: BLE001 - whatever is wrong with them, the others work
            notices.append(f"specs: {_said(error)}; those before stay in force")

    def _take(self, fleet: FleetSpec) -> None:
        self._fleet = settled_fleet(fleet)
        services = self._fleet.services
        self._modes = {spec.name: spec.mode for spec in services}
        self._names = tuple(sorted(self._modes))
        self._all_enforced = all(mode is Mode.ENFORCE for mode in self._modes.values())
        self._zones = tuple(
            sorted({schedule.timezone for spec in services for schedule in spec.policy.schedules})
        )

    def _snapshot(self, now_s: float, notices: list[str]) -> Snapshot:
        readings: Mapping[str, tuple[Reading, ...]] = {}
        try:
            readings = self._metrics.read(self._fleet, now_s)
        except Exception as error:  # noqa: BLE001 - whatever a source throws, its readings are missing
            notices.append(f"metrics: {_said(error)}; every reading is missing")
        seen = self._observer.observe(now_s, self._fleet.stale_s, notices)
        return Snapshot(
            now_s=now_s,
            services=seen.services(self._names, readings),
            inventory=seen.inventory,
            outcomes=self._outcomes,
            utc_offsets_s=self._offsets(now_s, notices),
            unreachable=seen.unreachable,
        )

    def _offsets(self, now_s: float, notices: list[str]) -> dict[str, int]:
        """Return the offsets that can be told; a schedule in any other zone holds."""
        offsets_s: dict[str, int] = {}
        for zone in self._zones:
            try:
                offsets_s[zone] = self._clock.utc_offset_s(zone, now_s)
            except Exception as error:  # noqa: BLE001 - one unknown zone must not stop the rest
                notices.append(f"time zone {zone}: {_said(error)}; its schedules hold")
        return offsets_s

    def _begin(
        self, plan: Plan, after: FleetState, now_s: float, notices: list[str]
    ) -> tuple[tuple[Action, ...], FleetState]:
        """Choose what is sent and keep its provisional waits before anything can happen.

        What cannot be remembered is not sent: after a crash nobody would know of its wait.
        """
        sent = self._let_through(plan, notices)
        if not sent:
            # a clock that was set back has not waited since what it saved in the future
            fresh = self._saved_s is not None and 0.0 <= now_s - self._saved_s < CHECKPOINT_S
            if not fresh and self._save(after, frozenset(), notices):
                self._saved_s = now_s
            return (), after
        ids = frozenset(action.id for action in sent)
        try:
            begun_state = begun(after, plan.actions, ids, now_s, self._fleet)
        except Exception as error:  # noqa: BLE001 - a bug of ours: without its waits nothing may act
            notices.append(f"begin: {_said(error)}; nothing is sent")
            return (), after
        acting = frozenset(action.service for action in sent)
        if not self._save(begun_state, acting, notices):
            return (), after
        self._saved_s = now_s
        return sent, begun_state

    def _let_through(self, plan: Plan, notices: list[str]) -> tuple[Action, ...]:
        """Return what the modes allow; in every mode what was taken out of rotation may return."""
        approved = self._approvals(plan, notices) if self._approved else frozenset()
        if not plan.actions:
            return ()
        dropped = Counter(one.service for one in plan.actions if one.service not in self._modes)
        for service, count in sorted(dropped.items()):
            notices.append(f"{service} is no longer asked for: {count} of its instances come back")
        if self._all_enforced:
            return plan.actions
        return tuple(
            action
            for action in plan.actions
            if self._modes.get(action.service) is Mode.ENFORCE
            or (self._modes.get(action.service) is Mode.RECOMMEND and action.service in approved)
            or gives_back(action)
        )

    def _approvals(self, plan: Plan, notices: list[str]) -> frozenset[str]:
        """Return services whose plan is the approved one. An approval is good for one tick only."""
        given: dict[str, str] = {}
        while self._approved:
            service, plan_digest = self._approved.popleft()
            given[service] = plan_digest
        valid: set[str] = set()
        for service, plan_digest in sorted(given.items()):
            if actions_digest(plan, service) == plan_digest:
                valid.add(service)
            else:
                notices.append(f"{service}: the approved plan is no longer the plan; not sent")
        return frozenset(valid)

    def _save(self, state: FleetState, acting: frozenset[str], notices: list[str]) -> bool:
        try:
            self._store.save(state, acting)
        except Exception as error:  # noqa: BLE001 - whatever a store throws, nothing was kept
            nothing = "; nothing is sent" if acting else ""
            notices.append(f"store: {_said(error)}{nothing}")
            return False
        return True

    def _record(self, evidence: Evidence, notices: list[str]) -> None:
        """Evidence must not stop the fleet: a full disk costs the record, not the scale-out."""
        if self._journal is None:
            return
        try:
            self._journal.write(evidence)
        except Exception as error:  # noqa: BLE001 - whatever it is, the fleet matters more
            notices.append(f"journal: {_said(error)}; this tick leaves no record")

    def _act(self, sent: tuple[Action, ...]) -> tuple[Outcome, ...]:
        batches: dict[str, list[Action]] = {}
        for action in sent:
            batches.setdefault(action.subcluster, []).append(action)
        answers: dict[str, Outcome] = {}
        for name, batch in sorted(batches.items()):
            for outcome in self._apply(name, batch):
                answers[outcome.action_id] = outcome
        at_s = float(self._clock.now_s())
        return tuple(
            answers.get(action.id) or _outcome(action, OutcomeKind.UNKNOWN, at_s, "no answer")
            for action in sent
        )

    def _apply(self, name: str, batch: list[Action]) -> tuple[Outcome, ...]:
        """Return one sub-cluster's answers; each has an interval of its own to give them."""
        subcluster = self._subclusters.get(name)
        kind, detail = OutcomeKind.REFUSED, f"no sub-cluster {name}"
        if subcluster is not None:
            try:
                answers = subcluster.apply(batch, self._clock.now_s() + self._fleet.interval_s)
                return tuple([replace(one, at_s=float(one.at_s)) for one in answers])
            except SubclusterUnavailable as error:
                detail = _said(error)
            except Exception as error:  # noqa: BLE001 - it may have got halfway: look before touching
                kind, detail = OutcomeKind.UNKNOWN, _said(error)
        at_s = float(self._clock.now_s())
        return tuple(_outcome(action, kind, at_s, detail) for action in batch)


def _outcome(action: Action, kind: OutcomeKind, at_s: float, detail: str) -> Outcome:
    return Outcome(action_id=action.id, service=action.service, kind=kind, at_s=at_s, detail=detail)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
