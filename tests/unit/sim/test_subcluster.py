"""The life of instances: starts, ways in and out of rotation, preconditions, GPU time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from heteroscale.entities.action import Rotation, RotationAction, ScaleAction
from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState
from heteroscale.entities.topology import Node
from heteroscale.sim.nodes import NodePool
from heteroscale.sim.rows import Row
from heteroscale.sim.start_up import StartUps, always
from heteroscale.sim.subcluster import Refusal, Roster, StaleTarget, Tenant
from heteroscale.workload.arrivals import PS_PER_S

START_UP_PS = 200 * PS_PER_S
H20 = AcceleratorOption(type="H20", gpus=8)
KEY = ("chat", "chat-0", "decode", "H20")


@dataclass
class RecordedEngines:
    """Engines that keep who is routed and how many requests each was said to have."""

    routed: dict[int, bool] = field(default_factory=dict)
    load: dict[int, int] = field(default_factory=dict)
    #: (instance, node) in order of birth
    born: list[tuple[str, str]] = field(default_factory=list)

    def start(self, row: Row, node: Node, routed: bool) -> int:
        engine = len(self.born)
        self.born.append((row.uid, node.name))
        self.routed[engine] = routed
        return engine

    def route(self, engine: int, routed: bool) -> None:
        self.routed[engine] = routed

    def stop(self, engine: int) -> None:
        del self.routed[engine]

    def requests(self, engine: int) -> int:
        return self.load.get(engine, 0)


def node(name: str, *path: str, gpus: int = 8, accelerator: str = "H20") -> Node:
    return Node(name=name, accelerator=accelerator, gpus=gpus, domain=("c", *path))


NODES = tuple(node(f"n{index}", "a", "a0", f"a0{index // 2}") for index in range(4))


def roster(
    engines: RecordedEngines,
    nodes: tuple[Node, ...] = NODES,
    start_ups: StartUps = always(START_UP_PS / PS_PER_S),
) -> Roster:
    return Roster(
        name="c",
        nodes=nodes,
        levels=("S0", "S1", "S2"),
        tenants={
            "chat": Tenant(
                shapes={("decode", "H20"): H20},
                start_ups=start_ups,
                engines=engines,
            )
        },
        epoch_s=1000.0,
    )


def scale(
    replicas: int, *, expected: int, version: str, name: str = "a1", remove: tuple[str, ...] = ()
) -> ScaleAction:
    return ScaleAction(
        id=name,
        service="chat",
        subcluster="c",
        group="chat-0",
        role="decode",
        accelerator="H20",
        domain=("c",),
        replicas=replicas,
        expected_replicas=expected,
        version=version,
        remove=remove,
    )


def rotate(instance: Instance, to: Rotation, name: str = "r1") -> RotationAction:
    return RotationAction(
        id=name,
        service="chat",
        subcluster="c",
        uid=instance.uid,
        to=to,
        version=instance.version,
    )


def states(life: Roster) -> list[InstanceState]:
    return [instance.state for instance in life.instances()]


def test_a_new_count_starts_instances_that_become_ready_after_the_start_up() -> None:
    engines = RecordedEngines()
    life = roster(engines)
    life.scale(scale(2, expected=0, version=""), 10)

    assert states(life) == [InstanceState.STARTING] * 2
    assert life.due_ps() == 10 + START_UP_PS
    life.advance(10 + START_UP_PS - 1)
    assert engines.routed == {}
    life.advance(10 + START_UP_PS)
    assert engines.routed == {0: True, 1: True}
    assert life.due_ps() is None
    assert engines.born == [
        ("c/chat/chat-0/decode/H20/0", "n0"),
        ("c/chat/chat-0/decode/H20/1", "n1"),
    ]
    assert life.group_roles() == (
        GroupRole(
            service="chat",
            group="chat-0",
            role="decode",
            accelerator="H20",
            subcluster="c",
            domain=("c",),
            replicas=2,
            version="1",
        ),
    )
    assert life.instances()[1] == Instance(
        uid="c/chat/chat-0/decode/H20/1",
        service="chat",
        role="decode",
        group="chat-0",
        subcluster="c",
        accelerator="H20",
        ordinal=1,
        state=InstanceState.READY,
        since_s=1200.00000000001,
        requests=None,
        nodes=("n1",),
        gpus=8,
        version="4",
    )


def test_what_does_not_fit_is_pending_until_gpus_are_given_back() -> None:
    engines = RecordedEngines()
    life = roster(engines, NODES[:2])
    life.scale(scale(3, expected=0, version=""), 0)
    life.advance(START_UP_PS)
    assert states(life) == [InstanceState.READY, InstanceState.READY, InstanceState.PENDING]

    first = life.instances()[0].uid
    life.scale(
        scale(2, expected=3, version="1", name="a2", remove=(first,)),
        START_UP_PS,
    )
    assert [(row.ordinal, row.state) for row in life.instances()] == [
        (1, InstanceState.READY),
        (2, InstanceState.STARTING),
    ]
    assert life.instances()[1].nodes == ("n0",)


def test_scale_in_takes_the_highest_ordinals_when_none_are_named() -> None:
    life = roster(RecordedEngines())
    life.place(KEY, ("c",), 3)
    life.scale(scale(1, expected=3, version="1"), 5)
    assert [instance.ordinal for instance in life.instances()] == [0]


def test_a_fleet_that_is_placed_is_ready_at_once_and_says_what_does_not_fit() -> None:
    engines = RecordedEngines()
    life = roster(engines)
    life.place(KEY, ("c",), 4)
    assert engines.routed == {0: True, 1: True, 2: True, 3: True}
    assert life.due_ps() is None
    with pytest.raises(Refusal, match="chat: 1 decode instances on H20 do not fit sub-cluster c"):
        life.place(KEY, ("c",), 1)


def test_withdrawn_instances_stop_being_routed_and_come_back() -> None:
    engines = RecordedEngines()
    life = roster(engines)
    life.place(KEY, ("c",), 1)
    engines.load[0] = 7
    life.rotate(rotate(life.instances()[0], Rotation.WITHDRAWN), 5)
    assert engines.routed == {0: False}
    assert (states(life), life.instances()[0].requests) == ([InstanceState.WITHDRAWN], 7)
    life.rotate(rotate(life.instances()[0], Rotation.READY, "r2"), 6)
    assert engines.routed == {0: True}
    assert (states(life), life.instances()[0].requests) == ([InstanceState.READY], None)


def test_a_held_newcomer_waits_for_its_release() -> None:
    engines = RecordedEngines()
    life = roster(engines)
    life.scale(scale(1, expected=0, version=""), 0)
    life.rotate(rotate(life.instances()[0], Rotation.HELD), 5)
    assert (states(life), life.instances()[0].held) == ([InstanceState.STARTING], True)
    life.advance(START_UP_PS)
    assert (states(life), engines.routed) == ([InstanceState.HELD], {0: False})
    life.rotate(rotate(life.instances()[0], Rotation.READY, "r2"), START_UP_PS + 1)
    assert (states(life), engines.routed) == ([InstanceState.READY], {0: True})
    assert life.instances()[0].held is False


@pytest.mark.parametrize(
    ("way", "to", "text"),
    [
        pytest.param(
            [Rotation.DRAINING], Rotation.READY, "no way to ready", id="draining has no way back"
        ),
        pytest.param([], Rotation.HELD, "no way to held", id="one in rotation is never held"),
    ],
)
def test_ways_that_do_not_exist_are_refused(way: list[Rotation], to: Rotation, text: str) -> None:
    life = roster(RecordedEngines())
    life.place(KEY, ("c",), 1)
    for index, step in enumerate(way):
        life.rotate(rotate(life.instances()[0], step, f"w{index}"), 1)
    before = life.instances()
    with pytest.raises(Refusal, match=text):
        life.rotate(rotate(before[0], to, "last"), 2)
    assert life.instances() == before


def test_a_repeated_action_has_no_second_effect() -> None:
    life = roster(RecordedEngines())
    out = scale(2, expected=0, version="")
    life.scale(out, 0)
    seen = (life.instances(), life.group_roles())
    life.scale(out, 1)
    assert (life.instances(), life.group_roles()) == seen
    life.advance(START_UP_PS)
    withdraw = rotate(life.instances()[0], Rotation.WITHDRAWN)
    life.rotate(withdraw, START_UP_PS)
    seen = (life.instances(), life.group_roles())
    life.rotate(withdraw, START_UP_PS + 1)
    assert (life.instances(), life.group_roles()) == seen


@pytest.mark.parametrize(
    ("action", "text"),
    [
        pytest.param(
            scale(3, expected=2, version="7"), "at version '1'", id="the version has moved"
        ),
        pytest.param(scale(3, expected=1, version="1"), "has 2 replicas", id="the count has moved"),
        pytest.param(scale(3, expected=0, version=""), "has 2 replicas", id="it exists already"),
    ],
)
def test_a_moved_count_makes_the_action_stale(action: ScaleAction, text: str) -> None:
    life = roster(RecordedEngines())
    life.place(KEY, ("c",), 2)
    before = life.group_roles()
    with pytest.raises(StaleTarget, match=text):
        life.scale(action, 1)
    assert life.group_roles() is before


def test_a_moved_or_missing_instance_makes_the_rotation_stale() -> None:
    life = roster(RecordedEngines())
    life.place(KEY, ("c",), 1)
    old = life.instances()[0]
    life.rotate(rotate(old, Rotation.WITHDRAWN), 1)
    with pytest.raises(StaleTarget, match="at version 5, not 4"):
        life.rotate(rotate(old, Rotation.DRAINING, "r2"), 2)
    life.scale(scale(0, expected=1, version="1"), 3)
    with pytest.raises(StaleTarget, match="is gone"):
        life.rotate(rotate(old, Rotation.READY, "r3"), 4)


def test_a_busy_instance_in_rotation_does_not_go_but_a_draining_one_does() -> None:
    engines = RecordedEngines()
    life = roster(engines)
    life.place(KEY, ("c",), 1)
    engines.load[0] = 2
    with pytest.raises(Refusal, match="is ready with 2 requests"):
        life.scale(scale(0, expected=1, version="1"), 1)
    life.rotate(rotate(life.instances()[0], Rotation.DRAINING), 2)
    life.scale(scale(0, expected=1, version="1", name="a2"), 3)
    assert (life.instances(), engines.routed) == ((), {})


def test_unknown_names_and_shapes_are_refused() -> None:
    life = roster(RecordedEngines())
    life.place(KEY, ("c",), 1)
    with pytest.raises(Refusal, match="c/x: no such instance"):
        life.scale(scale(0, expected=1, version="1", remove=("c/x",)), 1)
    other = ScaleAction(
        id="a",
        service="chat",
        subcluster="c",
        group="chat-0",
        role="decode",
        accelerator="L20",
        domain=("c",),
        replicas=1,
        expected_replicas=0,
        version="",
    )
    with pytest.raises(Refusal, match="decode of chat has no shape on L20"):
        life.scale(other, 1)


def test_gpu_time_runs_from_the_request_to_the_termination() -> None:
    life = roster(RecordedEngines())
    life.scale(scale(1, expected=0, version=""), 100)
    life.advance(START_UP_PS + 100)
    life.rotate(rotate(life.instances()[0], Rotation.DRAINING), START_UP_PS + 200)
    life.scale(scale(0, expected=1, version="1", name="a2"), START_UP_PS + 300)
    assert life.usage.gpu_ps("chat", START_UP_PS + 999) == {"H20": 8 * (START_UP_PS + 200)}
    assert life.usage.up_ps("chat", "decode", "H20", START_UP_PS + 999) == 200
    assert life.usage.up_ps("chat", "prefill", "H20", START_UP_PS) == 0


def test_observers_get_the_same_objects_while_nothing_changed() -> None:
    engines = RecordedEngines()
    life = roster(engines)
    life.place(KEY, ("c",), 2)
    first, second = life.instances()
    life.rotate(rotate(second, Rotation.WITHDRAWN), 1)
    seen = life.instances()
    assert life.instances() is seen
    assert seen[0] is first
    engines.load[1] = 3
    assert life.instances()[0] is first
    assert life.instances()[1].requests == 3
    assert life.instances()[1].version == seen[1].version


@pytest.mark.parametrize(
    ("shape", "domain", "names"),
    [
        pytest.param(AcceleratorOption(type="H20", gpus=4), (), ["n0"], id="half a node"),
        pytest.param(H20, ("c", "a", "a0", "a01"), ["n2"], id="only inside its domain"),
        pytest.param(AcceleratorOption(type="L20", gpus=1), (), None, id="another accelerator"),
        pytest.param(
            AcceleratorOption(type="H20", gpus=8, nodes=2, within="S0"),
            (),
            ["n2", "n3"],
            id="two nodes under one S0 switch",
        ),
        pytest.param(
            AcceleratorOption(type="H20", gpus=8, nodes=3, within="S0"),
            (),
            None,
            id="three nodes do not fit one S0 switch",
        ),
        pytest.param(
            AcceleratorOption(type="H20", gpus=8, nodes=3), (), ["n1", "n2", "n3"], id="anywhere"
        ),
    ],
)
def test_first_fit_stays_inside_the_domain(
    shape: AcceleratorOption, domain: tuple[str, ...], names: list[str] | None
) -> None:
    pool = NodePool(NODES, ("S0", "S1", "S2"))
    taken = pool.take(AcceleratorOption(type="H20", gpus=4), ("c",))
    assert taken == (0,)
    found = pool.take(shape, domain)
    assert (None if found is None else [pool.node(index).name for index in found]) == names
    if found is not None:
        pool.give_back(found, shape.gpus)
    assert [pool.free(index) for index in range(4)] == [4, 8, 8, 8]
