"""Step times from measurements: a table for each (accelerator, model, parallelism).

A table answers with the coefficients that fit its cleaned figures best, in the least squares of
relative errors. What it does not hold it does not guess: an instance shape without a table is an
error, and so are batches beyond the largest measured one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from heteroscale.errors import ConfigError, Problem
from heteroscale.performance.fit import (
    DecodeFit,
    DecodePoint,
    FitError,
    decode_fit,
    fit_error,
    monotone,
    monotone_decode,
    non_negative_fit,
)
from heteroscale.performance.model import DecodePiece, StepCoefficients
from heteroscale.performance.roofline import Efficiency, Roofline

_PS_PER_MS = 10**9
_PS_PER_S = 10**12


class Clock(StrEnum):
    """What the times of a table include."""

    #: GPU time of the kernels alone: the host's share is added
    KERNELS = "kernels"
    #: from step to step of a whole engine: the host's share is inside
    ENGINE = "engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where figures come from."""

    name: str
    version: str
    licence: str
    notes: str = ""


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Measured times of one instance shape."""

    model: str
    accelerator: str
    gpus: int
    #: e.g. "tp4"; for the reader
    parallelism: str
    source: Source
    clock: Clock
    kv_bytes_per_token: int
    kv_capacity_tokens: int
    #: (tokens of one prompt, ms), tokens rising
    prefill: tuple[tuple[float, float], ...]
    decode: tuple[DecodePoint, ...]

    @property
    def max_prompt_tokens(self) -> float:
        """Return the longest measured prompt."""
        return self.prefill[-1][0]

    @property
    def max_batch(self) -> float:
        """Return the most sequences of a measured decode step."""
        return max(point.batch for point in self.decode)

    @cached_property
    def prefill_ms(self) -> tuple[float, ...]:
        """Return base, per token and per token², in ms, of the cleaned times."""
        tokens = [float(tokens) for tokens, _ in self.prefill]
        return non_negative_fit(
            [(1.0, count, count * count) for count in tokens],
            monotone([ms for _, ms in self.prefill]),
        )

    @cached_property
    def decode_fit(self) -> DecodeFit:
        """Return the fit of the cleaned times."""
        return decode_fit(monotone_decode(self.decode))

    def prefill_time_ms(self, tokens: float) -> float:
        """Return the fitted time of one prompt."""
        base, linear, square = self.prefill_ms
        return base + linear * tokens + square * tokens * tokens

    def decode_time_ms(self, batch: float, context: float) -> float:
        """Return the fitted time of one step."""
        return self.decode_fit.step_ms(batch, context)

    @property
    def prefill_error(self) -> FitError:
        """Return how far the fit is from the figures as measured, not as cleaned."""
        return fit_error(
            [self.prefill_time_ms(tokens) for tokens, _ in self.prefill],
            [ms for _, ms in self.prefill],
        )

    @property
    def decode_error(self) -> FitError:
        """Return how far the fit is from the figures as measured, not as cleaned."""
        return fit_error(
            [self.decode_time_ms(point.batch, point.context) for point in self.decode],
            [point.ms for point in self.decode],
        )

    def coefficients(self, efficiency: Efficiency) -> StepCoefficients:
        """Return the step times; of `efficiency` only what a GPU's clock does not show counts."""
        host_ps = round(efficiency.host_s * _PS_PER_S)
        sequence_ps = round(efficiency.sequence_s * _PS_PER_S)
        prefill = [round(ms * _PS_PER_MS) for ms in self.prefill_ms]
        fit = self.decode_fit
        decode = [
            round(ms * _PS_PER_MS)
            for ms in (fit.base, fit.per_sequence, fit.per_kv_token, fit.per_sequence_beyond)
        ]
        if self.clock is Clock.KERNELS:
            prefill[0] += host_ps
            decode[0] += host_ps
            decode[1] += sequence_ps
            decode[3] += sequence_ps
        host_of_step_ps = min(host_ps, decode[0])
        return StepCoefficients(
            hidden_tokens=(decode[0] - host_of_step_ps) // max(1, prefill[1]),
            hidden_per_token_ps=round(prefill[1] * efficiency.mixed_overlap),
            prefill_base_ps=prefill[0],
            prefill_per_token_ps=prefill[1],
            prefill_per_token2_ps=prefill[2],
            decode_base_ps=decode[0],
            decode_per_sequence_ps=decode[1],
            decode_per_kv_token_ps=decode[2],
            decode_pieces=_beyond_bend(fit.bend, decode),
            prefill_host_ps=min(host_ps, prefill[0]),
            decode_host_ps=host_of_step_ps,
            kv_capacity_tokens=self.kv_capacity_tokens,
            kv_bytes_per_token=self.kv_bytes_per_token,
            prefill_occupancy=efficiency.prefill_occupancy,
            decode_occupancy=efficiency.decode_occupancy,
        )


