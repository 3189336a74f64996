"""Several sources as one, in order of arrival; memory holds one chunk of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heteroscale.workload.arrivals import ArrivalChunk, ArrivalSource, in_one


def merged(sources: Sequence[ArrivalSource]) -> ArrivalSource:
    """Return the requests of all sources, in the same order every time."""
    waiting: list[tuple[ArrivalSource, ArrivalChunk]] = []
    for source in sources:
        waiting += _with_next(source)
    while len(waiting) > 1:
        # Nothing of what is still to come arrives before the earliest end of a chunk.
        until_ps = min(chunk.arrival_ps[-1] for _, chunk in waiting)
        ready: list[ArrivalChunk] = []
        kept: list[tuple[ArrivalSource, ArrivalChunk]] = []
        for source, chunk in waiting:
            count = int(np.searchsorted(chunk.arrival_ps, until_ps, side="right"))
            ready.append(chunk.of(slice(count)))
            if count < len(chunk.arrival_ps):
                kept.append((source, chunk.of(slice(count, None))))
            else:
                kept += _with_next(source)
        waiting = kept
        yield _in_order(ready)
    for source, chunk in waiting:
        yield chunk
        yield from source


def _with_next(source: ArrivalSource) -> list[tuple[ArrivalSource, ArrivalChunk]]:
    """Return a source with its next chunk that is not empty; [] at its end."""
    for chunk in source:
        if len(chunk.arrival_ps):
            return [(source, chunk)]
    return []


def _in_order(chunks: Sequence[ArrivalChunk]) -> ArrivalChunk:
    """Return sorted chunks as one; at equal times the earlier chunk goes first."""
    together = in_one(chunks)
    # A stable sort merges runs that are sorted already.
    return together.of(np.argsort(together.arrival_ps, kind="stable"))
