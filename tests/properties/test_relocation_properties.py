"""Properties of groups that leave scarce subgroups by themselves.

1. while a group is relocated its service never has less ready than its load asks for
2. no more groups are on their way than the bounds say, and of a service one at most
3. every relocation leads to a less scarce subgroup, and its service rests after it
4. at a constant load the fleet comes to rest, every service with what it had, and stays at rest
5. groups that stand nowhere scarce, or need to, are left alone
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.entities.action import Effect
from heteroscale.entities.service import DefragmentSpec
from heteroscale.entities.snapshot import InstanceState
from tests.relocation import Street, build_tenant

ROLES = ("prefill", "decode")
#: how scarce the S2 switches of the street are
SCARCITY = {"h1": 2, "h2": 1, "h3": 0}
REST_S = 450.0
#: so many relocations fit one after another, each of them at most so many ticks
RELOCATION_TICKS = 60


@st.composite
def streets(draw: st.DrawFn) -> Street:
    """Draw one to three services under small loads, and room of every kind."""
    specs = [build_tenant(f"s{number}") for number in range(draw(st.integers(1, 3)))]
    loads = {spec.name: draw(st.integers(1, 2)) for spec in specs}
    rules = DefragmentSpec(
        groups=draw(st.integers(1, 3)), gpus=draw(st.sampled_from((16, 32, 96))), rest_s=REST_S
    )
    # What is there at the start fits the scarce nodes, or the first of each kind.
    units = 2 * sum(loads.values())
    return Street(
        *specs,
        loads=loads,
        scarce=units,
        middle=draw(st.integers(0, 6)),
        plain=draw(st.integers(0, 6)),
        rules=rules,
    )


def weight(run: Street) -> int:
    """Return how scarce all that is supply stands, summed over instances."""
    return sum(
        SCARCITY[domain]
        for name in run.loads
        for domains in run.stands(name).values()
        for domain in domains
    )


def check_tick(run: Street, ended_s: dict[str, float]) -> None:
    """Tick once and hold what is ready and on its way to 1, 2 and 3."""
    before = {name: one.relocating for name, one in run.state.services.items()}
    run.tick()
    moving = {name: one.relocating for name, one in run.state.services.items() if one.relocating}
    rules = run.fleet.defragment
    assert len(moving) <= rules.groups
    assert sum(one.gpus for one in moving.values()) <= rules.gpus
    for name, one in before.items():
        if one is not None and name not in moving:
            ended_s[name] = run.plan.now_s
    for name in moving:
        if before[name] is None:
            assert run.plan.now_s - ended_s.get(name, float("-inf")) >= REST_S
    ready: Counter[tuple[str, str]] = Counter()
    for each in run.world.instances.values():
        ready[each.service, each.role] += each.state is InstanceState.READY
    assert all(ready[name, role] >= units for name, units in run.loads.items() for role in ROLES)


@settings(max_examples=15)
@given(streets())
def test_1_to_4_relocations_one_after_another_until_nothing_scarce_can_be_freed(
    run: Street,
) -> None:
    ended_s: dict[str, float] = {}
    scarce = [weight(run)]
    # Each service has one group at the start, which goes down two classes at most.
    for _ in range(len(run.loads) * 2 * RELOCATION_TICKS):
        check_tick(run, ended_s)
        if not any(one.relocating for one in run.state.services.values()):
            scarce.append(weight(run))
    assert scarce == sorted(scarce, reverse=True)
    for _ in range(int(REST_S / 15.0) + 20):
        assert run.tick().actions == ()
    for name, units in run.loads.items():
        for role in ROLES:
            assert run.world.states(name, role) == ["ready"] * units


@settings(max_examples=5)
@given(st.integers(1, 3), st.integers(0, 6))
def test_5_who_stands_nowhere_scarce_is_left_alone(units: int, spare: int) -> None:
    run = Street(
        build_tenant(),
        loads={"chat": units},
        scarce=0,
        plain=2 * units + spare,
        rules=DefragmentSpec(groups=3),
    )
    for _ in range(40):
        assert not any(one.effect is Effect.OUT for one in run.tick().actions)
