"""What every serving plane has: arrivals go in, time moves, measurements come out.

The thin wrapper of an event kernel: it owns the arrays and grows them between calls. Which kernel
moves time, and what instances there are, is for the planes to say.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from heteroscale.errors import InvariantViolation
from heteroscale.sim.kernel_cache_memory import write_blocks
from heteroscale.sim.kernel_counters import AdvanceStatus
from heteroscale.sim.kernel_memory import more_events, more_log, more_slots
from heteroscale.sim.kernel_requests import misses_so_far
from heteroscale.sim.kernel_state import (
    DONE,
    G_ARRIVALS,
    G_CLOSED,
    G_LIVE,
    G_LOGGED,
    G_LOGGING,
    G_NEXT_ARRIVAL,
    G_NOW,
    NEED_ARRIVALS,
    NEED_EVENTS,
    NEED_SLOTS,
    Int64Array,
    State,
)
from heteroscale.workload.arrivals import ArrivalChunk


class Plane:
    """One serving plane in simulated time, which moves in `advance` only.

    Args:
        state: its arrays.
        run: lets everything up to a time happen, or returns what it needs first.
        read: writes the counters as of now.
        log: keep every visible event (`event_log`); for tests, since it grows with the trace.
    """

    def __init__(
        self,
        state: State,
        run: Callable[[State, int], int],
        read: Callable[[State], None],
        *,
        log: bool,
    ) -> None:
        self._state = state
        self._run = run
        self._read = read
        state.scalars[G_LOGGING] = int(log)
        self._last_arrival_ps = 0
        self._measured = False

    @property
    def now_ps(self) -> int:
        """Time last advanced to; after NEEDS_ARRIVALS, the time of the last event."""
        return int(self._state.scalars[G_NOW])

    def feed(self, chunk: ArrivalChunk) -> None:
        """Hand over the next requests; only while `needs_arrivals`."""
        times = np.array(chunk.arrival_ps, np.int64)
        inputs = np.array(chunk.input_tokens, np.int32)
        outputs = np.array(chunk.output_tokens, np.int32)
        if not self.needs_arrivals:
            raise InvariantViolation(
                "arrivals: must be fed when the last chunk is used up, not before"
            )
        if not len(times) == len(inputs) == len(outputs):
            raise InvariantViolation("arrivals: arrays must have equal lengths")
        if len(times) == 0:
            return
        if times[0] < self._last_arrival_ps or np.any(times[1:] < times[:-1]):
            raise InvariantViolation("arrivals: times must never decrease")
        if inputs.min() < 1 or outputs.min() < 1:
            raise InvariantViolation("arrivals: input and output tokens must be ≥ 1")
        self._last_arrival_ps = int(times[-1])
        self._state = self._state._replace(
            arrival=times, input_tokens=inputs, output_tokens=outputs
        )
        self._state = write_blocks(self._state, chunk)
        self._state.scalars[G_NEXT_ARRIVAL] = 0
        self._state.scalars[G_ARRIVALS] = len(times)

    def close_arrivals(self) -> None:
        """Say that no chunk will come any more."""
        self._state.scalars[G_CLOSED] = 1

    @property
    def needs_arrivals(self) -> bool:
        """Whether the next chunk (or the end of them) must be given before time can move."""
        scalars = self._state.scalars
        return bool(scalars[G_NEXT_ARRIVAL] == scalars[G_ARRIVALS] and scalars[G_CLOSED] == 0)

    @property
    def idle(self) -> bool:
        """Whether the arrivals are closed, used up, and no request is left anywhere."""
        scalars = self._state.scalars
        used_up = scalars[G_NEXT_ARRIVAL] == scalars[G_ARRIVALS]
        return bool(used_up and scalars[G_CLOSED] == 1 and scalars[G_LIVE] == 0)

    def advance(self, until_ps: int) -> AdvanceStatus:
        """Let everything up to and including `until_ps` happen, as far as arrivals are known."""
        if until_ps < self.now_ps:
            raise InvariantViolation(f"until_ps: must be ≥ {self.now_ps}, got {until_ps}")
        self._measured = False
        while True:
            match self._run(self._state, until_ps):
                case code if code == DONE:
                    return AdvanceStatus.DONE
                case code if code == NEED_ARRIVALS:
                    return AdvanceStatus.NEEDS_ARRIVALS
                case code if code == NEED_SLOTS:
                    self._state = more_slots(self._state)
                case code if code == NEED_EVENTS:
                    self._state = more_events(self._state)
                case _:
                    self._state = more_log(self._state)

    def running_misses(self, at_ps: int) -> int:
        """Return the unfinished requests that can no longer keep both limits."""
        self._at_now(at_ps)
        return int(misses_so_far(self._state.slots, self._state.scalars, at_ps))

    def ttft_histogram(self) -> Int64Array:
        """Return cumulative counts by bucket, one entry per first token; a copy."""
        return self._state.ttft.copy()

    def tbt_histogram(self) -> Int64Array:
        """Return cumulative counts by bucket, one entry per gap between tokens; a copy."""
        self._measure()
        return self._state.tbt.copy()

    def event_log(self) -> Int64Array:
        """Return rows (time_ps, kind, request, instance or −1), in order; empty unless `log`."""
        return self._state.log[: self._state.scalars[G_LOGGED]].copy()

    def _at_now(self, at_ps: int) -> None:
        if at_ps != self.now_ps:
            raise InvariantViolation(f"at_ps: must be {self.now_ps}, got {at_ps}")

    def _measure(self) -> None:
        if not self._measured:
            self._read(self._state)
            self._measured = True
