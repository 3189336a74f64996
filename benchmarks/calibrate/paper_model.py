"""The services of the paper's pressure test in our simulator: assumed, fitted, and where it stands.

The model that the paper served is not known. Ours is one of public shape that 8 H20 hold, with the
roofline's own constants but for those in `paper_model.json`, which `--fit` writes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.calibrate.pressure_test import Effort, Engine, Point, Workload, pressure_test
from benchmarks.calibrate.printed import SPLITS
from heteroscale.performance.models import model_shape
from heteroscale.performance.roofline import Efficiency, Roofline

FILE = Path(__file__).with_name("paper_model.json")
MODEL, ACCELERATOR, GPUS = "qwen3-235b-a22b", "H20", 8
PREFILL_TOKEN_BUDGET = 8192
#: sequences of a decode step; the sweep fixes it only together with `bandwidth`
DECODE_MAX_BATCH = 96
#: lognormal sigma of prompts and answers
SPREAD = 0.6
QUANTILE = 0.90
#: near which a search for a rate begins
_GUESS_RPS = {"A": 75.0, "B": 16.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What is fitted."""

    #: share of the FLOP/s that prefill reaches
    compute: float
    #: share of the memory bandwidth that a decode step reaches, reading weights and KV
    bandwidth: float
    prefill_batch_s: float
    cached_share: float
    prefill_occupancy: float
    decode_occupancy: float


#: constant → the least and the most that is plausible; a fit stays inside
RANGES: Mapping[str, tuple[float, float]] = {
    "compute": (0.4, 0.9),
    "bandwidth": (0.4, 0.9),
    "prefill_batch_s": (0.0, 0.026),
    "cached_share": (0.14, 0.20),
    "prefill_occupancy": (0.5, 1.0),
    "decode_occupancy": (0.5, 1.0),
}


def shipped() -> Mapping[str, Constants]:
    """Return fit → its constants."""
    fits = json.loads(FILE.read_text(encoding="utf-8"))["fits"]
    return {name: Constants(**values) for name, values in fits.items()}


def efficiency(constants: Constants) -> Efficiency:
    """Return the roofline's constants with the fitted ones."""
    return dataclasses.replace(
        Efficiency(),
        compute=constants.compute,
        weight_bandwidth=constants.bandwidth,
        kv_bandwidth=constants.bandwidth,
        prefill_batch_s=constants.prefill_batch_s,
        prefill_occupancy=constants.prefill_occupancy,
        decode_occupancy=constants.decode_occupancy,
    )


def engine(constants: Constants) -> Engine:
    """Return one instance."""
    roofline = Roofline(shape=model_shape(MODEL), efficiency=efficiency(constants))
    return Engine(
        speed=roofline.coefficients(ACCELERATOR, GPUS),
        prefill_token_budget=PREFILL_TOKEN_BUDGET,
        decode_max_batch=DECODE_MAX_BATCH,
    )


def service_a(constants: Constants) -> Workload:
    """Return the service whose six splits the paper prints."""
    return Workload(
        input_tokens=3000,
        output_tokens=350,
        spread=SPREAD,
        cached_share=constants.cached_share,
        slo_ttft_s=1.0,
        slo_tbt_s=0.040,
    )


def service_b(spread: float) -> Workload:
    """Return the paper's second service; nothing is fitted on it."""
    return Workload(
        input_tokens=7800,
        output_tokens=700,
        spread=spread,
        cached_share=0.05,
        slo_ttft_s=1.0,
        slo_tbt_s=0.020,
    )


def sweep_a(constants: Constants, effort: Effort) -> Sequence[Point]:
    """Return what each split of service A carries."""
    return _sweep(constants, service_a(constants), effort, _GUESS_RPS["A"])


def sweep_b(constants: Constants, spread: float, effort: Effort) -> Sequence[Point]:
    """Return what each split of service B carries."""
    return _sweep(constants, service_b(spread), effort, _GUESS_RPS["B"])


def _sweep(
    constants: Constants, workload: Workload, effort: Effort, guess_rps: float
) -> Sequence[Point]:
    one = engine(constants)
    return [pressure_test(one, workload, split, effort, guess_rps) for split in SPLITS]
