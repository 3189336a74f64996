"""The checker sees each invariant broken: a loop that lies about one tick, or a world that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from heteroscale.app import assemble
from heteroscale.config.fault_sections import FaultKind, FaultSection
from heteroscale.entities.action import Effect, Outcome, OutcomeKind, Rotation, RotationAction
from heteroscale.entities.decision import Decision, Direction
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import InstanceState, Reading, ServiceSnapshot, Signal
from heteroscale.entities.state import ServiceState
from heteroscale.errors import InvariantViolation
from heteroscale.loop import TickReport
from heteroscale.sim.checker import FAILED_TICKS, Checked
from heteroscale.sim.kernel_state import G_ARRIVED
from heteroscale.sim.run import Ticker
from heteroscale.sim.world import World
from tests.unit.sim.small import small, world_of


@dataclass
class Told:
    """A loop that tells what it was given."""

    reports: list[TickReport]

    def tick(self) -> TickReport:
        return self.reports.pop(0)


def quiet() -> tuple[World, FleetSpec, TickReport]:
    """Return a world at its start and an honest report of one quiet tick in it."""
    scenario = small(duration_s=15.0)
    reports: list[TickReport] = []

    class Noted:
        def __init__(self, loop: Ticker) -> None:
            self._loop = loop

        def tick(self) -> TickReport:
            reports.append(self._loop.tick())
            return reports[-1]

    assemble(scenario, watched=Noted).go()
    world = world_of(scenario)
    return world, scenario.fleet, reports[0]


WORLD, FLEET, HONEST = quiet()


def checked(*reports: TickReport) -> None:
    loop = Checked(Told(list(reports)), FLEET, WORLD.plant, WORLD.subclusters)
    for _ in reports:
        loop.tick()


def decided(**changes: object) -> TickReport:
    """Return the report with another decision."""
    (decision,) = HONEST.plan.decisions
    other: Decision = replace(decision, **changes)  # type: ignore[arg-type]  # fields by name
    return replace(HONEST, plan=replace(HONEST.plan, decisions=(other,)))


def seeing(report: TickReport, **changes: object) -> TickReport:
    """Return the report with another view of the service."""
    service: ServiceSnapshot = report.snapshot.services["chat"]
    other = replace(service, **changes)  # type: ignore[arg-type]  # fields by name
    return replace(report, snapshot=replace(report.snapshot, services={"chat": other}))


def remembering(report: TickReport, **changes: object) -> TickReport:
    memory: ServiceState = report.state.services["chat"]
    other = replace(memory, **changes)  # type: ignore[arg-type]  # fields by name
    return replace(report, state=replace(report.state, services={"chat": other}))


def action(**changes: object) -> RotationAction:
    one = HONEST.snapshot.services["chat"].instances[0]
    made = RotationAction(
        id="a1",
        service="chat",
        subcluster="main",
        uid=one.uid,
        to=Rotation.WITHDRAWN,
        version=one.version,
        effect=Effect.IN,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields by name


def sent(report: TickReport, *actions: RotationAction, planned: bool = True) -> TickReport:
    outcomes = tuple(
        Outcome(action_id=one.id, service="chat", kind=OutcomeKind.REFUSED, at_s=0.0)
        for one in actions
    )
    plan = replace(report.plan, actions=actions if planned else ())
    return replace(report, plan=plan, sent=actions, outcomes=outcomes)


KNOWN = tuple(
    Reading(signal=signal, role=role, value=1.0)
    for signal, role in (
        (Signal.TPS, "decode"),
        (Signal.TTFT, "prefill"),
        (Signal.TBT, "decode"),
    )
)
IN = seeing(decided(direction=Direction.IN), readings=KNOWN)
REASONED = HONEST.plan.decisions[0].reasons
FIRST = HONEST.snapshot.services["chat"].instances[0]


def test_an_honest_tick_passes() -> None:
    checked(HONEST, HONEST)
    assert REASONED


@pytest.mark.parametrize(
    ("reports", "broken"),
    [
        pytest.param(
            [replace(HONEST, excluded={"chat": "KeyError: 'x'"})],
            "the planner failed: KeyError",
            id="the planner fails",
        ),
        pytest.param(
            [replace(HONEST, notices=("begin: bug; nothing is sent",))],
            "begin: bug",
            id="waits cannot begin",
        ),
        pytest.param(
            [seeing(decided(direction=Direction.OUT, reasons=()), readings=KNOWN)],
            "OUT without a reason",
            id="a change without a reason",
        ),
        pytest.param(
            [decided(capacity={"prefill": 0, "decode": 13})],
            "prefill decided to have 0; decode decided to have 13",
            id="capacity outside the bounds",
        ),
        pytest.param(
            [HONEST, decided(capacity={"prefill": 4, "decode": 4})],
            "decode holds 4 units, of which no more than 3",
            id="a hold that asks for more and more",
        ),
        pytest.param(
            [seeing(IN, readings=KNOWN[:2])],
            "scaled in with decode tbt_s unknown",
            id="a latency nobody reports",
        ),
        pytest.param(
            [seeing(IN, readings=(*KNOWN[1:], replace(KNOWN[0], age_s=61.0)))],
            "scaled in with decode tps unknown",
            id="a load that is stale",
        ),
        pytest.param(
            [seeing(IN, readings=(*KNOWN[1:], replace(KNOWN[0], coverage=0.5)))],
            "scaled in with decode tps unknown",
            id="a load that is thin",
        ),
        pytest.param(
            [remembering(HONEST, scale_in_until_s=HONEST.snapshot.now_s + 9.0), IN],
            "scaled in 9 s before its wait was over",
            id="a wait that is not over",
        ),
        pytest.param(
            [sent(seeing(HONEST, readings=()), action())],
            "scaled in with decode tps unknown",
            id="an instance withdrawn in the dark",
        ),
        pytest.param(
            [sent(seeing(HONEST, readings=KNOWN), action(), action(id="a2"))],
            f"{FIRST.uid} was sent more than one action",
            id="two actions on one target",
        ),
        pytest.param(
            [sent(seeing(HONEST, readings=KNOWN), action(), planned=False)],
            "a1 was sent and not planned",
            id="an action nobody planned",
        ),
        pytest.param(
            [seeing(HONEST, instances=(replace(FIRST, state=InstanceState.WITHDRAWN),))],
            f"{FIRST.uid} is withdrawn and not watched",
            id="a withdrawn instance without an owner",
        ),
        pytest.param(
            [seeing(HONEST, instances=(replace(FIRST, state=InstanceState.FAILED),))]
            * (FAILED_TICKS + 1),
            f"{FIRST.uid} has failed and stays",
            id="a failed instance that nobody removes",
        ),
    ],
)
def test_a_plan_that_breaks_its_promise_is_seen(reports: list[TickReport], broken: str) -> None:
    with pytest.raises(InvariantViolation, match=r"^tick 0 ") as caught:
        checked(*reports)
    assert broken in str(caught.value)


def lose_a_gpu(world: World) -> None:
    world.plant.rosters[0].pool._free[0] -= 1


def lose_a_row(world: World) -> None:
    roster = world.plant.rosters[0]
    next(iter(roster._counts.values())).replicas += 1
    roster._group_roles = None
    for count in roster._counts.values():
        count.shown = None


def lose_a_request(world: World) -> None:
    world.plant.services["chat"].serving._state.scalars[G_ARRIVED] += 1


@pytest.mark.parametrize(
    ("breaking", "broken"),
    [
        pytest.param(lose_a_gpu, "main-0-00000 has 8 GPUs: -1 free and 8 held", id="a GPU"),
        pytest.param(lose_a_row, "asks for 5 and has 4", id="an instance"),
        pytest.param(lose_a_request, "1 requests arrived, 0 ended and 0 are", id="a request"),
    ],
)
def test_a_world_that_loses_something_is_seen(
    breaking: Callable[[World], None], broken: str
) -> None:
    world, fleet, report = quiet()
    breaking(world)
    loop = Checked(Told([report]), fleet, world.plant, world.subclusters)
    with pytest.raises(InvariantViolation) as caught:
        loop.tick()
    assert broken in str(caught.value)


def test_an_action_that_has_an_effect_twice_is_seen() -> None:
    world, fleet, report = quiet()
    # Said to be applied, but it was not: so applying it now changes something.
    lying = sent(seeing(report, readings=KNOWN), action())
    lying = replace(lying, outcomes=(replace(lying.outcomes[0], kind=OutcomeKind.APPLIED),))
    loop = Checked(Told([lying]), fleet, world.plant, world.subclusters)
    with pytest.raises(InvariantViolation, match=f"a1 on {FIRST.uid} had an effect twice"):
        loop.tick()


def test_a_violation_stops_the_run_with_its_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heteroscale.sim.checker.FAILED_TICKS", -1)
    loss = FaultSection(at_s=100.0, kind=FaultKind.INSTANCE_LOSS)
    with pytest.raises(InvariantViolation, match=r"tick 6 \(\d+\.000\): .* has failed and stays"):
        assemble(small(faults=(loss,)), check=True).go()
