"""One service on its way through a tick: what is known of it, and what it wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from heteroscale.entities.action import Action, Effect
from heteroscale.entities.decision import Decision, Reason
from heteroscale.entities.placement import Grant, NoFit
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import FleetSpec, RolePath, ServiceSpec
from heteroscale.entities.snapshot import Instance, InstanceState, ServiceSnapshot, Snapshot
from heteroscale.entities.state import ServiceState
from heteroscale.lifecycle import waits
from heteroscale.lifecycle.coming import AS_SEEN, Coming, coming
from heteroscale.lifecycle.reach import out_of_reach
from heteroscale.lifecycle.relocation import ended, told
from heteroscale.lifecycle.rotation import restorable
from heteroscale.lifecycle.settling import Start
from heteroscale.policy.coordinate import coordinate
from heteroscale.policy.sized import Freedom, Sized
from heteroscale.policy.sizing import size
from heteroscale.policy.supply import tally
from heteroscale.prescheduler.explain import explain_coming
from heteroscale.prescheduler.wish import NO_WISH, Wish, wish

_READY = InstanceState.READY
_WITHDRAWN = InstanceState.WITHDRAWN


@dataclass(slots=True, kw_only=True)
class Case:
    """One service on its way through the steps of a tick."""

    spec: ServiceSpec
    snapshot: ServiceSnapshot
    #: the memory as it was before sizing, and as it will be after the tick
    before: ServiceState
    state: ServiceState
    supply: Mapping[RolePath, float]
    decision: Decision
    #: what planner, prescheduler and lifecycle add to the decision's reasons
    reasons: list[Reason]
    #: instances that are not simply in rotation
    moving: list[Instance]
    #: instances and counts that may not be touched in this tick
    blocked: frozenset[str] = frozenset()
    #: some of what it has may be where nobody can look: nothing is added or taken away
    hidden: bool = False
    #: how free it is to change, by itself and by the fleet brake
    grow: Freedom
    shrink: Freedom
    coming: Coming = AS_SEEN
    wish: Wish = NO_WISH
    grants: list[Grant] = field(default_factory=list)
    no_fits: list[NoFit] = field(default_factory=list)
    leaving: frozenset[str] = frozenset()
    actions: list[Action] = field(default_factory=list)

    @property
    def closed(self) -> frozenset[tuple[str, str]]:
        """(sub-cluster, group) that stay as they are: not known, or being relocated."""
        one = self.state.relocating
        return self.coming.closed.union(() if one is None else (one.old, *one.new))


def sized_now(
    spec: ServiceSpec, state: ServiceState, snapshot: Snapshot, *, frozen: bool
) -> tuple[Sized, ServiceState]:
    """Return what the service should have by itself, and its memory folded forward."""
    return size(
        spec,
        snapshot.services[spec.name],
        state,
        now_s=snapshot.now_s,
        utc_offsets_s=snapshot.utc_offsets_s,
        frozen=frozen,
    )


def case_of(
    spec: ServiceSpec,
    begun: Start,
    state: ServiceState,
    sized: Sized,
    snapshot: Snapshot,
) -> Case:
    """Return a service at the start of placement: its roles coordinated, what is blocked known."""
    service, before = snapshot.services[spec.name], begun.state
    case = Case(
        spec=spec,
        snapshot=service,
        before=before,
        state=state,
        supply=sized.supply,
        decision=coordinate(spec, sized),
        reasons=list(begun.reasons),
        moving=[one for one in service.instances if one.state is not _READY],
        grow=sized.grow,
        shrink=sized.shrink,
        hidden=begun.hidden,
    )
    if before.pending:
        case.blocked = waits.blocked(before)
        case.reasons.append(waits.explain_pending(before))
    if snapshot.unreachable:
        targets, reasons = out_of_reach(service, snapshot.unreachable)
        case.blocked |= targets
        case.reasons += reasons
    return case


def ask(case: Case, snapshot: Snapshot, fleet: FleetSpec) -> None:
    """Find what the service wants of this cycle, and what of it may be asked for now."""
    withdrawn = [one for one in case.moving if one.state is _WITHDRAWN]
    movable = [one for one in withdrawn if one.uid not in case.blocked]
    back = restorable(case.spec, movable) if movable else {}
    pending = case.before.pending
    if pending or case.moving:
        case.coming = coming(case.spec, case.before, case.moving, case.blocked, snapshot.now_s)
    unseen = case.coming.units
    wanted = wish(case.spec, _counted(case), case.decision, case.supply, back, unseen)
    if wanted != NO_WISH and _overtaken(case, snapshot, fleet):
        # What is too much now has passed no wait yet: the next tick decides on it.
        every = wish(case.spec, case.snapshot, case.decision, case.supply, back, unseen)
        wanted = replace(every, remove={})
    short = wanted.short
    if movable:
        # A restore is exempt from every wait and from freeze: ask again as if there were none.
        free = replace(case.before, scale_out_until_s=0.0)
        sized, _ = sized_now(case.spec, free, snapshot, frozen=False)
        unbound = coordinate(case.spec, sized)
        again = wish(case.spec, _counted(case), unbound, case.supply, back, unseen).short
        short = {role: max(short.get(role, 0.0), again.get(role, 0.0)) for role in (*short, *again)}
    case.reasons += explain_coming(wanted.coming)
    stopped = fleet.freeze or case.hidden
    # What is under way and not seen yet would be taken twice; growth out of reach takes nothing.
    taking = any(
        one.effect is Effect.IN or one.subcluster not in snapshot.unreachable for one in pending
    )
    case.wish = Wish(
        short=short,
        add={} if stopped else wanted.add,
        remove={} if stopped or taking else wanted.remove,
        coming=wanted.coming,
    )


def _counted(case: Case) -> ServiceSnapshot:
    """Return what was seen of the service, without groups that are no supply of it."""
    one = case.state.relocating
    if one is None:
        return case.snapshot
    groups, seen = one.uncounted, case.snapshot
    return replace(
        seen,
        instances=tuple(i for i in seen.instances if (i.subcluster, i.group) not in groups),
        group_roles=tuple(c for c in seen.group_roles if (c.subcluster, c.group) not in groups),
    )


def _overtaken(case: Case, snapshot: Snapshot, fleet: FleetSpec) -> bool:
    """Return whether a relocation ends because the service is to change, before the old group left.

    All that it has counts from now on.
    """
    one = case.state.relocating
    if one is None or one.old in one.leaving:
        return False
    case.state = ended(case.state, fleet, snapshot.now_s)
    case.supply = tally(case.spec, case.snapshot.instances).supply
    case.reasons.append(told(ReasonCode.RELOCATION_OVERTAKEN, one))
    return True
