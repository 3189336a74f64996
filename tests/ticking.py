"""A fleet in the scripted world, planned tick by tick by hand."""

from __future__ import annotations

from collections.abc import Sequence

from heteroscale.entities.action import (
    Action,
    Effect,
    Outcome,
    OutcomeKind,
    Rotation,
    RotationAction,
    ScaleAction,
)
from heteroscale.entities.placement import PlacementPlan
from heteroscale.entities.plan import Plan
from heteroscale.entities.policy import GuardSpec, LifecycleSpec
from heteroscale.entities.service import FleetSpec, ServiceSpec
from heteroscale.entities.snapshot import Reading
from heteroscale.entities.state import FleetState, ServiceState
from heteroscale.planner import begin, plan
from tests.builders import NOW_S, build_readings, build_service, build_state
from tests.world import World, build_inventory, build_nodes

GUARD = GuardSpec(step_out=1.0, stabilization_window_s=60.0)
LIFECYCLE = LifecycleSpec(
    observe_s=60.0, unknown_restore_s=45.0, drain_timeout_s=120.0, gate_timeout_s=90.0
)
CHAT = build_service(guard=GUARD, lifecycle=LIFECYCLE)

EMPTY = Plan(now_s=NOW_S, generation="g", decisions=(), placement=PlacementPlan(), actions=())


class Run:
    """A fleet in a scripted world, ticked by hand; everything planned is sent and applied."""

    def __init__(
        self,
        *specs: ServiceSpec,
        replicas: int = 4,
        nodes: int = 40,
        freeze: bool = False,
        start_up_s: float = 60.0,
    ) -> None:
        self.fleet = FleetSpec(services=specs, freeze=freeze)
        inventory = build_inventory(*build_nodes(nodes))
        self.world = World(self.fleet, inventory, start_up_s=start_up_s)
        self.now_s = NOW_S
        for spec in specs:
            roles = dict.fromkeys((leaf.path for leaf in spec.group.leaves()), replicas)
            if replicas:
                self.world.settle(spec, roles, NOW_S - 600.0)
        self.state = FleetState(services={spec.name: build_state() for spec in specs})
        self.plan = EMPTY

    def look(self, load_tps: float | None = None, **signals: float | None) -> Plan:
        """Plan one tick without sending anything."""
        return self.look_at(build_readings(load_tps, **signals))

    def look_at(self, readings: Sequence[Reading], unreachable: tuple[str, ...] = ()) -> Plan:
        self.world.pass_time(self.now_s)
        every = {spec.name: readings for spec in self.fleet.services}
        snapshot = self.world.snapshot(self.now_s, every, unreachable=unreachable)
        self.plan, self.state = plan(self.state, snapshot, self.fleet)
        return self.plan

    def send(self, *actions: Action, answer: OutcomeKind = OutcomeKind.APPLIED) -> None:
        """Send actions and let the interval pass; an unknown answer means nothing arrived."""
        self.state = begin(self.state, actions, self.now_s, self.fleet)
        for action in actions:
            outcome = (
                self.world.apply(action, self.now_s) if answer is OutcomeKind.APPLIED else None
            )
            self.world.outcomes.append(
                outcome
                or Outcome(
                    action_id=action.id, service=action.service, kind=answer, at_s=self.now_s
                )
            )
        self.now_s += 15.0

    def tick(self, load_tps: float | None = None, **signals: float | None) -> Plan:
        """Plan one tick, send all of it, and let the interval pass."""
        made = self.look(load_tps, **signals)
        self.send(*made.actions)
        return made

    def codes(self, service: str = "chat") -> list[str]:
        """Return what the last decision of a service says, in order."""
        (decision,) = (each for each in self.plan.decisions if each.service == service)
        return [str(reason.code) for reason in decision.reasons]

    @property
    def chat(self) -> ServiceState:
        return self.state.services["chat"]

    def shrink(self) -> None:
        """Get one instance of each role withdrawn."""
        made = self.tick(2500.0)
        assert [(a.to, a.effect) for a in rotations(made)] == [
            (Rotation.WITHDRAWN, Effect.IN),
            (Rotation.WITHDRAWN, Effect.IN),
        ]


def rotations(made: Plan) -> list[RotationAction]:
    return [action for action in made.actions if isinstance(action, RotationAction)]


def scalings(made: Plan) -> list[ScaleAction]:
    return [action for action in made.actions if isinstance(action, ScaleAction)]


def counted(made: Plan) -> list[tuple[str, str, int, int]]:
    return [(a.group, a.role, a.expected_replicas, a.replicas) for a in scalings(made)]
