from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.config.load import parse_fleet
from heteroscale.config.services import RoleSection
from heteroscale.entities.policy import (
    FeedbackSpec,
    LifecycleSpec,
    PolicySpec,
    ProportionalSpec,
    ScheduleSpec,
)
from heteroscale.entities.service import (
    AcceleratorOption,
    FleetSpec,
    GroupSpec,
    RoleSpec,
    ServiceSpec,
    Slo,
    Stage,
)
from heteroscale.entities.snapshot import Signal
from heteroscale.errors import ConfigError, InvariantViolation
from tests.unit.config.texts import MINIMAL, MINIMAL_SERVICE

LEAVES = "must be a role with instances: prefill, decode"
H20 = AcceleratorOption(type="H20", gpus=8)


def test_the_least_that_can_be_written_becomes_entities_with_their_own_defaults() -> None:
    roles = (
        RoleSpec(path="prefill", stage=Stage.PREFILL, share=9, accelerators=(H20,)),
        RoleSpec(path="decode", stage=Stage.DECODE, share=7, accelerators=(H20,)),
    )
    policy = PolicySpec(
        proportional=(ProportionalSpec(signal=Signal.TPS, role="decode", target=3000.0),),
        feedback=(FeedbackSpec(signal=Signal.TTFT),),
    )
    service = ServiceSpec(
        name="chat",
        priority=80,
        slo=Slo(ttft_s=1.0, tbt_s=0.04, quantile=0.9),
        group=GroupSpec(roles=roles),
        policy=policy,
        lifecycle=LifecycleSpec(),
    )
    assert parse_fleet(MINIMAL, None) == FleetSpec(services=(service,))


def test_nested_roles_are_named_by_path_and_inherit_their_stage() -> None:
    text = MINIMAL.replace(
        "prefill: {share: 9, accelerators: [{type: H20, gpus: 8}]}",
        "first: {share: 1, stage: prefill, within: S1, roles: {"
        "attention: {share: 1, accelerators: [{type: H20, gpus: 8}]}, "
        "decode: {share: 4, accelerators: [{type: H20, gpus: 8, nodes: 2, within: S0}]}}}",
    )
    spanning = AcceleratorOption(type="H20", gpus=8, nodes=2, within="S0")
    (first, decode) = parse_fleet(text, None).services[0].group.roles
    assert first == RoleSpec(
        path="first",
        stage=Stage.PREFILL,
        share=1,
        within="S1",
        roles=(
            RoleSpec(path="first/attention", stage=Stage.PREFILL, share=1, accelerators=(H20,)),
            RoleSpec(path="first/decode", stage=Stage.DECODE, share=4, accelerators=(spanning,)),
        ),
    )
    assert decode.path == "decode"


@pytest.mark.parametrize(
    ("written", "start_s", "end_s"),
    [
        pytest.param('start: "22:00", end: "06:00"', 79_200, 21_600, id="over midnight"),
        pytest.param("start: 00:00, end: 24:00", 0, 86_400, id="a whole day, unquoted"),
        pytest.param("start: 12:30, end: 12:30", 45_000, 45_000, id="until the same time next day"),
    ],
)
def test_a_schedule_counts_seconds_of_the_day_and_iso_weekdays(
    written: str, start_s: int, end_s: int
) -> None:
    text = (
        MINIMAL + "      schedules: [{name: night, timezone: Asia/Shanghai, days: [sun, mon], "
        f"{written}, replicas: {{decode: 4}}, ratio: {{prefill: 2, decode: 3}}}}]\n"
    )
    assert parse_fleet(text, None).services[0].policy.schedules == (
        ScheduleSpec(
            name="night",
            timezone="Asia/Shanghai",
            days=(1, 7),
            start_s=start_s,
            end_s=end_s,
            replicas={"decode": 4},
            ratio={"prefill": 2, "decode": 3},
        ),
    )


