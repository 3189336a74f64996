from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.action import Effect, OutcomeKind, Rotation, ScaleAction
from heteroscale.entities.placement import PlacementPlan
from heteroscale.entities.service import BrakeSpec, Pause
from heteroscale.entities.snapshot import InstanceState, Signal, UnknownCause
from heteroscale.entities.state import FleetState, PendingAction, ServiceState
from heteroscale.lifecycle.reach import HIDDEN_MAX_S
from heteroscale.planner import begin, plan
from tests.builders import NOW_S, build_readings, build_service, unknown
from tests.ticking import CHAT, EMPTY, GUARD, Run, counted, rotations, scalings
from tests.world import build_inventory, build_nodes


def test_a_steady_service_is_left_alone() -> None:
    run = Run(CHAT)
    run.look(4000.0)
    assert (run.plan.actions, run.plan.placement) == ((), PlacementPlan())
    assert run.plan.now_s == NOW_S
    assert run.plan.generation == "g"
    assert run.codes() == ["proportional", "within_tolerance"]
    assert run.chat.window_fed_s == NOW_S
    assert run.chat.replicas_seen == {"prefill": 4, "decode": 4}


def test_a_new_service_gets_a_group_with_all_its_roles() -> None:
    run = Run(CHAT, replicas=0)
    run.tick()
    assert counted(run.plan) == [("g0", "decode", 0, 1), ("g0", "prefill", 0, 1)]
    assert [action.version for action in scalings(run.plan)] == ["", ""]
    run.tick()
    assert run.plan.actions == ()
    assert run.world.states("chat", "decode") == ["starting"]


def test_a_service_that_was_not_observed_is_not_planned_and_keeps_its_memory() -> None:
    run = Run(CHAT)
    kept = ServiceState(restores=3)
    state = FleetState(services={"chat": kept, "gone": kept})
    snapshot = replace(run.world.snapshot(NOW_S, {}), services={})
    assert plan(state, snapshot, run.fleet) == (
        EMPTY,
        FleetState(services={"chat": kept}),
    )


def test_scale_out_moves_both_roles_and_starts_both_waits() -> None:
    run = Run(CHAT)
    run.tick(6000.0)
    assert counted(run.plan) == [("g0", "decode", 4, 6), ("g0", "prefill", 4, 6)]
    assert run.codes()[-2:] == ["placed", "placed"]
    assert run.chat.scale_out_until_s == NOW_S + GUARD.cool_down_out_s
    assert run.chat.scale_in_until_s == NOW_S + GUARD.cool_down_in_s
    run.look(9000.0)
    assert run.plan.actions == ()
    assert run.chat.pending == ()
    assert run.chat.scale_out_until_s == NOW_S + GUARD.cool_down_out_s


def test_a_refused_scale_out_gives_the_wait_back_and_is_asked_for_again() -> None:
    run = Run(CHAT)
    first = run.look(6000.0)
    run.send(*first.actions, answer=OutcomeKind.REFUSED)
    again = run.look(6000.0)
    assert again.actions == first.actions


def test_an_unknown_outcome_blocks_until_it_is_known_to_be_nothing() -> None:
    run = Run(CHAT)
    first = run.look(6000.0)
    run.send(*first.actions, answer=OutcomeKind.UNKNOWN)
    for _ in range(4):
        assert run.look(12_000.0).actions == ()
        assert "awaiting_outcome" in run.codes()
        run.now_s += 15.0
    assert counted(run.look(6000.0)) == [("g0", "decode", 4, 6), ("g0", "prefill", 4, 6)]
    assert "awaiting_outcome" not in run.codes()


def test_what_was_sent_and_is_not_seen_counts_as_coming_and_stops_only_its_target() -> None:
    run = Run(CHAT)
    run.world.inventory = build_inventory(*build_nodes(40), *build_nodes(8, domain=("west",)))
    first = run.look(6000.0)
    run.send(*first.actions, answer=OutcomeKind.UNKNOWN)
    for _ in range(2):
        run.now_s += 300.0
        # Two of each are on their way in the east, as far as anybody knows.
        run.look_at(build_readings(6000.0), unreachable=("east",))
        assert run.plan.actions == ()
        assert run.codes().count("coming") == 2
    run.look_at(build_readings(8000.0), unreachable=("east",))
    assert counted(run.plan) == [("g1", "decode", 0, 2), ("g1", "prefill", 0, 2)]
    assert {action.subcluster for action in run.plan.actions} == {"west"}


