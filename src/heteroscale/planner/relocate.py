"""Groups that leave scarce subgroups, in one tick: who lets the old one go, and who sets out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heteroscale.entities.decision import Direction
from heteroscale.entities.placement import Grant, PlacementPlan, Release
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import FleetSpec, Mode, ServiceSpec
from heteroscale.entities.snapshot import Instance, Snapshot
from heteroscale.entities.state import Relocating
from heteroscale.lifecycle.budget import Left
from heteroscale.lifecycle.relocation import READY_WITHIN_S, may_take_over, staying, told
from heteroscale.planner.case import Case
from heteroscale.policy.brake import hour_budget_gpus
from heteroscale.policy.sized import Freedom
from heteroscale.prescheduler.make_way import Cycle, lacks_of
from heteroscale.prescheduler.objective import size_of
from heteroscale.prescheduler.place import grant_order
from heteroscale.prescheduler.relocate import Bounds, Departure, Resident, departures
from heteroscale.prescheduler.wish import NO_WISH

#: Between looks for groups to relocate: what stands scarce does so for long, and a look may cost
#: several cycles of placement.
LOOK_EVERY_S = 300.0


def relocate(
    cases: Sequence[Case], cycle: Cycle, placement: PlacementPlan, left: Left, from_s: float
) -> tuple[PlacementPlan, float]:
    """Return the placement with what is relocated in this tick, and when to look again.

    Args:
        cycle: of this tick.
        left: GPUs that left within the hour.
        from_s: nothing sets out before then.
    """
    snapshot, fleet = cycle.snapshot, cycle.fleet
    if any(case.state.relocating for case in cases):
        placement = _let_go(cases, placement, snapshot, fleet, left)
    now_s = snapshot.now_s
    # A later time was set by a clock that was set back since.
    waits = now_s < from_s <= now_s + LOOK_EVERY_S
    if waits or fleet.freeze or not fleet.defragment.groups:
        return placement, from_s
    found = _setting_out(cases, cycle, placement)
    if found is None:
        return placement, from_s
    by_name = {case.spec.name: case for case in cases}
    for one in found:
        _set_out(by_name[one.leaves.service], one, now_s)
    more = [grant for one in found for grant in one.grants]
    grants = sorted((*placement.grants, *more), key=grant_order)
    return replace(placement, grants=tuple(grants)), now_s + LOOK_EVERY_S


def _let_go(
    cases: Sequence[Case],
    placement: PlacementPlan,
    snapshot: Snapshot,
    fleet: FleetSpec,
    left: Left,
) -> PlacementPlan:
    """Let leave what others have taken the place of, as far as the hour's GPUs go."""
    fleet_gpus = sum(node.gpus for node in snapshot.inventory.nodes)
    budget = hour_budget_gpus(fleet.brake, fleet_gpus, left, snapshot.now_s)
    budget -= sum(_gpus(case.spec, one) for case in cases for one in _going(case))
    releases = {release.service: release for release in placement.releases}
    for case in cases:
        one = case.state.relocating
        if one is None or case.before.pending:
            continue
        leaving = one.leaving
        if not leaving and may_take_over(case.spec, one, snapshot, case.decision.capacity):
            leaving = (one.old,)
        gone = [
            each
            for each in staying(case.snapshot.instances, leaving)
            if each.uid not in case.blocked
        ]
        gpus = sum(_gpus(case.spec, each) for each in gone)
        if not gone or case.shrink is not Freedom.FREE or gpus > budget:
            left_s = max(0.0, one.until_s - snapshot.now_s)
            case.reasons.append(told(ReasonCode.RELOCATION_WAITS, one, left_s=left_s))
            continue
        budget -= gpus
        case.leaving |= {each.uid for each in gone}
        if not one.leaving:
            case.reasons.append(told(ReasonCode.RELOCATION_LEAVES, one))
            case.state = replace(case.state, relocating=replace(one, leaving=leaving))
        name = case.spec.name
        releases[name] = Release(service=name, uids=tuple(sorted(case.leaving)))
    return replace(placement, releases=tuple(releases[name] for name in sorted(releases)))


def _setting_out(
    cases: Sequence[Case], cycle: Cycle, placement: PlacementPlan
) -> tuple[Departure, ...] | None:
    """Return which groups set out; None = nothing was looked for."""
    rules = cycle.fleet.defragment
    under_way = [case.state.relocating for case in cases if case.state.relocating]
    bounds = Bounds(
        groups=rules.groups - len(under_way),
        gpus=rules.gpus - sum(one.gpus for one in under_way),
    )
    # What is given up frees room for whom it is given up, and is to be seen before more moves.
    if bounds.groups <= 0 or any(case.state.given_way for case in cases):
        return None
    residents = [
        Resident(spec=case.spec, snapshot=case.snapshot, supply=case.supply)
        for case in cases
        if _at_rest(case, cycle.snapshot.now_s)
    ]
    if not residents:
        return None
    specs = {case.spec.name: case.spec for case in cases}
    lacks = lacks_of(cycle.no_fits, specs, cycle.wanted)
    return departures(residents, bounds, cycle, placement.grants, lacks)


def _at_rest(case: Case, now_s: float) -> bool:
    """Return whether a service is acted on, wants nothing, waits for nothing and may change."""
    spec, state = case.spec, case.state
    held = spec.mode is not Mode.ENFORCE or spec.pin or case.hidden or case.blocked or case.moving
    free = case.grow is Freedom.FREE and case.shrink is Freedom.FREE
    return (
        not held
        and free
        and case.wish == NO_WISH
        and case.decision.direction is Direction.HOLD
        and state.relocating is None
        and now_s >= state.relocated_until_s
    )


def _set_out(case: Case, one: Departure, now_s: float) -> None:
    """Open what takes the place of a group."""
    new: dict[tuple[str, str], Grant] = {
        (grant.subcluster, grant.group): grant for grant in one.grants
    }
    relocating = Relocating(
        old=(one.leaves.subcluster, one.leaves.group),
        new=tuple(sorted(new)),
        gpus=one.gpus,
        until_s=now_s + READY_WITHIN_S,
    )
    case.state = replace(case.state, relocating=relocating)
    case.grants += one.grants
    scarcity = one.leaves.scarcity.name.lower()
    case.reasons.append(told(ReasonCode.RELOCATES, relocating, scarcity=scarcity))


def _going(case: Case) -> list[Instance]:
    return [one for one in case.snapshot.instances if one.uid in case.leaving]


def _gpus(spec: ServiceSpec, one: Instance) -> int:
    option = spec.option(one.role, one.accelerator)
    return 0 if option is None else size_of(option)
