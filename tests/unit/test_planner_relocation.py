"""A group leaves a scarce subgroup, tick by tick: what takes its place comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.entities.action import Effect, OutcomeKind
from heteroscale.entities.placement import Grant, Release
from heteroscale.entities.policy import GuardSpec
from heteroscale.entities.service import BrakeSpec, DefragmentSpec, Mode, Pause
from heteroscale.entities.snapshot import InstanceState
from heteroscale.entities.state import GivenWay, Relocating
from heteroscale.lifecycle.relocation import READY_WITHIN_S
from heteroscale.planner.relocate import LOOK_EVERY_S
from tests.builders import build_readings
from tests.relocation import Street, build_tenant
from tests.ticking import counted, rotations
from tests.world import build_inventory

STAYS = "group east/g0 stays until east/g1, opened in its place, is ready"
CHAT, CODE = build_tenant(), build_tenant("code")
#: ticks until the newcomers are ready, and until the cool-down of 600 s after them is over
READY_TICKS, FREE_TICKS = 6, 40
#: ticks until the service may grow again
GROW_TICKS = 14


def begun(*, ticks: int = 1, start_up_s: float = 60.0) -> Street:
    """Return a street on which the relocation of chat's only group has begun so many ticks ago."""
    run = Street(CHAT, start_up_s=start_up_s)
    run.tick()
    assert run.chat.relocating is not None
    run.pass_ticks(ticks - 1)
    return run


def test_a_group_that_stands_scarce_without_need_leaves_once_another_has_its_place() -> None:
    run = Street(CHAT)
    assert run.stands() == {"g0": ["h1", "h1"]}
    made = run.tick()
    assert counted(made) == [("g1", "decode", 0, 1), ("g1", "prefill", 0, 1)]
    assert made.placement.grants == tuple(
        Grant(
            service="chat",
            group="g1",
            role=role,
            accelerator="H20",
            domain=("east", "h3"),
            subcluster="east",
            replicas=1,
            nodes=((f"h20-east-h3-p4-r4-000{number}",),),
        )
        for number, role in enumerate(("decode", "prefill"))
    )
    memory = run.chat
    assert memory.relocating == Relocating(
        old=("east", "g0"),
        new=(("east", "g1"),),
        gpus=16,
        until_s=made.now_s + READY_WITHIN_S,
    )
    assert run.said() == [
        "group east/g0 is to leave a high subgroup to others: east/g1 is opened in its place first"
    ]
    run.pass_ticks(FREE_TICKS - 1)
    assert run.stands() == {"g0": ["h1", "h1"], "g1": ["h3", "h3"]}
    assert run.said() == [f"{STAYS} and scale-in may be: 1215 s more at most"]
    made = run.tick()
    assert [one.effect for one in rotations(made)] == [Effect.IN, Effect.IN]
    (release,) = made.placement.releases
    assert release == Release(service="chat", uids=tuple(sorted(run.chat_uids("g0"))))
    assert run.said() == ["east/g1 has taken the place of group east/g0, which leaves"]
    run.tick()
    assert run.said() == [
        "group east/g0 has left a scarce subgroup to others: east/g1 is in its place"
    ]
    assert run.chat.relocating is None
    run.pass_ticks(8)
    assert run.stands() == {"g1": ["h3", "h3"]}


def test_the_decision_stays_what_the_load_asks_for() -> None:
    run = Street(CHAT)
    for _ in range(FREE_TICKS + 10):
        made = run.tick()
        (decision,) = made.decisions
        assert dict(decision.capacity) == {"prefill": 1, "decode": 1}


def test_nothing_moves_unless_the_fleet_is_told_to() -> None:
    run = Street(CHAT, rules=DefragmentSpec())
    for _ in range(20):
        assert run.tick().actions == ()
    assert run.state.relocate_from_s == 0.0


def test_a_group_moves_down_to_the_middle_and_rests_before_it_goes_on() -> None:
    run = Street(CHAT, middle=2, plain=0, rules=DefragmentSpec(groups=1, rest_s=3600.0))
    run.pass_ticks(FREE_TICKS + 10)
    assert run.stands() == {"g1": ["h2", "h2"]}
    plain = Street(CHAT).world.inventory.nodes
    run.world.inventory = build_inventory(
        *run.world.inventory.nodes, *(node for node in plain if node.domain[1] == "h3")
    )
    rested_s = run.chat.relocated_until_s
    while run.chat.relocating is None:
        run.tick()
    assert 0.0 <= run.plan.now_s - rested_s <= LOOK_EVERY_S
    run.pass_ticks(FREE_TICKS + 10)
    assert list(run.stands().values()) == [["h3", "h3"]]
    run.pass_ticks(300)
    assert list(run.stands().values()) == [["h3", "h3"]]