@pytest.mark.parametrize(
    ("effect", "leaving"),
    [
        pytest.param(Effect.OUT, 2, id="growth that may have happened takes nothing away"),
        pytest.param(Effect.IN, 0, id="a scale-in that may have happened may have taken enough"),
    ],
)
def test_scale_in_beside_what_was_sent_out_of_reach(effect: Effect, leaving: int) -> None:
    run = Run(CHAT)
    sent = PendingAction(
        action_id="a",
        sent_s=NOW_S - 900.0,
        out_until_before_s=0.0,
        in_until_before_s=0.0,
        targets=("out there",),
        versions=("",),
        subcluster="west",
        effect=effect,
    )
    run.state = FleetState(services={"chat": replace(run.chat, pending=(sent,))})
    run.look_at(build_readings(2500.0), unreachable=("west",))
    assert len(rotations(run.plan)) == leaving


def test_what_gets_no_node_is_told_then_called_off_and_placed_elsewhere() -> None:
    run = Run(CHAT, nodes=12)
    first = run.tick(6000.0)
    assert counted(first) == [("g0", "decode", 4, 6), ("g0", "prefill", 4, 6)]
    # The nodes that were counted on fail, and another sub-cluster opens.
    nodes = (*build_nodes(12, healthy=False), *build_nodes(8, domain=("west",)))
    run.world.inventory = build_inventory(*nodes)
    run.world.full = frozenset({"east"})
    run.now_s += GUARD.cool_down_out_s
    run.tick(6000.0)
    assert run.codes()[-1:] == ["coming"]
    run.now_s += CHAT.lifecycle.pending_timeout_s
    run.tick(6000.0)
    assert run.codes()[-2:] == ["called_off_unplaced", "called_off_unplaced"]
    assert [entry for entry in counted(run.plan) if entry[0] == "g1"] == [
        ("g1", "decode", 0, 2),
        ("g1", "prefill", 0, 2),
    ]
    for _ in range(9):
        run.tick(6000.0)
    assert run.world.states("chat", "decode") == ["ready"] * 6


def test_a_refused_withdrawal_takes_nothing_of_the_hour() -> None:
    run = Run(CHAT)
    for _ in range(5):
        made = run.look(2500.0)
        assert [action.gpus for action in rotations(made)] == [8, 8]
        run.send(*made.actions, answer=OutcomeKind.REFUSED)
    run.look(4000.0)
    assert run.state.left_gpus == ()


def test_growth_that_is_refused_keeps_nothing_that_has_ended() -> None:
    run = Run(CHAT)
    for uid in ("decode", "prefill"):
        lost = next(u for u, one in run.world.instances.items() if one.role == uid)
        run.world.instances[lost] = replace(run.world.instances[lost], state=InstanceState.FAILED)
    made = run.look(8000.0)
    assert counted(made) == [("g0", "decode", 4, 3), ("g0", "prefill", 4, 3)]
    run.send(*made.actions)
    assert counted(run.look(8000.0)) == [("g0", "decode", 3, 6), ("g0", "prefill", 3, 6)]


def test_a_clock_set_back_blocks_nothing_for_longer_than_the_longest_wait() -> None:
    run = Run(CHAT)
    day_s = 86_400.0
    late = replace(
        run.chat,
        scale_out_until_s=NOW_S + day_s,
        scale_in_until_s=NOW_S + day_s,
    )
    run.state = FleetState(services={"chat": late}, left_gpus=((NOW_S + day_s, 8),))
    run.look(6000.0)
    assert run.chat.scale_out_until_s == NOW_S + GUARD.cool_down_out_s
    assert run.chat.scale_in_until_s == NOW_S + GUARD.restore_wait_max_s
    assert run.state.left_gpus == ((NOW_S, 8),)


