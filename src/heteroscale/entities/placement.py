"""Where capacity goes: requests to the pre-scheduler and what it grants or declines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from heteroscale.entities.service import ServiceSpec
from heteroscale.entities.snapshot import ServiceSnapshot
from heteroscale.entities.topology import DomainPath


class Scarcity(IntEnum):
    """Priority of an RDMA subgroup: the scarcer, the longer it is kept for who needs it."""

    #: an S2 switch with one accelerator type
    LOW = 0
    #: an S2 switch with several types, each of its S1 switches with one
    MEDIUM = 1
    #: an S1 switch with several types: the tightest a mixed group can be
    HIGH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRequest:
    """One service's wish for this cycle."""

    spec: ServiceSpec
    snapshot: ServiceSnapshot
    #: leaf role → capacity units to add; absent or 0 = none
    add: Mapping[str, int] = field(default_factory=dict)
    #: leaf role → capacity units to take away; absent or 0 = none
    remove: Mapping[str, int] = field(default_factory=dict)
    #: top-level role → share in force; empty = as configured
    ratio: Mapping[str, int] = field(default_factory=dict)
    #: (sub-cluster, group) that can be neither grown nor shrunk in this cycle, e.g. out of reach
    closed: tuple[tuple[str, str], ...] = ()
    #: something that was sent is not seen yet: no new group is opened, and the rest just waits
    awaiting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Instances of one role and accelerator to add to one group in one domain."""

    service: str
    group: str
    role: str
    accelerator: str
    #: () = anywhere in the sub-cluster
    domain: DomainPath
    subcluster: str
    replicas: int
    #: of each instance the names of the nodes it was seated on, sorted; the sub-cluster, which
    #: knows what has changed since, may seat it elsewhere in the domain
    nodes: tuple[tuple[str, ...], ...]
    #: of all its instances, in the operator's currency; None = not stated for the accelerator
    price_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFit:
    """Capacity that could not be placed, with counted causes."""

    service: str
    #: leaf role → capacity units wanted and not placed
    missing: Mapping[str, int]
    #: cause → nodes (or domains) it rules out, e.g. {"full": 7, "wrong accelerator": 4}
    causes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What is essential to a service, wanted, and fits nowhere."""

    spec: ServiceSpec
    #: leaf role → capacity units, each ≥ 1
    missing: Mapping[str, int]

    def competes(self, other: ServiceSpec) -> bool:
        """Return whether another service runs on any accelerator that would help."""
        wanted = {
            option.type
            for leaf in self.spec.group.leaves()
            if leaf.path in self.missing
            for option in leaf.accelerators
        }
        return any(
            option.type in wanted for leaf in other.group.leaves() for option in leaf.accelerators
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Concession:
    """What one service gives up so that another gets what is essential to it."""

    service: str
    to: str
    #: leaf role → most capacity units it keeps
    most: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Instances chosen to leave, named."""

    service: str
    uids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPlan:
    """The cycle's answer, sorted by service, group, role, accelerator."""

    grants: tuple[Grant, ...] = ()
    releases: tuple[Release, ...] = ()
    no_fits: tuple[NoFit, ...] = ()
