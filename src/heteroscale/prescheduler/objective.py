"""What a solution of the placement problem is worth, in GPUs of weight 1, and whether it is one.

    worth = Σ weight × GPUs of a step × steps
          − 0.05 × GPUs × classes scarcer than needed
          − 0.05 × GPUs of the preferred accelerator that another one stands in for
          − 0.05 × GPUs × levels wider than the affinity asks for
          − 0.02 × GPUs used
          − 0.01 × price × GPUs used
          − 0.2 per new group − 0.3 per whole node broken − 0.3 per idle switch opened

Every term is linear in counts, so an exact solver can be given the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from heteroscale.entities.service import UNIT_SLACK, AcceleratorOption
from heteroscale.prescheduler.problem import (
    Block,
    Cell,
    Need,
    Placed,
    Problem,
    Request,
    need_of,
)

#: per GPU and class above need: a scarce GPU is given up for 1/20 of what it serves
SCARCE = 0.05
#: per GPU of the role's preferred accelerator that others stand in for: more than those could be
#: cheaper by their number, so the preferred are taken first
COMPATIBLE = 0.05
#: per GPU and level by which a group is wider than its affinity asks for
WIDER = 0.05
#: per GPU: of two ways to serve the same steps the smaller
USED = 0.02
#: per GPU of the dearest accelerator: less than any preference, so it decides between equals
PRICE = 0.01
#: per new group
OPENED = 0.2
#: per whole node that only parts of are used
BROKEN = 0.3
#: per (switch, accelerator) on which nothing ran before
STIRRED = 0.3


def size_of(option: AcceleratorOption) -> int:
    """Return the GPUs of one instance over all its nodes."""
    return option.gpus * option.nodes


def taken(blocks: Sequence[tuple[Block, AcceleratorOption]]) -> dict[int, Counter[int]]:
    """Return cell → size of an instance in GPUs → instances."""
    counts: dict[int, Counter[int]] = {}
    for block, option in blocks:
        counts.setdefault(block.cell, Counter())[size_of(option)] += block.replicas
    return counts


def broken_nodes(cell: Cell, counts: Mapping[int, int]) -> int | None:
    """Return how many whole nodes instances smaller than a node break; None = they do not fit.

    Largest first, each on the fullest node that holds it: exact where every size divides the next
    larger one, and never better than the truth otherwise.

    Args:
        counts: size in GPUs → instances; more GPUs than a node has = whole nodes under one switch.
    """
    whole = sorted(cell.whole)
    free: Counter[int] = Counter({gpus: nodes for gpus, nodes in cell.partial.items() if nodes})
    broken = 0
    for size in sorted(counts, reverse=True):
        left = counts[size]
        if size >= cell.node_gpus:
            spans = -(-size // cell.node_gpus)
            # Switches with an odd node first: what is left over there spans nothing else.
            for place in sorted(range(len(whole)), key=lambda i: (-(whole[i] % spans), whole[i])):
                hosted = min(left, whole[place] // spans)
                whole[place] -= hosted * spans
                left -= hosted
            if left:
                return None
            continue
        while left:
            gpus = min((g for g, nodes in free.items() if nodes and g >= size), default=0)
            if not gpus:
                if broken == sum(whole):
                    return None
                broken += 1
                gpus = cell.node_gpus
                free[gpus] += 1
            each = gpus // size
            nodes, hosted = min(free[gpus], left // each), each
            if not nodes:
                nodes, hosted = 1, left
            free[gpus] -= nodes
            free[gpus - hosted * size] += nodes
            left -= nodes * hosted
    return broken


def worth(problem: Problem, solution: Sequence[Placed]) -> float:
    """Return the objective's value; what does not fit its cells is nobody's solution."""
    total = 0.0
    blocks: list[tuple[Block, AcceleratorOption]] = []
    for placed in solution:
        request = problem.requests[placed.request]
        total += request.weight * request.step_gpus * placed.steps
        total -= cost(problem, placed)
        blocks += [
            (block, request.needs[block.need].options[block.option]) for block in placed.blocks
        ]
    for index, counts in taken(blocks).items():
        cell = problem.cells[index]
        total -= BROKEN * (broken_nodes(cell, counts) or 0) + STIRRED * cell.idle
    return total


def cost(problem: Problem, placed: Placed) -> float:
    """Return what the objective takes off for one placement, whole nodes and switches apart."""
    request = problem.requests[placed.request]
    need = need_of(request, problem.cell_depth)
    wider = 0 if placed.home is not None else request.depths[0] - len(placed.domain)
    total = OPENED * (placed.home is None)
    for block in placed.blocks:
        cell = problem.cells[block.cell]
        option = request.needs[block.need].options[block.option]
        gpus = block.replicas * size_of(option)
        total += gpus * (
            USED + SCARCE * max(0, cell.scarcity - need) + WIDER * wider + PRICE * cell.price
        )
        total += COMPATIBLE * block.replicas * stood_in(request.needs[block.need], block.option)
    return total


def stood_in(need: Need, option: int) -> float:
    """Return the preferred GPUs that one instance of an option stands in for; 0 if it is that."""
    if option == 0:
        return 0.0
    return need.options[option].capacity * size_of(need.options[0])


def faults(problem: Problem, solution: Sequence[Placed]) -> list[str]:
    """Return what keeps a solution from being one; empty = nothing does."""
    found: list[str] = []
    blocks: list[tuple[Block, AcceleratorOption]] = []
    for placed in solution:
        request = problem.requests[placed.request]
        found += [f"{request.name}: {fault}" for fault in _faults(problem, request, placed)]
        blocks += [
            (block, request.needs[block.need].options[block.option]) for block in placed.blocks
        ]
    for index, counts in sorted(taken(blocks).items()):
        cell = problem.cells[index]
        if broken_nodes(cell, counts) is None:
            name = "/".join(cell.domain)
            found.append(f"{name}: {cell.accelerator}: more is placed than is free")
    for index, request in enumerate(problem.requests):
        own = [placed for placed in solution if placed.request == index]
        if sum(placed.steps for placed in own) > request.steps:
            found.append(f"{request.name}: more steps than were asked for")
        if sum(placed.home is None for placed in own) > request.new_groups:
            found.append(f"{request.name}: more new groups than may be opened")
        for accelerator, gpus in sorted(request.quota.items()):
            if _gpus_of(request, own, accelerator) > gpus:
                found.append(f"{request.name}: {accelerator}: over its quota")
    return found


def _faults(problem: Problem, request: Request, placed: Placed) -> list[str]:
    found = []
    if placed.home is None and len(placed.domain) not in request.depths:
        found.append("a new group in a domain of no level it may have")
    if placed.home is not None and request.homes[placed.home].domain != placed.domain:
        found.append("a group outside its domain")
    for index, need in enumerate(request.needs):
        own = [block for block in placed.blocks if block.need == index]
        around = next((n for n in request.narrows if need.role in n.roles), None)
        domain = placed.domain if around is None else placed.narrows[around.path]
        for block in own:
            cell = problem.cells[block.cell]
            if cell.domain[: len(domain)] != domain:
                found.append(f"{need.role}: outside its domain")
            if cell.accelerator != need.options[block.option].type:
                found.append(f"{need.role}: on another accelerator")
        cover = sum(block.replicas * need.options[block.option].capacity for block in own)
        if cover < need.units * placed.steps / request.steps - UNIT_SLACK:
            found.append(f"{need.role}: half a step")
    return found


def _gpus_of(request: Request, own: Sequence[Placed], accelerator: str) -> int:
    options = [
        (block, request.needs[block.need].options[block.option])
        for placed in own
        for block in placed.blocks
    ]
    return sum(
        block.replicas * size_of(option) for block, option in options if option.type == accelerator
    )
