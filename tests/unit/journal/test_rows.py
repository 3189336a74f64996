"""What a row takes in it gives back, whatever the source put there."""

from __future__ import annotations

from dataclasses import fields

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.entities.action import Rotation, RotationAction, ScaleAction
from heteroscale.entities.decision import Decision, Direction, Reason, Step
from heteroscale.entities.snapshot import (
    GroupRole,
    Instance,
    InstanceState,
    Reading,
    Signal,
    UnknownCause,
)
from heteroscale.entities.state import FleetState, ServiceState
from heteroscale.journal.chain import hash_of, sealed
from heteroscale.journal.codec import (
    decision_digest,
    encoded,
    generation_of,
    settled_fleet,
    settled_state,
)
from heteroscale.journal.rows import (
    ActionRow,
    GroupRow,
    InstanceRow,
    ServiceRow,
    action_of,
    action_row,
    group_of,
    group_row,
    instance_of,
    instance_row,
    readings_of,
    same_but_requests,
    signal_key,
    write_readings,
)
from tests.unit.journal.fleets import fleet, nodes, service

FIGURES = st.one_of(st.floats(width=64), st.integers(0, 2**53))


@st.composite
def some_readings(draw: st.DrawFn) -> tuple[Reading, ...]:
    return tuple(
        Reading(
            signal=draw(st.sampled_from(Signal)),
            role=draw(st.sampled_from(("prefill", "decode", "prefill/ffn"))),
            value=draw(st.none() | FIGURES),
            age_s=draw(FIGURES),
            coverage=draw(FIGURES),
            cause=draw(st.none() | st.sampled_from(UnknownCause)),
            accelerator=draw(st.none() | st.just("H20")),
        )
        for _ in range(draw(st.integers(0, 6)))
    )


@given(some_readings())
def test_readings_come_back_to_the_last_bit(readings: tuple[Reading, ...]) -> None:
    row = ServiceRow()
    write_readings(row, readings)
    again = msgspec.json.decode(encoded(row), type=ServiceRow)
    back = readings_of(again, tuple(map(signal_key, readings)))
    # repr tells NaN from NaN-free and 1 from 1.0, which == does not
    assert repr(back) == repr(readings)


def test_a_row_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="1 values stand for 0 readings"):
        readings_of(ServiceRow(values=(1.0,)), ())


def test_one_shared_age_takes_the_place_of_many() -> None:
    readings = tuple(
        Reading(signal=Signal.TPS, role=role, value=1.0, age_s=3.0) for role in ("a", "b")
    )
    row = ServiceRow()
    write_readings(row, readings)
    assert encoded(row) == b'{"values":[1.0,1.0],"ages_s":3.0}'


INSTANCE = Instance(
    uid="alpha/chat/decode/0",
    service="chat",
    role="decode",
    group="chat-0",
    subcluster="alpha",
    accelerator="H20",
    ordinal=3,
    state=InstanceState.WITHDRAWN,
    since_s=12.5,
    requests=7,
    held=True,
    nodes=("n1", "n2"),
    gpus=16,
    version="9",
)


def test_an_instance_comes_back_and_its_requests_stand_apart() -> None:
    row = msgspec.json.decode(encoded(instance_row(INSTANCE)), type=type(instance_row(INSTANCE)))
    assert instance_of(row, "chat", 7) == INSTANCE
    other = instance_of(row, "chat", None)
    assert same_but_requests((INSTANCE,), (other,))
    assert not same_but_requests((INSTANCE,), ())


@pytest.mark.parametrize(
    "field", [name for name in INSTANCE.__slots__ if name not in ("requests", "service")]
)
def test_every_other_field_of_an_instance_is_a_change(field: str) -> None:
    as_is = {name: getattr(INSTANCE, name) for name in INSTANCE.__slots__}
    changed = Instance(**as_is | {field: "changed"})
    assert not same_but_requests((INSTANCE,), (changed,))


@pytest.mark.parametrize(
    ("row", "entity", "apart"),
    [
        (InstanceRow, Instance, {"service", "requests"}),
        (GroupRow, GroupRole, {"service"}),
    ],
)
def test_a_row_has_every_field_of_its_entity(
    row: type[msgspec.Struct], entity: type, apart: set[str]
) -> None:
    assert set(row.__struct_fields__) == {one.name for one in fields(entity)} - apart


def test_the_fields_of_a_reading_are_those_that_are_written() -> None:
    assert [one.name for one in fields(Reading)] == [
        "signal",
        "role",
        "value",
        "age_s",
        "coverage",
        "cause",
        "accelerator",
    ]


def test_a_group_role_comes_back() -> None:
    group = GroupRole(
        service="chat",
        group="chat-0",
        role="decode",
        accelerator="H20",
        subcluster="alpha",
        domain=("alpha", "s2"),
        replicas=4,
        version="2",
    )
    assert group_of(group_row(group), "chat") == group


def test_both_kinds_of_action_come_back() -> None:
    scale = ScaleAction(
        id="a",
        service="chat",
        subcluster="alpha",
        group="chat-0",
        role="decode",
        accelerator="H20",
        domain=(),
        replicas=4,
        expected_replicas=3,
        version="2",
        remove=("u1",),
    )
    turn = RotationAction(
        id="b", service="chat", subcluster="alpha", uid="u1", to=Rotation.HELD, version="2"
    )
    rows = msgspec.json.decode(
        encoded((action_row(scale), action_row(turn))), type=tuple[ActionRow, ...]
    )
    assert tuple(map(action_of, rows)) == (scale, turn)
    with pytest.raises(ValueError, match="names a scale or a rotation action"):
        action_of(ActionRow())


def test_the_order_of_a_mapping_does_not_show() -> None:
    def decision(*roles: str) -> Decision:
        return Decision(
            service="chat",
            direction=Direction.HOLD,
            capacity=dict.fromkeys(roles, 2),
            ratio={},
            reasons=(Reason(step=Step.GUARD, code="within_tolerance", figures={"demand": 2.0}),),
        )

    assert decision_digest(decision("a", "b")) == decision_digest(decision("b", "a"))
    assert decision_digest(decision("a")) != decision_digest(decision("b"))


def test_what_is_settled_once_stays_as_it_is() -> None:
    spec = fleet(service("chat"), service("code"))
    assert settled_fleet(spec) == spec
    state = FleetState(services={"chat": ServiceState(scale_in_until_s=5)})
    settled = settled_state(state)
    assert settled == state
    assert repr(settled.services["chat"].scale_in_until_s) == "5.0"


def test_a_generation_follows_every_node() -> None:
    two = nodes("alpha", 2)
    assert generation_of(two) == generation_of(nodes("alpha", 2))
    assert len({generation_of(two), generation_of(two[:1]), generation_of(two[::-1])}) == 3


@pytest.mark.parametrize("at", range(0, 60, 7))
def test_a_seal_fits_one_line_only(at: int) -> None:
    line, seal = sealed(b'{"tick":1,"prev":"0"}')
    assert hash_of(line) == seal
    spoilt = bytearray(line)
    spoilt[at % len(spoilt)] ^= 1
    assert hash_of(bytes(spoilt)) is None
    assert hash_of(b"") is None
