"""One tick of planning: plan() folds the memory forward and says what should change.

Pure: it composes how much (policy), where (prescheduler) and when (lifecycle), and knows no clock,
no mode and no way to act. A broken promise of ours raises; whoever calls plans again without that
service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from heteroscale.entities.action import Action
from heteroscale.entities.decision import Decision
from heteroscale.entities.placement import PlacementPlan, PlacementRequest
from heteroscale.entities.plan import Plan
from heteroscale.entities.service import FleetSpec, ServiceSpec
from heteroscale.entities.snapshot import Snapshot
from heteroscale.entities.state import FleetState, ServiceState
from heteroscale.lifecycle import waits
from heteroscale.lifecycle.budget import sent_off, taken_back
from heteroscale.lifecycle.changes import in_order
from heteroscale.lifecycle.reach import never_seen
from heteroscale.lifecycle.relocation import carried_on
from heteroscale.lifecycle.settling import Start, start
from heteroscale.planner.case import Case, ask, case_of, sized_now
from heteroscale.planner.relocate import relocate
from heteroscale.planner.turns import move
from heteroscale.policy.brake import brake_fleet
from heteroscale.policy.giving_way import after_lacks, limited
from heteroscale.policy.sized import Sized
from heteroscale.prescheduler.cycle import closed_groups, place_all
from heteroscale.prescheduler.make_way import Cycle, Giver, lacks_of, make_way
from heteroscale.prescheduler.solve import Solver, solve

_NEW = ServiceState()


def plan(
    state: FleetState, snapshot: Snapshot, fleet: FleetSpec, solver: Solver = solve
) -> tuple[Plan, FleetState]:
    """Return what every service should have, the changes that lead there, and the memory after it.

    A service that is absent from the snapshot is unknown: it is not planned and keeps its memory.
    One `solver` may be faster than another, never of another answer.

    1. settle the outcomes of what was sent before
    2. adopt counts that someone else changed, see how far relocations are
    3. size every service, inside its limit where it gives way
    4. brake: the fleet as a whole against its sizes
    5. coordinate each size into capacity per role
    6. place what must be added, choose what leaves, relocate groups that stand scarce
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
        remembered, why_ended = carried_on(spec, settled.state, snapshot, fleet)
        # 3. size
        specs[name], before, why = limited(spec, remembered, snapshot.now_s)
        if before is not settled.state or why_ended or why:
            why = (*settled.reasons, *why_ended, *why)
            settled = replace(settled, state=before, reasons=why)
        starts[name] = settled
        sizes[name], folded[name] = sized_now(specs[name], before, snapshot, frozen=fleet.freeze)
    # 4. brake
    stayed = sum(one.stayed_gpus for one in starts.values())
    left = taken_back(state.left_gpus, stayed, snapshot.now_s)
    allowed = brake_fleet(sizes, specs, left, snapshot, fleet.brake)
    # 5. coordinate
    cases = [
        case_of(specs[name], starts[name], folded[name], allowed[name], snapshot) for name in starts
    ]
    # 6. place
    for case in cases:
        ask(case, snapshot, fleet)
    placement, cycle = _place(cases, snapshot, fleet, solver)
    placement, from_s = relocate(cases, cycle, placement, left, state.relocate_from_s)
    # 7. lifecycle, 8. actions
    for case in cases:
        move(case, snapshot, fleet)
    # 9. who gives way
    _make_way(cases, cycle)
    kept = _remembered(state, cases, snapshot, specs)
    return (
        Plan(
            now_s=snapshot.now_s,
            generation=snapshot.inventory.generation,
            decisions=tuple(_decided(case) for case in cases),
            placement=placement,
            actions=in_order(action for case in cases for action in case.actions),
        ),
        FleetState(services=kept, left_gpus=left, relocate_from_s=from_s),
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
    left = sent_off(state.left_gpus, fresh, now_s)
    return replace(state, services=services, left_gpus=left)


def _place(
    cases: Sequence[Case], snapshot: Snapshot, fleet: FleetSpec, solver: Solver
) -> tuple[PlacementPlan, Cycle]:
    """Place every wish and hand each service its part of the answer."""
    requests = [
        PlacementRequest(
            spec=case.spec,
            snapshot=case.snapshot,
            add=case.wish.add,
            remove=case.wish.remove,
            ratio=case.decision.ratio,
            closed=closed_groups(case.snapshot, snapshot.unreachable, case.closed),
            awaiting=waits.awaits_count(case.before, snapshot.unreachable),
        )
        for case in cases
        if case.wish.add or case.wish.remove
    ]
    placement = place_all(requests, snapshot, fleet.levels, fleet.prices, solver)
    by_name = {case.spec.name: case for case in cases}
    for grant in placement.grants:
        by_name[grant.service].grants.append(grant)
    for no_fit in placement.no_fits:
        by_name[no_fit.service].no_fits.append(no_fit)
    for release in placement.releases:
        by_name[release.service].leaving = frozenset(release.uids)
    cycle = Cycle(
        requests=requests,
        no_fits=placement.no_fits,
        wanted={case.spec.name: case.decision.capacity for case in cases},
        snapshot=snapshot,
        fleet=fleet,
        solver=solver,
    )
    return placement, cycle


def _make_way(cases: Sequence[Case], cycle: Cycle) -> None:
    """Remember who gives way to whom from the next tick on, and say why."""
    givers = [case for case in cases if case.spec.gives_way]
    if not (cycle.no_fits and givers) and not any(case.state.given_way for case in givers):
        return
    lacks = lacks_of(cycle.no_fits, {case.spec.name: case.spec for case in cases}, cycle.wanted)
    asked = [
        Giver.of(case.spec, case.snapshot, case.decision.ratio, case.state.given_way)
        for case in givers
    ]
    made = make_way(lacks, asked, cycle)
    for case in cases:
        name = case.spec.name
        given = made.concessions.get(name)
        case.state = after_lacks(case.spec, case.state, lacks, given, cycle.snapshot.now_s)
        case.reasons += made.reasons.get(name, ())


def _decided(case: Case) -> Decision:
    """Return the decision with the reasons of every step after it."""
    if not case.reasons:
        return case.decision
    return replace(case.decision, reasons=(*case.decision.reasons, *case.reasons))


def _remembered(
    state: FleetState,
    cases: Sequence[Case],
    snapshot: Snapshot,
    specs: Mapping[str, ServiceSpec],
) -> dict[str, ServiceState]:
    """Return what is remembered of each service; whoever is neither asked for nor seen is not."""
    services = {
        name: kept
        for name, kept in state.services.items()
        if name in specs or name in snapshot.services
    }
    for case in cases:
        services[case.spec.name] = case.state
    return dict(sorted(services.items()))
