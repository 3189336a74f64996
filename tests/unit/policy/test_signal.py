from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from heteroscale.entities.policy import FeedbackSpec, PolicySpec, ScheduleSpec, TrustSpec
from heteroscale.entities.service import Slo
from heteroscale.entities.snapshot import Reading, Signal, UnknownCause
from heteroscale.policy.signal import (
    Latency,
    idle,
    judge,
    judged,
    latency,
    lookup,
    worst_latency,
)
from tests.builders import BY_DECODE_TPS

TRUST = TrustSpec(stale_s=60.0, min_coverage=0.7)
SLO = Slo(ttft_s=1.0, tbt_s=0.04, quantile=0.9)


def reading(value: float | None = 5.0, **fields: Any) -> Reading:
    given = {"signal": Signal.TPS, "role": "decode", "value": value} | fields
    return Reading(**given)


@pytest.mark.parametrize(
    ("observed", "verdict"),
    [
        pytest.param(reading(), 5.0, id="fresh and covered is believed"),
        pytest.param(reading(0.0), 0.0, id="zero is a value"),
        pytest.param(reading(age_s=60.0, coverage=0.7), 5.0, id="the limits themselves pass"),
        pytest.param(reading(age_s=60.1), UnknownCause.STALE, id="too old"),
        pytest.param(reading(age_s=math.nan), UnknownCause.INVALID, id="an age of NaN"),
        pytest.param(reading(age_s=-0.5), 5.0, id="clocks differ a little"),
        pytest.param(reading(age_s=-86_400.0), UnknownCause.INVALID, id="from the future"),
        pytest.param(reading(coverage=0.69), UnknownCause.THIN, id="too few instances reported"),
        pytest.param(reading(coverage=math.nan), UnknownCause.INVALID, id="a coverage of NaN"),
        pytest.param(reading(coverage=-1.0), UnknownCause.INVALID, id="a negative coverage"),
        pytest.param(reading(coverage=1.1), 5.0, id="more reported than are ready"),
        pytest.param(reading(math.nan), UnknownCause.INVALID, id="NaN"),
        pytest.param(reading(math.inf), UnknownCause.INVALID, id="infinite"),
        pytest.param(reading(-0.1), UnknownCause.INVALID, id="negative"),
        pytest.param(
            reading(1.0, signal=Signal.KV_USAGE), 1.0, id="a share of one is a whole share"
        ),
        pytest.param(
            reading(1.009, signal=Signal.UTILIZATION), 1.009, id="a rate may count a little more"
        ),
        pytest.param(
            reading(85.0, signal=Signal.UTILIZATION), UnknownCause.INVALID, id="a percentage"
        ),
        pytest.param(
            reading(1.02, signal=Signal.SM_ACTIVITY), UnknownCause.INVALID, id="more than whole"
        ),
        pytest.param(
            reading(None, cause=UnknownCause.NO_EVENTS, age_s=-61.0),
            UnknownCause.INVALID,
            id="no events of the future",
        ),
        pytest.param(reading(None), UnknownCause.MISSING, id="no value and no cause"),
        pytest.param(
            reading(None, cause=UnknownCause.THIN), UnknownCause.THIN, id="the cause it came with"
        ),
        pytest.param(
            reading(None, cause=UnknownCause.NO_EVENTS),
            UnknownCause.NO_EVENTS,
            id="no events is kept",
        ),
        pytest.param(
            reading(None, cause=UnknownCause.NO_EVENTS, age_s=61.0),
            UnknownCause.STALE,
            id="no events of long ago is stale",
        ),
        pytest.param(
            reading(None, cause=UnknownCause.NO_EVENTS, coverage=0.1),
            UnknownCause.THIN,
            id="no events on few instances is thin",
        ),
    ],
)
def test_judge(observed: Reading, verdict: float | UnknownCause) -> None:
    assert judge(observed, TRUST) == verdict


def test_judged_leaves_out_single_accelerators() -> None:
    readings = (reading(), reading(9.0, role="prefill"), reading(2.0, accelerator="H20"))
    assert judged(readings, TRUST) == {Signal.TPS: {"decode": 5.0, "prefill": 9.0}}


@pytest.mark.parametrize(
    ("pair", "verdict"),
    [
        pytest.param((reading(5.0), reading(7.0)), 7.0, id="the greater of two values"),
        pytest.param((reading(5.0), reading(None)), UnknownCause.MISSING, id="unknown wins"),
        pytest.param(
            (reading(math.nan), reading(age_s=99.0)), UnknownCause.INVALID, id="by name of cause"
        ),
    ],
)
def test_of_two_readings_of_one_thing_the_safer_counts_in_any_order(
    pair: tuple[Reading, Reading], verdict: float | UnknownCause
) -> None:
    assert judged(pair, TRUST) == judged(pair[::-1], TRUST) == {Signal.TPS: {"decode": verdict}}


def test_lookup_of_what_is_absent_is_missing() -> None:
    signals = judged((reading(),), TRUST)
    assert lookup(signals, Signal.TPS, "decode") == 5.0
    assert lookup(signals, Signal.TPS, "prefill") is UnknownCause.MISSING
    assert lookup(signals, Signal.TTFT, "decode") is UnknownCause.MISSING


