"""Placement stories: small fleets, what is wanted of them, and the answer an operator reads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from heteroscale.entities.placement import PlacementPlan, PlacementRequest
from heteroscale.entities.reasons import describe
from heteroscale.entities.service import AcceleratorOption, Mode, RoleSpec
from heteroscale.entities.snapshot import Instance, InstanceState, ServiceSnapshot, Snapshot
from heteroscale.entities.topology import Node
from heteroscale.prescheduler.cycle import closed_groups, place_all
from heteroscale.prescheduler.explain import explain_placement
from tests.builders import build_role, build_service, count_group_roles
from tests.world import build_inventory

FOLDER = Path(__file__).parent / "placements"
STORIES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "stories.yaml").read_text("utf-8"))
ANSWERS = FOLDER / "stories.txt"
NODES = re.compile(r"(\d+) (\w+) at (\S+)(?: with (\d+) busy)?( unhealthy)?")
OPTION = re.compile(r"(\w+):(\d+)(?:x(\d+))?(?:@([\d.]+))?")


def told(story: Mapping[str, Any]) -> str:
    """Return a story's name and its answer."""
    nodes, busy = fleet(story["nodes"])
    requests = [request(name, given, nodes) for name, given in story["services"].items()]
    instances = [*busy, *(one for each in requests for one in each.snapshot.instances)]
    plan = placed(story, nodes, requests, instances)
    lines = [f"# {story['story']}"]
    for name in sorted(story["services"]):
        reasons = explain_placement(
            [one for one in plan.grants if one.service == name],
            [one for one in plan.no_fits if one.service == name],
        )
        lines += [f"{name}: {describe(reason)}" for reason in reasons]
        lines += [
            f"{name}: {uid} leaves" for r in plan.releases if r.service == name for uid in r.uids
        ]
    return "\n".join(lines) + "\n"


def placed(
    story: Mapping[str, Any],
    nodes: list[Node],
    requests: list[PlacementRequest],
    instances: list[Instance],
) -> PlacementPlan:
    """Return the cycle's answer with nodes and requests in any order."""
    away = tuple(story.get("unreachable", ()))
    snapshot = Snapshot(
        now_s=0.0,
        services={"everybody": ServiceSnapshot(instances=tuple(instances))},
        inventory=replace(build_inventory(*nodes), nodes=tuple(nodes)),
        unreachable=away,
    )
    asked = [replace(one, closed=closed_groups(one.snapshot, away, ())) for one in requests]
    return place_all(asked, snapshot, ("S0", "S1", "S2"), story.get("prices", {}))


def fleet(lines: list[str]) -> tuple[list[Node], list[Instance]]:
    """Return the nodes of a story, and an instance of somebody's on each that is busy."""
    nodes: list[Node] = []
    busy: list[Instance] = []
    for line in lines:
        matched = NODES.fullmatch(line)
        assert matched is not None, line
        for _ in range(int(matched[1])):
            name = f"n{len(nodes):02d}"
            domain = tuple(matched[3].split("/"))
            nodes.append(
                Node(
                    name=name,
                    accelerator=matched[2],
                    gpus=8,
                    domain=domain,
                    healthy=matched[5] is None,
                )
            )
            if matched[4]:
                busy.append(
                    running("others", "decode", nodes[-1], "g0", len(busy), int(matched[4]))
                )
    return nodes, busy


def request(name: str, given: Mapping[str, Any], nodes: list[Node]) -> PlacementRequest:
    """Return what a service of a story asks for."""
    shares = given.get("shares", {})
    roles = tuple(role(path, given.get(path, "H20:8"), shares) for path in ("prefill", "decode"))
    spec = build_service(
        name,
        roles=roles,
        priority=given.get("priority", 50),
        mode=Mode(given.get("mode", "enforce")),
    )
    group = replace(
        spec.group, within=given.get("within", "S2"), allowance=given.get("allowance", 0)
    )
    instances = tuple(
        one
        for key, text in given.get("has", {}).items()
        for one in group_of(name, key, text, nodes)
    )
    counts = count_group_roles(instances)
    homes = {
        one.group: node.domain[:2] for one in instances for node in nodes if node.name in one.nodes
    }
    return PlacementRequest(
        spec=replace(spec, group=group, quota=given.get("quota", {})),
        snapshot=ServiceSnapshot(
            instances=instances,
            group_roles=tuple(
                replace(one, domain=homes[one.group], subcluster=homes[one.group][0])
                for one in counts
            ),
        ),
        add=given.get("add", {}),
        remove=given.get("remove", {}),
    )


def role(path: str, given: Any, shares: Mapping[str, int]) -> RoleSpec:
    """Return a role of a story, with those inside it."""
    share = shares.get(path.rpartition("/")[2], 1)
    if isinstance(given, str):
        options = tuple(
            AcceleratorOption(
                type=kind,
                gpus=int(gpus),
                nodes=int(several or 1),
                within="S0" if several else None,
                capacity=float(capacity or 1.0),
            )
            for kind, gpus, several, capacity in OPTION.findall(given)
        )
        return build_role(path, share=share, accelerators=options)
    inner = tuple(role(f"{path}/{name}", each, shares) for name, each in given["roles"].items())
    return build_role(path, share=share, within=given["within"], roles=inner)


def group_of(service: str, group: str, text: str, nodes: list[Node]) -> list[Instance]:
    """Return the instances of a group, a whole node each, on the last nodes of its domain."""
    counts, _, at = text.partition(" at ")
    domain = tuple(at.split("/"))
    own = [n for n in nodes if n.domain[: len(domain)] == domain and n.accelerator == "H20"]
    words = counts.split()
    found: list[Instance] = []
    for number, path in zip(words[::2], words[1::2], strict=True):
        for ordinal in range(int(number)):
            node = own[-1 - len(found)]
            found.append(running(service, path, node, group, ordinal, 8))
    return found


def running(service: str, path: str, node: Node, group: str, ordinal: int, gpus: int) -> Instance:
    return Instance(
        uid=f"{group}/{path}/{ordinal}" if service != "others" else f"others-{ordinal}",
        service=service,
        role=path,
        group=group,
        subcluster=node.domain[0],
        accelerator=node.accelerator,
        ordinal=ordinal,
        state=InstanceState.READY,
        since_s=0.0,
        nodes=(node.name,),
        gpus=gpus,
    )


def test_the_stories_are_answered_as_reviewed() -> None:
    answers = "\n".join(told(story) for story in STORIES)
    if os.environ.get("HETEROSCALE_GOLDEN") == "rewrite":
        ANSWERS.write_text(answers, encoding="utf-8")
    assert answers == ANSWERS.read_text(encoding="utf-8")


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story["story"])
def test_a_shuffled_inventory_gives_the_same_answer(story: dict[str, Any]) -> None:
    nodes, busy = fleet(story["nodes"])
    requests = [request(name, given, nodes) for name, given in story["services"].items()]
    instances = [*busy, *(one for each in requests for one in each.snapshot.instances)]

    shuffled = placed(story, nodes[::-1], requests[::-1], instances[::-1])
    assert placed(story, nodes, requests, instances) == shuffled


def test_there_are_stories_enough() -> None:
    assert len(STORIES) >= 25
    assert len({story["story"] for story in STORIES}) == len(STORIES)
