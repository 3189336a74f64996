"""The limit of a service that gives way: how long it lasts and what it does to the service."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.placement import Concession, Lack
from heteroscale.entities.reasons import ReasonCode, describe
from heteroscale.entities.service import AcceleratorOption, Mode, Pause, ServiceSpec
from heteroscale.entities.state import GivenWay
from heteroscale.policy.giving_way import RETURN_AFTER_S, after_lacks, limited
from tests.builders import NOW_S, build_role, build_service, build_state
from tests.shortage import build_tier

BATCH = build_tier("batch", 20, preemptible=True)
CHAT = build_tier("chat", 80, essential=4)
LACK = Lack(spec=CHAT, missing={"decode": 2})
WAY = GivenWay(to="chat", most={"decode": 2, "prefill": 3}, until_s=NOW_S + 100.0)
LIMITED = build_state(given_way=WAY)
LATEST = replace(WAY, until_s=NOW_S + RETURN_AFTER_S)


def most(spec: ServiceSpec) -> dict[str, int]:
    return {leaf.path: leaf.max_replicas for leaf in spec.group.leaves()}


def test_a_limit_stands_where_the_operators_maximum_does_and_is_told() -> None:
    spec, state, reasons = limited(BATCH, LIMITED, NOW_S)
    assert (most(spec), state) == ({"prefill": 3, "decode": 2}, LIMITED)
    assert reasons == tuple(
        Reason(
            step=Step.GUARD,
            code=ReasonCode.GIVES_WAY,
            figures={"to": "chat", "left_s": 100.0, "role": role, "most": units},
        )
        for role, units in (("decode", 2), ("prefill", 3))
    )
    assert describe(reasons[0]) == (
        "gives way to chat: at most 2 units of decode, until nobody of higher priority has lacked"
        " what is essential to it for 100 s more"
    )


def test_a_limit_reaches_nested_roles_and_widens_no_bound() -> None:
    parts = (build_role("prefill/attention"), build_role("prefill/ffn", min_replicas=4))
    spec = build_service(
        roles=[build_role("prefill", roles=parts), build_role("decode", max_replicas=5)]
    )
    way = replace(WAY, most={"prefill/attention": 2, "prefill/ffn": 3, "decode": 9})
    found, _, _ = limited(replace(spec, preemptible=True), build_state(given_way=way), NOW_S)
    assert most(found) == {"prefill/attention": 2, "prefill/ffn": 4, "decode": 5}


@pytest.mark.parametrize(
    ("spec", "now_s"),
    [
        pytest.param(BATCH, NOW_S + 100.0, id="its time is over"),
        pytest.param(replace(BATCH, preemptible=False), NOW_S, id="no longer allowed"),
        pytest.param(replace(BATCH, mode=Mode.RECOMMEND), NOW_S, id="no longer acted on"),
        pytest.param(replace(BATCH, pause=Pause(scale_in=True)), NOW_S, id="scale-in is paused"),
        pytest.param(replace(BATCH, pin={"decode": 4}), NOW_S, id="pinned by the operator"),
    ],
)
def test_a_limit_is_lifted_with_a_reason(spec: ServiceSpec, now_s: float) -> None:
    found, state, reasons = limited(spec, LIMITED, now_s)
    assert (found, state) == (spec, build_state())
    assert [describe(reason) for reason in reasons] == [
        "nobody of higher priority lacks what is essential to it any more, or it may not be"
        f" limited: at most {units} units of {role} for chat no longer holds"
        for role, units in (("decode", 2), ("prefill", 3))
    ]


def test_who_gives_way_to_nobody_is_as_before() -> None:
    state = build_state()
    assert limited(BATCH, state, NOW_S) == (BATCH, state, ())
    assert after_lacks(BATCH, state, [LACK], None, NOW_S) is state


def test_a_concession_becomes_the_limit() -> None:
    given = Concession(service="batch", to="chat", most=WAY.most)
    found = after_lacks(BATCH, build_state(), [LACK], given, NOW_S)
    assert found == build_state(given_way=LATEST)


FOREIGN = replace(
    CHAT,
    group=replace(
        CHAT.group,
        roles=tuple(
            build_role(role, accelerators=[AcceleratorOption(type="B200", gpus=8)])
            for role in ("prefill", "decode")
        ),
    ),
)


@pytest.mark.parametrize(
    ("lacks", "way"),
    [
        pytest.param([LACK], LATEST, id="a lack above it makes it last"),
        pytest.param([], WAY, id="without any it runs out"),
        pytest.param(
            [Lack(spec=replace(CHAT, priority=20), missing={"decode": 2})],
            WAY,
            id="a lack of its own priority is none of its business",
        ),
        pytest.param(
            [Lack(spec=FOREIGN, missing={"decode": 2})],
            WAY,
            id="nor is one of an accelerator it does not use",
        ),
    ],
)
def test_a_limit_lasts_while_others_lack(lacks: list[Lack], way: GivenWay) -> None:
    found = after_lacks(BATCH, LIMITED, lacks, None, NOW_S)
    assert found == build_state(given_way=way)


def test_a_clock_that_is_set_back_prolongs_no_limit() -> None:
    found = after_lacks(BATCH, LIMITED, [], None, NOW_S - 3600.0)
    way = found.given_way
    assert way is not None
    assert way.until_s == NOW_S - 3600.0 + RETURN_AFTER_S
