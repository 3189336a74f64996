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
    problems = list(_faults("model", lambda: performance_model(scenario.model)))
    if not problems:
        model = performance_model(scenario.model)
        for leaf in scenario.service.group.leaves():
            where = f"service.group.roles.{leaf.path.replace('/', '.roles.')}.accelerators"
            for option in leaf.accelerators:
                gpus = option.gpus * option.nodes
                problems += _faults(where, partial(model.coefficients, option.type, gpus))
    if scenario.traffic.trace is None:
        problems += _faults("traffic", partial(arrivals_of, scenario))
    return tuple(problems)


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