def _beyond_bend(bend: int | None, decode: Sequence[int]) -> tuple[DecodePiece, ...]:
    """Return the piece that begins at a bend, where both lines give the same to the picosecond.

    Args:
        decode: base, per sequence, per KV token, and per sequence beyond the bend, ps.
    """
    if bend is None:
        return ()
    base_ps, per_sequence_ps, per_kv_token_ps, beyond_ps = decode
    piece = DecodePiece(
        from_sequences=bend,
        base_ps=base_ps + (per_sequence_ps - beyond_ps) * bend,
        per_sequence_ps=beyond_ps,
        per_kv_token_ps=per_kv_token_ps,
    )
    return (piece,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The largest batches that will be asked for."""

    #: None = no limit is known, so none is checked
    prefill_tokens: int | None = None
    decode_sequences: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableModel:
    """PerformanceModel of one model on the instance shapes that have a table."""

    #: where the choice was written, for errors: `model.table`
    path: str
    #: (accelerator, GPUs) → table
    tables: Mapping[tuple[str, int], LatencyTable]
    #: only what a GPU's clock does not show is read of it
    efficiency: Efficiency
    demand: Demand = Demand()
    #: answers for accelerators that no public source covers; None = nothing does
    estimate: Roofline | None = None
    estimated: tuple[str, ...] = ()

    def coefficients(self, accelerator: str, gpus: int) -> StepCoefficients:
        """Return the step times of an instance of `gpus` GPUs of one accelerator type.

        Raises:
            ConfigError: there is no table for it, or larger batches are wanted than it holds.
        """
        table = self.tables.get((accelerator, gpus))
        if table is None:
            if self.estimate is not None and accelerator in self.estimated:
                return self.estimate.coefficients(accelerator, gpus)
            raise ConfigError([self._missing(accelerator, gpus)])
        problems = [
            Problem(path=path, rule=self._beyond(table, largest, what), value=wanted)
            for path, what, wanted, largest in (
                (
                    "serving.prefill_token_budget",
                    "tokens",
                    self.demand.prefill_tokens,
                    table.max_prompt_tokens,
                ),
                (
                    "serving.decode_max_batch",
                    "sequences",
                    self.demand.decode_sequences,
                    table.max_batch,
                ),
            )
            if wanted is not None and wanted > largest
        ]
        if problems:
            raise ConfigError(problems)
        return table.coefficients(self.efficiency)

    def _missing(self, accelerator: str, gpus: int) -> Problem:
        shapes = [f"{count} x {kind}" for kind, count in sorted(self.tables)]
        rule = f"must have a table for each instance; there are {', '.join(shapes)}"
        if self.estimate is not None and self.estimated:
            rule += f" (and any count of {', '.join(self.estimated)}, estimated)"
        return Problem(path=self.path, rule=rule, value=f"{gpus} x {accelerator}")

    @staticmethod
    def _beyond(table: LatencyTable, largest: float, what: str) -> str:
        shape = f"{table.gpus} x {table.accelerator}"
        return f"must be <= {largest:g}, the most {what} measured of {table.model} on {shape}"
