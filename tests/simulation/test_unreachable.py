"""Two sub-clusters, one out of reach for a while: what it holds is frozen supply, not lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from heteroscale.config.fault_sections import FaultKind, FaultSection
from heteroscale.config.scenario import Scenario, parse_scenario
from heteroscale.entities.reasons import ReasonCode
from heteroscale.loop import TickReport
from tests.diary import reports_of

#: as many nodes in each as the service has at the start, and a little more in the second
TEXT = """
name: two-subclusters
seed: 3
duration_s: 5400
service:
  name: chat
  priority: 50
  slo: {ttft_s: 1.0, tbt_s: 0.04, quantile: 0.9}
  group:
    within: S2
    roles:
      prefill: {share: 1, accelerators: [{type: H20, gpus: 8}], max_replicas: 12}
      decode: {share: 1, accelerators: [{type: H20, gpus: 8}], max_replicas: 12}
  policy:
    proportional:
      - {signal: offered_tps, role: decode, target: 3150.0}
traffic:
  generator:
    rate_rps: 16.0
    input: {mean_tokens: 1500, sigma: 0.6}
    output: {mean_tokens: 350, sigma: 0.6}
    steps:
      - {at_s: 1800, factor: 1.9}
model: {name: moe-540b-a27b}
nodes:
  - {subcluster: east, accelerator: H20, nodes: 8}
  - {subcluster: west, accelerator: H20, nodes: 6}
start_up_s: 120.0
initial: {prefill: 2, decode: 2}
"""
CUT = FaultSection(
    at_s=900.0, kind=FaultKind.SUBCLUSTER_UNREACHABLE, duration_s=2400.0, subcluster="east"
)


def scenario() -> Scenario:
    made = parse_scenario(TEXT, "two-subclusters.yaml", Path())
    return dataclasses.replace(made, faults=(CUT,))


def held(report: TickReport) -> dict[str, int]:
    """Return sub-cluster → instances that the loop takes the service to have."""
    found: dict[str, int] = {}
    for one in report.snapshot.services["chat"].instances:
        found[one.subcluster] = found.get(one.subcluster, 0) + 1
    return found


def test_frozen_supply_is_not_replaced_and_growth_goes_where_it_can_be_seen() -> None:
    ticks = reports_of(scenario())
    cut = [one for one in ticks if one.snapshot.unreachable]
    assert cut
    calm = [one for one in cut if one.snapshot.now_s - ticks[0].snapshot.now_s < 1700.0]
    assert calm
    for one in calm:
        assert one.sent == ()
        assert held(one) == {"east": 4}
        (decision,) = one.plan.decisions
        assert ReasonCode.OUT_OF_REACH in {reason.code for reason in decision.reasons}
    grown = [grant for one in cut for grant in one.plan.placement.grants]
    assert {grant.subcluster for grant in grown} == {"west"}
    assert held(ticks[-1]) == {"east": 4, "west": 4}


def test_when_it_is_back_nothing_is_taken_away_or_added() -> None:
    ticks = reports_of(scenario())
    last = max(at for at, one in enumerate(ticks) if one.snapshot.unreachable)
    assert [one.sent for one in ticks[last + 1 :] if one.sent] == []
