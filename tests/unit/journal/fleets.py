"""A small fleet around the in-memory adapters: services of two roles in one sub-cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from heteroscale.adapters.memory import (
    MemoryClock,
    MemoryJournal,
    MemoryMetrics,
    MemoryStore,
    MemorySubcluster,
)
from heteroscale.entities.action import Action, Outcome
from heteroscale.entities.policy import LifecycleSpec, PolicySpec, ProportionalSpec
from heteroscale.entities.service import (
    AcceleratorOption,
    FleetSpec,
    GroupSpec,
    Mode,
    RoleSpec,
    ServiceSpec,
    Slo,
    Stage,
)
from heteroscale.entities.snapshot import Reading, Signal, UnknownCause
from heteroscale.entities.topology import Node
from heteroscale.journal.recorder import Recorder
from heteroscale.journal.replay import Line
from heteroscale.loop import ControlLoop, TickReport

START_S = 1_700_000_000.0
INTERVAL_S = 15.0
#: decode tokens/s that ask for more than a service of `world` has
BUSY_TPS = 3500.0


def service(name: str, *, mode: Mode = Mode.ENFORCE, target_tps: float = 1000.0) -> ServiceSpec:
    """Return a service of one prefill per decode, sized by served decode tokens/s."""
    roles = tuple(
        RoleSpec(path=stage.value, stage=stage, share=1, accelerators=(H20,))
        for stage in (Stage.PREFILL, Stage.DECODE)
    )
    return ServiceSpec(
        name=name,
        priority=50,
        slo=Slo(ttft_s=1.0, tbt_s=0.04, quantile=0.9),
        group=GroupSpec(within=None, roles=roles),
        policy=PolicySpec(
            proportional=(ProportionalSpec(signal=Signal.TPS, role="decode", target=target_tps),)
        ),
        lifecycle=LifecycleSpec(),
        mode=mode,
    )


H20 = AcceleratorOption(type="H20", gpus=8)


def fleet(*services: ServiceSpec) -> FleetSpec:
    """Return a fleet with 15 s ticks."""
    return FleetSpec(services=services, interval_s=INTERVAL_S)


def nodes(subcluster: str, count: int) -> tuple[Node, ...]:
    """Return nodes of eight H20 under one switch."""
    return tuple(
        Node(
            name=f"{subcluster}-{index:03d}",
            accelerator="H20",
            gpus=8,
            domain=(subcluster, "s2", "s1", "s0"),
        )
        for index in range(count)
    )


def readings(decode_tps: float, *, age_s: float = 5.0) -> tuple[Reading, ...]:
    """Return every signal of both roles, calm but for the decode tokens/s."""
    figures = {
        ("prefill", Signal.TPS): decode_tps * 9.0,
        ("decode", Signal.TPS): decode_tps,
        ("prefill", Signal.QUEUE_LENGTH): 0.0,
        ("decode", Signal.QUEUE_LENGTH): 0.0,
        ("decode", Signal.KV_USAGE): 0.3,
        ("prefill", Signal.TTFT): 0.2,
        ("decode", Signal.TBT): 0.02,
    }
    return (
        *(
            Reading(signal=signal, role=role, value=value, age_s=age_s)
            for (role, signal), value in figures.items()
        ),
        Reading(
            signal=Signal.UTILIZATION,
            role="decode",
            value=None,
            age_s=90.0,
            coverage=0.25,
            cause=UnknownCause.STALE,
        ),
    )


@dataclass(kw_only=True)
class World:
    """One control loop and everything around it, each part in reach of a test."""

    loop: ControlLoop
    clock: MemoryClock
    metrics: MemoryMetrics
    subclusters: dict[str, MemorySubcluster]
    store: MemoryStore
    journal: MemoryJournal
    reports: list[TickReport] = field(default_factory=list)

    def tick(self) -> TickReport:
        """Tick once, then let one interval pass."""
        report = self.loop.tick()
        self.reports.append(report)
        self.clock.advance(INTERVAL_S)
        return report

    def lines(self) -> list[Line]:
        """Return what the journal holds, as a reader gives it."""
        return [Line(text=text, where="memory") for text in self.journal.lines]


def world(spec: FleetSpec, *, subclusters: tuple[str, ...] = ("alpha",)) -> World:
    """Return a loop over sub-clusters that each hold two ready instances per role and service."""
    clock = MemoryClock(START_S)
    places = {
        name: MemorySubcluster(name, clock, nodes=nodes(name, 64), start_s=60.0)
        for name in subclusters
    }
    for one in spec.services:
        for name, place in places.items():
            for leaf in one.group.leaves():
                place.place(one.name, f"{one.name}-{name}", leaf.path, "H20", 2)
    metrics = MemoryMetrics({one.name: readings(2000.0) for one in spec.services})
    store, journal = MemoryStore(), MemoryJournal()
    loop = ControlLoop(spec, clock, metrics, tuple(places.values()), store, Recorder(journal))
    return World(
        loop=loop, clock=clock, metrics=metrics, subclusters=places, store=store, journal=journal
    )


def busy(*modes: Mode, subclusters: tuple[str, ...] = ("alpha",)) -> World:
    """Return services, one per mode, whose load asks for more than they have."""
    names = ("chat", "code", "docs")[: len(modes)]
    specs = tuple(service(name, mode=mode) for name, mode in zip(names, modes, strict=True))
    run = world(fleet(*specs), subclusters=subclusters)
    run.metrics.readings = {name: readings(BUSY_TPS) for name in names}
    return run


def states(run: World) -> Counter[str]:
    """Return how many instances are in each state."""
    return Counter(
        one.state.value for place in run.subclusters.values() for one in place.observe().instances
    )


class Answering(MemorySubcluster):
    """A sub-cluster that notes every batch, and may answer out of turn."""

    def __init__(self, notes: list[str], clock: MemoryClock) -> None:
        super().__init__("alpha", clock, nodes=nodes("alpha", 64))
        self.notes = notes
        self.answers: int | None = None
        self.fault: Exception | None = None

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        self.notes.append(f"apply {len(actions)} by +{deadline_s - START_S:.0f}")
        if self.fault is not None:
            raise self.fault
        return super().apply(actions, deadline_s)[: self.answers]
