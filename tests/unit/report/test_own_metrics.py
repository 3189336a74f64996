"""What a controller says of itself, held as the whole text of a tick."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.service import FleetSpec, Mode
from heteroscale.entities.snapshot import InstanceState
from heteroscale.report.exposition import Family, exposition
from heteroscale.report.own_metrics import OwnMetrics
from tests.unit.journal.fleets import busy, fleet, service

AGES_S = {"east": 0.5, "west": float("inf")}


def series(text: str) -> dict[str, str]:
    """Return series → figure, the durations' sum left out: no two runs share it."""
    pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: figure for name, _, figure in pairs}


def told(mode: Mode) -> dict[str, str]:
    run = busy(mode)
    figures = OwnMetrics(fleet(service("chat", mode=mode)))
    for took_s in (0.03, 0.2):
        figures.take(run.tick(), took_s)
    return series(figures.text(leads=True, ages_s=AGES_S))


def test_observed_services_say_what_their_counts_would_be() -> None:
    whose = 'service="chat",role='
    said = {name: figure for name, figure in told(Mode.OBSERVE).items() if "duration" not in name}
    assert said == {
        "heteroscale_leader": "1.0",
        "heteroscale_interval_seconds": "15.0",
        "heteroscale_frozen": "0.0",
        'heteroscale_subcluster_age_seconds{subcluster="east"}': "0.5",
        'heteroscale_subcluster_age_seconds{subcluster="west"}': "inf",
        'heteroscale_services{mode="observe"}': "1",
        "heteroscale_ticks_total": "2",
        "heteroscale_notices_total": "0",
        'heteroscale_decisions_total{service="chat",direction="out"}': "2",
        'heteroscale_reasons_total{service="chat",code="follows"}': "2",
        'heteroscale_reasons_total{service="chat",code="placed"}': "4",
        'heteroscale_reasons_total{service="chat",code="proportional"}': "2",
        'heteroscale_reasons_total{service="chat",code="scale_out"}': "2",
        'heteroscale_reasons_total{service="chat",code="step_limit"}': "2",
        "heteroscale_last_tick_timestamp_seconds": "1700000015.0",
        "heteroscale_braked_services": "0.0",
        "heteroscale_excluded_services": "0.0",
        "heteroscale_unreachable_subclusters": "0.0",
        f'heteroscale_wanted_capacity{{{whose}"decode"}}': "3",
        f'heteroscale_wanted_capacity{{{whose}"prefill"}}': "3",
        f'heteroscale_replicas{{{whose}"decode",accelerator="H20"}}': "2",
        f'heteroscale_replicas{{{whose}"prefill",accelerator="H20"}}': "2",
        f'heteroscale_would_be_replicas{{{whose}"decode",accelerator="H20"}}': "3",
        f'heteroscale_would_be_replicas{{{whose}"prefill",accelerator="H20"}}': "3",
        f'heteroscale_instances{{{whose}"decode",state="ready"}}': "2",
        f'heteroscale_instances{{{whose}"prefill",state="ready"}}': "2",
        'heteroscale_overdue_drains{service="chat"}': "0",
        'heteroscale_unknown_readings{service="chat",cause="stale"}': "1",
        'heteroscale_reading_age_seconds{service="chat"}': "5.0",
    }


def test_what_was_sent_is_counted_by_what_became_of_it() -> None:
    said = told(Mode.ENFORCE)
    actions = {name: figure for name, figure in said.items() if "_actions_" in name}
    of_scaling = 'service="chat",kind="scale",effect="out",outcome="applied"'
    assert actions == {f"heteroscale_actions_total{{{of_scaling}}}": "2"}


def test_durations_are_counted_into_every_bucket_that_holds_them() -> None:
    name = "heteroscale_tick_duration_seconds"
    said = told(Mode.OBSERVE)
    bounds = ("0.025", "0.05", "0.1", "0.25", "+Inf")
    counted = [said[f'{name}_bucket{{le="{bound}"}}'] for bound in bounds]
    assert counted == ["0", "1", "1", "2", "2"]
    assert (said[f"{name}_sum"], said[f"{name}_count"]) == ("0.23", "2")


def test_who_no_longer_leads_keeps_its_counts_and_says_nothing_of_the_fleet() -> None:
    run = busy(Mode.ENFORCE)
    figures = OwnMetrics(fleet(service("chat")))
    figures.take(run.tick(), 0.1)
    figures.forget()
    said = series(figures.text(leads=False, ages_s={}))
    assert said["heteroscale_ticks_total"] == "1"
    assert not any("replicas" in name or "instances" in name for name in said)


def test_before_the_first_tick_only_what_is_known_is_said() -> None:
    figures = OwnMetrics(FleetSpec(services=(), freeze=True))
    text = figures.text(leads=False, ages_s=AGES_S)
    said = {name: figure for name, figure in series(text).items() if "duration" not in name}
    assert said == {
        "heteroscale_leader": "0.0",
        "heteroscale_interval_seconds": "15.0",
        "heteroscale_frozen": "1.0",
        'heteroscale_subcluster_age_seconds{subcluster="east"}': "0.5",
        'heteroscale_subcluster_age_seconds{subcluster="west"}': "inf",
        "heteroscale_ticks_total": "0",
        "heteroscale_notices_total": "0",
    }


def test_services_that_somebody_else_sets_are_named() -> None:
    figures = OwnMetrics(FleetSpec(services=()))
    said = series(figures.text(leads=True, ages_s={}, contested=("chat",)))
    assert said['heteroscale_contested{service="chat"}'] == "1.0"


@pytest.mark.parametrize(
    ("since_s", "overdue"),
    [
        pytest.param(599.0, "0", id="it may drain for as long"),
        pytest.param(601.0, "1", id="it drains for longer than it may"),
    ],
)
def test_drains_past_their_timeout_are_counted(since_s: float, overdue: str) -> None:
    run = busy(Mode.OBSERVE)
    report = run.tick()
    seen = report.snapshot.services["chat"]
    first, *others = seen.instances
    state, now_s = InstanceState.DRAINING, report.snapshot.now_s
    draining = replace(first, state=state, since_s=now_s - since_s)
    services = {"chat": replace(seen, instances=(draining, *others))}
    figures = OwnMetrics(fleet(service("chat")))
    figures.take(replace(report, snapshot=replace(report.snapshot, services=services)), 0.1)
    said = series(figures.text(leads=True, ages_s={}))
    assert said['heteroscale_overdue_drains{service="chat"}'] == overdue


def test_label_values_cannot_break_out_of_their_quotes() -> None:
    family = Family(
        name="x", kind="gauge", help="X.", labels=("a",), series={('say "no"\n\\',): 1.0}
    )
    assert list(exposition([family]))[-1] == 'x{a="say \\"no\\"\\n\\\\"} 1.0\n'
