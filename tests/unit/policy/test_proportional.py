from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.entities.decision import Direction, Figures, Reason, Step
from heteroscale.entities.policy import FeedbackSpec, ProportionalSpec
from heteroscale.entities.snapshot import InstanceState, Reading, Signal, UnknownCause
from heteroscale.policy.proportional import recommend
from tests.builders import (
    build_instances,
    build_readings,
    build_role,
    build_service,
    build_snapshot,
    unknown,
)
from tests.unit.policy.deciding import codes, situate

IN, HOLD, OUT = Direction.IN, Direction.HOLD, Direction.OUT


def by(signal: Signal, role: str = "decode", target: float = 1000.0) -> ProportionalSpec:
    return ProportionalSpec(signal=signal, role=role, target=target)


@pytest.mark.parametrize(
    ("load_tps", "direction", "demand", "last"),
    [
        pytest.param(15_000.0, OUT, 15.0, "proportional", id="far above"),
        pytest.param(11_010.0, OUT, 11.01, "proportional", id="just outside tolerance"),
        pytest.param(11_000.0, HOLD, 10.0, "within_tolerance", id="its upper edge"),
        pytest.param(10_000.0, HOLD, 10.0, "within_tolerance", id="on target"),
        pytest.param(9_000.0, HOLD, 10.0, "within_tolerance", id="its lower edge"),
        pytest.param(8_990.0, IN, 8.99, "proportional", id="just below tolerance"),
        pytest.param(0.0, IN, 0.0, "proportional", id="a known zero"),
        pytest.param(None, HOLD, 10.0, "unknown", id="unknown is not zero"),
    ],
)
def test_demand_is_load_over_target(
    load_tps: float | None, direction: Direction, demand: float, last: str
) -> None:
    snapshot = build_snapshot(load_tps, prefill=10, decode=10)
    (asked,) = recommend(situate(build_service(), snapshot))
    assert (asked.source, asked.direction) == ("proportional decode tps", direction)
    assert asked.demand == pytest.approx(demand)
    assert codes(asked.reasons)[-1] == last
    assert asked.blocks is (load_tps is None)


def test_the_reason_has_its_numbers() -> None:
    snapshot = build_snapshot(15_000.0, prefill=10, decode=10)
    (asked,) = recommend(situate(build_service(), snapshot))
    figures: Figures = {
        "signal": "tps",
        "role": "decode",
        "load": 15_000.0,
        "target": 1000.0,
        "demand": 15.0,
    }
    assert asked.reasons == (Reason(step=Step.RECOMMEND, code="proportional", figures=figures),)


@pytest.mark.parametrize(
    ("control", "observed", "demand"),
    [
        pytest.param(by(Signal.OFFERED_TPS), 20_000.0, 20.0, id="offered tokens"),
        pytest.param(by(Signal.QUEUE_LENGTH, target=0.5), 20.0, 40.0, id="requests waiting"),
        pytest.param(by(Signal.UTILIZATION, target=0.5), 0.9, 18.0, id="a mean over ready ones"),
        pytest.param(by(Signal.SM_ACTIVITY, target=0.4), 0.8, 20.0, id="SM activity"),
        pytest.param(by(Signal.KV_USAGE, target=0.5), 0.75, 15.0, id="KV usage"),
        pytest.param(
            by(Signal.TPS, "prefill", 5000.0), 90_000.0, 14.0, id="another role, by the ratio"
        ),
    ],
)
def test_every_linear_signal(control: ProportionalSpec, observed: float, demand: float) -> None:
    reading = Reading(signal=control.signal, role=control.role, value=observed)
    instances = (
        *build_instances("decode", 10),
        *build_instances("decode", 2, InstanceState.STARTING, first=10),
        *build_instances("prefill", 10),
    )
    spec = build_service(prefill=9, decode=7, proportional=(control,))
    (asked,) = recommend(situate(spec, build_snapshot(instances=instances, readings=(reading,))))
    assert asked.direction is OUT
    assert asked.demand == pytest.approx(demand)


NO_EVENTS = UnknownCause.NO_EVENTS


def without_value(cause: UnknownCause, *signals: Signal, load_tps: float) -> tuple[Reading, ...]:
    """Calm readings, of which some have a cause instead of a value."""
    return tuple(
        unknown(reading, cause) if reading.signal in signals else reading
        for reading in build_readings(load_tps, offered_tps=load_tps)
    )


def kv(value: float | None, cause: UnknownCause | None = None) -> Reading:
    return Reading(signal=Signal.KV_USAGE, role="decode", value=value, cause=cause)


CALM = build_readings(5000.0, offered_tps=5000.0)


def but(**fields: Any) -> tuple[Reading, ...]:
    return build_readings(5000.0, offered_tps=5000.0, **fields)


