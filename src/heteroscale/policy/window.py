"""The stabilization window: the highest recommendation within a look-back, as a falling list.

Only what can still be the highest is kept: a newer, greater recommendation removes older, smaller
ones. So the first entry is always the highest, and a steady load costs one entry.
"""

from __future__ import annotations

from typing import NamedTuple

from heteroscale.entities.state import ServiceState

#: (at_s, demand in capacity units of the anchor)
Entries = tuple[tuple[float, float], ...]

#: Ticks further apart than this, or than a quarter of the window, leave a gap: what happened in
#: between was not seen. Four ticks of the default interval.
GAP_LIMIT_S = 60.0
#: Entries kept at most; beyond it the two oldest become one that lasts as long and asks as much.
MAX_ENTRIES = 256


class Window(NamedTuple):
    """The window after this tick's recommendation."""

    entries: Entries
    #: since when it has been fed without a gap
    since_s: float
    #: whether it has been fed without a gap for its whole length
    full: bool

    @property
    def highest(self) -> float:
        """Return the safest recommendation to scale in to."""
        return self.entries[0][1]


def gap_limit_s(window_s: float) -> float:
    """Return how far apart two ticks may be without a gap between them."""
    return max(GAP_LIMIT_S, window_s / 4)


def fold(state: ServiceState, demand: float, now_s: float, window_s: float) -> Window:
    """Return the window with one more recommendation.

    After a gap, or a clock that went back, what is remembered still counts as an upper guide, but
    the window must fill again before it permits a scale-in.
    """
    entries, since_s, fed_s = state.window, state.window_since_s, state.window_fed_s
    if since_s is None or fed_s is None or now_s - fed_s > gap_limit_s(window_s):
        since_s = now_s
    elif now_s < fed_s:
        since_s = now_s
        entries = ((now_s, entries[0][1]),) if entries else ()
    first, last = 0, len(entries)
    while last and entries[last - 1][1] <= demand:
        last -= 1
    while first < last and entries[first][0] < now_s - window_s:
        first += 1
    entries = (*entries[first:last], (now_s, demand))
    if len(entries) > MAX_ENTRIES:
        entries = ((entries[1][0], entries[0][1]), *entries[2:])
    return Window(entries=entries, since_s=since_s, full=now_s - since_s >= window_s)
