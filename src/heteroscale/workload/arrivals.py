"""Requests as arrays, streamed in chunks so that memory does not grow with the trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

PS_PER_S = 1_000_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalChunk:
    """Consecutive requests; arrays of equal length; arrivals never decrease, nor between chunks."""

    #: picoseconds since the start of the run
    arrival_ps: npt.NDArray[np.int64]
    #: ≥ 1
    input_tokens: npt.NDArray[np.int32]
    #: ≥ 1, the first token included
    output_tokens: npt.NDArray[np.int32]


#: A source is iterated once per run; make a new one to run again.
ArrivalSource: TypeAlias = Iterator[ArrivalChunk]
