"""Each alert that is shipped, by Prometheus' rule tester: it comes when it should, and alone."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.prometheus_server import binary

REPO = Path(__file__).resolve().parents[2]
ALERTS = REPO / "deploy" / "monitoring" / "alerts.yaml"
OF = 'namespace="heteroscale",job="heteroscale"'
CHAT = f'{OF},service="chat"'
#: what a controller says that has nothing to complain of, over an hour, once a minute
HEALTHY = {
    f'heteroscale_leader{{{OF},instance="a"}}': "1x60",
    f'heteroscale_leader{{{OF},instance="b"}}': "0x60",
    f'heteroscale_services{{{OF},instance="a",mode="enforce"}}': "1x60",
    f'heteroscale_ticks_total{{{OF},instance="a"}}': "0+4x60",
    f'heteroscale_interval_seconds{{{OF},instance="a"}}': "15x60",
    f'heteroscale_last_tick_timestamp_seconds{{{OF},instance="a"}}': "0+60x60",
    f'heteroscale_tick_duration_seconds_sum{{{OF},instance="a"}}': "0+1x60",
    f'heteroscale_tick_duration_seconds_count{{{OF},instance="a"}}': "0+4x60",
    f'heteroscale_unknown_readings{{{CHAT},cause="no_events"}}': "2x60",
    f'heteroscale_subcluster_age_seconds{{{OF},subcluster="main"}}': "3x60",
    f"heteroscale_braked_services{{{OF}}}": "0x60",
    f"heteroscale_frozen{{{OF}}}": "0x60",
    f'heteroscale_instances{{{CHAT},role="decode",state="ready"}}': "9x60",
    f'heteroscale_instances{{{CHAT},role="decode",state="pending"}}': "0x5 2x4 0x60",
    f"heteroscale_overdue_drains{{{CHAT}}}": "0x60",
    f'heteroscale_actions_total{{{CHAT},outcome="applied"}}': "0+3x60",
    f'heteroscale_actions_total{{{CHAT},outcome="refused"}}': "0x30 1x30",
    f"heteroscale_excluded_services{{{OF}}}": "0x60",
    f'heteroscale_reasons_total{{{CHAT},code="restored_slo"}}': "0x30 1x30",
}
SCOPE = {"namespace": "heteroscale", "job": "heteroscale"}
IN_CHAT = {**SCOPE, "service": "chat"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is said otherwise than by a healthy controller, and what comes of it half an hour on."""

    instead: Mapping[str, str | None]
    labels: Mapping[str, str]
    summary: str


