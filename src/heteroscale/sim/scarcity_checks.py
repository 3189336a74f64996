"""What must hold of every tick about scarcity: who gives way, who gets it back, who is relocated.

1. only who is allowed to gives way, to a higher priority, and keeps what is essential to it
2. nobody decides to have more than the limit it has
3. room that is being made comes: nobody waits for it for ever while nothing changes
4. a limit ends some time after the last lack: what was given up may return
5. nothing oscillates: nobody grows and soon gives way, unless something has happened meanwhile
6. relocations keep the fleet's bounds, one of a service at a time, and a service rests after one
7. no old group leaves before its service has all it needs without it, ready
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heteroscale.entities.action import Action, Effect, OutcomeKind, ScaleAction
from heteroscale.entities.decision import Decision
from heteroscale.entities.placement import Lack
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import UNIT_SLACK, FleetSpec, RolePath, ServiceSpec
from heteroscale.entities.snapshot import InstanceState, ServiceSnapshot
from heteroscale.entities.state import FleetState, GivenWay, Relocating, ServiceState
from heteroscale.loop import TickReport
from heteroscale.policy.giving_way import RETURN_AFTER_S
from heteroscale.policy.supply import tally

#: two soft scale-ins one after another with the longest waits a soak draws, and a start
COMES_S = 2700.0
#: ticks by which a limit may outlast its time: it is seen to in the tick after
_TICKS_LATE = 2
_COMING = frozenset({ReasonCode.WAY_MADE, ReasonCode.WAY_COMING})
_NEVER_S = float("-inf")


class ScarcityChecks:
    """What is remembered of earlier ticks to judge the next."""

    def __init__(self, fleet: FleetSpec) -> None:
        """Take what the operator asks for."""
        self._fleet = fleet
        self._specs = {spec.name: spec for spec in fleet.services}
        self._before = FleetState()
        self._generation = ""
        #: since when nothing has failed, is out of reach, was refused, or changed among the nodes
        self._calm_s = _NEVER_S
        #: service → since when it waits for room that is being made, without anyone else growing
        self._waiting_s: dict[str, float] = {}
        #: service → when it could last be asked to give way
        self._asked_s: dict[str, float] = {}
        #: service → when it last grew
        self._grown_s: dict[str, float] = {}
        #: service → when it last wanted more of what is essential to it
        self._wanted_s: dict[str, float] = {}
        self._wanted: dict[str, Mapping[RolePath, int]] = {}

    def broken(self, report: TickReport) -> list[str]:
        """Return what does not hold at one tick, and remember the tick."""
        now_s = report.snapshot.now_s
        decisions = {one.service: one for one in report.plan.decisions}
        lacks = self._lacks(report, decisions)
        self._look_back(report, decisions)
        broken: list[str] = []
        for name in sorted(decisions):
            spec, memory = self._specs[name], report.state.services[name]
            if any(one.spec.priority > spec.priority and one.competes(spec) for one in lacks):
                self._asked_s[name] = now_s
            told = [
                *self._wrong_limit(spec, memory.given_way),
                *self._above_limit(spec, decisions[name], now_s),
                *self._late(name, memory.given_way, now_s),
                *self._back_and_forth(name, memory, now_s),
                *self._waits(name, decisions[name], report),
                *self._left_early(spec, memory, decisions[name], report.snapshot.services[name]),
            ]
            broken += [f"{name}: {each}" for each in told]
        broken += self._out_of_bounds(report.state, now_s)
        self._note_growth(report.sent, now_s)
        self._before = report.state
        return broken

    def _lacks(self, report: TickReport, decisions: Mapping[str, Decision]) -> list[Lack]:
        lacks = []
        for no_fit in report.plan.placement.no_fits:
            spec, wanted = self._specs[no_fit.service], decisions[no_fit.service].capacity
            missing = {
                role: units
                for role, units in no_fit.missing.items()
                if wanted[role] - units < spec.essential_units()[role]
            }
            if missing:
                lacks.append(Lack(spec=spec, missing=missing))
        return lacks

    def _look_back(self, report: TickReport, decisions: Mapping[str, Decision]) -> None:
        """Remember when something last happened that may turn any plan around."""
        snapshot, now_s = report.snapshot, report.snapshot.now_s
        failed = any(
            one.state is InstanceState.FAILED
            for service in snapshot.services.values()
            for one in service.instances
        )
        refused = any(one.kind is not OutcomeKind.APPLIED for one in report.outcomes)
        changed = snapshot.inventory.generation != self._generation
        self._generation = snapshot.inventory.generation
        if failed or refused or changed or snapshot.unreachable or report.excluded:
            self._calm_s = now_s
        for name, decision in decisions.items():
            essential = self._specs[name].essential_units()
            wanted = {role: min(decision.capacity[role], essential[role]) for role in essential}
            before = self._wanted.get(name, wanted)
            if any(wanted[role] > before[role] for role in wanted):
                self._wanted_s[name] = now_s
            self._wanted[name] = wanted

    def _wrong_limit(self, spec: ServiceSpec, way: GivenWay | None) -> Iterable[str]:
        if way is None:
            return
        if not spec.gives_way:
            yield f"gives way to {way.to} without leave"
        if self._specs[way.to].priority <= spec.priority:
            yield f"gives way to {way.to}, which is not above it"
        for role, units in spec.essential_units().items():
            if way.most[role] < units:
                yield f"gives up {role} that is essential to it: {way.most[role]} of {units}"

    def _above_limit(self, spec: ServiceSpec, decision: Decision, now_s: float) -> Iterable[str]:
        memory = self._before.services.get(spec.name)
        way = None if memory is None else memory.given_way
        if way is None or now_s >= way.until_s or self._fleet.freeze:
            return
        for role, units in decision.capacity.items():
            if units > way.most[role]:
                yield f"decided to have {units} {role}, above its limit of {way.most[role]}"

    def _late(self, name: str, way: GivenWay | None, now_s: float) -> Iterable[str]:
        slack_s = _TICKS_LATE * self._fleet.interval_s
        if way is not None and now_s - self._asked_s.get(name, now_s) > RETURN_AFTER_S + slack_s:
            yield f"is still limited for {way.to}, which has lacked nothing for long"

    def _back_and_forth(self, name: str, memory: ServiceState, now_s: float) -> Iterable[str]:
        before, way = self._before.services.get(name), memory.given_way
        if way is None or (before is not None and _as_strict(before.given_way, way)):
            return
        grown_s = self._grown_s.get(name, _NEVER_S)
        since_s = max(self._calm_s, self._wanted_s.get(way.to, _NEVER_S))
        if now_s - RETURN_AFTER_S < grown_s and since_s < grown_s:
            ago_s = now_s - grown_s
            yield f"gives way to {way.to} {ago_s:g} s after it grew, though nothing happened"

    def _waits(self, name: str, decision: Decision, report: TickReport) -> Iterable[str]:
        now_s = report.snapshot.now_s
        others_grow = any(_grows(one) and one.service != name for one in report.sent)
        coming = any(reason.code in _COMING for reason in decision.reasons)
        if not coming or others_grow or self._calm_s == now_s:
            self._waiting_s.pop(name, None)
            return
        waits_s = now_s - self._waiting_s.setdefault(name, now_s)
        if waits_s > COMES_S:
            yield f"has waited for {waits_s:g} s for room that is being made"

    def _left_early(
        self,
        spec: ServiceSpec,
        memory: ServiceState,
        decision: Decision,
        seen: ServiceSnapshot,
    ) -> Iterable[str]:
        one, before = memory.relocating, self._before.services.get(spec.name)
        was = None if before is None else before.relocating
        if one is None or one.old not in one.leaving or (was is not None and was.leaving):
            return
        rest = [each for each in seen.instances if (each.subcluster, each.group) != one.old]
        ready = tally(spec, rest).ready
        for role, units in decision.capacity.items():
            if ready[role] < units - UNIT_SLACK:
                yield f"{one.old[1]} leaves with {ready[role]:g} of {units} {role} ready elsewhere"

    def _out_of_bounds(self, state: FleetState, now_s: float) -> Iterable[str]:
        rules = self._fleet.defragment
        moving: dict[str, Relocating] = {
            name: one.relocating for name, one in state.services.items() if one.relocating
        }
        gpus = sum(one.gpus for one in moving.values())
        if len(moving) > rules.groups or gpus > rules.gpus:
            yield f"{len(moving)} groups with {gpus} GPUs are relocated at once"
        for name in moving:
            before = self._before.services.get(name)
            if before is None or before.relocating is not None:
                continue
            if now_s < before.relocated_until_s:
                yield f"{name}: relocated again {before.relocated_until_s - now_s:g} s too early"

    def _note_growth(self, sent: Iterable[Action], now_s: float) -> None:
        for action in sent:
            if _grows(action):
                self._grown_s[action.service] = now_s


def _grows(action: Action) -> bool:
    return isinstance(action, ScaleAction) and action.effect is Effect.OUT


def _as_strict(before: GivenWay | None, after: GivenWay) -> bool:
    """Return whether a limit was there before and no less strict."""
    return before is not None and all(
        before.most[role] <= most for role, most in after.most.items()
    )
