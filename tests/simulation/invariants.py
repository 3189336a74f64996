"""What must hold on every tick of every simulation, whatever happens.

1. every decision that is no hold has a reason
2. capacity stays inside the bounds, and no role is left without
3. nothing is scaled in while a signal it rests on is unknown or stale
4. nothing is scaled in inside its wait
5. no node holds more than its GPUs
6. only what was planned is sent, each target at most once
7. the planner fails on no service
8. a withdrawn instance is watched, so that it will be terminated or restored
"""

from __future__ import annotations

from collections import Counter

from heteroscale.entities.decision import Decision, Direction
from heteroscale.entities.service import ServiceSpec
from heteroscale.entities.snapshot import InstanceState, ServiceSnapshot, Signal
from heteroscale.entities.state import FleetState
from heteroscale.loop import TickReport
from heteroscale.sim.run import Ticker


class Checked:
    """A control loop whose every tick is checked."""

    def __init__(self, loop: Ticker, spec: ServiceSpec) -> None:
        self._loop = loop
        self._spec = spec
        self._before = FleetState()

    def tick(self) -> TickReport:
        report = self._loop.tick()
        assert report.excluded == {}
        seen = report.snapshot.services[self._spec.name]
        (decision,) = report.plan.decisions
        self._check_decision(decision)
        if decision.direction is Direction.IN:
            self._check_known(seen)
            memory = self._before.services.get(self._spec.name)
            # A wait that began with an action still in doubt is taken back when it was not done.
            if memory is not None and not memory.pending:
                assert memory.scale_in_until_s <= report.snapshot.now_s
        self._check_nodes(report, seen)
        sent = Counter(_target(action) for action in report.sent)
        assert max(sent.values(), default=1) == 1
        assert set(report.sent) <= set(report.plan.actions)
        memory = report.state.services[self._spec.name]
        for instance in seen.instances:
            if instance.state is InstanceState.WITHDRAWN and not report.snapshot.unreachable:
                assert instance.uid in memory.observed_s
        self._before = report.state
        return report

    def _check_decision(self, decision: Decision) -> None:
        assert decision.direction is Direction.HOLD or decision.reasons
        for role in self._spec.group.leaves():
            capacity = decision.capacity[role.path]
            assert max(1, role.min_replicas) <= capacity <= role.max_replicas

    def _check_known(self, seen: ServiceSnapshot) -> None:
        wanted = {(one.signal, one.role) for one in self._spec.policy.proportional}
        wanted |= {(Signal.TTFT, "prefill"), (Signal.TBT, "decode")}
        readings = {(one.signal, one.role): one for one in seen.readings}
        for key in wanted:
            assert readings[key].value is not None, f"scaled in without {key}"
            assert readings[key].age_s <= self._spec.policy.trust.stale_s

    def _check_nodes(self, report: TickReport, seen: ServiceSnapshot) -> None:
        used: Counter[str] = Counter()
        for instance in seen.instances:
            for name in instance.nodes:
                used[name] += instance.gpus or 0
        gpus = {node.name: node.gpus for node in report.snapshot.inventory.nodes}
        assert all(used[name] <= gpus[name] for name in used)


def _target(action: object) -> tuple[object, ...]:
    """Return what an action changes: an instance, or a count."""
    uid = getattr(action, "uid", None)
    if uid is not None:
        return ("instance", uid)
    return tuple(getattr(action, name) for name in ("service", "group", "role", "accelerator"))
