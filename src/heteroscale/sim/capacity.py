"""What one instance sustains on given requests: exact for prefill, at the SLO for decode."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from heteroscale.performance.model import StepCoefficients
from heteroscale.workload.arrivals import PS_PER_S

#: requests are packed in order; more than this many change the mean by less than 0.1 %
_SAMPLE = 50_000


def prefill_capacity_rps(
    speed: StepCoefficients,
    input_tokens: npt.NDArray[np.int32],
    token_budget: int,
    *,
    chunked: bool = False,
    cached_permille: int = 0,
) -> float:
    """Return the requests/s above which a backlogged instance's queue grows without end.

    It packs the requests in order as a backlogged instance does: into batches of at most
    `token_budget` tokens, a longer request alone; `chunked`: into batches of exactly so many.

    Args:
        speed: of the instance.
        input_tokens: of each request.
        token_budget: tokens that one batch computes.
        chunked: whether prompts are cut.
        cached_permille: the share of every prompt that is cached and not computed.
    """
    lengths = input_tokens[:_SAMPLE].tolist()
    time_ps = batch = 0
    for length in lengths:
        # At least one token is computed.
        cached = min(length * cached_permille // 1000, length - 1)
        computed = length - cached
        if chunked:
            # The terms of a prompt's chunks add up to those of the prompt.
            time_ps += speed.prefill_base_ps * ((batch + computed - 1) // token_budget)
            batch = (batch + computed - 1) % token_budget + 1
        elif batch and batch + computed > token_budget:
            time_ps += speed.prefill_base_ps
            batch = computed
        else:
            batch += computed
        time_ps += (
            speed.prefill_per_request_ps
            + speed.prefill_per_token_ps * computed
            + speed.prefill_per_token2_ps * (length * length - cached * cached)
        )
    time_ps += speed.prefill_base_ps
    return len(lengths) * PS_PER_S / time_ps


def decode_capacity_rps(
    speed: StepCoefficients,
    input_tokens: npt.NDArray[np.int32],
    output_tokens: npt.NDArray[np.int32],
    max_batch: int,
    step_ps: int,
) -> float:
    """Return the requests/s of one instance whose steps take at most `step_ps` on average.

    A request in a batch holds its input and, on average over its life, half its output; the
    longer it runs the likelier it is met, so means are weighted with the output's length.
    """
    inputs = input_tokens.astype(np.float64)
    steps = np.maximum(output_tokens.astype(np.float64) - 1.0, 0.0)
    mean_steps = float(steps.mean())
    if mean_steps == 0.0:
        return float("inf")
    held = float((steps * (inputs + steps / 2)).mean()) / mean_steps
    reserved = float((steps * (inputs + steps + 1)).mean()) / mean_steps
    batch, time_ps = _largest_batch(
        speed, held, min(float(max_batch), speed.kv_capacity_tokens / reserved), step_ps
    )
    return batch * PS_PER_S / time_ps / mean_steps


def _largest_batch(
    speed: StepCoefficients, held: float, limit: float, step_ps: int
) -> tuple[float, float]:
    """Return the largest batch before steps take longer than `step_ps`, and the time of its step.

    Args:
        held: KV tokens of each sequence, positive.
        limit: of the batch, for other reasons.
    """
    pieces = [
        (max(float(piece.from_sequences), piece.from_kv_tokens / held), piece)
        for piece in speed.all_decode_pieces
    ]
    starts = sorted({start for start, _ in pieces if start < limit})
    batch, time_ps = 0.0, float(speed.decode_base_ps)
    for start, end in itertools.pairwise([*starts, limit]):
        piece = [piece for begins, piece in pieces if begins <= start][-1]
        per_sequence_ps = piece.per_sequence_ps + piece.per_kv_token_ps * held
        fits = max(0.0, step_ps - piece.base_ps) / per_sequence_ps if per_sequence_ps else end
        if fits < start:
            break
        batch = min(end, fits)
        time_ps = piece.base_ps + per_sequence_ps * batch
        if batch < end:
            break
    return batch, time_ps
