"""Wishes are a services file with what each service should have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale.config.check import check_file
from heteroscale.config.label_presets import LABEL_PRESETS
from heteroscale.config.load import load_fleet
from heteroscale.config.wishes import Wishes, load_wishes
from heteroscale.config.wishes_text import wishes_text
from heteroscale.errors import ConfigError
from heteroscale.workload.fleet_hardware import FleetShape
from heteroscale.workload.fleets import synthetic_fleet
from tests.unit.config.texts import REPO

EXAMPLE = REPO / "examples" / "wishes.yaml"
SERVICES = REPO / "examples" / "services.yaml"


def test_the_example_says_what_it_wants() -> None:
    read = load_wishes(EXAMPLE)
    assert [service.name for service in read.fleet.services] == ["chat", "chat-large"]
    assert read.want == {
        "chat": {"prefill": 3, "decode": 3},
        "chat-large": {"prefill": 2, "decode": 1},
    }
    assert check_file(EXAMPLE) == read


def test_any_services_file_will_do_with_wishes_beside_it() -> None:
    read = load_wishes(SERVICES, {"moe": {"prefill/ffn": 8}})
    assert read == Wishes(fleet=load_fleet(SERVICES), want={"moe": {"prefill/ffn": 8}})


def test_wishes_beside_the_file_go_before_those_in_it() -> None:
    read = load_wishes(EXAMPLE, {"chat": {"decode": 9}})
    assert read.want["chat"] == {"prefill": 3, "decode": 9}
    assert read.want["chat-large"] == {"prefill": 2, "decode": 1}


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        pytest.param(
            {"chatty": {"decode": 1}},
            "want.chatty: must be one of the services: chat, chat-large, moe, reports",
            id="nobody's wish",
        ),
        pytest.param(
            {"moe": {"prefill": 1}},
            "want.moe.prefill: must be a role with instances: prefill/attention, prefill/ffn,"
            " decode",
            id="a role without instances",
        ),
        pytest.param(
            {"moe": {"prefill/ffn": 3}},
            "want.moe.prefill/ffn: must be within the role's bounds, 4 to 1000, got 3",
            id="below the role's minimum",
        ),
    ],
)
def test_a_wish_that_cannot_be_meant_is_told(
    more: dict[str, dict[str, int]], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as beside:
        load_wishes(SERVICES, more)
    assert str(beside.value).endswith(problem)
    ((service, roles),) = more.items()
    ((role, units),) = roles.items()
    file = tmp_path / "wishes.yaml"
    text = SERVICES.read_text(encoding="utf-8")
    file.write_text(f"{text}\nwant: {{{service}: {{{role}: {units}}}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as inside:
        load_wishes(file)
    line = len(text.splitlines()) + 2
    assert str(inside.value) == f"{file}:{line}: {problem}"


def test_synthetic_services_read_back_as_they_are(tmp_path: Path) -> None:
    made = synthetic_fleet(FleetShape(nodes=900), LABEL_PRESETS["topograph"])
    file = tmp_path / "wishes.json"
    file.write_text(wishes_text(made.services, made.want()), encoding="utf-8")
    read = load_wishes(file)
    assert read.fleet.services == made.services
    assert read.want == made.want()
    assert any(leaf.path == "prefill/ffn" for s in made.services for leaf in s.group.leaves())
    assert any(leaf.accelerators[0].nodes > 1 for s in made.services for leaf in s.group.leaves())


def test_what_is_wanted_counts_what_is_there() -> None:
    made = synthetic_fleet(FleetShape(nodes=300), LABEL_PRESETS["topograph"])
    idle = replace(made, group_roles=())
    assert idle.want() == made.more
    there = {(c.service, c.role) for c in made.group_roles}
    grown = [(s, r) for s, roles in made.want().items() for r in roles if (s, r) in there]
    assert grown
    assert all(made.want()[s][r] > made.more[s][r] for s, r in grown)
