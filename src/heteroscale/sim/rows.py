"""What a simulated sub-cluster keeps of each instance and each count, and how it shows them.

Plain mutable rows: who may change what is in `subcluster.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState
from heteroscale.entities.topology import DomainPath
from heteroscale.workload.arrivals import PS_PER_S

#: (service, group, role, accelerator): one count
GroupKey: TypeAlias = tuple[str, str, str, str]

#: States in which an engine runs, whether or not requests are sent to it.
UP_STATES = frozenset(
    {InstanceState.READY, InstanceState.HELD, InstanceState.WITHDRAWN, InstanceState.DRAINING}
)
#: States in which an observer needs to know whether an instance is idle.
_WATCHED = frozenset({InstanceState.WITHDRAWN, InstanceState.DRAINING})


class Meter:
    """Exact integral of a level over time, e.g. GPUs held; no clock of its own."""

    def __init__(self) -> None:
        self.level = 0
        self._base = 0

    def add(self, amount: int, now_ps: int) -> None:
        """Change the level from `now_ps` on."""
        self.level += amount
        self._base -= amount * now_ps

    def total(self, now_ps: int) -> int:
        """Return the sum of level × picoseconds up to `now_ps`."""
        return self._base + self.level * now_ps


@dataclass(slots=True, kw_only=True)
class Row:
    """One instance as the sub-cluster keeps it."""

    uid: str
    key: GroupKey
    ordinal: int
    shape: AcceleratorOption
    domain: DomainPath
    state: InstanceState
    since_ps: int
    held: bool = False
    #: indices into the node pool; empty while pending
    nodes: tuple[int, ...] = ()
    #: the engine's number; -1 = none yet
    engine: int = -1
    requests: int | None = None
    #: starts begun so far, and whether the last of them will end in failure
    starts: int = 0
    fails: bool = False
    version: int = 1
    last_action: str = ""
    #: what observers were last shown; None = changed since
    shown: Instance | None = None


@dataclass(slots=True, kw_only=True)
class Count:
    """The wanted replicas of one role of one group on one accelerator."""

    key: GroupKey
    domain: DomainPath
    replicas: int = 0
    version: int = 1
    next_ordinal: int = 0
    last_action: str = ""
    rows: list[Row] = field(default_factory=list)
    shown: GroupRole | None = None


def row_shown(row: Row, subcluster: str, nodes: tuple[str, ...], epoch_s: float) -> Instance:
    """Return an instance as observers see it; requests only where leaving depends on them."""
    service, group, role, accelerator = row.key
    return Instance(
        uid=row.uid,
        service=service,
        role=role,
        group=group,
        subcluster=subcluster,
        accelerator=accelerator,
        ordinal=row.ordinal,
        state=row.state,
        since_s=epoch_s + row.since_ps / PS_PER_S,
        requests=row.requests if row.state in _WATCHED else None,
        held=row.held,
        nodes=nodes,
        gpus=row.shape.gpus,
        version=str(row.version),
    )


def count_shown(count: Count, subcluster: str) -> GroupRole:
    """Return a count as observers see it; the same object until it changes."""
    if count.shown is None:
        service, group, role, accelerator = count.key
        count.shown = GroupRole(
            service=service,
            group=group,
            role=role,
            accelerator=accelerator,
            subcluster=subcluster,
            domain=count.domain,
            replicas=count.replicas,
            version=str(count.version),
        )
    return count.shown


def instance_order(instance: Instance) -> tuple[str, str, str, str, int, str]:
    """Order instances as a snapshot wants them, services apart."""
    return (
        instance.service,
        instance.role,
        instance.group,
        instance.accelerator,
        instance.ordinal,
        instance.uid,
    )