def test_every_fault_of_every_service_is_told_in_the_order_of_the_lines() -> None:
    text = (
        MINIMAL.replace("share: 7", "share: 0")
        + "      guard: {cool_down_in_s: -5}\n"
        + MINIMAL_SERVICE.replace("role: decode", "role: decoder")
    )
    with pytest.raises(ConfigError) as caught:
        parse_fleet(text, "services.yaml")
    assert str(caught.value).splitlines() == [
        "services.yaml:8: services[0].group.roles.decode.share: must be ≥ 1, got 0",
        "services.yaml:12: services[0].policy.guard.cool_down_in_s: must be ≥ 0, got -5",
        "services.yaml:13: services[1].name: must be unique, got 'chat'",
        "services.yaml:21: services[1].policy.proportional[0].role: " + LEAVES + ", got 'decoder'",
    ]
    assert [problem.value for problem in caught.value.problems] == [0, -5, "chat", "decoder"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        pytest.param(
            "services:", "fleet: {levels: [S0, 7]}\nservices:", "must be text, got 7", id="levels"
        ),
        pytest.param("roles:", "within: 3\n      roles:", "must be text, got 3", id="within"),
        pytest.param(
            "{share: 9, accelerators: [{type: H20, gpus: 8}]}",
            "9",
            "must be a mapping of keys to values, got 9",
            id="a number for a role",
        ),
        pytest.param(
            "    policy:\n      proportional: [{signal: tps, role: decode, target: 3000.0}]\n"
            "      feedback: [{signal: ttft_s}]\n",
            "    policy:\n",
            "must be a mapping of keys to values, got nothing",
            id="an empty policy",
        ),
        pytest.param(
            "role: decode, target", "role: [decode], target", "must be text, got a list", id="list"
        ),
        pytest.param(
            "[{signal: ttft_s}]", "[{signal: ttft_s}, 7]", "got 7", id="a number for a feedback"
        ),
        pytest.param(
            "[{signal: ttft_s}]",
            "[]\n      schedules: [7]",
            "got 7",
            id="a number for a schedule",
        ),
        pytest.param(
            "[{signal: ttft_s}]",
            "[{signal: ttft_s, tiers: [{ratio: x, step: 0.1}, {ratio: 1.2, step: 0.1}]}]",
            "must be a number, got 'x'",
            id="a tier that is no number",
        ),
        pytest.param("name: chat", f"name: {'a' * 200}", f"got '{'a' * 79}…", id="a long value"),
    ],
)
def test_one_wrong_value_is_one_problem(old: str, new: str, told: str) -> None:
    assert old in MINIMAL
    with pytest.raises(ConfigError) as caught:
        parse_fleet(MINIMAL.replace(old, new, 1), None)
    assert len(caught.value.problems) == 1
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("added", "told"),
    [
        pytest.param("trust: {queue_high: 1}", "must be ≥ queue_low (2), got 1", id="queue tiers"),
        pytest.param("anchor: [x]", "must be text, got a list", id="anchor of another kind"),
        pytest.param("ratio: {online: 3}", "got 3", id="online of another kind"),
        pytest.param(
            "ratio: {online: {part: 3}}", "did you mean parts?", id="below what may be null"
        ),
        pytest.param("ratio: {online: {}}", "capacity_tps: is required", id="online without rates"),
        pytest.param("ratio: {online: {capacity_tps: 7}}", "got 7", id="rates of another kind"),
        pytest.param(
            "schedules: [{name: x, timezone: UTC, days: [mon], start: 1:0, end: 02:00, ratio: 3}]",
            "start: must be a time of day from 00:00 to 23:59, got '1:0'",
            id="ratio of another kind",
        ),
    ],
)
def test_a_policy_beside_a_wrong_value(added: str, told: str) -> None:
    with pytest.raises(ConfigError, match="policy") as caught:
        parse_fleet(f"{MINIMAL}      {added}\n", None)
    assert told in str(caught.value)


def test_a_maximum_below_the_default_minimum_is_told_at_the_maximum() -> None:
    text = MINIMAL.replace("share: 9,", "share: 9, min_replicas: 3, max_replicas: 2,")
    with pytest.raises(ConfigError, match=r"min_replicas: must be ≤ max_replicas \(2\), got 3"):
        parse_fleet(text, None)


def test_the_parts_of_an_online_ratio_reach_for_every_role() -> None:
    text = MINIMAL.replace(
        "        decode: {",
        "        encode: {share: 1, accelerators: [{type: L20, gpus: 1}]}\n        decode: {",
    )
    online = "{capacity_tps: {prefill: 1, encode: 1, decode: 1}, parts: 2}"
    with pytest.raises(ConfigError, match="parts: must be ≥ 3, one part for each top-level role"):
        parse_fleet(f"{text}      ratio: {{online: {online}}}\n", None)


def test_a_role_without_a_stage_that_the_rules_let_pass_is_our_mistake() -> None:
    with pytest.raises(InvariantViolation, match="the role front pass without a stage"):
        RoleSection(share=1).entity("front", None)


_TREES = st.recursive(
    st.sampled_from(["~", "true", "-1", "0", "1.5", ".nan", "decode", "S0", "''", "mon", "tps"]),
    lambda tree: st.one_of(
        st.lists(tree, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(st.sampled_from(["share", "roles", "type", "x"]), tree, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=6,
)
_SPOTS = (
    "80",
    "{ttft_s: 1.0, tbt_s: 0.04, quantile: 0.9}",
    "{share: 9, accelerators: [{type: H20, gpus: 8}]}",
    "[{type: H20, gpus: 8}]",
    "[{signal: tps, role: decode, target: 3000.0}]",
    "[{signal: ttft_s}]",
    "decode",
)


@settings(max_examples=150)
@given(spot=st.sampled_from(_SPOTS), tree=_TREES, key=st.sampled_from(["pin", "mode", "pause"]))
def test_whatever_is_written_gives_entities_or_problems_with_a_line(
    spot: str, tree: str, key: str
) -> None:
    text = MINIMAL.replace(spot, tree, 1) + f"    {key}: {tree}\n"
    told: ConfigError | FleetSpec
    try:
        told = parse_fleet(text, "f.yaml")
    except ConfigError as error:
        told = error
    if isinstance(told, FleetSpec):
        assert len(told.services) == 1
    else:
        assert told.problems
        assert all(problem.line and problem.rule for problem in told.problems)
