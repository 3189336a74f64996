"""What operators ask for: services, their roles and groups, and the limits of the whole fleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from heteroscale.entities.policy import LifecycleSpec, PolicySpec

#: A role's name in its service: its names from the top joined by "/", e.g. "prefill/ffn".
RolePath = str


#: Sums and quotients of capacity units miss whole numbers by less than this; without it
#: 3.0000000000000004 units would be rounded up to 4.
UNIT_SLACK = 1e-9


class Stage(StrEnum):
    """What a role does in serving."""

    PREFILL = "prefill"
    DECODE = "decode"
    ENCODE = "encode"


class Mode(StrEnum):
    """How far a decision goes."""

    #: compute and publish what would be done; touch nothing
    OBSERVE = "observe"
    #: publish a plan and wait until that very plan is approved
    RECOMMEND = "recommend"
    #: act
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Service-level objective: the given quantile of TTFT and TBT stays at or below its limit."""

    ttft_s: float
    tbt_s: float
    quantile: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorOption:
    """One way to build an instance of a role; options are ordered, preferred first."""

    #: accelerator type, e.g. "H20"
    type: str
    #: GPUs per node of one instance
    gpus: int
    #: capacity units of one instance; the preferred option is 1.0 by definition
    capacity: float = 1.0
    #: nodes one instance spans
    nodes: int = 1
    #: topology level the nodes of one instance share; None when one node
    within: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSpec:
    """A part of a service. Only leaves (roles without `roles`) have instances."""

    path: RolePath
    stage: Stage
    #: parts of this role in one unit of its parent; the ratio is role → share
    share: int
    #: preferred first; empty for a nested role
    accelerators: tuple[AcceleratorOption, ...] = ()
    #: bounds in capacity units, each ≥ 1; for leaves only
    min_replicas: int = 1
    max_replicas: int = 1000
    #: topology level this role's instances share inside one group; None = the group's
    within: str | None = None
    #: nested roles (MoE); one unit of this role is its children's shares together
    roles: tuple[RoleSpec, ...] = ()

    @property
    def is_leaf(self) -> bool:
        """Whether this role has instances of its own."""
        return not self.roles

    def leaves(self) -> Iterator[RoleSpec]:
        """Yield the roles below (or this one) that have instances, in configured order."""
        if self.is_leaf:
            yield self
        for role in self.roles:
            yield from role.leaves()

    def weigh(self, weight: int, into: dict[RolePath, int]) -> None:
        """Write how many instances of each leaf below make so many units of this role."""
        for child in self.roles:
            if child.roles:
                child.weigh(weight * child.share, into)
            else:
                into[child.path] = weight * child.share


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """Shape of a deployment group: which roles, and the domain they share."""

    #: topology level that every role of a group shares, e.g. "S2"; None = anywhere in a sub-cluster
    within: str | None = None
    #: levels by which a new group may be wider than `within` where it fits nowhere; 0 = none
    allowance: int = 0
    roles: tuple[RoleSpec, ...]

    def leaves(self) -> tuple[RoleSpec, ...]:
        """Return every role that has instances, in configured order."""
        leaves: list[RoleSpec] = []
        for role in self.roles:
            if role.roles:
                leaves.extend(role.leaves())
            else:
                leaves.append(role)
        return tuple(leaves)

    def weights(self, ratio: Mapping[RolePath, int]) -> dict[RolePath, int]:
        """Return leaf role → instances in one unit of the group: shares times those above them.

        Args:
            ratio: top-level role → share in force; an absent one has its configured share.
        """
        weights: dict[RolePath, int] = {}
        for role in self.roles:
            weight = ratio.get(role.path, role.share)
            if role.roles:
                role.weigh(weight, weights)
            else:
                weights[role.path] = weight
        return weights

    def worth(self) -> dict[tuple[RolePath, str], float]:
        """Return (leaf role, accelerator) → capacity units of one instance."""
        return {
            (leaf.path, option.type): option.capacity
            for leaf in self.leaves()
            for option in leaf.accelerators
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Directions an operator has stopped for one service."""

    scale_out: bool = False
    scale_in: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One model deployment scaled as a unit."""

    name: str
    #: 0 to 100; higher is served first when GPUs are short
    priority: int
    slo: Slo
    group: GroupSpec
    policy: PolicySpec
    lifecycle: LifecycleSpec
    mode: Mode = Mode.ENFORCE
    pause: Pause = Pause()
    #: leaf role → capacity units fixed by the operator; empty = not pinned
    pin: Mapping[RolePath, int] = field(default_factory=dict)
    #: accelerator → GPUs the service may hold; absent = any number
    quota: Mapping[str, int] = field(default_factory=dict)
    #: where one of higher priority lacks what is essential to it, this one gives up the rest
    preemptible: bool = False
    #: leaf role → capacity units that others give way for, and that it never gives up itself;
    #: absent = the role's minimum
    essential: Mapping[RolePath, int] = field(default_factory=dict)

    @property
    def gives_way(self) -> bool:
        """Whether it may be made smaller for others: allowed, acted on, and not held by hand."""
        held = self.pause.scale_in or bool(self.pin)
        return self.preemptible and self.mode is Mode.ENFORCE and not held

    def essential_units(self) -> dict[RolePath, int]:
        """Return leaf role → capacity units it is to have before any of lower priority grows."""
        return {
            leaf.path: max(leaf.min_replicas, self.essential.get(leaf.path, 0))
            for leaf in self.group.leaves()
        }

    def option(self, role: RolePath, accelerator: str) -> AcceleratorOption | None:
        """Return the shape of a role's instances on an accelerator; None = it does not list it."""
        for leaf in self.group.leaves():
            for option in leaf.accelerators:
                if leaf.path == role and option.type == accelerator:
                    return option
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeSpec:
    """Fleet brake: what many services ask at once is more likely a fault of ours than the truth."""

    #: scale-in holds when more than this share of the acting services asks for it in one tick ...
    share: float = 0.3
    #: ... and at least this many do
    services: int = 10
    #: at most this share of the fleet's GPUs leaves in one hour; one capacity unit always may
    gpus_per_hour_share: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DefragmentSpec:
    """Groups leave scarce subgroups to others by themselves, each once a new one has its place."""

    #: that are on their way at once; 0 = none ever
    groups: int = 0
    #: of what takes their places: GPUs held twice at once
    gpus: int = 64
    #: after one of its groups a service rests so long
    rest_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSpec:
    """Everything one controller is asked to look after."""

    services: tuple[ServiceSpec, ...]
    #: seconds between ticks
    interval_s: float = 15.0
    #: stop every change of every service, restores excepted
    freeze: bool = False
    brake: BrakeSpec = BrakeSpec()
    defragment: DefragmentSpec = DefragmentSpec()
    #: an observation of a sub-cluster older than this is unknown: its instances are frozen supply
    stale_s: float = 60.0
    #: topology levels from the narrowest above a node to the widest below a sub-cluster
    levels: tuple[str, ...] = ("S0", "S1", "S2")
    #: accelerator → price of one GPU for an hour, in the operator's currency; absent = not stated
    prices: Mapping[str, float] = field(default_factory=dict)
