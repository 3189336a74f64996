"""Which problems are solved anew, and which are answered from memory."""

from __future__ import annotations

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption
from heteroscale.prescheduler.problem import Cell, Need, Placed, Problem, Request
from heteroscale.prescheduler.remembering import KEPT, Remembering
from heteroscale.prescheduler.solve import solve

OPTION = AcceleratorOption(type="H20", gpus=1)


def one_step_on(gpus: int) -> Problem:
    """Return a fleet of one node with so many free GPUs, and a service of two."""
    needs = tuple(Need(role=role, units=1, options=(OPTION,)) for role in ("decode", "prefill"))
    cell = Cell(
        domain=("east", "a", "p"),
        accelerator="H20",
        scarcity=Scarcity.LOW,
        node_gpus=1024,
        partial={gpus: 1},
    )
    request = Request(name="chat", weight=1.0, steps=1, needs=needs, depths=(2,), new_groups=1)
    return Problem(cells=(cell,), requests=(request,), cell_depth=3)


class Counting:
    """Solves, and keeps what it was asked."""

    def __init__(self) -> None:
        self.posed: list[Problem] = []

    def __call__(self, problem: Problem) -> tuple[Placed, ...]:
        self.posed.append(problem)
        return solve(problem)


def test_an_equal_problem_is_solved_once_however_often_it_is_posed() -> None:
    counting = Counting()
    remembering = Remembering(counting)
    answers = [remembering(one_step_on(gpus)) for gpus in (4, 1, 4, 1)]
    assert [len(answer) for answer in answers] == [1, 0, 1, 0]
    assert counting.posed == [one_step_on(4), one_step_on(1)]


def test_what_was_not_posed_for_longest_is_forgotten_first() -> None:
    counting = Counting()
    remembering = Remembering(counting)
    for gpus in (1, 2, 1, *range(3, KEPT + 2)):
        remembering(one_step_on(gpus))
    assert len(counting.posed) == KEPT + 1
    remembering(one_step_on(1))
    assert len(counting.posed) == KEPT + 1
    remembering(one_step_on(2))
    assert len(counting.posed) == KEPT + 2
