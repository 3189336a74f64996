"""Services on a scripted fleet of three S2 switches: one mixes types under its S1, two do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from heteroscale.entities.plan import Plan
from heteroscale.entities.reasons import describe
from heteroscale.entities.service import DefragmentSpec, ServiceSpec
from heteroscale.entities.snapshot import SUPPLY_STATES
from heteroscale.planner import plan
from tests.builders import build_readings, build_role, build_service
from tests.ticking import GUARD, LIFECYCLE, Run
from tests.world import build_inventory, build_nodes

#: (domain, H20 nodes, H800 nodes): scarce, in the middle, and not at all
SCARCE = ("east", "h1", "p1", "r1")
MIDDLE = (("east", "h2", "p2", "r2"), ("east", "h2", "p3", "r3"))
PLAIN = ("east", "h3", "p4", "r4")


def build_tenant(name: str = "chat", *, maximum: int = 1000, priority: int = 50) -> ServiceSpec:
    """Build a service whose groups share an S2 switch, of as many prefill as decode instances."""
    roles = [build_role(role, max_replicas=maximum) for role in ("prefill", "decode")]
    spec = build_service(name, priority=priority, roles=roles, guard=GUARD, lifecycle=LIFECYCLE)
    return replace(spec, group=replace(spec.group, within="S2"))


class Street(Run):
    """Services under loads of their own, put in place on the first free nodes: scarce ones."""

    def __init__(
        self,
        *specs: ServiceSpec,
        loads: Mapping[str, int] | None = None,
        scarce: int = 2,
        middle: int = 0,
        plain: int = 2,
        rules: DefragmentSpec | None = None,
        start_up_s: float = 60.0,
    ) -> None:
        """Put every service in place with one instance of each role per 1,000 tokens/s."""
        super().__init__(*specs, replicas=0, nodes=0, start_up_s=start_up_s)
        self.fleet = replace(self.fleet, defragment=rules or DefragmentSpec(groups=1))
        self.world.inventory = build_inventory(
            *build_nodes(scarce, domain=SCARCE),
            *build_nodes(1, domain=SCARCE, accelerator="H800"),
            *build_nodes(middle, domain=MIDDLE[0]),
            *build_nodes(bool(middle), domain=MIDDLE[1], accelerator="H800"),
            *build_nodes(plain, domain=PLAIN),
        )
        self.loads = dict(loads or {spec.name: 1 for spec in specs})
        for spec in specs:
            roles = [leaf.path for leaf in spec.group.leaves()]
            units = dict.fromkeys(roles, self.loads[spec.name])
            self.world.settle(spec, units, self.now_s - 600.0)

    def look(self, load_tps: float | None = None, **signals: float | None) -> Plan:
        """Plan one tick, every service under its own load, without sending anything."""
        self.world.pass_time(self.now_s)
        every = {
            name: build_readings(1000.0 * units, **signals) for name, units in self.loads.items()
        }
        snapshot = self.world.snapshot(self.now_s, every)
        self.plan, self.state = plan(self.state, snapshot, self.fleet)
        return self.plan

    def pass_ticks(self, ticks: int) -> None:
        """Tick so often."""
        for _ in range(ticks):
            self.tick()

    def said(self, service: str = "chat") -> list[str]:
        """Return what the last decision of a service says of its relocation."""
        (decision,) = (one for one in self.plan.decisions if one.service == service)
        return [describe(one) for one in decision.reasons if one.code.startswith("reloc")]

    def stands(self, service: str = "chat") -> dict[str, list[str]]:
        """Return group → the S2 switches of its instances, sorted, for what is supply."""
        domains = {node.name: node.domain[1] for node in self.world.inventory.nodes}
        found: dict[str, list[str]] = {}
        for one in self.world.instances.values():
            if one.service == service and one.state in SUPPLY_STATES:
                found.setdefault(one.group, []).extend(domains[name] for name in one.nodes)
        return {group: sorted(found[group]) for group in sorted(found)}

    def chat_uids(self, group: str) -> list[str]:
        """Return what chat has of a group."""
        return [
            one.uid
            for one in self.world.instances.values()
            if (one.service, one.group) == ("chat", group)
        ]

    def change(self, **fields: object) -> None:
        """Let the operator change every service."""
        services = tuple(replace(spec, **fields) for spec in self.fleet.services)  # type: ignore[arg-type]
        self.fleet = replace(self.fleet, services=services)
