"""The simulated clock, metrics and sub-cluster as the control loop sees them."""

from __future__ import annotations

from heteroscale.entities.action import (
    Outcome,
    OutcomeKind,
    Rotation,
    RotationAction,
    ScaleAction,
)
from heteroscale.entities.decision import Direction
from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import Instance
from heteroscale.entities.topology import Node
from heteroscale.sim.ports import SimClock, SimSubcluster
from heteroscale.sim.rows import Row
from heteroscale.sim.start_up import always
from heteroscale.sim.subcluster import Roster, Tenant
from heteroscale.workload.arrivals import PS_PER_S

NODES = tuple(
    Node(name=f"n{index}", accelerator="H20", gpus=8, domain=("c", "a", "b", "d"))
    for index in range(3)
)


class QuietEngines:
    """Engines that only know whether they get requests, and never have any."""

    def __init__(self) -> None:
        self.routed: dict[int, tuple[str, bool]] = {}

    def start(self, row: Row, node: Node, routed: bool) -> int:
        self.routed[row.ordinal] = (node.name, routed)
        return row.ordinal

    def route(self, engine: int, routed: bool) -> None:
        self.routed[engine] = (self.routed[engine][0], routed)

    def stop(self, engine: int) -> None:
        del self.routed[engine]

    def requests(self, engine: int) -> int:
        return 0 if engine in self.routed else -1


def subcluster(clock: SimClock, replicas: int = 2) -> SimSubcluster:
    roster = Roster(
        name="c",
        nodes=NODES,
        levels=("S0", "S1", "S2"),
        tenants={
            "chat": Tenant(
                shapes={("decode", "H20"): AcceleratorOption(type="H20", gpus=8)},
                start_ups=always(60.0),
                engines=QuietEngines(),
            )
        },
        epoch_s=clock.epoch_s,
    )
    roster.place(("chat", "g0", "decode", "H20"), ("c",), replicas)
    return SimSubcluster("c", clock, roster)


def scale(replicas: int, expected: int, version: str, *remove: str) -> ScaleAction:
    return ScaleAction(
        id=f"scale {replicas} {version}",
        service="chat",
        subcluster="c",
        group="g0",
        role="decode",
        accelerator="H20",
        domain=("c",),
        replicas=replicas,
        expected_replicas=expected,
        version=version,
        remove=remove,
    )


def rotate(instance: Instance, to: Rotation) -> RotationAction:
    return RotationAction(
        id=f"{instance.uid} {to} {instance.version}",
        service="chat",
        subcluster="c",
        uid=instance.uid,
        to=to,
        version=instance.version,
    )


def test_the_clock_shows_epoch_seconds_and_zones() -> None:
    clock = SimClock(1_750_000_000.0)
    clock.now_ps = 90 * PS_PER_S
    assert clock.now_s() == 1_750_000_090.0
    assert clock.utc_offset_s("Asia/Shanghai", clock.now_s()) == 8 * 3600
    assert clock.utc_offset_s("America/New_York", clock.now_s()) == -4 * 3600


def test_outcomes_say_what_became_of_each_action_in_order() -> None:
    clock = SimClock(1000.0)
    clock.now_ps = 5 * PS_PER_S
    simulated = subcluster(clock)
    applied, stale, refused = scale(3, 2, "1"), scale(9, 2, "1"), scale(2, 3, "2", "nobody")
    assert simulated.apply((applied, stale, refused), 1020.0) == (
        Outcome(action_id=applied.id, service="chat", kind=OutcomeKind.APPLIED, at_s=1005.0),
        Outcome(
            action_id=stale.id,
            service="chat",
            kind=OutcomeKind.STALE,
            at_s=1005.0,
            detail="g0 decode has 3 replicas at version '2', not 2 at '1'",
        ),
        Outcome(
            action_id=refused.id,
            service="chat",
            kind=OutcomeKind.REFUSED,
            at_s=1005.0,
            detail="nobody: no such instance in g0 decode",
        ),
    )


def test_an_observation_is_the_same_object_until_something_changes() -> None:
    simulated = subcluster(SimClock(0.0))
    seen = simulated.observe()
    assert simulated.observe() is seen
    assert (seen.subcluster, seen.age_s, seen.nodes) == ("c", 0.0, NODES)
    simulated.apply((rotate(seen.instances[0], Rotation.WITHDRAWN),), 1.0)
    after = simulated.observe()
    assert after is not seen
    assert after.group_roles is seen.group_roles
    assert after.instances[1] is seen.instances[1]


def test_effects_are_withdrawals_restores_and_new_instances_and_no_bookkeeping() -> None:
    simulated = subcluster(SimClock(0.0))

    def effects_of(action: ScaleAction | RotationAction) -> tuple[tuple[str, Direction], ...]:
        (outcome,) = simulated.apply((action,), 1.0)
        assert outcome.kind is OutcomeKind.APPLIED
        return simulated.take_effects()

    def first() -> Instance:
        return simulated.observe().instances[0]

    assert effects_of(rotate(first(), Rotation.WITHDRAWN)) == (("chat", Direction.IN),)
    assert effects_of(rotate(first(), Rotation.READY)) == (("chat", Direction.OUT),)
    assert effects_of(scale(3, 2, "1")) == (("chat", Direction.OUT),)
    newcomer = simulated.observe().instances[2]
    assert effects_of(rotate(newcomer, Rotation.HELD)) == ()
    assert effects_of(scale(2, 3, "2", newcomer.uid)) == (("chat", Direction.IN),)
    assert effects_of(rotate(first(), Rotation.DRAINING)) == ()
    assert effects_of(scale(1, 2, "3", first().uid)) == ()
    assert simulated.take_effects() == ()
