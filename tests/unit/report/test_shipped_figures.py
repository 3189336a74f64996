"""What alerts and dashboard ask for is what a controller says: each metric, each label."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from heteroscale.entities.service import Mode
from heteroscale.report.own_metrics import OwnMetrics
from tests.unit.journal.fleets import busy, fleet, service

MONITORING = Path(__file__).resolve().parents[3] / "deploy" / "monitoring"
#: of the scrape, not of the controller
OF_A_TARGET = {"namespace", "job", "instance"}
SELECTOR = re.compile(r"(heteroscale_[a-z_]+)(?:\{([^}]*)\})?")
BY = re.compile(r"by \(([^)]*)\) \(")


def said() -> dict[str, set[str]]:
    """Return metric → labels, as a controller that acts on a busy service says them."""
    figures = OwnMetrics(fleet(service("chat", mode=Mode.ENFORCE)))
    run = busy(Mode.ENFORCE)
    for _ in range(2):
        figures.take(run.tick(), 0.1)
    text = figures.text(leads=True, ages_s={"east": 1.0}, contested=("chat",))
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name, set()).update(re.findall(r'([a-z]+)="', labels))
    return found


def panels() -> list[dict[str, Any]]:
    text = (MONITORING / "dashboard.json").read_text(encoding="utf-8")
    return list(json.loads(text)["panels"])


def asked() -> Iterator[Any]:
    """Yield every query of the alerts and the dashboard."""
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield pytest.param(rule["expr"], id=rule["alert"])
    for panel in panels():
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")


@pytest.mark.parametrize("query", list(asked()))
def test_every_metric_and_label_that_is_asked_for_is_said(query: str) -> None:
    told = said()
    selectors = SELECTOR.findall(query)
    assert selectors
    unknown = {name for name, _ in selectors} - told.keys()
    assert unknown == set()
    labels = {label for _, inside in selectors for label in re.findall(r"([a-z]+)[!=]", inside)}
    labels |= {one.strip() for inside in BY.findall(query) for one in inside.split(",")}
    known = set().union(*(told[name] for name, _ in selectors)) | OF_A_TARGET
    assert labels <= known


def test_panels_stand_beside_and_below_each_other() -> None:
    cells = [
        (x, y)
        for panel in panels()
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert {x for x, _ in cells} == set(range(24))
    assert len({panel["id"] for panel in panels()}) == len(panels())
