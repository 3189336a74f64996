"""Writes the journal: one sealed line a tick to a sink, which alone knows where lines live."""

from __future__ import annotations

from typing import Protocol

from heteroscale.entities.state import FleetState
from heteroscale.journal.chain import sealed
from heteroscale.journal.codec import encoded, settled_state
from heteroscale.journal.record import Evidence, Place, RecordWriter

#: at 15 s ticks an hour's worth: replay of one tick folds at most this many
STATE_EVERY = 240


class JournalSink(Protocol):
    """Where lines go. Bounded: old segments go as new ones come."""

    def resume(self) -> tuple[int, str]:
        """Return the next tick's number and the last line's hash; (0, GENESIS) at the start."""
        ...

    def at_segment_start(self) -> bool:
        """Return whether the next line opens a segment and so must stand alone."""
        ...

    def append(self, line: bytes) -> None:
        """Keep one line.

        Raises:
            OSError: it was not kept; the next line opens a new segment.
        """
        ...


class Recorder:
    """Turns ticks into lines; owns the tick number and the end of the chain."""

    def __init__(self, sink: JournalSink) -> None:
        self._sink = sink
        self._writer = RecordWriter()
        self._tick, self._prev = sink.resume()
        self._opened = True
        self._state_in = 0

    @property
    def tick(self) -> int:
        """Return the number of the next record."""
        return self._tick

    def checkpoint(self, state: FleetState) -> FleetState:
        """Return the state to plan from: as replay reads it where the next record carries it."""
        return settled_state(state) if self._carries_state() else state

    def write(self, evidence: Evidence) -> None:
        """Write the next record.

        Raises:
            OSError: it was not kept; the chain goes on without it and says so.
        """
        place = Place(
            tick=self._tick,
            prev=self._prev,
            alone=self._opened or self._sink.at_segment_start(),
            opened=self._opened,
            with_state=self._carries_state(),
        )
        self._tick += 1
        # until the line is kept: what follows a lost record does not follow from the one before
        self._opened = True
        line, seal = sealed(encoded(self._writer.record(evidence, place)))
        self._sink.append(line)
        self._opened = False
        self._prev = seal
        self._state_in = (STATE_EVERY if place.with_state else self._state_in) - 1

    def _carries_state(self) -> bool:
        return self._opened or self._state_in <= 0 or self._sink.at_segment_start()