CASES = {
    "HeteroScaleAbsent": Case(
        instead=dict.fromkeys(HEALTHY),
        labels={},
        summary="No controller of HeteroScale is scraped: services keep the counts they have.",
    ),
    "HeteroScaleNobodyLeads": Case(
        instead={f'heteroscale_leader{{{OF},instance="a"}}': "0x60"},
        labels=SCOPE,
        summary="No controller holds the Lease: nothing is scaled.",
    ),
    "HeteroScaleTwoLead": Case(
        instead={f'heteroscale_leader{{{OF},instance="b"}}': "1x60"},
        labels=SCOPE,
        summary="2 controllers of one installation say that they lead.",
    ),
    "HeteroScaleTickLate": Case(
        instead={f'heteroscale_last_tick_timestamp_seconds{{{OF},instance="a"}}': "0x60"},
        labels={**SCOPE, "instance": "a"},
        summary="The last tick of a began 31m 0s ago.",
    ),
    "HeteroScaleTickSlow": Case(
        instead={f'heteroscale_tick_duration_seconds_sum{{{OF},instance="a"}}': "0+56x60"},
        labels={**SCOPE, "instance": "a"},
        summary="Ticks of a take 14s, nearly the whole interval.",
    ),
    "HeteroScaleSignalsUnknown": Case(
        instead={f'heteroscale_unknown_readings{{{CHAT},cause="stale"}}': "3x60"},
        labels=IN_CHAT,
        summary="3 signals of chat have no value: it is not scaled in.",
    ),
    "HeteroScaleClusterUnseen": Case(
        instead={f'heteroscale_subcluster_age_seconds{{{OF},subcluster="main"}}': "90x60"},
        labels={**SCOPE, "subcluster": "main"},
        summary="What is known of sub-cluster main is 1m 30s old.",
    ),
    "HeteroScaleBraked": Case(
        instead={f"heteroscale_braked_services{{{OF}}}": "4x60"},
        labels=SCOPE,
        summary="The fleet brake holds the scale-in of 4 services.",
    ),
    "HeteroScaleFrozen": Case(
        instead={f"heteroscale_frozen{{{OF}}}": "1x60"},
        labels=SCOPE,
        summary="The fleet is frozen: nothing is scaled until somebody lifts it.",
    ),
    "HeteroScaleUnschedulable": Case(
        instead={f'heteroscale_instances{{{CHAT},role="decode",state="pending"}}': "2x60"},
        labels={**IN_CHAT, "role": "decode"},
        summary="2 instances of chat/decode find no node: it cannot grow.",
    ),
    "HeteroScaleSecondWriter": Case(
        instead={f"heteroscale_contested{{{CHAT}}}": "1x60"},
        labels=IN_CHAT,
        summary="Another autoscaler sets counts of chat: we change nothing of it.",
    ),
    "HeteroScaleDrainsOverdue": Case(
        instead={f"heteroscale_overdue_drains{{{CHAT}}}": "1x60"},
        labels=IN_CHAT,
        summary="1 instances of chat drain past their timeout.",
    ),
    "HeteroScaleWritesFail": Case(
        instead={f'heteroscale_actions_total{{{CHAT},outcome="refused"}}': "0+1x60"},
        labels=IN_CHAT,
        summary="10 changes of chat were refused or of unknown outcome in ten minutes.",
    ),
    "HeteroScaleServiceLeftOut": Case(
        instead={f"heteroscale_excluded_services{{{OF}}}": "1x60"},
        labels=SCOPE,
        summary="Planning failed on 1 services: they are left as they are.",
    ),
    "HeteroScaleRestores": Case(
        instead={f'heteroscale_reasons_total{{{CHAT},code="restored_slo"}}': "0+1x60"},
        labels=IN_CHAT,
        summary="chat was scaled in and had to be restored 31 times within an hour.",
    ),
}


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def judged(folder: Path, said: Mapping[str, str | None], expected: Mapping[str, Case]) -> str:
    """Return what the rule tester finds wrong with what we expect half an hour on; "" = nothing."""
    checks = []
    for name, rule in rules().items():
        case = expected.get(name)
        alerts = [] if case is None else [_alert(rule, case)]
        checks.append({"eval_time": "31m", "alertname": name, "exp_alerts": alerts})
    series = [{"series": name, "values": values} for name, values in said.items() if values]
    test = {"interval": "1m", "input_series": series, "alert_rule_test": checks}
    file = folder / "test.yaml"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": [test]}), encoding="utf-8")
    command = [binary("promtool"), "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _alert(rule: Mapping[str, Any], case: Case) -> dict[str, Any]:
    annotations = {**rule["annotations"], "summary": case.summary}
    return {"exp_labels": {**rule["labels"], **case.labels}, "exp_annotations": annotations}


def test_every_alert_has_its_case() -> None:
    assert set(CASES) == set(rules())


def test_a_healthy_controller_alerts_nobody(tmp_path: Path) -> None:
    assert judged(tmp_path, HEALTHY, {}) == ""


def test_a_controller_that_only_looks_need_not_lead(tmp_path: Path) -> None:
    looking: dict[str, str | None] = {
        **HEALTHY,
        f'heteroscale_leader{{{OF},instance="a"}}': "0x60",
        f'heteroscale_services{{{OF},instance="a",mode="enforce"}}': None,
        f'heteroscale_services{{{OF},instance="a",mode="observe"}}': "1x60",
    }
    assert judged(tmp_path, looking, {}) == ""


@pytest.mark.parametrize("name", CASES)
def test_an_alert_comes_alone_and_says_what_is_the_matter(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    assert judged(tmp_path, {**HEALTHY, **case.instead}, {name: case}) == ""


def test_every_alert_has_a_section_of_the_operating_guide() -> None:
    guide = (REPO / "docs" / "operating.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (.+)$", guide, flags=re.MULTILINE)
    sections = {heading.lower().replace(" ", "-") for heading in headings}
    wanted = {rule["annotations"]["runbook"].partition("#")[2] for rule in rules().values()}
    assert wanted <= sections
