"""What of a scenario only the simulated world can judge: names of models and presets, what fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from heteroscale.config.scenario import Scenario
from heteroscale.errors import ConfigError, Problem
from heteroscale.sim.speed import performance_model
from heteroscale.sim.traffic import arrivals_of


def faults_of(scenario: Scenario) -> tuple[Problem, ...]:
    """Return why a scenario that reads well could not be run; () = it could.

    A trace is not opened: it may still be given on the command line.
    """
    return tuple(problem for alone in scenario.alone() for problem in _faults_of_one(alone))


def _faults_of_one(alone: Scenario) -> list[Problem]:
    own = alone.own
    problems = list(_faults(f"{own.place}model", lambda: performance_model(own.model)))
    if not problems:
        model = performance_model(own.model)
        for leaf in alone.service.group.leaves():
            role = leaf.path.replace("/", ".roles.")
            where = f"{own.place}service.group.roles.{role}.accelerators"
            for option in leaf.accelerators:
                gpus = option.gpus * option.nodes
                problems += _faults(where, partial(model.coefficients, option.type, gpus))
    if own.traffic.trace is None:
        problems += _faults(f"{own.place}traffic", partial(arrivals_of, alone))
    return problems


def _faults(where: str, check: Callable[[], object]) -> tuple[Problem, ...]:
    """Return what a part of the scenario is told when it is built, and where that part is."""
    try:
        check()
    except ConfigError as error:
        return tuple(
            problem if problem.path.startswith(where) else replace(problem, path=where)
            for problem in error.problems
        )
    return ()
