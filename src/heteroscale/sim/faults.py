"""Makes planned faults happen in a run, each at its instant, and notes what it did.

What a fault strikes is drawn from the run's seed when it strikes, among what is there then.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from heteroscale.config.fault_sections import ACTION_FAULTS, FaultKind, FaultSection
from heteroscale.entities.snapshot import InstanceState
from heteroscale.ports import MetricsSource, Subcluster
from heteroscale.sim.fault_link import Link, ZeroedMetrics
from heteroscale.sim.ports import SimClock
from heteroscale.sim.result import FaultNote
from heteroscale.sim.rows import UP_STATES, Row
from heteroscale.sim.subcluster import Roster
from heteroscale.workload.arrivals import PS_PER_S

#: of every random number drawn when a fault strikes, beside the run's seed
_STREAM = 0xFA17
#: states in which an instance can fail
_MORTAL = UP_STATES | {InstanceState.STARTING}


class Faults:
    """The faults of one run; used once."""

    def __init__(
        self,
        plan: Sequence[FaultSection],
        seed: int,
        clock: SimClock,
        rosters: Sequence[Roster],
    ) -> None:
        """Take what shall go wrong, and where."""
        self._clock = clock
        self._rosters = {roster.name: roster for roster in rosters}
        self._chance = np.random.default_rng([seed, _STREAM])
        self._links: dict[str, Link] = {}
        self._metrics: ZeroedMetrics | None = None
        self._blackouts = 0
        #: (sub-cluster, node index) → faults that keep it down
        self._down: Counter[tuple[str, int]] = Counter()
        self._slow: list[tuple[str, float]] = []
        self._notes: list[FaultNote] = []
        self._order = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        for fault in plan:
            self._at(round(fault.at_s * PS_PER_S), self._beginning(fault))

    # --- between the loop and the world --------------------------------------------------------

    def link(self, subcluster: Subcluster) -> Subcluster:
        """Return a sub-cluster behind a way that may fail."""
        link = Link(subcluster, self._later)
        self._links[subcluster.name] = link
        return link

    def metrics(self, true: MetricsSource) -> MetricsSource:
        """Return metrics that may read 0."""
        self._metrics = ZeroedMetrics(true)
        return self._metrics

    # --- time ----------------------------------------------------------------------------------

    @property
    def blackout(self) -> bool:
        """Whether scrapes fail now."""
        return self._blackouts > 0

    @property
    def notes(self) -> tuple[FaultNote, ...]:
        """What has happened so far, in order."""
        return tuple(self._notes)

    def next_ps(self) -> int | None:
        """Return when something is due next; None = never again."""
        return self._due[0][0] if self._due else None

    def strike(self, now_ps: int) -> None:
        """Make everything happen that is due, in the order planned."""
        while self._due and self._due[0][0] <= now_ps:
            heapq.heappop(self._due)[2]()

    def _at(self, at_ps: int, happen: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at_ps, self._order, happen))
        self._order += 1

    def _later(self, delay_s: float, happen: Callable[[], None]) -> None:
        self._at(self._clock.now_ps + round(delay_s * PS_PER_S), happen)

    # --- faults --------------------------------------------------------------------------------

    def _beginning(self, fault: FaultSection) -> Callable[[], None]:
        return lambda: self._begin(fault)

    def _begin(self, fault: FaultSection) -> None:
        """Let a fault begin, note it, and plan its end."""
        where = fault.subcluster or self._drawn_subcluster()
        match fault.kind:
            case FaultKind.INSTANCE_LOSS | FaultKind.INSTANCE_RESTART:
                self._note(fault, self._strike_instances(fault))
            case FaultKind.NODE_LOSS:
                self._lose_nodes(fault, where, self._drawn_nodes(fault, where))
            case FaultKind.SUBCLUSTER_UNREACHABLE:
                self._cut(fault, where)
                self._note(fault, (where,))
            case FaultKind.SUBCLUSTER_LOSS:
                self._cut(fault, where)
                self._lose_nodes(fault, where, range(len(self._rosters[where].pool.nodes)))
            case FaultKind.METRICS_BLACKOUT:
                self._black_out(fault)
            case FaultKind.ZERO_METRICS:
                self._zero(fault)
            case FaultKind.SLOW_STARTS:
                self._slow_down(fault, where)
            case FaultKind.CLOCK_JUMP:
                self._clock.ahead_ps += round(fault.by_s * PS_PER_S)
                self._note(fault, ())
            case kind:
                assert kind in ACTION_FAULTS
                self._fail_actions(fault, where)

    def _note(self, fault: FaultSection, struck: Sequence[str]) -> None:
        self._notes.append(
            FaultNote(
                at_s=self._clock.now_ps / PS_PER_S,
                kind=fault.kind.value,
                until_s=fault.at_s + fault.duration_s if fault.duration_s else None,
                struck=tuple(struck),
            )
        )

    def _ends(self, fault: FaultSection, end: Callable[[], None]) -> None:
        self._at(round((fault.at_s + fault.duration_s) * PS_PER_S), end)

    def _drawn_subcluster(self) -> str:
        names = sorted(self._rosters)
        return names[int(self._chance.integers(len(names)))]

    def _strike_instances(self, fault: FaultSection) -> tuple[str, ...]:
        """Let drawn instances fail or start again; fewer where there are no more."""
        restart = fault.kind is FaultKind.INSTANCE_RESTART
        states = UP_STATES if restart else _MORTAL
        candidates: list[tuple[str, Roster, Row]] = sorted(
            (
                (row.uid, roster, row)
                for roster in self._rosters.values()
                for row in roster.rows()
                if row.state in states
                and fault.subcluster in (None, roster.name)
                and fault.service in (None, row.key[0])
                and fault.role in (None, row.key[2])
            ),
            key=lambda each: each[0],
        )
        chosen = self._chance.permutation(len(candidates))[: fault.count]
        struck = [candidates[index] for index in sorted(chosen.tolist())]
        for _, roster, row in struck:
            if restart:
                roster.restart(row, self._clock.now_ps)
            else:
                roster.lose(row, self._clock.now_ps)
        return tuple(uid for uid, _, _ in struck)

    def _drawn_nodes(self, fault: FaultSection, where: str) -> list[int]:
        """Return the nodes to lose: those in use first, for the others would hardly be missed."""
        roster = self._rosters[where]
        order: list[int] = self._chance.permutation(len(roster.pool.nodes)).tolist()
        used = {index for row in roster.rows() for index in row.nodes}
        return sorted(order, key=lambda index: index not in used)[: fault.count]

    def _lose_nodes(self, fault: FaultSection, where: str, indices: Sequence[int]) -> None:
        roster = self._rosters[where]
        for index in indices:
            self._down[where, index] += 1
            roster.set_health(index, False, self._clock.now_ps)
        whole = fault.kind is FaultKind.SUBCLUSTER_LOSS
        names = (where,) if whole else [roster.pool.node(index).name for index in indices]
        self._note(fault, names)

        def recover() -> None:
            for index in indices:
                self._down[where, index] -= 1
                if not self._down[where, index]:
                    roster.set_health(index, True, self._clock.now_ps)

        self._ends(fault, recover)

    def _cut(self, fault: FaultSection, where: str) -> None:
        link = self._links.get(where)
        if link is None:  # nothing is scaled: there is no loop to cut off
            return
        link.cuts += 1

        def mend() -> None:
            link.cuts -= 1

        self._ends(fault, mend)

    def _black_out(self, fault: FaultSection) -> None:
        self._blackouts += 1
        self._note(fault, ())

        def end() -> None:
            self._blackouts -= 1

        self._ends(fault, end)

    def _zero(self, fault: FaultSection) -> None:
        self._note(fault, ())
        metrics = self._metrics
        if metrics is None:
            return
        metrics.zeros += 1

        def end() -> None:
            metrics.zeros -= 1

        self._ends(fault, end)

    def _slow_down(self, fault: FaultSection, where: str) -> None:
        entry = (where, fault.factor)
        self._slow.append(entry)
        self._set_pace(where)
        self._note(fault, (where,))

        def end() -> None:
            self._slow.remove(entry)
            self._set_pace(where)

        self._ends(fault, end)

    def _set_pace(self, where: str) -> None:
        """Let the slowest of the faults that hold decide how long starts take."""
        factors = [factor for name, factor in self._slow if name == where]
        self._rosters[where].start_factor = max(factors, default=1.0)

    def _fail_actions(self, fault: FaultSection, where: str) -> None:
        self._note(fault, (where,))
        link = self._links.get(where)
        if link is None:
            return
        link.faults.append(fault)

        def end() -> None:
            # Another fault may be equal to this one, but is not it.
            link.faults[:] = [other for other in link.faults if other is not fault]

        self._ends(fault, end)
