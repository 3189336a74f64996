"""What other simulators did on the same work, measured once, on two cores of an AMD EPYC.

The work: Azure 2023 conversation, 19,366 requests, 25 prefill + 15 decode instances, at its native
5.53 requests/s and at 70. Each used its own cost model, so only speeds can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One simulator's speed; None = was not run, or did not come to an end."""

    name: str
    version: str
    native_rps: float | None
    at_70_rps: float | None
    remark: str


OTHERS = (
    Recorded(
        name="NVIDIA offline replay (DynoSim)",
        version="ai-dynamo 1.6.1",
        native_rps=3_060,
        at_70_rps=7_900,
        remark="its default polynomial; quiet machine",
    ),
    Recorded(
        name="splitwise-sim",
        version="Mutinifni/splitwise-sim 8f99e7d",
        native_rps=2_035,
        at_70_rps=309,
        remark="",
    ),
    Recorded(
        name="Vidur",
        version="microsoft/vidur 7d47513",
        native_rps=55,
        at_70_rps=228,
        remark="40 co-located replicas: it has no P/D",
    ),
    Recorded(
        name="BLIS",
        version="inference-sim/inference-sim f90a1e3",
        native_rps=50,
        at_70_rps=None,
        remark="first 2,000 requests; 26/s over 4,000",
    ),
    Recorded(
        name="Frontier",
        version="NetX-lab/Frontier a4b22df",
        native_rps=None,
        at_70_rps=0.7,
        remark="100 requests at 20/s on 8P+8D",
    ),
)
