"""The checker sees each rule of scarcity broken, and none where a shortage is honest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heteroscale.entities.action import Outcome, OutcomeKind
from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.placement import NoFit
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.service import DefragmentSpec, FleetSpec
from heteroscale.entities.snapshot import Snapshot
from heteroscale.entities.state import GivenWay, Relocating
from heteroscale.loop import TickReport
from heteroscale.planner import begin, plan
from heteroscale.policy.giving_way import RETURN_AFTER_S
from heteroscale.sim.scarcity_checks import COMES_S, ScarcityChecks
from tests.builders import build_readings
from tests.relocation import Street, build_tenant
from tests.shortage import Shortage, build_tier
from tests.ticking import Run

GOLD = build_tier("gold", 80, essential=6)
BRONZE = build_tier("bronze", 20, preemptible=True)
LOADS = {"gold": 6, "bronze": 6}


def look(run: Run, loads: dict[str, int]) -> TickReport:
    """Plan and send one tick of a scripted world; return what the loop would report."""
    run.world.pass_time(run.now_s)
    every = {name: build_readings(1000.0 * units) for name, units in loads.items()}
    snapshot: Snapshot = run.world.snapshot(run.now_s, every)
    made, after = plan(run.state, snapshot, run.fleet)
    run.state = begin(after, made.actions, run.now_s, run.fleet)
    outcomes = [run.world.apply(action, run.now_s) for action in made.actions]
    run.world.outcomes += outcomes
    run.now_s += 15.0
    return TickReport(
        tick=0,
        snapshot=snapshot,
        plan=made,
        state=run.state,
        sent=made.actions,
        outcomes=tuple(outcomes),
        excluded={},
        notices=(),
    )


def told(fleet: FleetSpec, reports: Sequence[TickReport]) -> list[str]:
    """Return what the checks say of these ticks, one after another."""
    checks = ScarcityChecks(fleet)
    return [each for report in reports for each in checks.broken(report)]


def calm(run: Run | None = None) -> tuple[FleetSpec, TickReport]:
    """Return a fleet at rest and a report of it."""
    run = run or Shortage(GOLD, BRONZE, loads=LOADS, nodes=24)
    look(run, LOADS)
    return run.fleet, look(run, LOADS)


def at(report: TickReport, seconds: float) -> TickReport:
    """Return the report so much later."""
    return replace(report, snapshot=replace(report.snapshot, now_s=report.snapshot.now_s + seconds))


def limited(report: TickReport, service: str, way: GivenWay | None) -> TickReport:
    services = dict(report.state.services)
    services[service] = replace(services[service], given_way=way)
    return replace(report, state=replace(report.state, services=services))


def way(to: str, units: int, report: TickReport) -> GivenWay:
    most = {"prefill": units, "decode": units}
    return GivenWay(to=to, most=most, until_s=report.snapshot.now_s + RETURN_AFTER_S)


def lacking(report: TickReport, *codes: ReasonCode) -> TickReport:
    """Return the report with gold lacking one unit of each role, and a reason for each code."""
    no_fit = NoFit(service="gold", missing={"prefill": 1, "decode": 1}, causes={"full": 1})
    reasons = tuple(Reason(step=Step.PLACE, code=code) for code in codes)
    decisions = tuple(
        replace(one, reasons=(*one.reasons, *reasons)) if one.service == "gold" else one
        for one in report.plan.decisions
    )
    placement = replace(report.plan.placement, no_fits=(no_fit,))
    return replace(report, plan=replace(report.plan, decisions=decisions, placement=placement))


def test_an_honest_shortage_breaks_nothing() -> None:
    run = Shortage(GOLD, BRONZE, loads=LOADS, nodes=24)
    reports = [look(run, LOADS) for _ in range(5)]
    run.lose(6)
    reports += [look(run, LOADS) for _ in range(120)]
    run.lose(0)
    reports += [look(run, LOADS) for _ in range(100)]
    assert any(report.state.services["bronze"].given_way for report in reports)
    assert told(run.fleet, reports) == []


def test_an_honest_relocation_breaks_nothing() -> None:
    run = Street(build_tenant())
    reports = [look(run, {"chat": 1}) for _ in range(60)]
    assert any(report.state.services["chat"].relocating for report in reports)
    assert told(run.fleet, reports) == []


def test_1_who_may_give_way_and_what() -> None:
    fleet, report = calm()
    wrong = limited(report, "gold", way("bronze", 1, report))
    assert told(fleet, [wrong]) == [
        "gold: gives way to bronze without leave",
        "gold: gives way to bronze, which is not above it",
        "gold: gives up prefill that is essential to it: 1 of 6",
        "gold: gives up decode that is essential to it: 1 of 6",
    ]


def test_2_nobody_exceeds_its_limit() -> None:
    fleet, report = calm()
    under = limited(lacking(report), "bronze", way("gold", 4, report))
    assert told(fleet, [under, at(under, 15.0)]) == [
        "bronze: decided to have 6 prefill, above its limit of 4",
        "bronze: decided to have 6 decode, above its limit of 4",
    ]
    assert told(fleet, [under, at(under, RETURN_AFTER_S)]) == []


def test_3_room_that_is_being_made_comes() -> None:
    fleet, report = calm()
    waits = lacking(report, ReasonCode.WAY_COMING)
    assert told(fleet, [waits, at(waits, 15.0), at(waits, 30.0 + COMES_S)]) == [
        f"gold: has waited for {COMES_S + 15.0:g} s for room that is being made"
    ]
    other = replace(waits.snapshot.inventory, generation="h")
    changed = replace(waits, snapshot=replace(waits.snapshot, inventory=other))
    between = at(changed, COMES_S / 2)
    assert told(fleet, [waits, between, at(changed, 30.0 + COMES_S)]) == []
    assert told(fleet, [waits, at(report, 15.0), at(waits, 30.0 + COMES_S)]) == []


def test_4_a_limit_ends() -> None:
    fleet, report = calm()
    under = limited(report, "bronze", way("gold", 6, report))
    late_s = RETURN_AFTER_S + 3 * fleet.interval_s
    assert told(fleet, [lacking(under), at(under, late_s)]) == [
        "bronze: is still limited for gold, which has lacked nothing for long"
    ]
    assert told(fleet, [lacking(under), at(limited(report, "bronze", None), late_s)]) == []


def test_5_nobody_grows_and_soon_gives_way() -> None:
    run = Shortage(GOLD, BRONZE, loads=LOADS, nodes=40)
    look(run, LOADS)
    before = look(run, LOADS)
    grows = look(run, {"gold": 6, "bronze": 7})
    assert {action.service for action in grows.sent} == {"bronze"}
    after = at(before, 60.0)
    given = limited(lacking(after), "bronze", way("gold", 6, after))
    assert told(run.fleet, [before, grows, given]) == [
        "bronze: gives way to gold 45 s after it grew, though nothing happened"
    ]
    refused = Outcome(action_id="a", service="gold", kind=OutcomeKind.REFUSED, at_s=0.0)
    reason = replace(at(before, 45.0), outcomes=(refused,))
    assert told(run.fleet, [before, grows, reason, given]) == []
    later = at(before, 30.0 + 2 * RETURN_AFTER_S)
    given = limited(lacking(later), "bronze", way("gold", 6, later))
    assert told(run.fleet, [before, grows, given]) == []


def test_6_relocations_keep_their_bounds_and_services_their_rest() -> None:
    run = Street(build_tenant(), build_tenant("code"), scarce=4, plain=4)
    loads = {"chat": 1, "code": 1}
    first = look(run, loads)
    one = first.state.services["chat"].relocating
    assert one is not None
    services = dict(first.state.services)
    services["code"] = replace(services["code"], relocating=one)
    both = replace(first, state=replace(first.state, services=services))
    assert told(run.fleet, [both]) == ["2 groups with 32 GPUs are relocated at once"]
    rests = replace(services["chat"], relocating=None, relocated_until_s=first.snapshot.now_s + 45)
    resting = replace(
        first, state=replace(first.state, services={**first.state.services, "chat": rests})
    )
    assert told(run.fleet, [resting, at(first, 15.0)]) == ["chat: relocated again 30 s too early"]
    off = replace(run.fleet, defragment=DefragmentSpec())
    assert told(off, [first]) == ["1 groups with 16 GPUs are relocated at once"]


def test_7_no_old_group_leaves_too_early() -> None:
    run = Street(build_tenant())
    first = look(run, {"chat": 1})
    one = first.state.services["chat"].relocating
    assert one is not None
    early: Relocating = replace(one, leaving=(one.old,))
    services = {"chat": replace(first.state.services["chat"], relocating=early)}
    left = replace(at(first, 15.0), state=replace(first.state, services=services))
    assert told(run.fleet, [first, left, at(left, 15.0)]) == [
        "chat: g0 leaves with 0 of 1 prefill ready elsewhere",
        "chat: g0 leaves with 0 of 1 decode ready elsewhere",
    ]
