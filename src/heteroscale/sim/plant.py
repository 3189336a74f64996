"""Every service and every sub-cluster, moved through time together.

The only place that moves simulated time. It decides nothing and asks no policy: between two
instants it lets requests arrive and start-ups end, in order.
"""

from __future__ import annotations

from collections.abc import Sequence

from heteroscale.sim.ports import SimClock
from heteroscale.sim.service import SimService
from heteroscale.sim.subcluster import Roster


class Plant:
    """The simulated fleet."""

    def __init__(
        self, clock: SimClock, services: Sequence[SimService], rosters: Sequence[Roster]
    ) -> None:
        """Take every service and the sub-clusters they share."""
        #: by name, in the order given
        self.services = {service.name: service for service in services}
        self.rosters = tuple(rosters)
        self._clock = clock

    @property
    def last_arrival_ps(self) -> int | None:
        """When the last request of all arrived; None = there may be more."""
        last_ps = 0
        for service in self.services.values():
            if service.last_arrival_ps is None:
                return None
            last_ps = max(last_ps, service.last_arrival_ps)
        return last_ps

    def advance(self, until_ps: int) -> None:
        """Let everything up to and including `until_ps` happen; then start-ups end."""
        while True:
            due = [due_ps for roster in self.rosters if (due_ps := roster.due_ps()) is not None]
            stop_ps = min([until_ps, *due])
            for service in self.services.values():
                service.serve(stop_ps)
            self._clock.now_ps = stop_ps
            for roster in self.rosters:
                roster.advance(stop_ps)
            if stop_ps == until_ps:
                return