TBT = Reading(signal=Signal.TBT, role="decode", value=0.05)
NO_EVENTS = replace(TBT, role="encode", value=None, cause=UnknownCause.NO_EVENTS)
STALE = replace(TBT, role="draft", age_s=99.0)


@pytest.mark.parametrize(
    ("readings", "worst"),
    [
        pytest.param((TBT,), Latency(1.25, "decode", None, ""), id="one role"),
        pytest.param(
            (TBT, replace(TBT, role="b", value=0.02)),
            Latency(1.25, "decode", None, ""),
            id="the worst role counts",
        ),
        pytest.param(
            (TBT, replace(TBT, role="b")), Latency(1.25, "b", None, ""), id="ties go by name"
        ),
        pytest.param(
            (TBT, NO_EVENTS),
            Latency(1.25, "decode", None, "encode"),
            id="a role without events adds nothing",
        ),
        pytest.param(
            (TBT, STALE),
            Latency(1.25, "decode", UnknownCause.STALE, "draft"),
            id="a stale role is told beside the value",
        ),
        pytest.param(
            (NO_EVENTS, STALE),
            Latency(None, "", UnknownCause.STALE, "draft"),
            id="stale outranks no events",
        ),
        pytest.param(
            (NO_EVENTS, replace(STALE, role="z")),
            Latency(None, "", UnknownCause.STALE, "z"),
            id="in whatever order of names",
        ),
        pytest.param(
            (NO_EVENTS,), Latency(None, "", UnknownCause.NO_EVENTS, "encode"), id="no events at all"
        ),
        pytest.param(
            (), Latency(None, "", UnknownCause.MISSING, "any role"), id="reported by nobody"
        ),
    ],
)
def test_latency(readings: tuple[Reading, ...], worst: Latency) -> None:
    assert latency(judged(readings, TRUST), Signal.TBT, SLO) == worst
    assert latency(judged(readings[::-1], TRUST), Signal.TBT, SLO) == worst


@pytest.mark.parametrize(
    ("readings", "is_idle"),
    [
        pytest.param((), False, id="nothing known is not idle"),
        pytest.param((reading(0.0),), True, id="zero throughput"),
        pytest.param((reading(0.0), reading(3.0, role="prefill")), False, id="one role serves"),
        pytest.param((reading(0.0, age_s=99.0),), False, id="a stale zero"),
        pytest.param(
            (reading(0.0), reading(2.0, signal=Signal.QUEUE_LENGTH)), False, id="a stuck engine"
        ),
        pytest.param(
            (reading(0.0, signal=Signal.OFFERED_TPS), reading(0.0, signal=Signal.QUEUE_LENGTH)),
            True,
            id="nothing offered and nothing waiting",
        ),
    ],
)
def test_idle(readings: tuple[Reading, ...], is_idle: bool) -> None:
    assert idle(judged(readings, TRUST)) is is_idle


TTFT = Reading(signal=Signal.TTFT, role="prefill", value=0.5)
NIGHT = ScheduleSpec(name="night", timezone="UTC", days=(1,), start_s=0, end_s=3600)
SCHEDULED = PolicySpec(schedules=(NIGHT,))
MEASURED = PolicySpec(schedules=(NIGHT,), proportional=(BY_DECODE_TPS,))
STEPPED = PolicySpec(schedules=(NIGHT,), feedback=(FeedbackSpec(signal=Signal.TTFT),))


@pytest.mark.parametrize(
    ("readings", "policy", "worst"),
    [
        pytest.param((TTFT, TBT), MEASURED, (1.25, True), id="the worst of both"),
        pytest.param((TTFT,), MEASURED, (0.5, False), id="one is missing"),
        pytest.param(
            (TTFT, replace(TBT, value=None, cause=UnknownCause.NO_EVENTS), reading(0.0)),
            MEASURED,
            (0.5, True),
            id="no events while idle",
        ),
        pytest.param(
            (TTFT, replace(TBT, value=None, cause=UnknownCause.NO_EVENTS), reading(5.0)),
            MEASURED,
            (0.5, False),
            id="no events beside a load",
        ),
        pytest.param((), MEASURED, (None, False), id="a blackout"),
        pytest.param((), STEPPED, (None, False), id="also of a service with feedback"),
        pytest.param((), SCHEDULED, (None, True), id="a service that cannot use metrics"),
        pytest.param(
            (replace(TBT, value=None, cause=UnknownCause.MISSING),),
            SCHEDULED,
            (None, True),
            id="that says so itself",
        ),
        pytest.param(
            (replace(TBT, age_s=99.0),), SCHEDULED, (None, False), id="unless its metrics fail"
        ),
        pytest.param((TTFT,), SCHEDULED, (0.5, False), id="or half of them do"),
        pytest.param((TTFT, TBT), SCHEDULED, (1.25, True), id="what it has is looked at"),
    ],
)
def test_worst_latency(
    readings: tuple[Reading, ...], policy: PolicySpec, worst: tuple[float | None, bool]
) -> None:
    assert worst_latency(judged(readings, TRUST), SLO, policy) == worst
