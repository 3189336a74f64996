"""Properties of degradation by priority.

1. nobody is made smaller than what is essential to it
2. only who is allowed to gives way, and only to a higher priority
3. at a constant shortage the fleet comes to rest, and stays at rest when limits end
4. after the shortage everybody has what the load asks for again
5. at rest nobody lacks what is essential while one below it could still give way, unless somebody
   of higher or equal priority, who is placed first, would take the room for more than that
6. while nobody of lower priority may give way, nothing is taken from anybody
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.entities.action import Effect
from tests.shortage import ROLES, Shortage, build_tier

#: from a shortage to rest: two soft scale-ins one after another, and the start of what follows
SETTLES_TICKS = 60
#: a limit lasts 40 ticks beyond the last lack
LIMITED_TICKS = 45


@st.composite
def crowds(draw: st.DrawFn, *, preemptible: bool | None = None) -> Shortage:
    """Draw two to four services, each at rest under a load of its own, on a nearly full fleet."""
    specs, loads = [], {}
    for number in range(draw(st.integers(2, 4))):
        name, units = f"s{number}", draw(st.integers(2, 6))
        specs.append(
            build_tier(
                name,
                draw(st.sampled_from((20, 50, 80))),
                essential=draw(st.integers(1, units)),
                preemptible=draw(st.booleans()) if preemptible is None else preemptible,
            )
        )
        loads[name] = units
    spare = draw(st.integers(0, 2))
    return Shortage(*specs, loads=loads, nodes=2 * sum(loads.values()) + spare)


def check_tick(run: Shortage) -> None:
    """Tick once and hold the limits and what leaves to 1 and 2."""
    made = run.tick()
    specs = {spec.name: spec for spec in run.fleet.services}
    for name, state in run.state.services.items():
        if (way := state.given_way) is not None:
            assert specs[name].preemptible
            assert specs[way.to].priority > specs[name].priority
            assert all(
                way.most[role] >= units for role, units in specs[name].essential_units().items()
            )
    for name in sorted({one.service for one in made.actions if one.effect is Effect.IN}):
        assert specs[name].preemptible
        for role, units in specs[name].essential_units().items():
            assert run.supply(role)[name] >= units


def check_rest(run: Shortage) -> None:
    """Hold a fleet at rest to 5: on nodes that all are alike, any step would have helped."""
    supply = {role: run.supply(role) for role in ROLES}
    for spec in run.fleet.services:
        essential = spec.essential_units()
        if all(supply[role][spec.name] >= essential[role] for role in ROLES):
            continue
        unplaced = {no_fit.service for no_fit in run.plan.placement.no_fits} - {spec.name}
        if any(o.name in unplaced and o.priority >= spec.priority for o in run.fleet.services):
            continue
        for other in run.fleet.services:
            if other.preemptible and other.priority < spec.priority:
                essential = other.essential_units()
                assert all(supply[role][other.name] <= essential[role] for role in ROLES)


@settings(max_examples=15)
@given(crowds(), st.floats(0.1, 0.6))
def test_1_to_5_through_a_shortage_and_back(run: Shortage, share: float) -> None:
    run.pass_ticks(3)
    run.lose(round(share * len(run.world.inventory.nodes)))
    for _ in range(SETTLES_TICKS + LIMITED_TICKS):
        check_tick(run)
    before = [run.supply(role) for role in ROLES]
    for _ in range(LIMITED_TICKS):
        assert run.tick().actions == ()
    assert [run.supply(role) for role in ROLES] == before
    check_rest(run)
    run.lose(0)
    for _ in range(SETTLES_TICKS + LIMITED_TICKS):
        check_tick(run)
    assert all(run.supply(role) == run.loads for role in ROLES)


@settings(max_examples=6)
@given(crowds(preemptible=False), st.floats(0.1, 0.6))
def test_6_without_leave_nothing_is_taken(run: Shortage, share: float) -> None:
    run.pass_ticks(3)
    run.lose(round(share * len(run.world.inventory.nodes)))
    for _ in range(SETTLES_TICKS):
        made = run.tick()
        assert not any(one.effect is Effect.IN for one in made.actions)
        assert not any(state.given_way for state in run.state.services.values())
