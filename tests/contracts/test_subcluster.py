"""What every sub-cluster promises. A new one is one line in WORLDS.

Each world starts with one service, `chat`, in one group with two ready decode instances, and has
room for four more.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from heteroscale.adapters.memory import MemoryClock, MemorySubcluster
from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.cluster_sections import ScalableKind
from heteroscale.entities.action import (
    Action,
    Outcome,
    OutcomeKind,
    Rotation,
    RotationAction,
    ScaleAction,
)
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState
from heteroscale.ports import Subcluster
from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.worlds import POD_START_S, deployment, fleet_of, in_place, settled, workload
from tests.contracts.sim import sim_subcluster
from tests.unit.journal.fleets import START_S, nodes

APPLIED, STALE, REFUSED = OutcomeKind.APPLIED, OutcomeKind.STALE, OutcomeKind.REFUSED


@dataclass(frozen=True, kw_only=True)
class World:
    """A sub-cluster and the hand that moves its time."""

    subcluster: Subcluster
    now_s: Callable[[], float]
    #: lets this many seconds pass
    advance: Callable[[float], None]
    #: longer than any start-up takes
    start_s: float
    #: waits until what was changed has happened; needed where others carry it out
    settle: Callable[[], object] = bool
    #: whether it can make deployment groups
    makes_groups: bool = True

    def instances(self) -> tuple[Instance, ...]:
        """Return the decode instances by ordinal, terminated ones left out."""
        self.settle()
        return tuple(
            sorted(
                (
                    one
                    for one in self.subcluster.observe().instances
                    if one.role == "decode" and one.state is not InstanceState.TERMINATED
                ),
                key=lambda one: one.ordinal,
            )
        )

    def states(self) -> list[InstanceState]:
        """Return the decode instances' states by ordinal."""
        return [one.state for one in self.instances()]

    def group(self) -> GroupRole:
        """Return the count of the decode role."""
        return next(one for one in self.subcluster.observe().group_roles if one.role == "decode")

    def apply(self, *actions: Action) -> tuple[Outcome, ...]:
        """Apply actions with time to spare."""
        return self.subcluster.apply(actions, self.now_s() + 15.0)

    def kinds(self, *actions: Action) -> list[OutcomeKind]:
        """Apply actions and return what became of each."""
        return [one.kind for one in self.apply(*actions)]


def memory() -> World:
    clock = MemoryClock(START_S)
    subcluster = MemorySubcluster("alpha", clock, nodes=nodes("alpha", 8), start_s=60.0)
    subcluster.place("chat", "chat-0", "decode", "H20", 2, on=iter(nodes("alpha", 8)))
    return World(subcluster=subcluster, now_s=clock.now_s, advance=clock.advance, start_s=60.0)


def simulated() -> World:
    subcluster, now_s, advance, start_s = sim_subcluster()
    return World(subcluster=subcluster, now_s=now_s, advance=advance, start_s=start_s)


WORLDS: dict[str, Callable[[], World]] = {
    "memory": memory,
    "sim": simulated,
}


