"""One service in simulated time: its requests, its engines, and what they measured.

It knows no other service: what happens here depends on its own traffic and instances alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from heteroscale.entities.snapshot import InstanceState
from heteroscale.entities.topology import DomainPath, Node
from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.ports import SimClock
from heteroscale.sim.rows import Row
from heteroscale.sim.sampling import RoleTime, Sample, role_times, take_sample
from heteroscale.sim.scrapes import InstanceSample
from heteroscale.sim.serving import AdvanceStatus, Serving
from heteroscale.sim.subcluster import Roster
from heteroscale.workload.arrivals import ArrivalSource

#: (role, accelerator) → step times of one instance
Speeds = Mapping[tuple[str, str], StepCoefficients]


class ServingEngines:
    """Starts, routes and stops the engines of one serving plane."""

    def __init__(self, serving: Serving, speeds: Speeds) -> None:
        self._serving = serving
        self._speeds = speeds
        self._domains: dict[DomainPath, int] = {}
        self._groups: dict[str, int] = {}

    def start(self, row: Row, node: Node, routed: bool) -> int:
        """Bring an engine up on a node and return its handle."""
        _, group, role, accelerator = row.key
        return self._serving.add_instance(
            role,
            self._speeds[role, accelerator],
            group=self._groups.setdefault(group, len(self._groups)),
            location=self._location(node),
            capacity=max(1, round(1000 * row.shape.capacity)),
            in_rotation=routed,
        )

    def route(self, engine: int, routed: bool) -> None:
        """Send new requests to an engine, or stop sending them."""
        self._serving.set_rotation(engine, routed)

    def stop(self, engine: int) -> None:
        """Take an engine away; what it still runs starts over elsewhere."""
        if self._serving.outstanding(engine):
            self._serving.fail(engine)
        else:
            self._serving.set_rotation(engine, False)
            self._serving.remove(engine)

    def requests(self, engine: int) -> int:
        """Return the requests an engine still owes something to."""
        return self._serving.outstanding(engine)

    def _location(self, node: Node) -> tuple[int, int, int, int, int]:
        """Number every domain on the way to a node; a path too short repeats its last domain."""
        path = (*node.domain, *((node.name,) * (5 - len(node.domain))))[:5]
        numbers = [
            self._domains.setdefault(path[: depth + 1], len(self._domains)) for depth in range(5)
        ]
        return (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4])


class SimService:
    """The serving plane of one service and its instances in every sub-cluster."""

    def __init__(
        self,
        *,
        name: str,
        clock: SimClock,
        serving: Serving,
        rosters: Sequence[Roster],
        arrivals: ArrivalSource,
        occupancy: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Take `occupancy`: role → accelerator → SM activity ÷ utilization."""
        self.name = name
        self.serving = serving
        self._clock = clock
        self._rosters = tuple(rosters)
        self._arrivals = arrivals
        self._occupancy = occupancy
        #: when the last request arrived, once the source has ended; None = there may be more
        self.last_arrival_ps: int | None = None

    def serve(self, until_ps: int) -> None:
        """Let everything up to and including `until_ps` happen to its requests."""
        while self.serving.advance(until_ps) is AdvanceStatus.NEEDS_ARRIVALS:
            chunk = next(self._arrivals, None)
            if chunk is None:
                self.serving.close_arrivals()
                self.last_arrival_ps = self.serving.now_ps
            else:
                self.serving.feed(chunk)

    def sample(self) -> Sample:
        """Return every counter as of now."""
        return take_sample(self.serving, self, self._clock.now_ps)

    def instance_samples(self) -> tuple[InstanceSample, ...]:
        """Return what every running engine would answer to a scrape now."""
        now_ps = self._clock.now_ps
        samples: list[InstanceSample] = []
        for row in self._rows():
            if row.engine < 0:
                continue
            counted = self.serving.instance_counters(row.engine)
            samples.append(
                InstanceSample(
                    at_ps=now_ps,
                    uid=row.uid,
                    role=row.key[2],
                    ready=row.state is InstanceState.READY,
                    tokens=counted.tokens,
                    busy_ps=counted.busy_ps,
                    occupancy=self._occupancy[row.key[2]][row.key[3]],
                    kv_reserved_tokens=counted.kv_reserved_tokens,
                    kv_capacity_tokens=counted.kv_capacity_tokens,
                )
            )
        return tuple(samples)

    def role_time(self, role: str, now_ps: int) -> RoleTime:
        """Return the summed wall time of a role's running engines, by accelerator occupancy."""
        occupancy = self._occupancy[role]
        up_ps = {
            accelerator: sum(
                roster.usage.up_ps(self.name, role, accelerator, now_ps) for roster in self._rosters
            )
            for accelerator in occupancy
        }
        return role_times(up_ps, occupancy)

    def gpu_ps(self) -> Mapping[str, int]:
        """Return accelerator → GPU × picoseconds asked for since the start of the run."""
        total: Counter[str] = Counter()
        for roster in self._rosters:
            total.update(roster.usage.gpu_ps(self.name, self._clock.now_ps))
        return dict(sorted(total.items()))

    def states(self) -> Mapping[str, Mapping[InstanceState, int]]:
        """Return role → state → instances now."""
        counts: dict[str, dict[InstanceState, int]] = {role: {} for role in self._occupancy}
        for row in self._rows():
            by_state = counts[row.key[2]]
            by_state[row.state] = by_state.get(row.state, 0) + 1
        return counts

    def _rows(self) -> Iterator[Row]:
        return (row for roster in self._rosters for row in roster.rows() if row.key[0] == self.name)
