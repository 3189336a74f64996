"""What the planner remembers from tick to tick; kept by the Store, folded only by plan()."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.entities.action import Effect

#: The fleet brake counts what left within this time.
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackState:
    """Memory of one latency feedback."""

    #: anchor capacity the last step asked for; None = no step outstanding
    step_to: float | None = None
    step_until_s: float = 0.0
    #: since when latency has been low without a gap; None = it is not
    low_since_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixPoint:
    """Load of the top-level roles summed over the ticks of one part of the mix window."""

    #: start of the part, epoch seconds
    at_s: float
    #: ticks behind the sums
    samples: int
    #: top-level role → sum over those ticks of its load, tokens/s
    loads_tps: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAction:
    """An action that was sent and has not been seen in an observation; its targets are blocked.

    While its outcome is not known either, its wait has begun provisionally.
    """

    action_id: str
    sent_s: float
    #: the deadlines without any provisional wait, to go back to if nothing was changed
    out_until_before_s: float
    in_until_before_s: float
    #: targets (group role key or instance uid) that may not be touched until observed
    targets: tuple[str, ...]
    #: versions of those targets when the action was sent, same order
    versions: tuple[str, ...]
    #: where the targets are
    subcluster: str = ""
    #: leaf role whose count it changes; None = it changes no count
    role: str | None = None
    effect: Effect = Effect.UPKEEP
    #: the group whose count it changes, and on which accelerator; "" = it changes no count
    group: str = ""
    accelerator: str = ""
    #: replicas it adds to that count; 0 = it adds none
    added: int = 0
    #: GPUs that leave with it, or that come back by a restore
    gpus: int = 0
    #: the outcome is known to be "applied"; only the observation is still behind
    applied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenWay:
    """A limit that a service keeps because others lack what is essential to them."""

    #: whom it made room for last
    to: str
    #: leaf role → most capacity units it may have
    most: Mapping[str, int]
    #: the limit ends then, unless somebody of higher priority lacks something essential before
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocating:
    """A group on its way out of a scarce subgroup: what takes its place comes first."""

    #: (sub-cluster, group) that is to leave
    old: tuple[str, str]
    #: (sub-cluster, group) that take its place
    new: tuple[tuple[str, str], ...]
    #: GPUs of what takes its place, held beside its own meanwhile
    gpus: int
    #: what takes its place leaves again unless all of it is ready by then
    until_s: float
    #: those of them that leave now, the old one or the new; () = none yet
    leaving: tuple[tuple[str, str], ...] = ()

    @property
    def uncounted(self) -> tuple[tuple[str, str], ...]:
        """The groups that are no supply, so that the service has what it had before."""
        return self.leaving or self.new


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """Memory of one service. Deadlines are epoch seconds; 0 = none."""

    #: stabilization window: (at_s, demand) with demand strictly falling, newest last
    window: tuple[tuple[float, float], ...] = ()
    #: since when the window has been fed without a gap; None = never fed
    window_since_s: float | None = None
    #: last tick this service was planned, which feeds the window; None = never
    window_fed_s: float | None = None
    scale_out_until_s: float = 0.0
    scale_in_until_s: float = 0.0
    #: consecutive restores
    restores: int = 0
    #: latency signal → its feedback memory
    feedback: Mapping[str, FeedbackState] = field(default_factory=dict)
    #: online ratio: top-level role → share; empty = it never moved, as configured
    ratio: Mapping[str, int] = field(default_factory=dict)
    ratio_until_s: float = 0.0
    #: online ratio: the measured mix, oldest first
    mix: tuple[MixPoint, ...] = ()
    #: top-level role → share that was in force at the last tick; empty = never sized
    ratio_seen: Mapping[str, int] = field(default_factory=dict)
    #: the ratio in force changed and the counts have not followed it all the way yet
    ratio_moving: bool = False
    pending: tuple[PendingAction, ...] = ()
    #: leaf role → replicas asked for when last seen or set by us; a difference is a change by hand
    replicas_seen: Mapping[str, int] = field(default_factory=dict)
    #: since when some of what it had may be in sub-clusters never seen; None = nothing is missing
    hidden_since_s: float | None = None
    #: withdrawn or draining instance uid → seconds observed, withdrawn, with every SLO signal known
    observed_s: Mapping[str, float] = field(default_factory=dict)
    #: since when an SLO signal has been unknown while something is withdrawn; None = known
    unknown_since_s: float | None = None
    #: None = it gives way to nobody
    given_way: GivenWay | None = None
    #: None = no group of it is being relocated
    relocating: Relocating | None = None
    #: no further group of it is relocated before then
    relocated_until_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetState:
    """Memory of the whole fleet."""

    services: Mapping[str, ServiceState] = field(default_factory=dict)
    #: (at_s, GPUs) that left within the last hour, oldest first
    left_gpus: tuple[tuple[float, int], ...] = ()
    #: no group to relocate is looked for before then
    relocate_from_s: float = 0.0