def test_soft_scale_in_runs_its_course() -> None:
    run = Run(CHAT)
    run.shrink()
    assert run.state.left_gpus == ((NOW_S, 16),)
    assert run.chat.scale_in_until_s == NOW_S + GUARD.cool_down_in_s
    assert run.world.states("chat", "decode") == ["ready", "ready", "ready", "withdrawn"]
    codes: list[str] = []
    for _ in range(8):
        run.tick(2500.0)
        codes += [code for code in run.codes() if code in {"drained", "terminated_idle"}]
    assert codes == ["drained", "drained", "terminated_idle", "terminated_idle"]
    assert run.world.states("chat", "decode") == ["ready"] * 3
    # The ends of a scale-in begin no wait of their own.
    assert run.chat.scale_in_until_s == NOW_S + GUARD.cool_down_in_s
    assert (run.chat.observed_s, run.chat.replicas_seen) == ({}, {"decode": 3, "prefill": 3})
    assert "adopted" not in codes


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        pytest.param({"tbt_s": 0.05}, "restored_slo", id="latency over its SLO"),
        pytest.param({"load_tps": 3900.0}, "restored_demand", id="demand is back"),
    ],
)
def test_what_is_withdrawn_comes_back_at_once(signals: dict[str, float], code: str) -> None:
    run = Run(CHAT)
    run.shrink()
    run.tick(**{"load_tps": 2500.0, **signals})
    assert run.codes()[-2:] == [code, code]
    assert [(a.to, a.effect) for a in rotations(run.plan)] == [
        (Rotation.READY, Effect.RESTORE),
        (Rotation.READY, Effect.RESTORE),
    ]
    assert scalings(run.plan) == []
    run.look(3500.0)
    assert run.world.states("chat", "decode") == ["ready"] * 4
    assert run.chat.restores == 1
    # What came back has not left the fleet.
    assert run.state.left_gpus == ()


def test_demand_restores_inside_the_scale_out_wait_and_under_a_freeze() -> None:
    run = Run(CHAT)
    run.shrink()
    waiting = replace(run.chat, scale_out_until_s=NOW_S + 999.0)
    run.state = FleetState(services={"chat": waiting})
    run.fleet = replace(run.fleet, freeze=True)
    run.tick(4500.0)
    assert [action.to for action in rotations(run.plan)] == [Rotation.READY, Rotation.READY]
    assert run.codes()[-2:] == ["restored_demand", "restored_demand"]


def test_what_withdrawn_instances_do_not_cover_is_placed() -> None:
    run = Run(CHAT)
    run.shrink()
    run.tick(6000.0)
    assert [action.to for action in rotations(run.plan)] == [Rotation.READY, Rotation.READY]
    assert counted(run.plan) == [("g0", "decode", 4, 6), ("g0", "prefill", 4, 6)]


def test_latency_unknown_for_too_long_restores() -> None:
    run = Run(CHAT)
    run.shrink()
    blind = [unknown(r) if r.signal is Signal.TBT else r for r in build_readings(2500.0)]
    for _ in range(3):
        run.look_at(blind)
        assert run.plan.actions == ()
        run.now_s += 15.0
    run.look_at(blind)
    assert run.codes()[-2:] == ["restored_unknown", "restored_unknown"]


def test_no_events_beside_a_known_zero_load_are_fine() -> None:
    run = Run(CHAT)
    run.shrink()
    quiet = [
        unknown(r, UnknownCause.NO_EVENTS) if r.signal in (Signal.TTFT, Signal.TBT) else r
        for r in build_readings(0.0)
    ]
    for _ in range(5):
        run.look_at(quiet)
        run.now_s += 15.0
    assert run.codes()[-2:] == ["drained", "drained"]
    assert run.chat.unknown_since_s is None


def test_pausing_scale_in_brings_the_withdrawn_back() -> None:
    run = Run(CHAT)
    run.shrink()
    run.fleet = replace(run.fleet, services=(replace(CHAT, pause=Pause(scale_in=True)),))
    run.look(2500.0)
    assert run.codes()[-2:] == ["restored_cancelled", "restored_cancelled"]


