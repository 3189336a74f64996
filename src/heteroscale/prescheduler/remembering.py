"""Answers that are kept from tick to tick: a lasting shortage poses the same problem again."""

from __future__ import annotations

from heteroscale.prescheduler.problem import Placed, Problem
from heteroscale.prescheduler.solve import Solver, solve

#: answers that are kept: more than a tick asks for with all that it tries to make way
KEPT = 48


class Remembering:
    """A solver that answers an equal problem from memory: it saves time and changes no answer.

    Whoever calls tick after tick owns one; where there is none, every problem is solved anew.
    """

    def __init__(self, solver: Solver = solve) -> None:
        """Know nothing yet; `solver` answers what is new."""
        self._solver = solver
        #: the last asked first
        self._known: list[tuple[Problem, tuple[Placed, ...]]] = []

    def __call__(self, problem: Problem) -> tuple[Placed, ...]:
        """Return the solver's answer."""
        for at, (posed, answer) in enumerate(self._known):
            if posed == problem:
                self._known.insert(0, self._known.pop(at))
                return answer
        answer = self._solver(problem)
        self._known.insert(0, (problem, answer))
        del self._known[KEPT:]
        return answer
