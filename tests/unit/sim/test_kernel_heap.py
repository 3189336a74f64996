"""Both heaps give back what they hold in their total order."""

from __future__ import annotations

import heapq

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.sim.kernel_heap import drop_event, drop_finish, push_event, push_finish
from heteroscale.sim.kernel_state import (
    G_COLUMNS,
    G_EVENTS,
    I_COLUMNS,
    I_RUNNING,
    R_COLUMNS,
    R_REQUEST,
)

#: a small key is pushed; None takes the first away
moves = st.lists(st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=60)


@settings(max_examples=100, deadline=None)
@given(moves)
def test_events_leave_by_time_then_key(script: list[tuple[int, int] | None]) -> None:
    events = np.zeros((64, 3), np.int64)
    scalars = np.zeros(G_COLUMNS, np.int64)
    oracle: list[tuple[int, int]] = []
    for move in script:
        if move is not None:
            push_event(events, scalars, move[0], move[1], move[0] * 10 + move[1])
            heapq.heappush(oracle, move)
        elif oracle:
            assert tuple(events[0].tolist()) == (*oracle[0], oracle[0][0] * 10 + oracle[0][1])
            drop_event(events, scalars)
            heapq.heappop(oracle)
        assert scalars[G_EVENTS] == len(oracle)


@settings(max_examples=100, deadline=None)
@given(moves)
def test_sequences_leave_by_finish_step_then_request(script: list[tuple[int, int] | None]) -> None:
    finish = np.zeros((2, 64, 2), np.int64)
    instances = np.zeros((2, I_COLUMNS), np.int64)
    slots = np.zeros((64, R_COLUMNS), np.int64)
    slots[:, R_REQUEST] = np.arange(64)[::-1]  # a later slot holds an earlier request
    oracle: list[tuple[int, int, int]] = []
    for slot, move in enumerate(script):
        if move is not None:
            push_finish(finish, slots, instances, 1, move[0], slot)
            heapq.heappush(oracle, (move[0], int(slots[slot, R_REQUEST]), slot))
        elif oracle:
            step, _, first = heapq.heappop(oracle)
            assert finish[1, 0].tolist() == [step, first]
            drop_finish(finish, slots, instances, 1, 0)
        assert instances[1, I_RUNNING] == len(oracle)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_a_sequence_can_leave_from_any_place_of_the_heap(
    steps: list[int], place: st.DataObject
) -> None:
    finish = np.zeros((1, 64, 2), np.int64)
    instances = np.zeros((1, I_COLUMNS), np.int64)
    slots = np.zeros((64, R_COLUMNS), np.int64)
    slots[:, R_REQUEST] = np.arange(64)[::-1]
    for slot, step in enumerate(steps):
        push_finish(finish, slots, instances, 0, step, slot)
    at = place.draw(st.integers(0, len(steps) - 1))
    gone = int(finish[0, at, 1])
    drop_finish(finish, slots, instances, 0, at)
    left = []
    for _ in range(len(steps) - 1):
        left.append((int(finish[0, 0, 0]), int(finish[0, 0, 1])))
        drop_finish(finish, slots, instances, 0, 0)
    expected = [(step, slot) for slot, step in enumerate(steps) if slot != gone]
    assert left == sorted(expected, key=lambda one: (one[0], -one[1]))
