"""How far tables and roofline are from Splitwise's measurements on DGX A100 and H100.

Source of the figures: splitwise-sim, data/perf_model.csv (Mutinifni/splitwise-sim, MIT), vLLM of
2023: means of five runs, prefill of one prompt, decode steps at prompts of 512 tokens.

- Table, leave one out: each figure is predicted from the other figures of its row. Nothing is free:
  the three coefficients of a step are what a table is.
- Roofline: five constants, the same for both accelerators and both models, are fitted to all
  figures at once. Free: share of FLOP/s, share of bandwidth, host time, all-reduce, time per
  sequence. The engine of 2023 spent far more host time than today's, so its constants are its own.
- Roofline, held out: the same constants fitted to Llama-2-70B alone, on Bloom-176B.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from heteroscale.performance.fit import non_negative_fit
from heteroscale.performance.models import GroupedAttention, ModelShape, WeightType
from heteroscale.performance.roofline import Efficiency, Roofline

TOKENS = (512, 1024, 2048, 4096, 8192)
BATCHES = (1, 8, 16, 32, 64)
#: KV tokens of each sequence of a decode step: the prompt and half of 128 output tokens
CONTEXT = 512 + 64

LLAMA_2_70B = ModelShape(
    name="llama-2-70b",
    parameters_total=68.98e9,
    parameters_active=68.71e9,
    layers=80,
    hidden=8192,
    vocabulary=32_000,
    attention=GroupedAttention(heads=64, kv_heads=8, head_dim=128),
    weights=WeightType.BF16,
)
BLOOM_176B = ModelShape(  # every head has its own KV; the head is the embedding
    name="bloom-176b",
    parameters_total=176.25e9,
    parameters_active=176.25e9,
    layers=70,
    hidden=14_336,
    vocabulary=250_880,
    attention=GroupedAttention(heads=112, kv_heads=112, head_dim=128),
    weights=WeightType.BF16,
)


@dataclass(frozen=True, slots=True)
class Row:
    """Measured times of one instance shape, ms; shorter than its axis where none were printed."""

    shape: ModelShape
    accelerator: str
    gpus: int
    prefill: tuple[float, ...] = ()
    decode: tuple[float, ...] = ()


ROWS = (
    Row(LLAMA_2_70B, "A100", 2, (196, 377, 688, 1485), (55.9,)),
    Row(LLAMA_2_70B, "A100", 4, (127, 227, 403, 965), (44.6,)),
    Row(LLAMA_2_70B, "A100", 8, (93, 155, 274, 661, 1550), (45.0, 46.5, 50.4, 53.0, 71.6)),
    Row(LLAMA_2_70B, "H100", 2, (84, 158, 310, 643), (37.3,)),
    Row(LLAMA_2_70B, "H100", 4, (60, 106, 201, 464), (29.5,)),
    Row(LLAMA_2_70B, "H100", 8, (54, 78, 137, 390, 845), (30.6, 32.5, 34.2, 38.6, 50.2)),
    Row(BLOOM_176B, "A100", 8, (174, 289, 540, 1348, 3593), (49.3, 53.0, 57.3, 65.4, 96.6)),
    Row(BLOOM_176B, "H100", 8, (76, 133, 253, 689, 1535), (36.2, 38.1, 40.6, 45.8, 63.8)),
)

#: free constant → from, to, in which a good one is looked for
RANGES: Mapping[str, tuple[float, float]] = {
    "compute": (0.2, 1.0),
    "weight_bandwidth": (0.3, 1.0),
    "host_s": (0.0, 0.05),
    "all_reduce_s": (0.0, 200e-6),
    "sequence_s": (0.0, 1e-3),
}
#: every range is tried in this many places, then again around the best one, halved each round
_PLACES, _ROUNDS = 17, 12


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured time and what was predicted for it."""

    row: Row
    stage: str
    #: tokens of the prompt, or sequences of the step
    size: int
    measured_ms: float
    predicted_ms: float
    #: whether other figures lie on both sides of it
    inside: bool = True

    @property
    def error(self) -> float:
        """Return predicted ÷ measured − 1."""
        return self.predicted_ms / self.measured_ms - 1.0


