"""The pressure test of service A as the HeteroScale paper prints it (arXiv:2508.19559).

16 nodes of 8 H20, one instance a node; about 3,000 tokens in and 350 out, TTFT within 1 s, TBT
within 40 ms, and the throughput of six splits into prefill and decode instances. Utilizations and
SM activities are read off a figure. Beside the table, what it says of itself: nothing here
simulates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """One split: throughput at its highest rate inside the SLO, and what the GPUs showed."""

    prefill: int
    decode: int
    prefill_tps: float
    decode_tps: float
    prefill_utilization: float
    decode_utilization: float
    prefill_sm_activity: float
    decode_sm_activity: float

    @property
    def name(self) -> str:
        """Return what the paper calls the split."""
        return f"{self.prefill}P{self.decode}D"


ROWS = (
    Row(7, 9, 137_000, 21_000, 0.86, 0.93, 0.66, 0.60),
    Row(8, 8, 177_000, 25_500, 0.94, 0.94, 0.74, 0.63),
    Row(9, 7, 197_000, 26_700, 0.92, 0.94, 0.71, 0.64),
    Row(10, 6, 182_000, 26_400, 0.87, 0.94, 0.65, 0.67),
    Row(11, 5, 189_000, 26_300, 0.78, 0.93, 0.64, 0.68),
    Row(12, 4, 136_000, 20_300, 0.64, 0.94, 0.48, 0.69),
)
SPLITS = tuple((row.prefill, row.decode) for row in ROWS)
#: the split of highest throughput in the paper
BEST = (9, 7)

#: places on each axis of the search for a linear model, and its rounds, each half as wide
_PLACES, _ROUNDS = 41, 9


@dataclass(frozen=True, slots=True)
class LinearFit:
    """The model min(c · P, d · D) nearest to the twelve throughputs, by its largest error."""

    largest_error: float
    #: decode tokens/s that one instance of each role lets through
    prefill_carries_tps: float
    decode_carries_tps: float
    #: prefill ÷ decode tokens/s
    tokens_ratio: float


def cached_shares(input_tokens: float, output_tokens: float) -> Mapping[str, float]:
    """Return split → the share of prompt tokens that must be cached for its two throughputs."""
    return {
        row.name: 1.0 - row.prefill_tps / row.decode_tps * output_tokens / input_tokens
        for row in ROWS
    }


def nearest_linear(is_best_kept: bool) -> LinearFit:
    """Return the linear model of least largest error, by a grid that narrows.

    Args:
        is_best_kept: whether no split may carry more than the paper's best.
    """
    center, width = np.array([3000.0, 4800.0, 6.95]), np.array([0.25, 0.25, 0.15])
    least = math.inf
    for _ in range(_ROUNDS):
        axes = [
            middle * (1.0 + reach * np.linspace(-1.0, 1.0, _PLACES))
            for middle, reach in zip(center, width, strict=True)
        ]
        c, d, ratio = np.meshgrid(*axes, indexing="ij")
        errors = np.zeros_like(c)
        most = np.zeros_like(c)
        for row in ROWS:
            tps = np.minimum(c * row.prefill, d * row.decode)
            most = np.maximum(most, tps)
            for predicted, printed in ((tps, row.decode_tps), (tps * ratio, row.prefill_tps)):
                errors = np.maximum(errors, np.abs(predicted / printed - 1.0))
        if is_best_kept:
            of_best = np.minimum(c * BEST[0], d * BEST[1])
            errors[most > of_best * (1.0 + 1e-9)] = math.inf
        place = np.unravel_index(np.argmin(errors), errors.shape)
        if errors[place] < least:
            least = float(errors[place])
            center = np.array([c[place], d[place], ratio[place]])
        width = width / 2
    return LinearFit(least, *(float(value) for value in center))
