"""The paper's Algorithm 4 as it is printed, pod by pod, and the same with steps placed whole.

Both take requests in order of weight, try groups they have begun first, then new ones in domains of
the least scarce subgroups, and put each instance on the first node that holds it. As printed a pod
that fits is kept whatever becomes of its partners; atomic undoes a step that is not whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.placement.small_fleets import NODE_GPUS, SmallFleet
from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import UNIT_SLACK, AcceleratorOption
from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.problem import Block, Need, Placed, Request


@dataclass(slots=True)
class _Group:
    """What one request has in one domain: (cell, need, option) → instances."""

    domain: DomainPath
    instances: Counter[tuple[int, int, int]] = field(default_factory=Counter)

    def cover(self, need: int, needs: Sequence[Need]) -> float:
        """Return the capacity units of one role that are there."""
        return sum(
            count * needs[need].options[option].capacity
            for (_, of, option), count in self.instances.items()
            if of == need
        )


class _Ground:
    """Free GPUs of every node, in one order for everybody."""

    def __init__(self, fleet: SmallFleet) -> None:
        self._nodes = fleet.nodes
        self._free = [node.free for node in fleet.nodes]
        cells = fleet.problem.cells
        at = {(cell.domain, cell.accelerator): index for index, cell in enumerate(cells)}
        self._cell_of = [at[node.s1, node.accelerator] for node in fleet.nodes]

    def take(self, domain: DomainPath, option: AcceleratorOption) -> tuple[int, list[int]] | None:
        """Return the cell and the first nodes inside a domain that hold one instance."""
        held: dict[tuple[int, int], list[int]] = {}
        for index, node in enumerate(self._nodes):
            if node.accelerator != option.type or node.s1[: len(domain)] != domain:
                continue
            if self._free[index] < option.gpus:
                continue
            if option.nodes == 1:
                self._free[index] -= option.gpus
                return self._cell_of[index], [index]
            if self._free[index] == NODE_GPUS:
                under = held.setdefault((self._cell_of[index], node.s0), [])
                under.append(index)
                if len(under) == option.nodes:
                    for one in under:
                        self._free[one] -= option.gpus
                    return self._cell_of[index], under
        return None

    def give_back(self, nodes: Sequence[int], option: AcceleratorOption) -> None:
        """Undo a take."""
        for index in nodes:
            self._free[index] += option.gpus

    def free(self) -> Counter[str]:
        """Return accelerator → GPUs that nobody has."""
        pool: Counter[str] = Counter()
        for node, free in zip(self._nodes, self._free, strict=True):
            pool[node.accelerator] += free
        return pool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a placer leaves: whole steps with everything it put beside them, and what is free."""

    solution: tuple[Placed, ...]
    free: Counter[str]


def place(fleet: SmallFleet, *, atomic: bool) -> Outcome:
    """Return what Algorithm 4 makes of a fleet."""
    ground = _Ground(fleet)
    scarcity = _scarcity(fleet)
    placed: list[Placed] = []
    for index, request in enumerate(fleet.problem.requests):
        domains = sorted(
            {
                cell.domain[:depth]
                for depth in request.depths
                for cell in fleet.problem.cells
                if len(cell.domain) >= depth
            },
            key=lambda domain: (scarcity[domain], domain),
        )
        place_one = _by_steps if atomic else _by_pods
        groups = place_one(request, domains, ground)
        placed += [_placed(index, request, group) for group in groups if group.instances]
    return Outcome(tuple(placed), ground.free())


def _scarcity(fleet: SmallFleet) -> dict[DomainPath, Scarcity]:
    """Return how scarce each domain is: as its most common kind of cell."""
    found: dict[DomainPath, Scarcity] = {}
    for cell in fleet.problem.cells:
        for depth in range(1, len(cell.domain) + 1):
            domain = cell.domain[:depth]
            found[domain] = max(found.get(domain, Scarcity.LOW), cell.scarcity)
    return found


def _by_pods(request: Request, domains: Sequence[DomainPath], ground: _Ground) -> list[_Group]:
    groups: list[_Group] = []
    for at, need in enumerate(request.needs):
        left = float(need.units)
        while left > UNIT_SLACK:
            found = _pod(need, [group.domain for group in groups], ground) or _pod(
                need, domains, ground
            )
            if found is None:
                break
            domain, cell, option, _ = found
            group = next((one for one in groups if one.domain == domain), None)
            if group is None:
                group = _Group(domain)
                groups.append(group)
            group.instances[cell, at, option] += 1
            left -= need.options[option].capacity
    return groups


def _by_steps(request: Request, domains: Sequence[DomainPath], ground: _Ground) -> list[_Group]:
    groups: dict[DomainPath, _Group] = {}
    done: Counter[DomainPath] = Counter()
    for _ in range(request.steps):
        for domain in (*groups, *(one for one in domains if one not in groups)):
            group = groups.get(domain) or _Group(domain)
            if _step(request, group, done[domain] + 1, ground):
                groups[domain] = group
                done[domain] += 1
                break
        else:
            break
    return list(groups.values())


def _step(request: Request, group: _Group, steps: int, ground: _Ground) -> bool:
    """Bring a group to so many steps, or leave everything as it was."""
    taken: list[tuple[int, int, int, list[int]]] = []
    for at, need in enumerate(request.needs):
        wanted = need.units * steps / request.steps
        cover = group.cover(at, request.needs)
        while cover < wanted - UNIT_SLACK:
            found = _pod(need, [group.domain], ground)
            if found is None:
                for cell, of, option, nodes in taken:
                    ground.give_back(nodes, request.needs[of].options[option])
                    group.instances[cell, of, option] -= 1
                return False
            _, cell, option, nodes = found
            taken.append((cell, at, option, nodes))
            group.instances[cell, at, option] += 1
            cover += need.options[option].capacity
    return True


def _pod(
    need: Need, domains: Sequence[DomainPath], ground: _Ground
) -> tuple[DomainPath, int, int, list[int]] | None:
    """Return where one instance of a role went: preferred accelerators first, then domains."""
    for which, option in enumerate(need.options):
        for domain in domains:
            found = ground.take(domain, option)
            if found is not None:
                return domain, found[0], which, found[1]
    return None


def _placed(index: int, request: Request, group: _Group) -> Placed:
    """Return a group with the steps that it holds whole."""
    parts = [
        group.cover(at, request.needs) / need.units * request.steps
        for at, need in enumerate(request.needs)
    ]
    return Placed(
        request=index,
        domain=group.domain,
        home=None,
        steps=int(min(parts) + UNIT_SLACK),
        blocks=tuple(
            Block(cell=cell, need=need, option=option, replicas=count)
            for (cell, need, option), count in sorted(group.instances.items())
            if count
        ),
    )
