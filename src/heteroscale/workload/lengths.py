"""Distributions of token counts: a lognormal, quantiles as published, or a sample of real ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

#: 128 Ki tokens: the context window of the models in the reference set.
MAX_LENGTH_TOKENS = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormalLengths:
    """exp(Normal(mu, sigma)), rounded and clipped to [1, max_tokens]."""

    mu: float
    sigma: float
    max_tokens: int = MAX_LENGTH_TOKENS

    @classmethod
    def with_mean(
        cls, mean_tokens: float, sigma: float, max_tokens: int = MAX_LENGTH_TOKENS
    ) -> LogNormalLengths:
        """Return the lognormal of that mean before clipping."""
        return cls(mu=math.log(mean_tokens) - sigma**2 / 2, sigma=sigma, max_tokens=max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileLengths:
    """Lengths whose logarithm is linear between known quantiles."""

    #: rising from 0.0 (the minimum) to 1.0 (the maximum)
    probabilities: tuple[float, ...]
    #: tokens at those probabilities, never falling, ≥ 1
    tokens: tuple[float, ...]

    @property
    def max_tokens(self) -> int:
        """Return the largest length."""
        return int(self.tokens[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmpiricalLengths:
    """Lengths drawn again, with replacement, from those of a real trace."""

    #: at least one, each ≥ 1
    tokens: npt.NDArray[np.int32]

    @property
    def max_tokens(self) -> int:
        """Return the largest length."""
        return int(self.tokens.max())


Lengths: TypeAlias = LogNormalLengths | QuantileLengths | EmpiricalLengths


def sample_lengths(
    lengths: Lengths,
    rng: np.random.Generator,
    count: int,
    scale: npt.NDArray[np.float64] | float = 1.0,
) -> npt.NDArray[np.int32]:
    """Return `count` lengths, each multiplied by its scale before it is rounded and clipped."""
    if isinstance(lengths, EmpiricalLengths):
        drawn: npt.NDArray[np.int32] = lengths.tokens[rng.integers(len(lengths.tokens), size=count)]
        if np.all(scale == 1.0):
            return drawn
        scaled: npt.NDArray[np.float64] = np.rint(drawn * scale)
        return np.clip(scaled, 1, lengths.max_tokens, out=scaled).astype(np.int32)
    if isinstance(lengths, LogNormalLengths):
        logs = rng.standard_normal(count)
        logs *= lengths.sigma
        logs += lengths.mu
    else:
        logs = np.interp(rng.random(count), lengths.probabilities, np.log(lengths.tokens))
    real = np.exp(logs, out=logs)
    real *= scale
    return np.clip(np.rint(real, out=real), 1, lengths.max_tokens, out=real).astype(np.int32)
