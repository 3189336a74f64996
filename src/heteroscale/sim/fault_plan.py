"""Random faults: a plan drawn from a seed, so that the same seed breaks the same things.

Faults come as Poisson processes of their own, at the rates below. They are far denser than any
fleet of this size sees: a run of an hour is to meet several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from heteroscale.config.fault_sections import FaultKind, FaultSection

#: of the plan's random numbers, beside the run's seed
_STREAM = 0x9A1D

#: kind → faults per hour
RATES_PER_HOUR: Mapping[FaultKind, float] = {
    FaultKind.INSTANCE_LOSS: 1.0,
    FaultKind.INSTANCE_RESTART: 0.5,
    FaultKind.NODE_LOSS: 0.5,
    FaultKind.SUBCLUSTER_UNREACHABLE: 0.4,
    FaultKind.SUBCLUSTER_LOSS: 0.1,
    FaultKind.METRICS_BLACKOUT: 0.5,
    FaultKind.ZERO_METRICS: 0.2,
    FaultKind.UNSENT_ACTIONS: 0.4,
    FaultKind.LATE_ACTIONS: 0.5,
    FaultKind.REPEATED_ACTIONS: 0.5,
    FaultKind.LOST_ACTIONS: 0.4,
    FaultKind.LOST_ANSWERS: 0.4,
    FaultKind.SLOW_STARTS: 0.3,
    FaultKind.CLOCK_JUMP: 0.3,
}
#: seconds, from and to, of everything that lasts
DURATION_S = (30.0, 900.0)
DELAY_S = (5.0, 180.0)
#: a clock jumps at most so far, back or forward
JUMP_S = 900.0
#: at most so many instances or nodes at once
COUNT = 3
FACTOR = (1.5, 6.0)


def random_faults(duration_s: float, seed: int) -> tuple[FaultSection, ...]:
    """Return the faults that a seed brings to a run of a given length, in order of time."""
    chance = np.random.default_rng([seed, _STREAM])
    plan: list[FaultSection] = []
    for kind, per_hour in RATES_PER_HOUR.items():
        count = int(chance.poisson(per_hour * duration_s / 3600.0))
        for at_s in sorted(chance.uniform(0.0, duration_s, count).tolist()):
            keys = {"at_s": round(at_s, 3), "kind": kind, **_drawn(kind, chance)}
            plan.append(FaultSection.model_validate(keys))
    return tuple(sorted(plan, key=lambda fault: (fault.at_s, fault.kind)))


def _drawn(kind: FaultKind, chance: np.random.Generator) -> dict[str, float]:
    """Return the keys of one fault beside its time and kind."""

    def between(limits: tuple[float, float]) -> float:
        return round(float(chance.uniform(limits[0], limits[1])), 3)

    lasting: dict[str, float] = {"duration_s": between(DURATION_S)}
    more: Mapping[FaultKind, Callable[[], dict[str, float]]] = {
        FaultKind.INSTANCE_LOSS: lambda: {"count": int(chance.integers(1, COUNT + 1))},
        FaultKind.INSTANCE_RESTART: lambda: {"count": int(chance.integers(1, COUNT + 1))},
        FaultKind.NODE_LOSS: lambda: {**lasting, "count": int(chance.integers(1, COUNT + 1))},
        FaultKind.LATE_ACTIONS: lambda: {**lasting, "delay_s": between(DELAY_S)},
        FaultKind.REPEATED_ACTIONS: lambda: {
            **lasting,
            "delay_s": 0.0 if chance.random() < 0.5 else between(DELAY_S),
        },
        FaultKind.SLOW_STARTS: lambda: {**lasting, "factor": between(FACTOR)},
        FaultKind.CLOCK_JUMP: lambda: {"by_s": between((-JUMP_S, JUMP_S))},
    }
    return more.get(kind, lambda: lasting)()
