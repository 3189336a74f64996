"""What must hold on every tick of every simulation, whatever happens.

Of the plan, by the snapshot it was made from:

1. the planner fails on no service
2. every decision that is no hold, and every tick that sends something, has a reason
3. capacity stays inside the bounds, and no role is left without
4. nothing is scaled in while a signal it rests on is unknown or stale
5. nothing is scaled in inside its wait
6. only what was planned is sent, each target at most once
7. a withdrawn instance is watched, so that it will be terminated or restored
8. a failed instance is removed before long
9. holding asks for no more than there is, has failed, or was decided lately: no runaway
10. who gives way, who gets it back and who is relocated (`scarcity_checks`)

Of the world, which only a simulator can see:

11. no node holds more than its GPUs, and none is lost or counted twice
12. a count has as many instances as it says
13. requests are conserved: each that arrived is completed, refused or somewhere
14. an action that was carried out has no effect when it is carried out again
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

from heteroscale.entities.action import (
    Action,
    Effect,
    OutcomeKind,
    group_role_key,
    target_of,
)
from heteroscale.entities.decision import Decision, Direction
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import FleetSpec, RolePath, ServiceSpec, Stage
from heteroscale.entities.snapshot import (
    Instance,
    InstanceState,
    Reading,
    ServiceSnapshot,
    Signal,
    UnknownCause,
)
from heteroscale.entities.state import FleetState
from heteroscale.errors import InvariantViolation
from heteroscale.loop import TickReport
from heteroscale.policy.supply import tally
from heteroscale.sim.plant import Plant
from heteroscale.sim.ports import SimSubcluster
from heteroscale.sim.run import Ticker
from heteroscale.sim.scarcity_checks import ScarcityChecks
from heteroscale.sim.service import SimService
from heteroscale.sim.subcluster import Roster

#: ticks in which a failed instance that can be reached is to be removed; replacing what it was
#: goes first, one change of a count at a time
FAILED_TICKS = 40
#: decisions that an action sent by one of them may still carry out
LATELY_TICKS = 60
#: an operator's order is exempt from waits and from the unknown
_ORDERS = frozenset({ReasonCode.ABOVE_MAXIMUM, ReasonCode.PINNED})
#: what a role of a stage is judged by
_LATENCY = {Stage.PREFILL: Signal.TTFT, Stage.DECODE: Signal.TBT}
_LOADS = frozenset({Signal.TPS, Signal.OFFERED_TPS, Signal.QUEUE_LENGTH})


class Checked:
    """A control loop whose every tick is checked."""

    def __init__(
        self,
        loop: Ticker,
        fleet: FleetSpec,
        plant: Plant,
        subclusters: Sequence[SimSubcluster],
    ) -> None:
        """Take the loop, what it looks after, and the world as it truly is."""
        self._loop = loop
        self._services = tuple(ServiceChecks(spec) for spec in fleet.services)
        self._scarcity = ScarcityChecks(fleet)
        self._plant = plant
        self._subclusters = {one.name: one for one in subclusters}

    def tick(self) -> TickReport:
        """Tick, and raise where something does not hold.

        Raises:
            InvariantViolation: with the tick, its time and what is broken.
        """
        report = self._loop.tick()
        broken = [*self._of_plan(report), *self._of_world(report)]
        if broken:
            now_s = report.snapshot.now_s
            raise InvariantViolation(f"tick {report.tick} ({now_s:.3f}): {'; '.join(broken)}")
        return report

    def _of_plan(self, report: TickReport) -> list[str]:
        if report.excluded:
            return [f"the planner failed: {error}" for error in report.excluded.values()]
        broken = [notice for notice in report.notices if notice.startswith(("begin:", "store:"))]
        for service in self._services:
            broken += service.broken(report)
        return [*broken, *self._scarcity.broken(report), *sent_wrongly(report)]

    def _of_world(self, report: TickReport) -> list[str]:
        broken: list[str] = []
        for roster in self._plant.rosters:
            broken += _gpus_lost(roster)
            broken += _miscounted(roster)
        for service in self._plant.services.values():
            broken += _requests_lost(service)
        return broken + self._done_again(report)

    def _done_again(self, report: TickReport) -> list[str]:
        """Carry out again what was carried out; return what had an effect."""
        broken: list[str] = []
        for action, outcome in zip(report.sent, report.outcomes, strict=True):
            subcluster = self._subclusters[action.subcluster]
            if outcome.kind is not OutcomeKind.APPLIED:
                continue
            before = subcluster.observe()
            subcluster.apply((action,), report.snapshot.now_s)
            if subcluster.observe() is not before:
                broken.append(f"{action.id} on {target_of(action)} had an effect twice")
        return broken


class ServiceChecks:
    """What must hold of one service's part of every plan."""

    def __init__(self, spec: ServiceSpec) -> None:
        self._spec = spec
        self._before = FleetState()
        #: failed instance → ticks in which it could have been removed
        self._failed: Counter[str] = Counter()
        self._decided: deque[Mapping[RolePath, int]] = deque(maxlen=LATELY_TICKS)

    def broken(self, report: TickReport) -> list[str]:
        """Return what does not hold at one tick, and remember the tick."""
        name = self._spec.name
        seen = report.snapshot.services[name]
        decision = next(one for one in report.plan.decisions if one.service == name)
        sent = [action for action in report.sent if action.service == name]
        broken: list[str] = []
        changes = decision.direction is not Direction.HOLD or sent
        if changes and not decision.reasons:
            broken.append(f"{decision.direction.name} without a reason")
        broken += self._out_of_bounds(decision)
        broken += self._run_away(decision, seen)
        leaving = any(action.effect is Effect.IN for action in sent)
        ordered = any(reason.code in _ORDERS for reason in decision.reasons)
        if (leaving or decision.direction is Direction.IN) and not ordered:
            broken += self._unknown(seen)
            broken += self._waiting(report)
        broken += self._unowned(report, seen)
        self._before = report.state
        return [f"{name}: {'; '.join(broken)}"] if broken else []

    def _out_of_bounds(self, decision: Decision) -> list[str]:
        return [
            f"{role.path} decided to have {decision.capacity[role.path]}"
            for role in self._spec.group.leaves()
            if not max(1, role.min_replicas) <= decision.capacity[role.path] <= role.max_replicas
        ]

    def _run_away(self, decision: Decision, seen: ServiceSnapshot) -> list[str]:
        """Return the roles that grow while the decision says that nothing changes."""
        lately = tuple(self._decided)
        self._decided.append(decision.capacity)
        if decision.direction is not Direction.HOLD or not lately:
            return []
        counted = tally(self._spec, seen.instances)
        return [
            f"{role} holds {units} units, of which no more than {most} were ever asked for"
            for role, units in decision.capacity.items()
            if units
            > (
                most := max(
                    counted.supply[role],
                    # A replacement that fails before what it replaces is removed counts as lost.
                    counted.failed[role],
                    *(before[role] for before in lately),
                )
            )
        ]

    def _unknown(self, seen: ServiceSnapshot) -> list[str]:
        """Return the signals that say too little for a scale-in."""
        wanted = {(one.signal, one.role) for one in self._spec.policy.proportional}
        wanted |= {
            (_LATENCY[leaf.stage], leaf.path)
            for leaf in self._spec.group.leaves()
            if leaf.stage in _LATENCY
        }
        readings = {(one.signal, one.role): one for one in seen.readings}
        loads = [one.value for one in seen.readings if one.signal in _LOADS]
        quiet = bool(loads) and all(value == 0.0 for value in loads)
        return [
            f"scaled in with {role} {signal} unknown"
            for signal, role in sorted(wanted)
            if not self._known(readings.get((signal, role)), quiet)
        ]

    def _known(self, reading: Reading | None, quiet: bool) -> bool:
        """Return whether a reading may be rested on; no events are known to be none when quiet."""
        if reading is None or reading.age_s > self._spec.policy.trust.stale_s:
            return False
        if reading.coverage < self._spec.policy.trust.min_coverage:
            return False
        return reading.value is not None or (quiet and reading.cause is UnknownCause.NO_EVENTS)

    def _waiting(self, report: TickReport) -> list[str]:
        memory = self._before.services.get(self._spec.name)
        # A wait that began with an action still in doubt is taken back when it was not done.
        if memory is None or memory.pending:
            return []
        left_s = memory.scale_in_until_s - report.snapshot.now_s
        return [f"scaled in {left_s:g} s before its wait was over"] if left_s > 0 else []

    def _unowned(self, report: TickReport, seen: ServiceSnapshot) -> list[str]:
        """Return what is leaving, or should be, with nobody to see to it."""
        memory = report.state.services[self._spec.name]
        broken: list[str] = []
        failed: Counter[str] = Counter()
        touched = {target for one in memory.pending for target in one.targets}
        for instance in seen.instances:
            away = instance.subcluster in report.snapshot.unreachable
            if instance.state is InstanceState.WITHDRAWN and not away:
                if instance.uid not in memory.observed_s:
                    broken.append(f"{instance.uid} is withdrawn and not watched")
            elif instance.state is InstanceState.FAILED:
                own = {instance.uid, _count_of(instance)}
                free = not away and not own & touched
                failed[instance.uid] = self._failed[instance.uid] + int(free)
                if failed[instance.uid] > FAILED_TICKS:
                    broken.append(f"{instance.uid} has failed and stays")
        self._failed = failed
        return broken