def test_a_freeze_stops_everything_but_restores() -> None:
    run = Run(CHAT)
    run.shrink()
    run.fleet = replace(run.fleet, freeze=True)
    for _ in range(8):
        assert run.tick(2500.0).actions == ()
    made = run.tick(9000.0)
    assert [action.to for action in rotations(made)] == [Rotation.READY, Rotation.READY]
    assert scalings(made) == []


def test_what_comes_back_and_what_leaves_do_not_meet() -> None:
    pinned = replace(CHAT, pin={"decode": 2})
    run = Run(CHAT)
    run.shrink()
    run.fleet = replace(run.fleet, services=(pinned,))
    # Latency brings prefill back; decode is beyond the pin and stays withdrawn, for its order.
    run.tick(2500.0, tbt_s=0.05)
    assert [(a.to, "prefill" in a.uid) for a in rotations(run.plan)] == [(Rotation.READY, True)]
    run.tick(2500.0)
    assert [a.to for a in rotations(run.plan)] == [Rotation.WITHDRAWN] * 3
    run.tick(2500.0, tbt_s=0.05)
    # Decode would leave and prefill come back: what comes back goes first.
    assert [(a.to, "prefill" in a.uid) for a in rotations(run.plan)] == [
        (Rotation.READY, True),
        (Rotation.READY, True),
    ]


def test_a_count_changed_by_hand_is_adopted() -> None:
    run = Run(CHAT)
    run.look(4000.0)
    by_hand = ScaleAction(
        id="by hand",
        service="chat",
        subcluster="east",
        group="g0",
        role="decode",
        accelerator="H20",
        domain=(),
        replicas=5,
        expected_replicas=4,
        version="1",
    )
    run.world.apply(by_hand, NOW_S)
    run.look(4500.0)
    assert "adopted" in run.codes()
    assert run.chat.scale_out_until_s == NOW_S + GUARD.cool_down_out_s
    assert run.chat.scale_in_until_s == NOW_S + GUARD.cool_down_in_s
    assert run.chat.replicas_seen == {"decode": 5, "prefill": 4}
    assert all(action.role != "decode" for action in scalings(run.plan))


def test_what_is_out_of_reach_is_supply_and_stays_as_it_is() -> None:
    run = Run(CHAT)
    run.shrink()
    run.look_at(build_readings(9000.0, tbt_s=0.06), unreachable=("east",))
    assert run.plan.actions == ()
    assert "out_of_reach" in run.codes()
    # No node is left that can be reached, so the growth is reported.
    assert [no_fit.causes for no_fit in run.plan.placement.no_fits] == [{}]
    assert "no_fit" in run.codes()


def test_a_service_in_a_sub_cluster_never_seen_is_not_built_a_second_time() -> None:
    run = Run(CHAT, replicas=0)
    readings = build_readings(4000.0)
    for _ in range(2):
        run.look_at(readings, unreachable=("west",))
        assert (run.plan.actions, run.codes()[-1]) == ((), "never_seen")
    # Half an hour later it is taken as lost, unless it is seen before.
    kept = run.state
    run.now_s += HIDDEN_MAX_S
    run.look_at(readings, unreachable=("west",))
    assert counted(run.plan) == [("g0", "decode", 0, 1), ("g0", "prefill", 0, 1)]
    run.state = kept
    run.look_at(readings)
    assert counted(run.plan) == [("g0", "decode", 0, 1), ("g0", "prefill", 0, 1)]
    assert run.chat.hidden_since_s is None


def test_a_failed_instance_is_removed_and_replaced_by_demand() -> None:
    run = Run(CHAT)
    lost = next(uid for uid, one in run.world.instances.items() if one.role == "decode")
    run.world.instances[lost] = replace(run.world.instances[lost], state=InstanceState.FAILED)
    run.tick(3900.0)
    removals = [action for action in scalings(run.plan) if action.remove]
    if not removals:
        # Growth of the same count goes first; the removal follows.
        run.tick(3900.0)
        removals = [action for action in scalings(run.plan) if action.remove]
    assert [action.remove for action in removals] == [(lost,)]
    for _ in range(20):
        run.tick(3900.0)
    assert run.world.states("chat", "decode") == ["ready"] * 4


