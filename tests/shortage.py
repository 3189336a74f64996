"""Three services of different priority on a scripted fleet that loses nodes and gets them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from heteroscale.entities.plan import Plan
from heteroscale.entities.policy import GuardSpec
from heteroscale.entities.service import ServiceSpec
from heteroscale.entities.snapshot import SUPPLY_STATES, InstanceState
from heteroscale.planner import plan
from heteroscale.prescheduler.solve import Solver, solve
from tests.builders import build_readings, build_role, build_service
from tests.ticking import LIFECYCLE, Run
from tests.world import build_inventory

ROLES = ("prefill", "decode")
QUICK = GuardSpec(
    step_out=1.0, stabilization_window_s=60.0, cool_down_out_s=30.0, cool_down_in_s=120.0
)


def build_tier(
    name: str,
    priority: int,
    *,
    essential: int = 1,
    preemptible: bool = False,
    guard: GuardSpec = QUICK,
    minimum: int = 1,
) -> ServiceSpec:
    """Build a service of as many prefill as decode instances, of which so many are essential."""
    spec = build_service(
        name,
        priority=priority,
        roles=[build_role(role, min_replicas=minimum) for role in ROLES],
        guard=guard,
        lifecycle=LIFECYCLE,
    )
    return replace(spec, preemptible=preemptible, essential=dict.fromkeys(ROLES, essential))


class Shortage(Run):
    """Services under loads of their own, on nodes that fail and come back."""

    def __init__(self, *specs: ServiceSpec, loads: Mapping[str, int], nodes: int) -> None:
        """Put every service in place with one instance of each role per 1,000 tokens/s."""
        super().__init__(*specs, replicas=0, nodes=nodes)
        self.solver: Solver = solve
        self.loads = dict(loads)
        for spec in specs:
            self.world.settle(spec, dict.fromkeys(ROLES, loads[spec.name]), self.now_s - 600.0)

    def look(self, load_tps: float | None = None, **signals: float | None) -> Plan:
        """Plan one tick, every service under its own load, without sending anything."""
        self.world.pass_time(self.now_s)
        every = {name: build_readings(1000.0 * units) for name, units in self.loads.items()}
        snapshot = self.world.snapshot(self.now_s, every)
        self.plan, self.state = plan(self.state, snapshot, self.fleet, self.solver)
        return self.plan

    def lose(self, nodes: int) -> None:
        """Make the first so many nodes unhealthy; whatever is on them has failed."""
        every = self.world.inventory.nodes
        lost = {node.name for node in every[:nodes]}
        self.world.inventory = build_inventory(
            *(replace(node, healthy=node.name not in lost) for node in every)
        )
        for uid, one in self.world.instances.items():
            if lost & set(one.nodes):
                failed = replace(one, state=InstanceState.FAILED, version=f"{one.version}x")
                self.world.instances[uid] = failed

    def pass_ticks(self, ticks: int) -> list[dict[str, int]]:
        """Tick so often; return service → decode instances in supply, after each."""
        seen = []
        for _ in range(ticks):
            self.tick()
            seen.append(self.supply("decode"))
        return seen

    def supply(self, role: str) -> dict[str, int]:
        """Return service → instances of a role that are ready, starting or held."""
        found = dict.fromkeys(self.loads, 0)
        for one in self.world.instances.values():
            found[one.service] += one.role == role and one.state in SUPPLY_STATES
        return found
