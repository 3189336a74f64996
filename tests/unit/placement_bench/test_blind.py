"""What placement by switches is worth: the comparison says what its page says of it."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.bench_kernel import requests_of
from benchmarks.placement.blind import LOAD, UPLINKS, compared, drawn, free_nodes, network, placed


def test_every_way_seats_the_same_service_on_nodes_of_its_own() -> None:
    nodes = free_nodes(1)
    for seats in (drawn(nodes, LOAD, 1), placed(nodes, None, LOAD), placed(nodes, "S1", LOAD)):
        assert Counter(seat.role for seat in seats) == {"prefill": 23, "decode": 18}
        assert len({seat.node for seat in seats}) == len(seats)


def test_a_fleet_that_is_too_full_is_said_to_be() -> None:
    with pytest.raises(ValueError, match="of 40 nodes"):
        placed(free_nodes(1)[:40], None, LOAD)


def test_groups_under_one_switch_move_kv_in_half_the_time_and_serve_as_much() -> None:
    found = compared(1, requests_of(LOAD, 6_000), network(UPLINKS[0]))
    blind, ours = found["blind, drawn nodes"], found["within S2"]
    assert (ours.same_s2, blind.same_s2 < 0.3) == (1.0, True)
    assert ours.transfer_p95_s < 0.6 * blind.transfer_p95_s
    assert ours.goodput_rps == pytest.approx(blind.goodput_rps, rel=0.02)