@pytest.mark.parametrize(
    ("readings", "served", "offered"),
    [
        pytest.param(CALM, None, None, id="calm"),
        pytest.param(but(ttft_s=0.8), None, None, id="TTFT at its low tier"),
        pytest.param(but(ttft_s=0.9), "not_low", None, id="TTFT above its low tier"),
        pytest.param(but(ttft_s=1.01), "censored", "not_low", id="TTFT above its SLO"),
        pytest.param(but(tbt_s=0.036), "not_low", None, id="TBT above its low tier"),
        pytest.param(but(tbt_s=0.05), "not_low", "not_low", id="TBT above its SLO"),
        pytest.param(but(ttft_s=None), "unknown", "unknown", id="no TTFT"),
        pytest.param(but(tbt_s=None), "unknown", "unknown", id="no TBT"),
        pytest.param(but(queue=None), "unknown", "unknown", id="no queue"),
        pytest.param(but(queue=20.0), None, None, id="queue at its low tier"),
        pytest.param(but(queue=30.0), "not_low", None, id="queue above its low tier"),
        pytest.param(but(queue=41.0), "censored", "not_low", id="queue above its limit"),
        pytest.param((*CALM, kv(0.9)), None, None, id="KV at its limit"),
        pytest.param((*CALM, kv(0.91)), "censored", None, id="KV above its limit"),
        pytest.param((*CALM, kv(0.5, UnknownCause.STALE)), "unknown", None, id="KV stale"),
        pytest.param((*CALM, kv(None)), None, None, id="KV need not be reported"),
        pytest.param(
            without_value(UnknownCause.STALE, Signal.QUEUE_LENGTH, load_tps=5000.0),
            "unknown",
            "unknown",
            id="a stale queue",
        ),
        pytest.param(
            without_value(NO_EVENTS, Signal.TTFT, Signal.TBT, load_tps=0.0),
            None,
            None,
            id="no events beside a known-zero load",
        ),
        pytest.param(
            without_value(NO_EVENTS, Signal.TBT, load_tps=5000.0),
            "unknown",
            "unknown",
            id="no events under load",
        ),
        pytest.param(
            (*CALM, Reading(signal=Signal.TBT, role="draft", value=0.01, age_s=99.0)),
            "unknown",
            "unknown",
            id="one of two roles is stale",
        ),
    ],
)
def test_what_forbids_a_scale_in(
    readings: tuple[Reading, ...], served: str | None, offered: str | None
) -> None:
    spec = build_service(proportional=(by(Signal.TPS), by(Signal.OFFERED_TPS)))
    snapshot = build_snapshot(readings=readings, prefill=10, decode=10)
    for asked, why in zip(recommend(situate(spec, snapshot)), (served, offered), strict=True):
        expected = (IN, False) if why is None else (HOLD, True)
        assert (asked.direction, asked.blocks) == expected
        assert codes(asked.reasons) == ["proportional"] + ([] if why is None else [why])


def test_several_signals_each_have_a_say() -> None:
    spec = build_service(proportional=(by(Signal.TPS), by(Signal.TPS, "prefill", 500.0)))
    snapshot = build_snapshot(5000.0, prefill_tps=6000.0, prefill=10, decode=10)
    asked = recommend(situate(spec, snapshot))
    assert [(one.source, one.direction, one.demand) for one in asked] == [
        ("proportional decode tps", IN, 5.0),
        ("proportional prefill tps", OUT, 12.0),
    ]


def test_a_configured_low_tier_counts() -> None:
    spec = build_service(
        proportional=(by(Signal.TPS),),
        feedback=(FeedbackSpec(signal=Signal.TBT), FeedbackSpec(signal=Signal.TTFT, low=0.4)),
    )
    snapshot = build_snapshot(5000.0, ttft_s=0.5, prefill=10, decode=10)
    (asked,) = recommend(situate(spec, snapshot))
    figures: Figures = {"signal": "ttft_s", "role": "prefill", "value": 0.5, "limit": 0.4}
    assert asked.reasons[-1] == Reason(step=Step.SIGNAL, code="not_low", figures=figures)


def test_saturation_still_scales_out() -> None:
    snapshot = build_snapshot(20_000.0, ttft_s=5.0, queue=900.0, prefill=10, decode=10)
    (asked,) = recommend(situate(build_service(), snapshot))
    assert (asked.direction, asked.demand, asked.blocks) == (OUT, 20.0, True)


def test_what_waits_for_a_role_with_nothing_ready_waits_for_one() -> None:
    snapshot = build_snapshot(5000.0, queue=3.0, prefill=0, decode=10)
    (asked,) = recommend(situate(build_service(), snapshot))
    figures: Figures = {"signal": "queue_length", "role": "prefill", "value": 3.0, "limit": 2.0}
    assert asked.reasons[-1] == Reason(step=Step.SIGNAL, code="not_low", figures=figures)


def test_a_nested_role_reports_its_queue_in_any_of_its_leaves() -> None:
    nested = build_role(
        "prefill", roles=(build_role("prefill/attention"), build_role("prefill/ffn"))
    )
    spec = build_service(roles=(nested, build_role("decode")))
    instances = tuple(
        one
        for role in ("decode", "prefill/attention", "prefill/ffn")
        for one in build_instances(role, 10)
    )
    readings = tuple(
        replace(reading, role="prefill/ffn") if reading.role == "prefill" else reading
        for reading in build_readings(5000.0)
    )
    snapshot = build_snapshot(instances=instances, readings=readings)
    (asked,) = recommend(situate(spec, snapshot))
    assert asked.direction is IN
