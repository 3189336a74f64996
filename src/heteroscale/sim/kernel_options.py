"""How a serving plane serves where there is a choice: names for Python, numbers for the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Routing(Enum):
    """Which instance of its group a request goes to, in prefill and in decode alike."""

    #: the least assigned tokens per weight; ties to the lower handle
    LEAST_LOADED = "least_loaded"
    #: one after the other, by handle, whatever their weight
    ROUND_ROBIN = "round_robin"
    #: the less loaded of two that a hash of seed and request number picks
    POWER_OF_TWO = "power_of_two"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """Choices with a default that suits most planes."""

    routing: Routing = Routing.LEAST_LOADED
    #: of the picks of POWER_OF_TWO, ≥ 0; its lowest 32 bits count
    seed: int = 0
