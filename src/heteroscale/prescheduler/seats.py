"""Concrete nodes for a solution: largest instances first, on the fullest nodes that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from heteroscale.entities.service import AcceleratorOption
from heteroscale.errors import InvariantViolation
from heteroscale.prescheduler.ledger import Ledger
from heteroscale.prescheduler.objective import size_of
from heteroscale.prescheduler.pose import Ground, switch_of

#: what an instance belongs to, as the caller counts it
Owner = int


def seat(
    ground: Ground,
    ledger: Ledger,
    wanted: Mapping[int, Sequence[tuple[Owner, AcceleratorOption, int]]],
) -> dict[Owner, list[tuple[int, ...]]]:
    """Return owner → the nodes of each of its instances, and deduct them from the ledger.

    Args:
        wanted: cell → (owner, option, instances).

    Raises:
        InvariantViolation: the cell has fewer nodes than was reckoned.
    """
    seats: dict[Owner, list[tuple[int, ...]]] = {}
    nodes, free = ledger.nodes, ledger.free
    for cell in sorted(wanted):
        ours = ground.cells[cell]
        own = sorted(wanted[cell], key=lambda one: (-size_of(one[1]), one[0]))
        span = ground.spans.get(ours.accelerator, 0)
        by_name = sorted(ground.nodes[cell], key=lambda index: nodes[index].name)
        switches = [(index, switch_of(nodes[index], index, span)) for index in by_name]
        for owner, option, replicas in own:
            for _ in range(replicas):
                if option.gpus == ours.node_gpus:
                    found = _whole(free, switches, option.nodes, option.gpus)
                else:
                    found = _part(free, by_name, option.gpus)
                if len(found) < option.nodes:
                    where = "/".join(ours.domain)
                    raise InvariantViolation(f"{where}: no node for what was placed there")
                for index in found:
                    ledger.occupy(index, option.gpus)
                seats.setdefault(owner, []).append(found)
    return seats


def _whole(
    free: Sequence[int], nodes: Sequence[tuple[int, object]], wanted: int, gpus: int
) -> tuple[int, ...]:
    """Return whole nodes under one switch: an odd one out first, then the fewest left."""
    switches: dict[object, list[int]] = {}
    for index, switch in nodes:
        if free[index] == gpus:
            switches.setdefault(switch, []).append(index)
    fitting = [own for own in switches.values() if len(own) >= wanted]
    if not fitting:
        return ()
    if wanted == 1:
        return (min(fitting, key=lambda own: (-(len(own) % 2), len(own)))[0],)
    return tuple(min(fitting, key=lambda own: (len(own) % wanted, len(own)))[:wanted])


def _part(free: Sequence[int], nodes: Sequence[int], gpus: int) -> tuple[int, ...]:
    """Return the fullest node that has so many GPUs free."""
    fitting = [index for index in nodes if free[index] >= gpus]
    return (min(fitting, key=free.__getitem__),) if fitting else ()
