"""What a control loop in a simulation reported, tick by tick."""

from __future__ import annotations

from typing import NamedTuple

from heteroscale.app import assemble
from heteroscale.config.scenario import Scenario
from heteroscale.loop import TickReport
from heteroscale.sim.run import Ticker


class Diary(NamedTuple):
    """A loop that remembers what each tick reported."""

    loop: Ticker
    reports: list[TickReport]

    def tick(self) -> TickReport:
        report = self.loop.tick()
        self.reports.append(report)
        return report


def reports_of(scenario: Scenario) -> list[TickReport]:
    """Run a scenario with the checker on."""
    reports: list[TickReport] = []
    assemble(scenario, check=True, watched=lambda loop: Diary(loop, reports)).go()
    return reports
