"""GPUs that left within the hour: counted as they are sent, taken back where they did not leave."""

from __future__ import annotations

from collections.abc import Iterable

from heteroscale.entities.action import Action, Effect
from heteroscale.entities.state import HOUR_S

#: (at_s, GPUs), oldest first
Left = tuple[tuple[float, int], ...]


def sent_off(left: Left, sent: Iterable[Action], now_s: float) -> Left:
    """Return what left within the hour, with what is about to leave."""
    gpus = sum(action.gpus for action in sent if action.effect is not Effect.RESTORE)
    kept = tuple(entry for entry in left if now_s - entry[0] < HOUR_S)
    return (*kept, (now_s, gpus)) if gpus else kept


def taken_back(left: Left, stayed: int, now_s: float) -> Left:
    """Return what left, less the GPUs that stayed or came back, the latest entries first.

    An entry from a time that is yet to come (the clock was set back) counts from now.
    """
    if not left or (not stayed and left[-1][0] <= now_s):
        return left
    kept: list[tuple[float, int]] = []
    for at_s, gpus in reversed(left):
        back = min(stayed, gpus)
        stayed -= back
        if gpus > back:
            kept.append((min(at_s, now_s), gpus - back))
    return tuple(reversed(kept))
