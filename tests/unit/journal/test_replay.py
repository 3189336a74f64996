"""A journal that replays is one in which nothing was changed, from seen to sent."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import msgspec
import pytest

from heteroscale.entities.snapshot import InstanceState
from heteroscale.journal.chain import sealed
from heteroscale.journal.replay import Line, replay
from tests.unit.journal.fleets import START_S, World, fleet, readings, service, world


def eventful(ticks: int = 40) -> World:
    """Return a run in which load rises, an instance fails, and a reading is not a number."""
    run = world(fleet(service("chat"), service("code")))
    for tick in range(ticks):
        load = 2000.0 if tick < 5 else 3300.0 + tick
        odd = math.nan if tick == 7 else math.inf if tick == 8 else load
        run.metrics.readings = {"chat": readings(load), "code": readings(odd)}
        if tick == 12:
            uid = next(iter(run.subclusters["alpha"].observe().instances)).uid
            run.subclusters["alpha"].change(uid, state=InstanceState.FAILED)
        if tick == 14:
            uid = run.subclusters["alpha"].observe().instances[-1].uid
            run.subclusters["alpha"].change(uid, state=InstanceState.READY, requests=4)
        run.metrics.down = tick == 16
        run.subclusters["alpha"].down = 18 <= tick < 24
        run.tick()
    return run


def resealed(line: Line, **fields: object) -> Line:
    """Return a record with other fields and a hash that fits them."""
    record = msgspec.json.decode(line.text)
    del record["hash"]
    return replace(line, text=sealed(msgspec.json.encode(record | fields))[0])


def test_an_eventful_run_replays_byte_for_byte() -> None:
    run = eventful()
    report = replay(run.lines())
    assert report.fault is None
    assert (report.records, report.plans_equal, report.first_tick) == (40, 40, 0)
    assert (report.start_s, report.end_s) == (START_S, START_S + 39 * 15.0)
    assert any(one.sent for one in run.reports), "a run without an action proves little"


def test_the_same_run_twice_gives_the_same_bytes() -> None:
    assert eventful().journal.lines == eventful().journal.lines


def test_an_empty_journal_replays_to_nothing() -> None:
    report = replay([])
    assert (report.records, report.start_s, report.fault) == (0, None, None)


@pytest.mark.parametrize(
    "figure",
    [
        rb"2000\.\d",
        rb'"requests":\[[^]]*\d',
        rb'"tick":\d+',
        rb'"now_s":\d',
        rb'"prev":"\w',
        rb'"hash":"\w',
        rb'"digest":"\w',
        rb'"replicas":\d',
    ],
    ids=[
        "a reading",
        "the requests on an instance",
        "the number of a tick",
        "the time",
        "the link to the record before",
        "the hash",
        "the digest of a hold",
        "the replicas of a group or an action",
    ],
)
def test_one_changed_figure_is_caught_at_its_record(figure: bytes) -> None:
    lines = eventful(16).lines()
    at, found = next(
        (at, hit) for at, line in enumerate(lines) if (hit := re.search(figure, line.text))
    )
    text = bytearray(lines[at].text)
    text[found.end() - 1] = ord("1") if text[found.end() - 1] != ord("1") else ord("2")
    lines[at] = replace(lines[at], text=bytes(text))
    fault = replay(lines).fault
    assert fault is not None
    assert (fault.record, fault.where) == (at + 1, "memory")
    assert fault.rule == "its hash does not fit its content"


def test_a_forged_plan_with_a_fitting_hash_is_caught_by_planning_again() -> None:
    lines = eventful(16).lines()
    at = next(at for at, line in enumerate(lines) if b'"actions":[{' in line.text)
    plan = msgspec.json.decode(lines[at].text)["plan"]
    plan["actions"] = []
    lines[at] = resealed(lines[at], plan=plan)
    fault = replay(lines).fault
    assert fault is not None
    assert (fault.record, fault.rule) == (
        at + 1,
        f"tick {at}: plan differs from what is computed again",
    )


def test_a_forged_decision_with_a_fitting_hash_names_the_service() -> None:
    lines = eventful(3).lines()
    services = msgspec.json.decode(lines[0].text)["services"]
    services["code"]["decision"]["capacity"]["decode"] += 1
    lines[0] = resealed(lines[0], services=services)
    fault = replay(lines).fault
    assert fault is not None
    assert fault.record == 1
    assert fault.rule.startswith("tick 0: service code differs; recorded {")


def test_a_forged_note_with_a_fitting_hash_breaks_the_record_after_it() -> None:
    lines = eventful(10).lines()
    lines[3] = resealed(lines[3], notices=["nothing happened here"])
    fault = replay(lines).fault
    assert fault is not None
    assert (fault.record, fault.rule) == (5, "does not follow from the record before it")


def test_a_field_nobody_wrote_is_caught() -> None:
    lines = eventful(3).lines()
    lines[2] = resealed(lines[2], extra=1)
    fault = replay(lines).fault
    assert fault is not None
    assert (fault.record, fault.rule) == (3, "tick 2: holds more than a record has")


@pytest.mark.parametrize("gone", [0, 4], ids=["the first record", "one in the middle"])
def test_a_missing_record_is_caught(gone: int) -> None:
    lines = eventful(10).lines()
    del lines[gone]
    fault = replay(lines).fault
    assert fault is not None
    assert (fault.record, fault.rule) == (
        gone + 1,
        "no record read so far carries the specs and the inventory"
        if gone == 0
        else "does not follow from the record before it",
    )


def test_another_version_says_which_one_this_release_reads() -> None:
    lines = eventful(1).lines()
    fault = replay([resealed(lines[0], version=2)]).fault
    assert fault is not None
    assert fault.rule == "is version 2; this release reads 1"


def test_something_else_than_a_record_is_refused() -> None:
    fault = replay([Line(text=sealed(b'{"tick":"one"}')[0], where="memory")]).fault
    assert fault is not None
    assert fault.record == 1
    assert "int" in fault.rule or "required field" in fault.rule


def test_the_state_is_written_at_the_start_and_every_240_ticks() -> None:
    run = eventful(250)
    lines = run.lines()
    carrying = [at for at, line in enumerate(lines) if b'"state":{' in line.text]
    assert carrying == [0, 240]
    assert replay(lines).fault is None
    state = msgspec.json.decode(lines[240].text)["state"]
    state["services"]["chat"]["scale_in_until_s"] += 1.0
    lines[240] = resealed(lines[240], state=state)
    fault = replay(lines[:241]).fault
    assert fault is not None
    assert fault.rule == "tick 240: state differs from what is computed again"
