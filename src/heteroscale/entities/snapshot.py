"""What was true at one instant, as observed: signals, instances, inventory, outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from heteroscale.entities.action import Outcome, Rotation
from heteroscale.entities.topology import Inventory, Node


class Signal(StrEnum):
    """A quantity observed of a service's role. Sums and shares are over the role's instances."""

    #: tokens/s served, summed over the role; prefill counts cache-missed tokens only
    TPS = "tps"
    #: tokens/s asked for, summed: arrivals × recent lengths
    OFFERED_TPS = "offered_tps"
    #: mean share of wall time with a kernel running, 0 to 1
    UTILIZATION = "utilization"
    #: mean utilization × occupancy, 0 to 1
    SM_ACTIVITY = "sm_activity"
    #: the SLO quantile of time to first token, seconds; reported for prefill roles
    TTFT = "ttft_s"
    #: the SLO quantile of time between tokens, seconds; reported for decode roles
    TBT = "tbt_s"
    #: requests waiting, summed over the role
    QUEUE_LENGTH = "queue_length"
    #: mean share of KV memory in use, 0 to 1
    KV_USAGE = "kv_usage"


class UnknownCause(StrEnum):
    """Why a reading has no value."""

    MISSING = "missing"
    STALE = "stale"
    #: too few instances reported
    THIN = "thin"
    #: a latency without a single event in its window
    NO_EVENTS = "no_events"
    #: NaN, infinite or negative; a share above 1; an age or coverage that cannot be
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One signal of one role at one instant. `value` is None exactly when `cause` is set."""

    signal: Signal
    role: str
    value: float | None
    #: seconds since the newest sample behind the value
    age_s: float = 0.0
    #: share of ready instances behind the value, 0 to 1
    coverage: float = 1.0
    cause: UnknownCause | None = None
    #: None = over all accelerators of the role
    accelerator: str | None = None


class InstanceState(StrEnum):
    """Where an instance stands; always observed on the object itself."""

    #: asked for, not yet running anywhere
    PENDING = "pending"
    STARTING = "starting"
    #: in rotation
    READY = "ready"
    #: ready, registration paused by the readiness gate
    HELD = "held"
    #: soft scale-in: out of rotation, still running, can come back
    WITHDRAWN = "withdrawn"
    #: finishing its requests; no way back
    DRAINING = "draining"
    TERMINATED = "terminated"
    FAILED = "failed"


#: States whose capacity counts as supply. A pending instance is not supply: it has no GPUs yet.
SUPPLY_STATES = frozenset({InstanceState.READY, InstanceState.STARTING, InstanceState.HELD})

#: Where an action may move an instance from each state; from one that is absent, nowhere.
WAYS: Mapping[InstanceState, frozenset[Rotation]] = {
    InstanceState.PENDING: frozenset({Rotation.READY, Rotation.HELD}),
    InstanceState.STARTING: frozenset({Rotation.READY, Rotation.HELD}),
    InstanceState.READY: frozenset({Rotation.READY, Rotation.WITHDRAWN, Rotation.DRAINING}),
    InstanceState.HELD: frozenset(Rotation),
    InstanceState.WITHDRAWN: frozenset({Rotation.READY, Rotation.WITHDRAWN, Rotation.DRAINING}),
    InstanceState.DRAINING: frozenset({Rotation.DRAINING}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One serving engine of one role, as its sub-cluster reports it."""

    #: unique in the fleet and over time
    uid: str
    service: str
    role: str
    group: str
    subcluster: str
    accelerator: str
    #: position in its group role; scale-in takes the highest first
    ordinal: int
    state: InstanceState
    #: when it entered `state`, epoch seconds
    since_s: float
    #: requests queued or running on it; None = unknown
    requests: int | None = None
    #: registration paused by the readiness gate; a starting instance then becomes held, not ready
    held: bool = False
    #: names of the nodes it occupies; empty while pending
    nodes: tuple[str, ...] = ()
    #: GPUs it holds on each of its nodes; None = unknown, taken as whole nodes
    gpus: int | None = None
    #: changes whenever the object changes; an action's precondition
    version: str = ""
    #: it can leave rotation and come back; False = only its end takes it out
    reversible: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRole:
    """The count a sub-cluster keeps for one role of one deployment group on one accelerator."""

    service: str
    group: str
    role: str
    accelerator: str
    subcluster: str
    #: topology domain the group lives in, as a path; () = anywhere in the sub-cluster
    domain: tuple[str, ...]
    #: instances asked for (withdrawn and draining ones still count until they are removed)
    replicas: int
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one sub-cluster's adapter has in its cache."""

    subcluster: str
    #: seconds since the cache was known to be current
    age_s: float
    instances: tuple[Instance, ...]
    group_roles: tuple[GroupRole, ...]
    nodes: tuple[Node, ...]
    #: what stands in the way of acting there, in words
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSnapshot:
    """What was true of one service."""

    readings: tuple[Reading, ...] = ()
    #: sorted by (role, group, accelerator, ordinal, uid)
    instances: tuple[Instance, ...] = ()
    #: sorted by (role, group, accelerator)
    group_roles: tuple[GroupRole, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything the planner may know about one instant."""

    #: epoch seconds
    now_s: float
    services: Mapping[str, ServiceSnapshot]
    inventory: Inventory
    #: what became of actions sent since the last tick
    outcomes: tuple[Outcome, ...] = ()
    #: IANA zone → seconds east of UTC at `now_s`, for every zone a schedule names
    utc_offsets_s: Mapping[str, int] = field(default_factory=dict)
    #: sub-clusters whose observation is older than its limit; sorted
    unreachable: tuple[str, ...] = ()
