"""What is shipped says the same everywhere: code, examples, documentation, schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heteroscale.config import model_sections, scenario_sections
from heteroscale.config.check import check_file
from heteroscale.config.document import parse_document
from heteroscale.config.fields import Section, default_of
from heteroscale.config.load import load_fleet, parse_fleet
from heteroscale.config.reference import reference
from heteroscale.config.scenario import Scenario, built_in_scenario, load_scenario
from heteroscale.config.schema import json_schema
from heteroscale.entities.service import FleetSpec
from heteroscale.errors import ConfigError
from heteroscale.performance.models import (
    GroupedAttention,
    LatentAttention,
    ModelShape,
    WeightType,
)
from heteroscale.performance.roofline import Efficiency
from heteroscale.sim.check import faults_of
from heteroscale.workload.loaders import FORMATS, MAX_RUN_S
from heteroscale.workload.traffic import Burst, MixDrift, RateStep
from tests.unit.config.texts import MINIMAL, REPO

EXAMPLE = REPO / "examples" / "services.yaml"
SCENARIOS = sorted((REPO / "examples" / "scenarios").glob("*.yaml"))


def test_the_example_writes_out_exactly_the_defaults() -> None:
    example, minimal = load_fleet(EXAMPLE), parse_fleet(MINIMAL, None)
    assert example.services[0] == minimal.services[0]
    assert dataclasses.replace(example, services=()) == FleetSpec(services=())


def unwritten(schema: dict[str, Any], part: dict[str, Any], value: Any, at: str) -> Iterator[str]:
    """Yield each key of a section that a value leaves out, however deep."""
    for option in part.get("anyOf", [part]):
        name = str(option.get("$ref", "")).rpartition("/")[2]
        section = schema["$defs"].get(name, option)
        for key, below in section.get("properties", {}).items() if isinstance(value, dict) else ():
            if key in value:
                yield from unwritten(schema, below, value[key], f"{at}.{key}")
            else:
                yield f"{at}.{key}"
        if isinstance(value, tuple):
            for item in value:
                yield from unwritten(schema, section.get("items", {}), item, at)
        for below in section.get("patternProperties", {}).values():
            for key, item in value.items():
                yield from unwritten(schema, below, item, f"{at}.{key}")


def test_the_example_leaves_no_key_out() -> None:
    value = parse_document(EXAMPLE.read_text(encoding="utf-8"), None).value
    assert isinstance(value, dict)
    first = {**value, "services": value["services"][:1]}
    schema = json_schema("services")
    assert list(unwritten(schema, schema, first, "")) == []


def test_the_check_for_left_out_keys_finds_one() -> None:
    schema = json_schema("services")
    value = parse_document(MINIMAL, None).value
    assert ".services.group.roles.decode.min_replicas" in list(unwritten(schema, schema, value, ""))


def test_the_example_shows_what_else_can_be_said() -> None:
    _, large, moe, reports = load_fleet(EXAMPLE).services
    assert large.policy.ratio.online is not None
    assert [option.capacity for option in large.group.roles[0].accelerators] == [1.0, 0.55]
    assert [leaf.path for leaf in moe.group.leaves()] == [
        "prefill/attention",
        "prefill/ffn",
        "decode",
    ]
    assert [schedule.name for schedule in reports.policy.schedules] == ["night", "weekend"]


def test_the_built_in_scenario_is_the_example_of_its_name() -> None:
    path = REPO / "examples" / "scenarios" / "paper-day.yaml"
    shipped = REPO / "src" / "heteroscale" / "config" / "scenarios" / "paper-day.yaml"
    assert path.read_bytes() == shipped.read_bytes()
    assert load_scenario(path) == built_in_scenario()


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_is_possible_and_named_after_its_file(path: Path) -> None:
    held = check_file(path)
    assert isinstance(held, Scenario)
    assert held.name == path.stem
    assert faults_of(held) == ()


def test_there_are_the_scenarios_that_the_documents_name() -> None:
    assert [path.stem for path in SCENARIOS] == [
        "azure-code",
        "azure-conv",
        "burst",
        "mixed-accelerators",
        "moe-two-level",
        "mooncake",
        "paper-day",
        "prefill-bound",
        "relocation",
        "shortage",
        "two-accelerators",
        "two-services",
    ]


def test_the_reference_page_is_up_to_date() -> None:
    written = (REPO / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == reference(), "run `make docs`"


@pytest.mark.parametrize("kind", ["services", "scenario", "fleet-scenario", "inventory", "wishes"])
def test_every_key_of_the_schema_has_a_meaning_and_a_row_in_the_reference(kind: str) -> None:
    schema = json_schema(kind)
    page = reference()
    sections = [schema, *(part for part in schema["$defs"].values() if "properties" in part)]
    for section in sections:
        assert section["additionalProperties"] is False
        for key, field in section["properties"].items():
            assert field["description"], key
            assert f"| `{key}` |" in page


def test_no_schema_for_an_unknown_kind_of_file() -> None:
    kinds = (
        "services, scenario, fleet-scenario, inventory, wishes, metrics, cluster, scaled-service"
    )
    with pytest.raises(ConfigError, match=f"must be one of {kinds}, got 'fleet'"):
        json_schema("fleet")


def test_a_default_that_no_entity_holds_is_our_mistake() -> None:
    with pytest.raises(KeyError, match=r"FleetSpec\.services has no default"):
        default_of(FleetSpec, "services")


def keys(section: type[Section]) -> set[str]:
    return set(section.model_fields)


def fields(entity: type) -> set[str]:
    return {field.name for field in dataclasses.fields(entity)}


@pytest.mark.parametrize(
    ("section", "others"),
    [
        pytest.param(model_sections.ModelShapeSection, fields(ModelShape) - {"name"}, id="shape"),
        pytest.param(model_sections.EfficiencySection, fields(Efficiency), id="efficiency"),
        pytest.param(model_sections.GroupedAttentionSection, fields(GroupedAttention), id="GQA"),
        pytest.param(model_sections.LatentAttentionSection, fields(LatentAttention), id="MLA"),
        pytest.param(scenario_sections.DriftSection, fields(MixDrift), id="drift"),
        pytest.param(scenario_sections.BurstSection, fields(Burst), id="burst"),
        pytest.param(scenario_sections.StepSection, fields(RateStep), id="step"),
    ],
)
def test_scenario_keys_are_the_words_of_the_rooms_they_go_to(
    section: type[Section], others: set[str]
) -> None:
    assert keys(section) == others


def test_scenario_words_and_limits_are_those_of_the_rooms_they_go_to() -> None:
    assert {*model_sections.WeightTypeName} == {*WeightType}
    assert {*scenario_sections.TraceFormatName} == {"auto", *FORMATS}
    assert scenario_sections.MAX_RUN_S == MAX_RUN_S