def check() -> Mapping[str, object]:
    """Print both comparisons and return their errors."""
    left_out = list(leave_one_out())
    efficiency = fitted_efficiency(ROWS)
    roofline = list(roofline_figures(efficiency, ROWS))
    llama = [row for row in ROWS if row.shape is LLAMA_2_70B]
    bloom = [row for row in ROWS if row.shape is BLOOM_176B]
    held_out = list(roofline_figures(fitted_efficiency(llama), bloom))
    _print("table, leave one out", left_out)
    _print("roofline", roofline)
    _print("roofline of constants fitted to Llama-2-70B", held_out)
    constants = {name: float(f"{getattr(efficiency, name):.3g}") for name in RANGES}
    print("roofline constants:", ", ".join(f"{key} {value:g}" for key, value in constants.items()))
    summary: dict[str, object] = {
        "figures": len(roofline),
        "table_left_out_figures": len(left_out),
        "table_left_out_median_error": _median(left_out),
        "table_left_out_prefill_median_error": _median(_of(left_out, "prefill")),
        "table_left_out_decode_median_error": _median(_of(left_out, "decode")),
        "table_left_out_inside_median_error": _median([one for one in left_out if one.inside]),
        "roofline_median_error": _median(roofline),
        "roofline_prefill_median_error": _median(_of(roofline, "prefill")),
        "roofline_decode_median_error": _median(_of(roofline, "decode")),
        "roofline_max_error": round(max(abs(one.error) for one in roofline), 4),
        "roofline_held_out_median_error": _median(held_out),
        "roofline_constants": constants,
    }
    passed = _median(left_out) <= 0.07 and _median(roofline) <= 0.20
    return {**summary, "passed": passed}


def leave_one_out() -> Iterator[Figure]:
    """Yield each figure of a row long enough, predicted from the row's others."""
    for row in ROWS:
        for stage, axis, times in _stages(row):
            for left, (size, ms) in enumerate(zip(axis, times, strict=False)):
                others = [place for place in range(len(times)) if place != left]
                if len(others) < 3:
                    break
                factors = [_factors(stage, axis[place]) for place in others]
                fitted = non_negative_fit(factors, [times[place] for place in others])
                yield Figure(
                    row,
                    stage,
                    size,
                    ms,
                    _dot(_factors(stage, size), fitted),
                    0 < left < len(others),
                )


def fitted_efficiency(rows: Sequence[Row]) -> Efficiency:
    """Return the constants with the least sum of absolute errors, by a search that halves."""
    best = {name: (low + high) / 2 for name, (low, high) in RANGES.items()}
    least = _loss(best, rows)
    widths = {name: high - low for name, (low, high) in RANGES.items()}
    for _ in range(_ROUNDS):
        for name, (low, high) in RANGES.items():
            middle, width = best[name], widths[name]
            for place in range(_PLACES):
                value = middle + width * (place / (_PLACES - 1) - 0.5)
                trial = {**best, name: min(high, max(low, value))}
                loss = _loss(trial, rows)
                if loss < least:
                    best, least = trial, loss
            widths[name] = width * 0.7
    return dataclasses.replace(Efficiency(), **best)


def roofline_figures(efficiency: Efficiency, rows: Sequence[Row]) -> Iterator[Figure]:
    """Yield each figure with what the roofline says."""
    for row in rows:
        model = Roofline(shape=row.shape, efficiency=efficiency)
        c = model.coefficients(row.accelerator, row.gpus)
        prefill = (c.prefill_base_ps, c.prefill_per_token_ps, c.prefill_per_token2_ps)
        decode = (c.decode_base_ps, c.decode_per_sequence_ps, c.decode_per_kv_token_ps)
        for stage, axis, times in _stages(row):
            coefficients = prefill if stage == "prefill" else decode
            for size, ms in zip(axis, times, strict=False):
                yield Figure(row, stage, size, ms, _dot(_factors(stage, size), coefficients) / 1e9)


def _loss(constants: Mapping[str, float], rows: Sequence[Row]) -> float:
    efficiency = dataclasses.replace(Efficiency(), **constants)
    return sum(abs(figure.error) for figure in roofline_figures(efficiency, rows))


def _stages(row: Row) -> Iterator[tuple[str, tuple[int, ...], tuple[float, ...]]]:
    yield "prefill", TOKENS, row.prefill
    yield "decode", BATCHES, row.decode


def _factors(stage: str, size: int) -> tuple[float, float, float]:
    return (1.0, size, size * (size if stage == "prefill" else CONTEXT))


def _dot(factors: tuple[float, ...], coefficients: tuple[float, ...]) -> float:
    return sum(f * c for f, c in zip(factors, coefficients, strict=True))


def _of(figures: list[Figure], stage: str) -> list[Figure]:
    return [figure for figure in figures if figure.stage == stage]


def _median(figures: list[Figure]) -> float:
    return round(statistics.median(abs(figure.error) for figure in figures), 4)


def _print(title: str, figures: list[Figure]) -> None:
    print(f"{title}: predicted ms (error) at each prompt length, then each batch")
    starts = [
        0,
        *(place for place, (one, two) in enumerate(pairwise(figures), 1) if _new(one, two)),
    ]
    for start, end in pairwise([*starts, len(figures)]):
        first = figures[start]
        shape = f"{first.row.shape.name} {first.row.gpus} x {first.row.accelerator}"
        cells = "  ".join(
            f"{one.size}: {one.predicted_ms:.0f} ({one.error:+.0%})" for one in figures[start:end]
        )
        print(f"  {shape:18} {first.stage:8} {cells}")


def _new(one: Figure, two: Figure) -> bool:
    return (one.row, one.stage) != (two.row, two.stage)
