"""Places whole steps of many services together: poses the problem, solves and seats it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from heteroscale.entities.service import UNIT_SLACK, AcceleratorOption, RolePath
from heteroscale.prescheduler.growth import Growth, Seat
from heteroscale.prescheduler.ledger import Ledger
from heteroscale.prescheduler.objective import size_of
from heteroscale.prescheduler.pose import can_be_posed, in_ratio, pose
from heteroscale.prescheduler.problem import Block, Need, Placed, Request
from heteroscale.prescheduler.seats import seat
from heteroscale.prescheduler.solve import Solver


@dataclass(slots=True)
class _Part:
    """What one domain hosts of one role, while what is beyond the steps asked for is dropped."""

    placed: int
    blocks: list[Block]
    #: capacity units of its instances, and of exactly its steps
    cover: float
    exact: float
    #: a new group keeps an instance of each role
    new: bool


def place_together(
    growths: Sequence[Growth],
    ledger: Ledger,
    levels: Sequence[str],
    prices: Mapping[str, float],
    solver: Solver,
) -> list[bool]:
    """Place what keeps its service's ratio; return per service whether more of it fits nowhere.

    Args:
        prices: accelerator → price of a GPU for an hour; absent = not stated.
    """
    asked = [
        (growth, units)
        for growth in growths
        if can_be_posed(growth, ledger) and (units := in_ratio(growth.left, growth.weights))
    ]
    if not asked:
        return [False] * len(growths)
    problem, ground = pose(asked, ledger, levels, prices)
    own: list[list[Placed]] = [[] for _ in asked]
    for placed in solver(problem):
        own[placed.request].append(placed)
    wanted: dict[int, list[tuple[int, AcceleratorOption, int]]] = {}
    owners: list[list[Seat]] = []
    exhausted: dict[str, bool] = {}
    for (growth, units), request, found in zip(asked, problem.requests, own, strict=True):
        opened = sum(placed.home is None for placed in found)
        exhausted[request.name] = opened < request.new_groups and units == growth.left
        kept = _without_excess(request, found)
        for block, option, seats in _written(growth, request, kept):
            wanted.setdefault(block.cell, []).append((len(owners), option, block.replicas))
            owners.append(seats)
    for owner, found_nodes in seat(ground, ledger, wanted).items():
        owners[owner] += map(ledger.names, found_nodes)
    return [exhausted.get(growth.request.spec.name, False) for growth in growths]


def _written(
    growth: Growth, request: Request, found: Sequence[Placed]
) -> list[tuple[Block, AcceleratorOption, list[Seat]]]:
    """Write a solution down, in the groups and in what is left; return what is still to be seated.

    Of each block its option, and where in the grants its seats belong.
    """
    unseated = []
    homes = list(growth.groups)
    inner = {role: narrow.path for narrow in request.narrows for role in narrow.roles}
    cover: dict[RolePath, float] = {}
    for placed in found:
        group = growth.new_group(placed.domain) if placed.home is None else homes[placed.home]
        group.scopes = {**group.scopes, **placed.narrows}
        for block in placed.blocks:
            need = request.needs[block.need]
            option = need.options[block.option]
            domain = placed.domain
            if need.role in inner:
                domain = placed.narrows[inner[need.role]]
            if option.type in growth.quota:
                growth.quota[option.type] -= block.replicas * size_of(option)
            given = growth.given(group, need.role, option.type, domain)
            unseated.append((block, option, given))
            units = block.replicas * option.capacity
            group.units[need.role] = group.units.get(need.role, 0.0) + units
            cover[need.role] = cover.get(need.role, 0.0) + units
    steps = sum(placed.steps for placed in found)
    for need in request.needs if steps else ():
        units = _due(need, request, steps)
        beyond = cover.get(need.role, 0.0) - units
        growth.surplus[need.role] = growth.surplus.get(need.role, 0.0) + beyond
        growth.left[need.role] -= units
        if not growth.left[need.role]:
            del growth.left[need.role]
    return unseated


def _due(need: Need, request: Request, steps: int) -> int:
    """Return the units of a role that so many steps stand for, whatever domains they are in."""
    return -(-need.units * steps // request.steps)


def _without_excess(request: Request, found: Sequence[Placed]) -> list[Placed]:
    """Return a solution without instances that only each domain's own rounding asked for.

    A group thus has a role's exact part to within one instance, and the service not more than it
    asked for, unless that would leave a new group without the role.
    """
    steps = sum(placed.steps for placed in found)
    blocks: list[list[Block]] = [[] for _ in found]
    for index, need in enumerate(request.needs):
        parts = [_part(request, index, at, placed) for at, placed in enumerate(found)]
        spare = sum(part.cover for part in parts) - _due(need, request, steps)
        for least in (math.floor, lambda _: 0):
            while (drop := _droppable(need, parts, spare, least)) is not None:
                part, place = drop
                block = part.blocks[place]
                units = need.options[block.option].capacity
                part.blocks[place] = replace(block, replicas=block.replicas - 1)
                part.cover -= units
                spare -= units
        for part in parts:
            blocks[part.placed] += [block for block in part.blocks if block.replicas]
    return [replace(placed, blocks=tuple(own)) for placed, own in zip(found, blocks, strict=True)]


def _part(request: Request, need: int, at: int, placed: Placed) -> _Part:
    options = request.needs[need].options
    own = [block for block in placed.blocks if block.need == need]
    return _Part(
        placed=at,
        blocks=own,
        cover=sum(block.replicas * options[block.option].capacity for block in own),
        exact=request.needs[need].units * placed.steps / request.steps,
        new=placed.home is None,
    )


def _droppable(
    need: Need, parts: Sequence[_Part], spare: float, least: Callable[[float], int]
) -> tuple[_Part, int] | None:
    """Return whose instance goes next: where most is beyond the steps, least preferred first."""
    found: tuple[_Part, int] | None = None
    rank: tuple[float, ...] = ()
    for part in parts:
        instances = sum(block.replicas for block in part.blocks)
        for place, block in enumerate(part.blocks):
            units = need.options[block.option].capacity
            if (
                block.replicas
                and units <= spare + UNIT_SLACK
                and part.cover - units >= least(part.exact + UNIT_SLACK) - UNIT_SLACK
                and instances > part.new
            ):
                own = (part.exact - part.cover, -block.option, block.cell)
                if found is None or own < rank:
                    found, rank = (part, place), own
    return found
