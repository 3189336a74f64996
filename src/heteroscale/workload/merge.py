"""Several sources as one, in order of arrival; memory holds one chunk of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heteroscale.workload.arrivals import ArrivalChunk, ArrivalSource


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
            ready.append(_part(chunk, slice(count)))
            if count < len(chunk.arrival_ps):
                kept.append((source, _part(chunk, slice(count, None))))
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


def _part(chunk: ArrivalChunk, rows: slice) -> ArrivalChunk:
    return ArrivalChunk(
        arrival_ps=chunk.arrival_ps[rows],
        input_tokens=chunk.input_tokens[rows],
        output_tokens=chunk.output_tokens[rows],
    )


def _in_order(chunks: Sequence[ArrivalChunk]) -> ArrivalChunk:
    """Return sorted chunks as one; at equal times the earlier chunk goes first."""
    arrival_ps = np.concatenate([chunk.arrival_ps for chunk in chunks])
    # A stable sort merges runs that are sorted already.
    order = np.argsort(arrival_ps, kind="stable")
    return ArrivalChunk(
        arrival_ps=arrival_ps[order],
        input_tokens=np.concatenate([chunk.input_tokens for chunk in chunks])[order],
        output_tokens=np.concatenate([chunk.output_tokens for chunk in chunks])[order],
    )
