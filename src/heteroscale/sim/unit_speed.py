"""How fast a prefill unit is: instances of several roles that compute each batch together.

The parts of a layer (attention, FFN) stand on instances of their own. A batch is cut into
micro-batches that go round between them, so that all compute at once: the unit's batch takes as
long as its slowest part, and one hand-over a layer on top. A part does its share of the whole
model's work, spread evenly over its instances; on one accelerator the slower part is the same for
every batch, and the formula exact. Where parts stand on different accelerators, each coefficient is
that of the part that is slower in it: a batch then takes at least as long as its slower part.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heteroscale.entities.service import RolePath
from heteroscale.performance.model import StepCoefficients

#: of a prefill batch; each is shared and compared by itself
_COEFFICIENTS = (
    "prefill_base_ps",
    "prefill_per_token_ps",
    "prefill_per_token2_ps",
    "prefill_per_request_ps",
    "prefill_host_ps",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How the roles inside a nested prefill role work together."""

    #: leaf role → capacity units in one unit, in written order; the first keeps the KV
    shares: Mapping[RolePath, int]
    #: leaf role → its share of the whole model's prefill work
    work: Mapping[RolePath, float]
    #: every layer's hand-overs of one batch together
    hand_over_ps: int
    #: tokens of a full batch, at which the parts' busy shares are told
    full_batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSpeed:
    """One unit's step times."""

    coefficients: StepCoefficients
    #: leaf role → share of the unit's batch time in which its instances compute
    busy: Mapping[RolePath, float]


def unit_speed(parts: Parts, members: Mapping[RolePath, Sequence[StepCoefficients]]) -> UnitSpeed:
    """Return how fast instances are together.

    Args:
        members: leaf role → step times of the whole model on each of its instances, at least one.
    """
    alone = {
        role: {name: _shared(name, work, members[role]) for name in _COEFFICIENTS}
        for role, work in parts.work.items()
    }
    slowest = {name: max(part[name] for part in alone.values()) for name in _COEFFICIENTS}
    slowest["prefill_base_ps"] += parts.hand_over_ps
    keepers = members[next(iter(parts.shares))]
    coefficients = dataclasses.replace(
        keepers[0],
        prefill_base_ps=slowest["prefill_base_ps"],
        prefill_per_token_ps=slowest["prefill_per_token_ps"],
        prefill_per_token2_ps=slowest["prefill_per_token2_ps"],
        prefill_per_request_ps=slowest["prefill_per_request_ps"],
        prefill_host_ps=slowest["prefill_host_ps"],
        kv_capacity_tokens=sum(one.kv_capacity_tokens for one in keepers),
    )
    whole_ps = _batch_ps(slowest, parts.full_batch)
    return UnitSpeed(
        coefficients=coefficients,
        busy={role: _batch_ps(part, parts.full_batch) / whole_ps for role, part in alone.items()},
    )


def _shared(name: str, work: float, instances: Sequence[StepCoefficients]) -> int:
    """Return a coefficient of a part: equal instances divide it, unequal ones by their speed."""
    times: list[int] = [getattr(one, name) for one in instances]
    if min(times) == 0:
        return 0
    return math.ceil(work / sum(1 / time for time in times))


def _batch_ps(part: Mapping[str, int], tokens: int) -> int:
    """Return how long a batch of one prompt takes."""
    return (
        part["prefill_base_ps"]
        + part["prefill_per_request_ps"]
        + part["prefill_per_token_ps"] * tokens
        + part["prefill_per_token2_ps"] * tokens * tokens
    )