def test_the_gate_holds_newcomers_and_lets_them_in_together() -> None:
    run = Run(CHAT, replicas=0)
    run.fleet = replace(run.fleet, services=(replace(CHAT, pin={"decode": 4, "prefill": 4}),))
    run.tick()
    run.tick()
    assert [action.to for action in rotations(run.plan)] == [Rotation.HELD] * 6
    assert run.codes()[-2:] == ["gate_held", "gate_held"]
    for _ in range(8):
        run.tick()
    assert run.world.states("chat", "prefill") == ["ready"] * 4
    assert run.world.states("chat", "decode") == ["ready"] * 4


def test_a_freeze_holds_no_newcomers() -> None:
    run = Run(CHAT, replicas=0)
    run.fleet = replace(run.fleet, services=(replace(CHAT, pin={"decode": 4, "prefill": 4}),))
    run.tick()
    run.fleet = replace(run.fleet, freeze=True)
    assert run.tick().actions == ()


def test_newcomers_that_are_no_longer_wanted_are_called_off() -> None:
    run = Run(CHAT, start_up_s=9999.0, replicas=0)
    run.fleet = replace(run.fleet, services=(replace(CHAT, pin={"decode": 4, "prefill": 4}),))
    run.tick()
    run.tick()
    run.fleet = replace(run.fleet, services=(replace(CHAT, pin={"decode": 2, "prefill": 2}),))
    run.tick()
    assert counted(run.plan) == [("g0", "decode", 4, 2), ("g0", "prefill", 4, 2)]
    assert [action.effect for action in scalings(run.plan)] == [Effect.IN, Effect.IN]
    assert run.codes()[-2:] == ["called_off", "called_off"]
    assert run.state.left_gpus == ((run.now_s - 15.0, 32),)


def test_a_service_that_lost_everything_is_rebuilt_once_as_large_as_it_was() -> None:
    run = Run(CHAT, replicas=3)
    for uid, one in run.world.instances.items():
        run.world.instances[uid] = replace(one, state=InstanceState.FAILED)
    run.tick(None)
    assert counted(run.plan) == [("g0", "decode", 3, 6), ("g0", "prefill", 3, 6)]
    run.tick(None)
    # Nothing is ready yet, but what replaces the lost is not itself short of anything.
    assert counted(run.plan) == [("g0", "decode", 6, 3), ("g0", "prefill", 6, 3)]
    assert run.codes()[-2:] == ["removed_failed", "removed_failed"]
    assert run.tick(None).actions == ()
    assert run.world.states("chat", "decode") == ["starting"] * 3


def test_services_come_sorted_and_share_the_ledger_by_priority() -> None:
    low = build_service("low", priority=10, guard=GUARD)
    high = build_service("high", priority=90, guard=GUARD)
    run = Run(low, high, replicas=2, nodes=10)
    run.look(3000.0)
    assert [decision.service for decision in run.plan.decisions] == ["high", "low"]
    assert {action.service for action in run.plan.actions} == {"high"}
    assert "no_fit" in run.codes("low")


def test_the_brake_is_asked() -> None:
    specs = tuple(build_service(f"s{i:02d}", guard=GUARD) for i in range(12))
    run = Run(*specs, nodes=200)
    run.fleet = replace(run.fleet, brake=BrakeSpec(share=0.3, services=10))
    run.look(1000.0)
    assert run.plan.actions == ()
    assert "brake_share" in run.codes("s00")


def test_beginning_twice_is_beginning_once_and_hours_are_forgotten() -> None:
    run = Run(CHAT)
    made = run.look(2500.0)
    old = replace(run.state, left_gpus=((NOW_S - 3600.0, 8), (NOW_S - 10.0, 8)))
    once = begin(old, made.actions, NOW_S, run.fleet)
    assert once.left_gpus == ((NOW_S - 10.0, 8), (NOW_S, 16))
    assert begin(once, made.actions, NOW_S, run.fleet) == once
    assert begin(once, (), NOW_S, run.fleet) == once
