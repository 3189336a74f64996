"""What every strategy is given: one service at one instant, its signals judged, supply counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from heteroscale.entities.service import RolePath, ServiceSpec
from heteroscale.entities.snapshot import Signal
from heteroscale.entities.state import ServiceState
from heteroscale.policy.period import Period
from heteroscale.policy.signal import Latency, Signals
from heteroscale.policy.supply import Tally


class Situation(NamedTuple):
    """One service as the strategies see it. Capacity is in units of the anchor role."""

    spec: ServiceSpec
    state: ServiceState
    now_s: float
    signals: Signals
    #: TTFT and TBT → the worst of each over the roles that report it
    latencies: Mapping[Signal, Latency]
    tally: Tally
    #: leaf role → capacity that "no change" means: the supply, or with none ready what was asked
    held: Mapping[RolePath, float]
    #: that of the anchor
    base: float
    #: top-level role → share in force
    ratio: Mapping[RolePath, int]
    #: leaf role → instances in one unit of the group, by that ratio
    weights: Mapping[RolePath, int]
    #: what the schedules say now
    period: Period