def _requests_lost(service: SimService) -> list[str]:
    counters = service.sample().counters
    somewhere = counters.in_transfer + sum(role.waiting + role.running for role in counters.roles)
    ended = counters.completed.requests + counters.refused.requests
    arrived = counters.arrived.requests
    if arrived == ended + somewhere:
        return []
    lost = f"{arrived} requests arrived, {ended} ended and {somewhere} are somewhere"
    return [f"{service.name}: {lost}"]


def _count_of(instance: Instance) -> str:
    return group_role_key(instance.subcluster, instance.group, instance.role, instance.accelerator)


def sent_wrongly(report: TickReport) -> list[str]:
    """Return what was sent and not planned, or to one target twice."""
    planned = {action.id for action in report.plan.actions}
    targets = Counter((action.service, target_of(action)) for action in report.sent)
    twice = [target for (_, target), times in sorted(targets.items()) if times > 1]
    unplanned: list[Action] = [action for action in report.sent if action.id not in planned]
    return [
        *(f"{target} was sent more than one action" for target in twice),
        *(f"{action.id} was sent and not planned" for action in unplanned),
    ]


def _gpus_lost(roster: Roster) -> list[str]:
    held: Counter[int] = Counter()
    for row in roster.rows():
        for index in row.nodes:
            held[index] += row.shape.gpus
    pool = roster.pool
    return [
        f"{node.name} has {node.gpus} GPUs: {pool.free(index)} free and {held[index]} held"
        for index, node in enumerate(pool.nodes)
        if pool.free(index) < 0 or pool.free(index) + held[index] != node.gpus
    ]


def _miscounted(roster: Roster) -> list[str]:
    rows = Counter(row.key for row in roster.rows())
    return [
        f"{count.group} {count.role} asks for {count.replicas} and has {found}"
        for count in roster.group_roles()
        if count.replicas
        != (found := rows[count.service, count.group, count.role, count.accelerator])
    ]