def test_no_more_groups_and_gpus_are_on_their_way_than_the_bounds_say() -> None:
    for rules, moving in (
        (DefragmentSpec(groups=1), ["chat"]),
        (DefragmentSpec(groups=2), ["chat", "code"]),
        (DefragmentSpec(groups=2, gpus=31), ["chat"]),
        (DefragmentSpec(groups=2, gpus=15), []),
    ):
        run = Street(CHAT, CODE, scarce=4, plain=4, rules=rules)
        run.pass_ticks(10)
        assert [name for name, one in run.state.services.items() if one.relocating] == moving


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": Mode.OBSERVE},
        {"pause": Pause(scale_in=True)},
        {"pause": Pause(scale_out=True)},
        {"pin": {"prefill": 1, "decode": 1}},
    ],
    ids=str,
)
def test_what_the_operator_holds_is_not_moved(fields: dict[str, object]) -> None:
    run = Street(CHAT)
    run.change(**fields)
    run.pass_ticks(10)
    assert run.chat.relocating is None


def test_nor_what_is_not_known_to_be_calm_or_has_no_room_for_twice() -> None:
    run = Street(CHAT)
    for _ in range(10):
        run.tick(ttft_s=None)
    assert run.chat.relocating is None
    run = Street(build_tenant(maximum=1))
    run.pass_ticks(10)
    assert run.chat.relocating is None
    run = Street(CHAT)
    run.fleet = replace(run.fleet, freeze=True)
    run.pass_ticks(10)
    assert run.chat.relocating is None


def test_while_somebody_gives_way_nothing_sets_out() -> None:
    run = Street(CHAT, replace(CODE, preemptible=True), scarce=2, plain=4)
    way = GivenWay(to="chat", most={"prefill": 1, "decode": 1}, until_s=run.now_s + 300.0)
    services = dict(run.state.services)
    services["code"] = replace(services["code"], given_way=way)
    run.state = replace(run.state, services=services)
    run.pass_ticks(10)
    assert run.chat.relocating is None
    run.pass_ticks(30)
    assert run.chat.relocating is not None


def test_growth_on_the_way_makes_the_newcomers_part_of_the_service() -> None:
    run = begun(ticks=GROW_TICKS)
    run.loads["chat"] = 2
    made = run.tick()
    assert run.said() == [
        "the load has changed: east/g1 stays beside group east/g0, in whose place it was opened"
    ]
    assert made.actions == ()
    assert run.chat.relocating is None
    run.pass_ticks(60)
    assert run.stands() == {"g0": ["h1", "h1"], "g1": ["h3", "h3"]}


def test_what_is_too_much_once_it_is_overtaken_waits_like_any_scale_in() -> None:
    run = begun(ticks=READY_TICKS)
    for uid, one in run.world.instances.items():
        if one.role == "decode":
            failed = replace(one, state=InstanceState.FAILED, version=f"{one.version}x")
            run.world.instances[uid] = failed
    made = run.tick()
    assert run.chat.relocating is None
    assert Effect.IN not in {one.effect for one in made.actions}


def test_a_fall_of_the_load_on_the_way_frees_the_scarce_ones_by_the_usual_scale_in() -> None:
    run = Street(CHAT, loads={"chat": 2}, scarce=4, plain=4)
    run.pass_ticks(READY_TICKS)
    run.loads["chat"] = 1
    # The last step waits for the next hour's GPUs.
    run.pass_ticks(300)
    assert run.stands() == {"g1": ["h3", "h3"]}


def test_what_is_not_ready_in_time_leaves_again() -> None:
    run = begun(start_up_s=1e6)
    run.pass_ticks(119)
    assert run.stands() == {"g0": ["h1", "h1"], "g1": ["h3", "h3"]}
    made = run.tick()
    assert counted(made) == [("g1", "decode", 1, 0), ("g1", "prefill", 1, 0)]
    run.pass_ticks(2)
    assert run.chat.relocating is None
    assert run.stands() == {"g0": ["h1", "h1"]}


def test_why_it_was_called_off_is_told() -> None:
    run = begun(start_up_s=1e6)
    told: list[str] = []
    for _ in range(130):
        run.tick()
        told += run.said()
    assert told[-1] == (
        "east/g1 was not ready in time and is gone again: group east/g0 stays where it is"
    )


def test_what_never_comes_is_forgotten() -> None:
    run = Street(CHAT)
    made = run.look()
    run.send(*made.actions, answer=OutcomeKind.REFUSED)
    run.tick()
    assert run.said() == ["nothing of east/g1 has come: group east/g0 stays where it is"]
    run.pass_ticks(30)
    assert run.chat.relocating is None


