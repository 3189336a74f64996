"""Computes every plan of a journal again and compares byte for byte.

The whole line is made again from what it says was seen, with the production planner; so a figure
that changed anywhere (what was seen, the state, the plan, the hashes) shows as another line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from heteroscale.entities.plan import Plan
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import Snapshot
from heteroscale.entities.state import FleetState
from heteroscale.errors import JournalBroken
from heteroscale.journal.chain import hash_of, sealed
from heteroscale.journal.codec import encoded, settled_state
from heteroscale.journal.fold import begun, planned
from heteroscale.journal.record import VERSION, Evidence, Place, Record, RecordReader, RecordWriter

_RECORD = msgspec.json.Decoder(Record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line as read, and the segment it was read from."""

    text: bytes
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One record that is intact, with what the planner saw."""

    #: 1-based position among the records read
    number: int
    line: Line
    record: Record
    fleet: FleetSpec
    snapshot: Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What replay found. A journal is good when `fault` is None."""

    #: records whose hash fits them and the record before
    records: int
    #: records whose plan, computed again, is equal byte for byte
    plans_equal: int
    #: the first tick's number and time, and the last one's time; None = no record at all
    first_tick: int | None
    start_s: float | None
    end_s: float | None
    #: the first record that is broken or leads to another plan
    fault: JournalBroken | None


def intact(lines: Iterable[Line]) -> Iterator[Seen]:
    """Yield every record whose hash fits it and the record before.

    Raises:
        JournalBroken: at the first one that is not so.
    """
    reader = RecordReader()
    prev: str | None = None
    for number, line in enumerate(lines, start=1):
        seal = hash_of(line.text)
        if seal is None:
            raise _broken(number, line, "its hash does not fit its content")
        try:
            record = _RECORD.decode(line.text)
            if record.version != VERSION:
                raise _broken(
                    number, line, f"is version {record.version}; this release reads {VERSION}"
                )
            if prev is not None and record.prev != prev:
                raise _broken(number, line, "does not follow from the record before it")
            fleet, snapshot = reader.observed(record)
        except (msgspec.DecodeError, ValueError) as error:
            raise _broken(number, line, str(error)) from error
        prev = seal
        yield Seen(number=number, line=line, record=record, fleet=fleet, snapshot=snapshot)


class Fold:
    """Carries the planner's memory from record to record."""

    def __init__(self) -> None:
        self._state: FleetState | None = None

    def evidence(self, seen: Seen) -> Evidence:
        """Return what the record should be made from, its plan computed again.

        Raises:
            JournalBroken: no state to start from, or planning fails.
        """
        record = seen.record
        before = self._before(seen)
        try:
            plan, after = planned(before, seen.snapshot, seen.fleet, record.excluded)
            self._state = begun(after, plan.actions, record.sent, record.now_s, seen.fleet)
        except Exception as error:
            raise _broken(
                seen.number, seen.line, f"planning it again fails: {type(error).__name__}: {error}"
            ) from error
        return Evidence(
            fleet=seen.fleet,
            state=before,
            snapshot=seen.snapshot,
            plan=plan,
            sent=record.sent,
            excluded=record.excluded,
            notices=record.notices,
        )

    def _before(self, seen: Seen) -> FleetState:
        record = seen.record
        if record.state is None:
            if self._state is None or record.opened:
                raise _broken(seen.number, seen.line, "has no state to start from")
            return self._state
        if self._state is None or record.opened:
            return record.state
        return settled_state(self._state)


def replay(lines: Iterable[Line]) -> ReplayReport:
    """Return how far the journal is intact and leads to the plans it holds."""
    fold, writer = Fold(), RecordWriter()
    records = equal = 0
    first: Record | None = None
    last: Record | None = None
    fault: JournalBroken | None = None
    try:
        for seen in intact(lines):
            records += 1
            first, last = first or seen.record, seen.record
            _compare(seen, fold.evidence(seen), writer)
            equal += 1
    except JournalBroken as error:
        fault = error
    return ReplayReport(
        records=records,
        plans_equal=equal,
        first_tick=first.tick if first else None,
        start_s=first.now_s if first else None,
        end_s=last.now_s if last else None,
        fault=fault,
    )


def _compare(seen: Seen, evidence: Evidence, writer: RecordWriter) -> None:
    record = seen.record
    again = writer.record(
        evidence,
        Place(
            tick=record.tick,
            prev=record.prev,
            alone=record.alone,
            opened=record.opened,
            with_state=record.state is not None,
        ),
    )
    if sealed(encoded(again))[0] != seen.line.text:
        raise _broken(seen.number, seen.line, _difference(record, again, evidence.plan))


def _difference(record: Record, again: Record, plan: Plan) -> str:
    """Say what differs first, planned things before what follows from them."""
    for name in sorted(record.services.keys() | again.services.keys()):
        old, new = record.services.get(name), again.services.get(name)
        if encoded(old) != encoded(new):
            decision = next((one for one in plan.decisions if one.service == name), None)
            recorded = bytes(old.decision).decode() if old is not None else ""
            return (
                f"tick {record.tick}: service {name} differs; recorded"
                f" {recorded or 'a hold, by digest'}, computed {encoded(decision).decode()}"
            )
    for name in record.__struct_fields__:
        if encoded(getattr(record, name)) != encoded(getattr(again, name)):
            return f"tick {record.tick}: {name} differs from what is computed again"
    return f"tick {record.tick}: holds more than a record has"


def _broken(number: int, line: Line, rule: str) -> JournalBroken:
    return JournalBroken(record=number, where=line.where, rule=rule)
