"""Requests as arrays, streamed in chunks so that memory does not grow with the trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

PS_PER_S = 1_000_000_000_000

Int64Array: TypeAlias = npt.NDArray[np.int64]
#: rows of a chunk: a slice without a step, or their numbers
Rows: TypeAlias = slice | Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixBlocks:
    """The blocks of equal length that prompts begin with, by id.

    Two blocks of one id hold the same tokens and have the same tokens before them.
    """

    #: requests + 1 positions in `ids`: request r has ids[starts[r] : starts[r + 1]], maybe none
    starts: Int64Array
    #: ≥ 0
    ids: Int64Array

    def of(self, rows: Rows) -> PrefixBlocks:
        """Return those of some requests, in that order."""
        counts = np.diff(self.starts)[rows]
        starts = _starts(counts)
        shift = np.repeat(self.starts[:-1][rows] - starts[:-1], counts)
        return PrefixBlocks(starts=starts, ids=self.ids[shift + np.arange(len(shift))])


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalChunk:
    """Consecutive requests; arrays of equal length; arrivals never decrease, nor between chunks."""

    #: picoseconds since the start of the run
    arrival_ps: Int64Array
    #: ≥ 1
    input_tokens: npt.NDArray[np.int32]
    #: ≥ 1, the first token included
    output_tokens: npt.NDArray[np.int32]
    #: None = nothing is known of any prompt's content
    blocks: PrefixBlocks | None = None

    def of(self, rows: Rows) -> ArrivalChunk:
        """Return some requests, in that order."""
        return ArrivalChunk(
            arrival_ps=self.arrival_ps[rows],
            input_tokens=self.input_tokens[rows],
            output_tokens=self.output_tokens[rows],
            blocks=None if self.blocks is None else self.blocks.of(rows),
        )


#: A source is iterated once per run; make a new one to run again.
ArrivalSource: TypeAlias = Iterator[ArrivalChunk]


def in_one(chunks: Sequence[ArrivalChunk]) -> ArrivalChunk:
    """Return chunks one after another as one; at least one is given."""
    return ArrivalChunk(
        arrival_ps=np.concatenate([chunk.arrival_ps for chunk in chunks]),
        input_tokens=np.concatenate([chunk.input_tokens for chunk in chunks]),
        output_tokens=np.concatenate([chunk.output_tokens for chunk in chunks]),
        blocks=_blocks_in_one(chunks),
    )


def _blocks_in_one(chunks: Sequence[ArrivalChunk]) -> PrefixBlocks | None:
    """Return the blocks of all chunks; requests of a chunk without any have none."""
    known = [chunk.blocks for chunk in chunks if chunk.blocks is not None]
    if not known:
        return None
    counts = [
        np.zeros(len(chunk.arrival_ps), np.int64)
        if chunk.blocks is None
        else np.diff(chunk.blocks.starts)
        for chunk in chunks
    ]
    return PrefixBlocks(
        starts=_starts(np.concatenate(counts)), ids=np.concatenate([one.ids for one in known])
    )


def _starts(counts: Int64Array) -> Int64Array:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
