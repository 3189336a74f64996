"""One tick of planning: plan() folds the memory forward and says what should change.

Pure: it composes how much (policy), where (prescheduler) and when (lifecycle), and knows no clock,
no mode and no way to act. A broken promise of ours raises; whoever calls plans again without that
service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from heteroscale.entities.action import Action, Effect
from heteroscale.entities.decision import Decision, Reason
from heteroscale.entities.placement import Grant, NoFit, PlacementPlan, PlacementRequest
from heteroscale.entities.plan import Plan
from heteroscale.entities.service import FleetSpec, RolePath, ServiceSpec
from heteroscale.entities.snapshot import Instance, InstanceState, ServiceSnapshot, Snapshot
from heteroscale.entities.state import FleetState, ServiceState
from heteroscale.lifecycle import waits
from heteroscale.lifecycle.budget import Left, sent_off, taken_back
from heteroscale.lifecycle.changes import in_order, in_turn, rotations, scalings, untouched
from heteroscale.lifecycle.coming import AS_SEEN, Coming, coming
from heteroscale.lifecycle.explain import explain_moves
from heteroscale.lifecycle.gate import Passage, gate
from heteroscale.lifecycle.reach import never_seen, out_of_reach
from heteroscale.lifecycle.rotation import (
    NOT_WATCHED,
    Memory,
    Move,
    Occasion,
    Turn,
    Watch,
    chosen,
    completed,
    ordered_out,
    restorable,
    rotate,
    watched_s,
)
from heteroscale.lifecycle.settling import Start, start
from heteroscale.policy.brake import brake_fleet
from heteroscale.policy.coordinate import coordinate
from heteroscale.policy.giving_way import after_lacks, limited
from heteroscale.policy.signal import judged, worst_latency
from heteroscale.policy.sized import Sized
from heteroscale.policy.sizing import size
from heteroscale.prescheduler.cycle import closed_groups, place_all
from heteroscale.prescheduler.explain import explain_coming, explain_placement
from heteroscale.prescheduler.make_way import Cycle, Giver, lacks_of, make_way
from heteroscale.prescheduler.wish import NO_WISH, Wish, wish

_READY = InstanceState.READY
_WITHDRAWN = InstanceState.WITHDRAWN
_STARTING = InstanceState.STARTING
_HELD = InstanceState.HELD
_NEW = ServiceState()


@dataclass(slots=True, kw_only=True)
class _Case:
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
    coming: Coming = AS_SEEN
    wish: Wish = NO_WISH
    grants: list[Grant] = field(default_factory=list)
    no_fits: list[NoFit] = field(default_factory=list)
    leaving: frozenset[str] = frozenset()
    actions: list[Action] = field(default_factory=list)


def plan(state: FleetState, snapshot: Snapshot, fleet: FleetSpec) -> tuple[Plan, FleetState]:
    """Return what every service should have, the changes that lead there, and the memory after it.

    A service that is absent from the snapshot is unknown: it is not planned and keeps its memory.

    1. settle the outcomes of what was sent before
    2. adopt counts that someone else changed
    3. size every service, inside its limit where it gives way
    4. brake: the fleet as a whole against its sizes
    5. coordinate each size into capacity per role
    6. place what must be added, choose what leaves
    7. lifecycle: restore, withdraw, drain, remove, gate
    8. actions, identified by content, in order
    9. who gives way to whom from the next tick on
    """
    specs = {spec.name: spec for spec in sorted(fleet.services, key=lambda spec: spec.name)}
    outcomes = waits.by_service(snapshot.outcomes)
    unseen = never_seen(snapshot)
    folded: dict[str, ServiceState] = {}
    sizes: dict[str, Sized] = {}
    starts: dict[str, Start] = {}
    for name, spec in tuple(specs.items()):
        if name not in snapshot.services:
            continue
        # 1. settle, 2. adopt
        remembered = state.services.get(name, _NEW)
        settled = start(spec, remembered, snapshot, fleet, outcomes.get(name, {}), unseen)
        # 3. size
        specs[name], before, why = limited(spec, settled.state, snapshot.now_s)
        starts[name] = replace(settled, state=before, reasons=(*settled.reasons, *why))
        sizes[name], folded[name] = _sized(specs[name], before, snapshot, frozen=fleet.freeze)
    # 4. brake
    stayed = sum(one.stayed_gpus for one in starts.values())
    left = taken_back(state.left_gpus, stayed, snapshot.now_s)
    allowed = brake_fleet(sizes, specs, left, snapshot, fleet.brake)
    # 5. coordinate
    cases = [
        _case(specs[name], starts[name], folded[name], allowed[name], snapshot) for name in starts
    ]
    # 6. place
    for case in cases:
        _ask(case, snapshot, fleet)
    placement, requests = _place(cases, snapshot, fleet)
    # 7. lifecycle, 8. actions
    for case in cases:
        _move(case, snapshot, fleet)
    # 9. who gives way
    _make_way(cases, placement, requests, snapshot, fleet)
    return (
        Plan(
            now_s=snapshot.now_s,
            generation=snapshot.inventory.generation,
            decisions=tuple(_decided(case) for case in cases),
            placement=placement,
            actions=in_order(action for case in cases for action in case.actions),
        ),
        _remembered(state, left, cases, snapshot, specs),
    )


def begin(state: FleetState, sent: Sequence[Action], now_s: float, fleet: FleetSpec) -> FleetState:
    """Return the memory with the waits of what is about to be sent, provisionally begun.

    Doing it twice with the same actions is doing it once.

    Args:
        sent: actions of the last plan, all or some.
    """
    rules = {spec.name: spec.policy.guard for spec in fleet.services}
    services = dict(state.services)
    fresh: list[Action] = []
    for name in sorted({action.service for action in sent}):
        before = services.get(name, _NEW)
        pending = {one.action_id for one in before.pending}
        own = [a for a in sent if a.service == name and a.id not in pending]
        fresh += own
        services[name] = waits.begin(before, own, now_s, rules[name])
    return FleetState(services=services, left_gpus=sent_off(state.left_gpus, fresh, now_s))


def _sized(
    spec: ServiceSpec, state: ServiceState, snapshot: Snapshot, *, frozen: bool
) -> tuple[Sized, ServiceState]:
    return size(
        spec,
        snapshot.services[spec.name],
        state,
        now_s=snapshot.now_s,
        utc_offsets_s=snapshot.utc_offsets_s,
        frozen=frozen,
    )


def _case(
    spec: ServiceSpec,
    begun: Start,
    state: ServiceState,
    sized: Sized,
    snapshot: Snapshot,
) -> _Case:
    service, before = snapshot.services[spec.name], begun.state
    case = _Case(
        spec=spec,
        snapshot=service,
        before=before,
        state=state,
        supply=sized.supply,
        decision=coordinate(spec, sized),
        reasons=list(begun.reasons),
        moving=[one for one in service.instances if one.state is not _READY],
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


def _ask(case: _Case, snapshot: Snapshot, fleet: FleetSpec) -> None:
    """Find what the service wants of this cycle, and what of it may be asked for now."""
    withdrawn = [one for one in case.moving if one.state is _WITHDRAWN]
    movable = [one for one in withdrawn if one.uid not in case.blocked]
    back = restorable(case.spec, movable) if movable else {}
    pending = case.before.pending
    if pending or case.moving:
        case.coming = coming(case.spec, case.before, case.moving, case.blocked, snapshot.now_s)
    unseen = case.coming.units
    wanted = wish(case.spec, case.snapshot, case.decision, case.supply, back, unseen)
    short = wanted.short
    if movable:
        # A restore is exempt from every wait and from freeze: ask again as if there were none.
        free = replace(case.before, scale_out_until_s=0.0)
        sized, _ = _sized(case.spec, free, snapshot, frozen=False)
        unbound = coordinate(case.spec, sized)
        again = wish(case.spec, case.snapshot, unbound, case.supply, back, unseen).short
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


def _place(
    cases: Sequence[_Case], snapshot: Snapshot, fleet: FleetSpec
) -> tuple[PlacementPlan, Sequence[PlacementRequest]]:
    """Place every wish and hand each service its part of the answer."""
    requests = [
        PlacementRequest(
            spec=case.spec,
            snapshot=case.snapshot,
            add=case.wish.add,
            remove=case.wish.remove,
            ratio=case.decision.ratio,
            closed=closed_groups(case.snapshot, snapshot.unreachable, case.coming.closed),
            awaiting=waits.awaits_count(case.before, snapshot.unreachable),
        )
        for case in cases
        if case.wish.add or case.wish.remove
    ]
    placement = place_all(requests, snapshot, fleet.levels, fleet.prices)
    by_name = {case.spec.name: case for case in cases}
    for grant in placement.grants:
        by_name[grant.service].grants.append(grant)
    for no_fit in placement.no_fits:
        by_name[no_fit.service].no_fits.append(no_fit)
    for release in placement.releases:
        by_name[release.service].leaving = frozenset(release.uids)
    return placement, requests


def _make_way(
    cases: Sequence[_Case],
    placement: PlacementPlan,
    requests: Sequence[PlacementRequest],
    snapshot: Snapshot,
    fleet: FleetSpec,
) -> None:
    """Remember who gives way to whom from the next tick on, and say why."""
    givers = [case for case in cases if case.spec.gives_way]
    if not (placement.no_fits and givers) and not any(case.state.given_way for case in givers):
        return
    cycle = Cycle(
        requests=requests,
        no_fits=placement.no_fits,
        wanted={case.spec.name: case.decision.capacity for case in cases},
        snapshot=snapshot,
        fleet=fleet,
    )
    lacks = lacks_of(cycle.no_fits, {case.spec.name: case.spec for case in cases}, cycle.wanted)
    asked = [
        Giver.of(case.spec, case.snapshot, case.decision.ratio, case.state.given_way)
        for case in givers
    ]
    made = make_way(lacks, asked, cycle)
    for case in cases:
        name = case.spec.name
        given = made.concessions.get(name)
        case.state = after_lacks(case.spec, case.state, lacks, given, snapshot.now_s)
        case.reasons += made.reasons.get(name, ())


def _move(case: _Case, snapshot: Snapshot, fleet: FleetSpec) -> None:
    """Move instances in and out of rotation, change counts, and say why."""
    spec, counts = case.spec, case.snapshot.group_roles
    turns: tuple[Turn, ...] = ()
    if case.moving or case.before.observed_s:
        turns = _rotated(case, snapshot, fleet)
    if case.leaving and not any(turn.move is Move.RESTORE for turn in turns):
        # What comes back and what leaves in one tick would contradict each other.
        turns += chosen(one for one in case.snapshot.instances if one.uid in case.leaving)
    passages = _gated(case, turns, snapshot, fleet)
    if not (turns or passages or case.grants or case.no_fits):
        return
    grants, free = in_turn(counts, case.grants, untouched(turns, case.blocked))
    scaled, removed = scalings(spec, counts, grants, free)
    rotated = [turn for turn in free if turn.move is not Move.REMOVE]
    case.actions = [*rotations(spec, rotated, passages), *scaled]
    case.reasons += explain_placement(grants, case.no_fits)
    case.reasons += explain_moves([*rotated, *removed], passages)


def _rotated(case: _Case, snapshot: Snapshot, fleet: FleetSpec) -> tuple[Turn, ...]:
    """Return the moves of what is leaving, and remember how long it was watched."""
    spec, before, instances = case.spec, case.before, case.snapshot.instances
    memory = Memory(observed_s=before.observed_s, unknown_since_s=before.unknown_since_s)
    withdrawn = any(one.state is _WITHDRAWN for one in case.moving)
    occasion = Occasion(
        now_s=snapshot.now_s,
        elapsed_s=watched_s(before.window_fed_s, snapshot.now_s, fleet.interval_s),
        watch=_watch(case) if withdrawn else NOT_WATCHED,
        returned=case.wish.short,
        cancelled=spec.pause.scale_in,
        frozen=fleet.freeze,
        blocked=case.blocked,
        ordered=ordered_out(spec, case.moving, case.supply) if withdrawn else (),
    )
    turns, after = rotate(spec, case.moving, memory, occasion)
    case.state = replace(
        case.state,
        observed_s=after.observed_s,
        unknown_since_s=after.unknown_since_s,
        restores=0 if completed(memory, instances) else case.state.restores,
    )
    return turns


def _watch(case: _Case) -> Watch:
    """Return what the SLO signals say of the service without what is withdrawn."""
    signals = judged(case.snapshot.readings, case.spec.policy.trust)
    ratio, known = worst_latency(signals, case.spec.slo, case.spec.policy)
    return Watch(ratio=ratio, known=known)


def _gated(
    case: _Case, turns: tuple[Turn, ...], snapshot: Snapshot, fleet: FleetSpec
) -> list[Passage]:
    """Return what changes at the readiness gate, for instances that nothing else moves."""
    if not any(one.state is _STARTING or one.state is _HELD for one in case.moving):
        return []
    taken = {turn.instance.uid for turn in turns} | case.blocked
    passages = gate(
        case.spec,
        case.spec.group.weights(case.decision.ratio),
        case.snapshot.instances,
        case.snapshot.group_roles,
        frozenset(role for no_fit in case.no_fits for role in no_fit.missing),
        snapshot.now_s,
    )
    return [
        passage
        for passage in passages
        if passage.instance.uid not in taken and not (passage.hold and fleet.freeze)
    ]


def _decided(case: _Case) -> Decision:
    """Return the decision with the reasons of every step after it."""
    if not case.reasons:
        return case.decision
    return replace(case.decision, reasons=(*case.decision.reasons, *case.reasons))


def _remembered(
    state: FleetState,
    left_gpus: Left,
    cases: Sequence[_Case],
    snapshot: Snapshot,
    specs: Mapping[str, ServiceSpec],
) -> FleetState:
    """Return the fleet's memory; what is neither asked for nor observed any more is forgotten."""
    services = {
        name: kept
        for name, kept in state.services.items()
        if name in specs or name in snapshot.services
    }
    for case in cases:
        services[case.spec.name] = case.state
    return FleetState(services=dict(sorted(services.items())), left_gpus=left_gpus)