def test_what_has_failed_on_the_way_leaves_nothing_to_wait_for() -> None:
    run = begun(ticks=READY_TICKS)
    for uid, one in run.world.instances.items():
        if one.group == "g0":
            failed = replace(one, state=InstanceState.FAILED, version=f"{one.version}x")
            run.world.instances[uid] = failed
    run.tick()
    assert run.chat.relocating is None
    run.pass_ticks(10)
    assert run.stands() == {"g1": ["h3", "h3"]}


@pytest.mark.parametrize(
    "fields", [{"mode": Mode.OBSERVE}, {"pin": {"prefill": 2, "decode": 2}}], ids=str
)
def test_the_operators_hand_ends_it(fields: dict[str, object]) -> None:
    run = begun(ticks=READY_TICKS)
    run.change(**fields)
    run.look()
    (said,) = run.said()
    assert said.startswith("group east/g0 is not relocated any more, as the service is held by")
    assert run.chat.relocating is None


def test_a_pause_lets_it_wait() -> None:
    run = begun(ticks=READY_TICKS)
    run.change(pause=Pause(scale_in=True))
    run.pass_ticks(FREE_TICKS)
    assert run.stands() == {"g0": ["h1", "h1"], "g1": ["h3", "h3"]}
    run.change(pause=Pause())
    run.pass_ticks(10)
    assert run.stands() == {"g1": ["h3", "h3"]}


def test_unknown_latency_lets_it_wait() -> None:
    run = begun(ticks=FREE_TICKS)
    for _ in range(20):
        assert run.tick(ttft_s=None).actions == ()
    assert rotations(run.tick())


def test_no_group_leaves_beyond_the_hours_gpus() -> None:
    run = begun()
    run.fleet = replace(run.fleet, brake=BrakeSpec(gpus_per_hour_share=0.3))
    run.pass_ticks(FREE_TICKS + 10)
    assert run.stands() == {"g0": ["h1", "h1"], "g1": ["h3", "h3"]}
    run.fleet = replace(run.fleet, brake=BrakeSpec(gpus_per_hour_share=0.5))
    run.pass_ticks(10)
    assert run.stands() == {"g1": ["h3", "h3"]}


def test_an_old_group_that_is_missed_comes_back_and_stays() -> None:
    run = begun(ticks=FREE_TICKS + 2)
    assert run.stands() == {"g1": ["h3", "h3"]}
    made = run.tick(ttft_s=1.5)
    assert {one.effect for one in rotations(made)} == {Effect.RESTORE}
    run.pass_ticks(4)
    assert run.stands() == {"g0": ["h1", "h1"], "g1": ["h3", "h3"]}
    assert run.chat.relocating is None


def test_half_of_it_that_did_not_go_goes_later() -> None:
    run = begun(ticks=FREE_TICKS)
    made = run.look()
    first, second = made.actions
    run.send(first)
    run.send(second, answer=OutcomeKind.STALE)
    run.pass_ticks(READY_TICKS)
    assert run.stands() == {"g0": ["h1"], "g1": ["h3", "h3"]}
    run.pass_ticks(FREE_TICKS)
    assert run.stands() == {"g1": ["h3", "h3"]}
    assert run.chat.relocating is None


def test_half_of_it_that_is_missed_ends_it() -> None:
    run = begun(ticks=FREE_TICKS)
    made = run.look()
    first, second = made.actions
    run.send(first)
    run.send(second, answer=OutcomeKind.STALE)
    made = run.tick(ttft_s=1.5)
    assert Effect.RESTORE in {one.effect for one in rotations(made)}
    assert run.chat.relocating is None


def test_out_of_reach_it_waits() -> None:
    run = begun(ticks=READY_TICKS)
    for _ in range(200):
        run.look_at(build_readings(1000.0), unreachable=("east",))
        run.send(*run.plan.actions)
    assert run.chat.relocating is not None
    run.pass_ticks(3)
    assert run.chat.relocating is None or run.chat.relocating.leaving


def test_a_clock_that_was_set_back_makes_no_wait_longer() -> None:
    run = begun(start_up_s=1e6)
    run.now_s -= 36_000.0
    run.tick()
    assert run.chat.relocating is not None
    assert run.chat.relocating.until_s == run.plan.now_s + READY_WITHIN_S
    run = begun(ticks=FREE_TICKS + 10)
    run.now_s -= 36_000.0
    run.tick()
    assert run.chat.relocated_until_s == run.plan.now_s + run.fleet.defragment.rest_s


def test_a_slow_cool_down_does_not_call_a_ready_one_off() -> None:
    slow = GuardSpec(step_out=1.0, stabilization_window_s=60.0, cool_down_in_s=1500.0)
    run = Street(replace(CHAT, policy=replace(CHAT.policy, guard=slow)))
    run.pass_ticks(115)
    assert run.stands() == {"g1": ["h3", "h3"]}
