from __future__ import annotations

import pytest

from heteroscale.entities.policy import ScheduleSpec
from heteroscale.entities.service import GroupSpec
from heteroscale.policy.ratio import (
    configured,
    families,
    in_parts,
    in_whole_units,
    of_schedule,
    round_down,
    round_up,
    slack,
    units_of,
)
from tests.builders import build_group, build_role

MOE = GroupSpec(
    within="S2",
    roles=(
        build_role(
            "prefill",
            share=2,
            roles=(
                build_role("prefill/attention", share=1),
                build_role(
                    "prefill/ffn",
                    share=3,
                    roles=(build_role("prefill/ffn/a"), build_role("prefill/ffn/b", share=4)),
                ),
            ),
        ),
        build_role("decode", share=5),
    ),
)


@pytest.mark.parametrize(
    ("units", "up", "down"),
    [
        pytest.param(3.0, 3, 3, id="whole"),
        pytest.param(3.2, 4, 3, id="between"),
        pytest.param(3.0000000000000004, 3, 3, id="noise above a whole number"),
        pytest.param(2.9999999999999996, 3, 3, id="noise below a whole number"),
        pytest.param(0.0, 0, 0, id="nothing"),
    ],
)
def test_rounding(units: float, up: int, down: int) -> None:
    assert (round_up(units), round_down(units)) == (up, down)


def test_whole_units_hold_at_least_as_much() -> None:
    assert [in_whole_units(instances, 4) for instances in (0.0, 3.0, 4.0, 4.5)] == [0, 4, 4, 8]


def test_the_parts_of_a_nested_role_are_a_family_unless_the_anchor_is_one_of_them() -> None:
    steps = {"prefill/attention": 1, "prefill/ffn/a": 3, "prefill/ffn/b": 12}
    assert families(MOE, "decode") == (steps, {"decode": 1})
    alone = tuple({role: 1} for role in (*steps, "decode"))
    assert families(MOE, "prefill/attention") == alone


def test_slack_is_one_instance_or_the_band() -> None:
    assert slack(5.0, 0.1) == pytest.approx(1.0)
    assert slack(50.0, 0.1) == pytest.approx(5.0)


def test_weights_multiply_down_the_levels() -> None:
    assert MOE.weights(configured(MOE)) == {
        "prefill/attention": 2,
        "prefill/ffn/a": 6,
        "prefill/ffn/b": 24,
        "decode": 5,
    }
    assert MOE.weights({"prefill": 1, "decode": 1})["prefill/ffn/b"] == 12


@pytest.mark.parametrize(
    ("replicas", "units"),
    [
        pytest.param({"prefill/attention": 2, "prefill/ffn/a": 6, "prefill/ffn/b": 24}, 2, id="2"),
        pytest.param(
            {"prefill/attention": 9, "prefill/ffn/a": 9, "prefill/ffn/b": 23},
            1,
            id="the scarcest child decides",
        ),
        pytest.param({"prefill/attention": 9}, 0, id="a child is missing"),
    ],
)
def test_units_of_a_nested_role(replicas: dict[str, int], units: int) -> None:
    assert units_of(MOE.roles[0], replicas) == units


def schedule(replicas: dict[str, int], ratio: dict[str, int]) -> ScheduleSpec:
    return ScheduleSpec(
        name="day",
        timezone="UTC",
        days=(1,),
        start_s=0,
        end_s=1,
        replicas=replicas,
        ratio=ratio,
    )


@pytest.mark.parametrize(
    ("group", "replicas", "ratio", "expected"),
    [
        pytest.param(
            build_group(), {}, {"prefill": 9, "decode": 7}, {"prefill": 9, "decode": 7}, id="said"
        ),
        pytest.param(
            build_group(3, 5), {}, {"prefill": 9}, {"prefill": 9, "decode": 5}, id="said in part"
        ),
        pytest.param(
            build_group(),
            {"prefill": 12, "decode": 8},
            {},
            {"prefill": 3, "decode": 2},
            id="implied by counts",
        ),
        pytest.param(build_group(), {"decode": 8}, {}, None, id="one count implies none"),
        pytest.param(build_group(), {}, {}, None, id="nothing said"),
        pytest.param(
            MOE,
            {"prefill/attention": 2, "prefill/ffn/a": 6, "prefill/ffn/b": 24, "decode": 4},
            {},
            {"prefill": 1, "decode": 2},
            id="implied through nested counts",
        ),
    ],
)
def test_ratio_of_a_schedule(
    group: GroupSpec,
    replicas: dict[str, int],
    ratio: dict[str, int],
    expected: dict[str, int] | None,
) -> None:
    assert of_schedule(group, schedule(replicas, ratio)) == expected


@pytest.mark.parametrize(
    ("shares", "parts", "expected"),
    [
        pytest.param({"p": 9, "d": 7}, 64, {"p": 36, "d": 28}, id="exact"),
        pytest.param({"p": 5, "d": 1}, 64, {"p": 53, "d": 11}, id="largest remainder"),
        pytest.param({"a": 1, "b": 1, "c": 1}, 64, {"a": 22, "b": 21, "c": 21}, id="ties by name"),
        pytest.param({"p": 1000, "d": 1}, 8, {"p": 7, "d": 1}, id="never zero"),
        pytest.param({"p": 1, "d": 0}, 8, {"p": 7, "d": 1}, id="not even for nothing"),
    ],
)
def test_in_parts(shares: dict[str, float], parts: int, expected: dict[str, int]) -> None:
    assert in_parts(shares, parts) == expected
