"""Whether a loop still moves and its ticks still end, in words, by a clock that nobody sets."""

from __future__ import annotations

import math
from collections.abc import Callable

#: a loop that has not moved for as many intervals, and at least so many seconds, hangs
_HANG_INTERVALS = 10
_LEAST_HANG_S = 60.0
#: a tick that ended longer ago is not a recent one
_LATE_INTERVALS = 3


class Health:
    """Told by the loop's thread, asked by any other."""

    def __init__(self, steady_s: Callable[[], float], interval_s: float) -> None:
        """Take the loop for one that has just moved and has never ended a tick."""
        self._steady_s = steady_s
        self._interval_s = interval_s
        self._moved_s = steady_s()
        self._ticked_s = -math.inf

    def moved(self) -> None:
        """Note that the loop is alive."""
        self._moved_s = self._steady_s()

    def ticked(self) -> None:
        """Note that a tick has ended."""
        self._ticked_s = self._moved_s = self._steady_s()

    def hanging(self) -> tuple[str, ...]:
        """Return why the process should be started anew; empty = it need not be."""
        still_s = self._steady_s() - self._moved_s
        if still_s <= max(_LEAST_HANG_S, _HANG_INTERVALS * self._interval_s):
            return ()
        return (f"the loop has not moved for {still_s:.0f} s",)

    def late(self) -> tuple[str, ...]:
        """Return why a loop that should tick is not to be relied on; empty = it is."""
        if self._steady_s() - self._ticked_s <= _LATE_INTERVALS * self._interval_s:
            return ()
        return (f"no tick has ended within {_LATE_INTERVALS} intervals",)
