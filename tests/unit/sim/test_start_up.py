"""Start-ups: constant, or drawn per instance from the seed and its name alone."""

from __future__ import annotations

import pytest

from heteroscale.config.scenario_sections import StartUpSection
from heteroscale.sim.start_up import StartUp, always, drawn
from heteroscale.workload.arrivals import PS_PER_S

MEANS_S = 30.0 + 120.0 + 45.0


def lengths_s(section: StartUpSection, instances: int = 2000) -> list[float]:
    draw = drawn(section, 1)
    return [draw(f"c/g0/decode/H20/{n}", 0).length_ps / PS_PER_S for n in range(instances)]


def test_a_constant_start_up_is_that_of_every_instance() -> None:
    starts = always(195.0)
    assert starts("a", 0) == starts("b", 7) == StartUp(length_ps=195 * PS_PER_S)


def test_without_a_spread_a_drawn_start_up_is_the_sum_of_its_means() -> None:
    assert set(lengths_s(StartUpSection(spread=0.0), 5)) == {MEANS_S}


def test_drawn_start_ups_keep_their_mean_and_differ() -> None:
    drawn_s = lengths_s(StartUpSection(spread=0.3))
    assert sum(drawn_s) / len(drawn_s) == pytest.approx(MEANS_S, rel=0.02)
    assert len(set(drawn_s)) == len(drawn_s)


def test_an_instances_fate_does_not_depend_on_what_else_is_drawn() -> None:
    section = StartUpSection(fail_share=0.5, slow_share=0.5)
    one, other = drawn(section, 4), drawn(section, 4)
    for name in ("x", "y", "z"):
        one(name, 0)
    assert one("a", 0) == other("a", 0)
    assert one("a", 0) != other("a", 1)
    assert one("a", 0) != drawn(section, 5)("a", 0)


def test_shares_of_failed_and_slow_starts() -> None:
    draw = drawn(StartUpSection(spread=0.0, fail_share=0.2, slow_share=0.1, slow_factor=4.0), 1)
    starts = [draw(str(n), 0) for n in range(2000)]
    slow = [one for one in starts if one.length_ps == round(4 * MEANS_S * PS_PER_S)]
    assert 340 < sum(one.fails for one in starts) < 460
    assert 150 < len(slow) < 250
    assert {one.length_ps for one in starts} - {slow[0].length_ps} == {round(MEANS_S * PS_PER_S)}


def test_one_share_does_not_move_the_draws_of_another() -> None:
    plain = drawn(StartUpSection(), 1)
    failing = drawn(StartUpSection(fail_share=1.0), 1)
    assert failing("a", 0).fails
    assert failing("a", 0).length_ps == plain("a", 0).length_ps
