"""The pure part of a tick: what the loop does and what replay must do again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from heteroscale.entities.action import Action
from heteroscale.entities.placement import PlacementPlan
from heteroscale.entities.plan import Plan
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import Snapshot
from heteroscale.entities.state import FleetState
from heteroscale.journal.handback import given_back
from heteroscale.planner import begin, plan
from heteroscale.prescheduler.solve import Solver, solve


def planned(
    state: FleetState,
    snapshot: Snapshot,
    fleet: FleetSpec,
    excluded: Collection[str] = (),
    solver: Solver = solve,
) -> tuple[Plan, FleetState]:
    """Return the plan without the excluded services, and the state with theirs untouched."""
    if not excluded:
        return given_back(*plan(state, snapshot, fleet, solver), snapshot, fleet)
    if len(excluded) == len(fleet.services):
        return _idle(snapshot), state
    rest = replace(
        fleet, services=tuple(spec for spec in fleet.services if spec.name not in excluded)
    )
    made, after = plan(state, snapshot, rest, solver)
    kept = {name: state.services[name] for name in sorted(excluded) if name in state.services}
    after = replace(after, services={**after.services, **kept})
    return given_back(made, after, snapshot, fleet, excluded)


def planned_around_faults(
    state: FleetState, snapshot: Snapshot, fleet: FleetSpec, solver: Solver = solve
) -> tuple[Plan, FleetState, dict[str, str]]:
    """Return the plan, the state, and service → error where planning raises.

    Whatever is raised is a bug of ours; the other services are planned all the same.
    """
    try:
        return *planned(state, snapshot, fleet, solver=solver), {}
    except Exception as error:  # noqa: BLE001 - one failing service must not stop the rest
        everything = f"{type(error).__name__}: {error}"
    excluded = _faulty(state, snapshot, fleet, solver)
    try:
        return *planned(state, snapshot, fleet, excluded, solver), excluded
    except Exception:  # noqa: BLE001 - none fails alone, all fail together: none may act
        excluded = {spec.name: excluded.get(spec.name, everything) for spec in fleet.services}
        return _idle(snapshot), state, excluded


def _idle(snapshot: Snapshot) -> Plan:
    return Plan(
        now_s=snapshot.now_s,
        generation=snapshot.inventory.generation,
        decisions=(),
        placement=PlacementPlan(),
        actions=(),
    )


def _faulty(
    state: FleetState, snapshot: Snapshot, fleet: FleetSpec, solver: Solver
) -> dict[str, str]:
    """Return service → error by halving: a few dozen plans where one service of thousands fails."""
    try:
        plan(state, snapshot, fleet, solver)
    except Exception as error:  # noqa: BLE001 - see planned_around_faults
        services = fleet.services
        if len(services) <= 1:
            return {spec.name: f"{type(error).__name__}: {error}" for spec in services}
        half = len(services) // 2
        left = replace(fleet, services=services[:half])
        right = replace(fleet, services=services[half:])
        return {
            **_faulty(state, snapshot, left, solver),
            **_faulty(state, snapshot, right, solver),
        }
    return {}


def begun(
    state: FleetState,
    actions: Sequence[Action],
    sent: Collection[str],
    now_s: float,
    fleet: FleetSpec,
) -> FleetState:
    """Return the state with the waits of the sent actions provisionally begun.

    What is given back for a service that is no longer asked for waits for nothing.
    """
    if not sent:
        return state
    asked = {spec.name for spec in fleet.services}
    chosen = tuple(one for one in actions if one.id in sent and one.service in asked)
    return begin(state, chosen, now_s, fleet) if chosen else state
