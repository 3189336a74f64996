"""How long new instances take to start, and which of them never do.

An instance's fate depends on its service's seed and its own name alone: neither the order of the
draws nor what else happens in the run changes it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from heteroscale.config.scenario_sections import StartUpSection
from heteroscale.workload.arrivals import PS_PER_S

#: of every stream of random numbers drawn for start-ups, beside the run's seed
_STREAM = 0x57A7


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUp:
    """One instance's start-up."""

    length_ps: int
    #: it ends in failure, not in readiness
    fails: bool = False


#: (an instance's name within its service, how often it has started before) → its start-up
StartUps: TypeAlias = Callable[[str, int], StartUp]


def always(length_s: float) -> StartUps:
    """Return start-ups that all take the same time and succeed."""
    same = StartUp(length_ps=round(length_s * PS_PER_S))
    return lambda _name, _starts: same


def drawn(section: StartUpSection, seed: int) -> StartUps:
    """Return start-ups drawn per instance and start."""

    def draw(instance: str, starts: int) -> StartUp:
        name = int.from_bytes(hashlib.sha256(instance.encode()).digest()[:8], "big")
        chance = np.random.default_rng([seed, _STREAM, name, starts])
        # All draws are made for every instance, so that one share does not move another's.
        deviations = chance.standard_normal(3)
        fate, pace = chance.random(2)
        means_s = (section.image_pull_s, section.weights_s, section.warm_up_s)
        length_s = sum(
            mean_s * math.exp(section.spread * deviation - section.spread**2 / 2)
            for mean_s, deviation in zip(means_s, deviations.tolist(), strict=True)
        )
        if pace < section.slow_share:
            length_s *= section.slow_factor
        return StartUp(length_ps=round(length_s * PS_PER_S), fails=bool(fate < section.fail_share))

    return draw
