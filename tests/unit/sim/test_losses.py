"""Instances that fail, restart, never start, or stand on a node that is lost."""

from __future__ import annotations

import pytest

from heteroscale.entities.action import Rotation
from heteroscale.entities.decision import Direction
from heteroscale.entities.snapshot import InstanceState
from heteroscale.sim.rows import Row
from heteroscale.sim.start_up import StartUp
from heteroscale.sim.subcluster import Roster
from heteroscale.workload.arrivals import PS_PER_S
from tests.unit.sim.test_subcluster import (
    KEY,
    START_UP_PS,
    RecordedEngines,
    roster,
    rotate,
    scale,
    states,
)

READY, STARTING, FAILED = InstanceState.READY, InstanceState.STARTING, InstanceState.FAILED
HOUR_PS = 3600 * PS_PER_S


def standing(replicas: int = 2) -> tuple[Roster, RecordedEngines, list[Row]]:
    engines = RecordedEngines()
    life = roster(engines)
    life.place(KEY, ("c",), replicas)
    return life, engines, list(life.rows())


def test_a_lost_instance_fails_keeps_its_node_and_serves_nobody() -> None:
    life, engines, rows = standing()
    life.lose(rows[0], 5)
    assert states(life) == [FAILED, READY]
    assert set(engines.routed) == {1}
    assert (life.pool.free(0), life.usage.gpu_ps("chat", 10)) == (0, {"H20": 160})
    assert life.usage.up_ps("chat", "decode", "H20", 10) == 15


def test_removing_what_failed_is_no_change_of_the_service() -> None:
    life, _, rows = standing()
    life.lose(rows[0], 5)
    order = scale(1, expected=2, version="1", remove=(rows[0].uid,))
    assert life.scale(order, 6) is Direction.HOLD
    assert [one.uid for one in life.instances()] == [rows[1].uid]
    assert life.pool.free(0) == 8


def test_a_starting_instance_that_is_lost_never_comes_up() -> None:
    life, engines, _ = standing(1)
    life.scale(scale(2, expected=1, version="1"), 0)
    life.lose(list(life.rows())[1], 5)
    life.advance(HOUR_PS)
    assert states(life) == [READY, FAILED]
    assert len(engines.born) == 1


def test_a_restart_starts_again_on_the_same_node() -> None:
    life, engines, rows = standing(1)
    life.restart(rows[0], 5)
    assert (states(life), engines.routed) == ([STARTING], {})
    life.advance(5 + START_UP_PS)
    assert states(life) == [READY]
    assert engines.born == [(rows[0].uid, "n0"), (rows[0].uid, "n0")]
    assert life.pool.free(0) == 0


def test_what_is_leaving_does_not_come_back_by_a_restart() -> None:
    life, _, rows = standing()
    life.rotate(rotate(life.instances()[0], Rotation.WITHDRAWN), 1)
    life.restart(rows[0], 5)
    assert states(life) == [FAILED, READY]


def failing(_name: str, _starts: int) -> StartUp:
    return StartUp(length_ps=START_UP_PS, fails=True)


def test_a_start_that_fails_ends_in_failure_after_its_time() -> None:
    engines = RecordedEngines()
    life = roster(engines, start_ups=failing)
    life.scale(scale(1, expected=0, version=""), 0)
    life.advance(START_UP_PS)
    assert (states(life), engines.born, life.due_ps()) == ([FAILED], [], None)


def test_the_first_fleet_never_fails_to_start() -> None:
    life = roster(RecordedEngines(), start_ups=failing)
    life.place(KEY, ("c",), 2)
    assert states(life) == [READY, READY]


def test_a_lost_node_takes_its_instances_and_no_new_ones_until_it_is_back() -> None:
    life, _, _ = standing(4)
    before = life.pool.nodes
    life.set_health(1, False, 5)
    assert states(life) == [READY, FAILED, READY, READY]
    assert [node.healthy for node in life.pool.nodes] == [True, False, True, True]
    assert life.pool.nodes is not before
    failed = life.instances()[1].uid
    life.scale(scale(3, expected=4, version="1", remove=(failed,)), 6)
    life.scale(scale(4, expected=3, version="2", name="a2"), 7)
    assert states(life)[-1] is InstanceState.PENDING
    life.set_health(1, True, 8)
    assert states(life)[-1] is STARTING
    assert life.pool.nodes == before


def test_starts_that_begin_during_a_fault_take_its_factor_longer() -> None:
    life = roster(RecordedEngines())
    life.start_factor = 2.5
    life.scale(scale(1, expected=0, version=""), 0)
    life.start_factor = 1.0
    assert life.due_ps() == pytest.approx(2.5 * START_UP_PS)
