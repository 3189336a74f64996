"""What stands so far in one cycle: placements in force, what is left to place, and the worth."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.prescheduler.domains import Domains
from heteroscale.prescheduler.fit import Fit, Fitting
from heteroscale.prescheduler.form import form_of
from heteroscale.prescheduler.objective import OPENED
from heteroscale.prescheduler.problem import Placed, Problem
from heteroscale.prescheduler.slots import Slots


@dataclass(slots=True, eq=False)
class Stand:
    """Steps of one request that stand in one domain."""

    request: int
    #: path length of the domain, and its index among those of that length
    depth: int
    place: int
    #: index into `Request.homes`; None = a new group
    home: int | None
    fit: Fit


class Standing:
    """Placements in force; what is put down or lifted can be taken back to any earlier mark."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.slots = Slots(problem)
        self.domains = Domains(problem)
        self.fitting = Fitting(problem, self.slots, self.domains)
        prices = {cell.accelerator: cell.price for cell in problem.cells if cell.price}
        self.forms = [form_of(problem, i, self.slots, prices) for i in range(len(problem.requests))]
        #: per request: what stands of it, in the order it was put down
        self.stands: list[dict[Stand, None]] = [{} for _ in self.forms]
        #: per request: steps still to place; groups that may still be opened; GPUs within quota
        self.left = [request.steps for request in problem.requests]
        self.groups = [request.new_groups for request in problem.requests]
        self.quotas = [dict(request.quota) for request in problem.requests]
        #: cell → what stands in it
        self.on: dict[int, dict[Stand, None]] = {}
        #: of all that stands, as the objective has it
        self.worth = 0.0
        self._log: list[tuple[Stand, bool]] = []

    def gain(self, stand: Stand) -> float:
        """Return what a stand adds to the worth, whole nodes and switches apart."""
        opened = OPENED if stand.home is None else 0.0
        return self.forms[stand.request].step_worth * stand.fit.steps - stand.fit.cost - opened

    def put(self, stand: Stand) -> None:
        """Let steps stand that fit."""
        self._apply(stand, 1)
        self._log.append((stand, True))

    def lift(self, stand: Stand) -> None:
        """Take steps away again."""
        self._apply(stand, -1)
        self._log.append((stand, False))

    def mark(self) -> int:
        """Return a point to come back to."""
        return len(self._log)

    def back(self, mark: int) -> None:
        """Undo everything since a mark, the last first."""
        while len(self._log) > mark:
            stand, was_put = self._log.pop()
            self._apply(stand, -1 if was_put else 1)

    def placed(self) -> tuple[Placed, ...]:
        """Return the solution, sorted by request and domain."""
        found = [
            Placed(
                request=stand.request,
                domain=self.domains.level(stand.depth).paths[stand.place],
                home=stand.home,
                steps=stand.fit.steps,
                narrows=stand.fit.narrows,
                blocks=stand.fit.blocks,
            )
            for stands in self.stands
            for stand in stands
        ]
        found.sort(key=lambda one: (one.request, one.domain, -1 if one.home is None else one.home))
        return tuple(found)

    def _apply(self, stand: Stand, sign: int) -> None:
        index, fit, slots = stand.request, stand.fit, self.slots
        form, quota = self.forms[index], self.quotas[index]
        self.left[index] -= sign * fit.steps
        if stand.home is None:
            self.groups[index] -= sign
        before = after = 0.0
        for block in fit.blocks:
            way = form.ways[block.need][block.option]
            before += slots.penalty(block.cell)
            slots.take(block.cell, way.place, sign * block.replicas)
            after += slots.penalty(block.cell)
            if way.option.type in quota:
                quota[way.option.type] -= sign * block.replicas * way.size
            on = self.on.setdefault(block.cell, {})
            if sign > 0:
                on[stand] = None
            else:
                on.pop(stand, None)
        if sign > 0:
            self.stands[index][stand] = None
        else:
            del self.stands[index][stand]
        self.worth += sign * self.gain(stand) - (after - before)
