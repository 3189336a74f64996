"""What the guides show is what the configuration models take, and it fits together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from heteroscale.config.cluster import parse_cluster
from heteroscale.config.load import parse_fleet
from heteroscale.config.metrics import parse_metrics, shipped_dialects
from heteroscale.config.scaled_service import parse_scaled_service
from tests.guides import GUIDES, Block, blocks, objects

FILES: dict[str, Callable[[str, str | None], object]] = {
    "services.yaml": parse_fleet,
    "metrics.yaml": parse_metrics,
    "cluster.yaml": parse_cluster,
}
SERVICES = objects("ScaledService")


def of_readme(name: str) -> str:
    (only,) = [one.text for one in blocks() if (one.guide, one.file) == ("README.md", name)]
    return only


@pytest.mark.parametrize("block", [one for one in blocks() if one.file in FILES], ids=str)
def test_every_file_is_taken(block: Block) -> None:
    FILES[block.file](block.text, str(block))


def test_every_file_of_a_guide_is_one_that_somebody_reads() -> None:
    assert {one.file for one in blocks()} - {""} == {*FILES, "values.yaml"}


@pytest.mark.parametrize(("block", "service"), SERVICES, ids=lambda one: str(one)[:20])
def test_every_service_is_taken_and_looked_after(block: Block, service: dict[str, Any]) -> None:
    parse_scaled_service(yaml.safe_dump(service), str(block))
    cluster = parse_cluster(of_readme("cluster.yaml"), None)
    assert service["metadata"]["namespace"] in cluster.namespaces


@pytest.mark.parametrize(("block", "service"), SERVICES, ids=lambda one: str(one)[:20])
def test_every_signal_of_a_policy_is_told_by_the_dialects_of_its_guide(
    block: Block, service: dict[str, Any]
) -> None:
    own = [one.text for one in blocks() if (one.guide, one.file) == (block.guide, "metrics.yaml")]
    metrics = parse_metrics(own[0] if own else of_readme("metrics.yaml"), None)
    spoken = {source.dialect for server in metrics.servers for source in server.sources}
    rules = [rule for name in spoken for rule in shipped_dialects()[name].rules]
    told = {(rule.signal, rule.stage) for rule in rules}
    policy = service["spec"]["policy"]
    assert {(one["signal"], one["role"]) for one in policy["proportional"]} <= told
    assert {one["signal"] for one in policy["feedback"]} <= {signal for signal, _ in told}


@pytest.mark.parametrize(("block", "service"), SERVICES, ids=lambda one: str(one)[:20])
def test_workloads_are_those_of_the_guide_or_made_for_their_roles(
    block: Block, service: dict[str, Any]
) -> None:
    shown = {item["metadata"]["name"] for one, item in objects() if one.guide == block.guide}
    for role, section in service["spec"]["roles"].items():
        for workload in section["workloads"]:
            beside = f"{service['metadata']['name']}-{role}"
            assert workload["name"] in shown | {beside, role}
            assert workload.get("component", role) == role


def test_every_guide_is_named_where_one_begins() -> None:
    readme = (GUIDES / "README.md").read_text(encoding="utf-8")
    others = {one.name for one in GUIDES.glob("*.md")} - {"README.md"}
    assert {name for name in others if f"]({name})" not in readme} == set()