@pytest.fixture(params=[*sorted(WORLDS), "kubernetes"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param in WORLDS:
        yield WORLDS[request.param]()
        return
    with kubernetes(request.getfixturevalue("plane"), request.node.name) as made:
        yield made


@contextmanager
def kubernetes(plane: ControlPlane, test: str) -> Iterator[World]:
    """A Deployment of two ready pods in a namespace of its own."""
    namespace = f"contract-{zlib.crc32(test.encode()):08x}"
    decode = workload(namespace, "decode", ScalableKind.DEPLOYMENT, "chat-decode")
    chat = deployment("chat-decode", 2)
    with (
        plane.client() as client,
        fleet_of(client, namespace, chat),
        in_place(plane, decode) as subcluster,
    ):

        def all_up() -> bool:
            unborn = (InstanceState.PENDING, InstanceState.STARTING)
            return not any(one.state in unborn for one in settled(subcluster, "decode"))

        until(all_up, "two ready instances")
        yield World(
            subcluster=subcluster,
            now_s=WallClock().now_s,
            advance=lambda _: until(all_up, "every instance is up"),
            start_s=POD_START_S,
            settle=lambda: settled(subcluster, "decode"),
            makes_groups=False,
        )


def scale(world: World, replicas: int, *remove: str, action_id: str = "scale-1") -> ScaleAction:
    """Return an action on the decode role as it is now."""
    group = world.group()
    return ScaleAction(
        id=action_id,
        service="chat",
        subcluster=world.subcluster.name,
        group=group.group,
        role="decode",
        accelerator=group.accelerator,
        domain=group.domain,
        replicas=replicas,
        expected_replicas=group.replicas,
        version=group.version,
        remove=remove,
    )


def rotation(
    world: World, one: Instance, to: Rotation, action_id: str = "turn-1"
) -> RotationAction:
    """Return an action on one instance as it is now."""
    return RotationAction(
        id=action_id,
        service="chat",
        subcluster=world.subcluster.name,
        uid=one.uid,
        to=to,
        version=one.version,
    )


def test_an_observation_is_of_this_sub_cluster_and_complete(world: World) -> None:
    seen = world.subcluster.observe()
    assert seen.subcluster == world.subcluster.name
    assert isinstance(seen.age_s, float)
    assert seen.age_s >= 0.0
    assert world.states() == [InstanceState.READY] * 2
    assert world.group().replicas == 2
    for one in world.instances():
        assert (one.service, one.subcluster) == ("chat", world.subcluster.name)
        assert isinstance(one.since_s, float)
        assert set(one.nodes) <= {node.name for node in seen.nodes}


def test_growing_starts_instances_that_become_ready_in_time(world: World) -> None:
    assert world.kinds(scale(world, 3)) == [APPLIED]
    assert world.group().replicas == 3
    assert world.states()[:2] == [InstanceState.READY] * 2
    assert world.states()[2] in (InstanceState.PENDING, InstanceState.STARTING)
    world.advance(world.start_s + 1.0)
    assert world.states() == [InstanceState.READY] * 3


def test_one_outcome_per_action_in_order_with_its_time(world: World) -> None:
    first, second = world.instances()
    actions = (
        rotation(world, second, Rotation.WITHDRAWN, "turn-2"),
        scale(world, 3),
        rotation(world, first, Rotation.WITHDRAWN, "turn-1"),
    )
    outcomes = world.apply(*actions)
    assert [one.action_id for one in outcomes] == ["turn-2", "scale-1", "turn-1"]
    assert all(one.service == "chat" for one in outcomes)
    assert all(isinstance(one.at_s, float) and one.at_s <= world.now_s() for one in outcomes)


def test_applying_twice_is_applying_once(world: World) -> None:
    first = world.instances()[0]
    actions = (scale(world, 3), rotation(world, first, Rotation.WITHDRAWN))
    assert world.kinds(*actions) == [APPLIED, APPLIED]
    # What was started comes up by itself.
    world.advance(world.start_s + 1.0)
    once = world.subcluster.observe()
    assert set(world.kinds(*actions)) <= {APPLIED, STALE}
    again = world.subcluster.observe()
    assert (again.instances, again.group_roles) == (once.instances, once.group_roles)


@pytest.mark.parametrize(
    "change",
    [{"version": "elsewhere"}, {"expected_replicas": 5}, {"version": ""}],
    ids=["another version", "another count", "must not exist yet"],
)
def test_a_moved_count_is_stale_and_untouched(world: World, change: dict[str, object]) -> None:
    before = world.subcluster.observe()
    action = replace(scale(world, 3), **change)  # type: ignore[arg-type]
    assert world.kinds(action) == [STALE]
    after = world.subcluster.observe()
    assert (after.instances, after.group_roles) == (before.instances, before.group_roles)


def test_a_moved_instance_is_stale_and_untouched(world: World) -> None:
    first = world.instances()[0]
    moved = replace(rotation(world, first, Rotation.WITHDRAWN), version="elsewhere")
    gone = replace(moved, id="turn-2", uid="nobody")
    assert world.kinds(moved, gone) == [STALE, STALE]
    assert world.instances()[0] == first


def test_a_change_moves_the_version(world: World) -> None:
    group, first = world.group(), world.instances()[0]
    outcomes = world.apply(scale(world, 3), rotation(world, first, Rotation.WITHDRAWN))
    assert [one.kind for one in outcomes] == [APPLIED, APPLIED], outcomes
    assert world.group().version != group.version
    assert world.instances()[0].version != first.version


def test_a_new_group_is_made_with_no_version_and_no_replicas(world: World) -> None:
    if not world.makes_groups:
        pytest.skip("it scales what is there")
    action = replace(
        scale(world, 1), id="scale-new", group="chat-1", expected_replicas=0, version=""
    )
    assert world.kinds(action) == [APPLIED]
    made = [one for one in world.subcluster.observe().group_roles if one.group == "chat-1"]
    assert [(one.replicas, one.role) for one in made] == [(1, "decode")]
    assert made[0].version != ""


def test_out_of_rotation_and_back(world: World) -> None:
    for to in (Rotation.WITHDRAWN, Rotation.READY):
        action = rotation(world, world.instances()[0], to, f"turn-{to.value}")
        assert world.kinds(action) == [APPLIED]
        assert world.states()[0] is InstanceState(to.value)


def test_draining_has_no_way_back(world: World) -> None:
    for to in (Rotation.WITHDRAWN, Rotation.DRAINING):
        world.apply(rotation(world, world.instances()[0], to, f"turn-{to.value}"))
    assert world.kinds(rotation(world, world.instances()[0], Rotation.READY, "turn-x")) == [REFUSED]
    assert world.states()[0] is InstanceState.DRAINING


def test_removal_takes_the_instances_it_names(world: World) -> None:
    first, second = world.instances()
    for to in (Rotation.WITHDRAWN, Rotation.DRAINING):
        world.apply(rotation(world, world.instances()[0], to, f"turn-{to.value}"))
    assert world.kinds(scale(world, 1, first.uid)) == [APPLIED]
    assert [one.uid for one in world.instances()] == [second.uid]
    assert world.group().replicas == 1


def test_removal_of_somebody_else_is_refused(world: World) -> None:
    assert world.kinds(scale(world, 1, "nobody")) == [REFUSED]
    assert world.states() == [InstanceState.READY] * 2


def test_a_newcomer_told_to_hold_comes_up_held_and_is_released(world: World) -> None:
    world.apply(scale(world, 3))
    assert world.kinds(rotation(world, world.instances()[2], Rotation.HELD)) == [APPLIED]
    assert world.instances()[2].held
    world.advance(world.start_s + 1.0)
    assert world.states()[2] is InstanceState.HELD
    assert world.kinds(rotation(world, world.instances()[2], Rotation.READY, "turn-2")) == [APPLIED]
    assert (world.states()[2], world.instances()[2].held) == (InstanceState.READY, False)


class TestMemorySubcluster:
    """What the fake offers to tests of others."""

    @pytest.mark.parametrize("kind", [STALE, REFUSED])
    def test_a_told_answer_changes_nothing(self, kind: OutcomeKind) -> None:
        world = memory()
        assert isinstance(world.subcluster, MemorySubcluster)
        world.subcluster.answer = kind
        assert world.kinds(scale(world, 3)) == [kind]
        assert world.group().replicas == 2

    def test_an_unknown_answer_hides_what_was_done(self) -> None:
        world = memory()
        assert isinstance(world.subcluster, MemorySubcluster)
        world.subcluster.answer = OutcomeKind.UNKNOWN
        assert world.kinds(scale(world, 3)) == [OutcomeKind.UNKNOWN]
        assert world.group().replicas == 3

    def test_the_same_tuples_come_back_while_nothing_changes(self) -> None:
        world = memory()
        assert world.subcluster.observe() is world.subcluster.observe()

    def test_nothing_happens_after_the_deadline(self) -> None:
        world = memory()
        outcomes = world.subcluster.apply((scale(world, 3),), world.now_s())
        assert [one.kind for one in outcomes] == [OutcomeKind.UNKNOWN]
        assert world.group().replicas == 2
