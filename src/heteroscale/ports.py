"""Seams to everything outside: time, metrics, sub-clusters, memory. Synchronous and batched.

Watches, retries, rate limits and concurrency live inside adapters; only `loop.py` calls these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from heteroscale.entities.action import Action, Outcome
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import Observation, Reading
from heteroscale.entities.state import FleetState


class Clock(Protocol):
    """The only source of time."""

    def now_s(self) -> float:
        """Return epoch seconds."""
        ...

    def utc_offset_s(self, timezone: str, at_s: float) -> int:
        """Return how many seconds east of UTC an IANA zone is at that instant."""
        ...


class MetricsSource(Protocol):
    """Signals of every service in a fixed number of queries."""

    def read(self, fleet: FleetSpec, now_s: float) -> Mapping[str, tuple[Reading, ...]]:
        """Return service → readings; a service or signal that is absent is unknown, not zero.

        Raises:
            MetricsUnavailable: nothing could be read at all.
        """
        ...


class Subcluster(Protocol):
    """One Kubernetes cluster, or its simulated twin."""

    @property
    def name(self) -> str:
        """Return the sub-cluster's name, unique in the fleet."""
        ...

    def observe(self) -> Observation:
        """Return the adapter's cache with its age.

        Raises:
            SubclusterUnavailable: there has never been anything in the cache.
        """
        ...

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        """Carry out the tick's batch and return one outcome per action, in order.

        What has no answer by `deadline_s` (epoch seconds) is `unknown`; nothing is retried.

        Raises:
            SubclusterUnavailable: nothing was sent.
        """
        ...


class Store(Protocol):
    """The memory of the planner between ticks and across restarts."""

    def load(self) -> FleetState:
        """Return the last saved state, empty when there is none."""
        ...

    def save(self, state: FleetState, acting: frozenset[str]) -> None:
        """Keep the state; return only once the acting services' part survives a crash.

        The rest may be checkpointed later.
        """
        ...
