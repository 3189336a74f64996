"""Placement as a problem of its own: free GPUs, requests in whole steps, and a solution's form.

What solves it knows nothing of services, instances or nodes' names; `objective` says what a
solution is worth and whether it is one. Every index follows from sorted names, so the order in
which an inventory is read changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.entities.placement import Scarcity
from heteroscale.entities.service import AcceleratorOption, RolePath
from heteroscale.entities.topology import DomainPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Healthy nodes of one accelerator under one switch; an instance never leaves its cell."""

    #: of the switch; every domain that a request may name is a prefix of it, or it
    domain: DomainPath
    accelerator: str
    scarcity: Scarcity
    #: GPUs of a node with nothing on it
    node_gpus: int
    #: free GPUs → nodes that have so many and are not whole
    partial: Mapping[int, int] = field(default_factory=dict)
    #: nodes with nothing on them, by the switch whose nodes one instance may span; no zeros
    whole: tuple[int, ...] = ()
    #: nothing runs under the switch
    idle: bool = False
    #: of a GPU, as a part of the dearest one's in the fleet, 0 to 1; 0 = not stated
    price: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What all steps of a request together need of one leaf role."""

    role: RolePath
    #: capacity units over all steps
    units: int
    #: ways to build an instance, preferred first; one over several nodes takes them whole
    options: tuple[AcceleratorOption, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrow:
    """Roles that stay closer together than their group."""

    path: RolePath
    #: length of the domain path they share
    depth: int
    roles: tuple[RolePath, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """An existing group that may grow."""

    name: str
    domain: DomainPath
    #: path of `Narrow` → the domain its roles live in already
    narrows: Mapping[RolePath, DomainPath] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """K steps of one service. Of k steps in one domain, each role covers its units × k / K there.

    Cover is capacity-weighted: instances × capacity of their option, at least one instance of each
    role that is asked for.
    """

    #: unique; ties end here
    name: str
    #: what a GPU of a step is worth, relative to others
    weight: float
    steps: int
    #: sorted by role
    needs: tuple[Need, ...]
    narrows: tuple[Narrow, ...] = ()
    #: lengths of the domain paths a new group may have, preferred first; the further are within the
    #: allowance of a preferred affinity
    depths: tuple[int, ...]
    homes: tuple[Home, ...] = ()
    #: most groups that may be opened
    new_groups: int
    #: accelerator → GPUs that may still be taken; absent = any number
    quota: Mapping[str, int] = field(default_factory=dict)

    @property
    def step_gpus(self) -> float:
        """GPUs of one step on preferred accelerators: a step is worth weight × this."""
        units = (need.units * need.options[0].gpus * need.options[0].nodes for need in self.needs)
        return sum(units) / self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One cycle's whole question."""

    #: sorted by (domain, accelerator)
    cells: tuple[Cell, ...]
    #: in the order in which they are served: the first is never worse off for the others
    requests: tuple[Request, ...]
    #: path length of the switches called S1
    cell_depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Equal instances in one cell."""

    #: index into `Problem.cells`
    cell: int
    #: index into `Request.needs`
    need: int
    #: index into `Need.options`
    option: int
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Steps of one request in one domain."""

    #: index into `Problem.requests`
    request: int
    domain: DomainPath
    #: index into `Request.homes`; None = a new group
    home: int | None
    steps: int
    #: path of `Narrow` → the domain its roles share
    narrows: Mapping[RolePath, DomainPath] = field(default_factory=dict)
    #: sorted by (cell, need, option)
    blocks: tuple[Block, ...]


def need_of(request: Request, cell_depth: int) -> Scarcity:
    """Return the least scarce subgroup in which every role can be on its preferred accelerator.

    Args:
        cell_depth: path length of the switches called S1.
    """
    if len({need.options[0].type for need in request.needs}) == 1 or request.depths[0] == 1:
        whole = Scarcity.LOW
    else:
        whole = Scarcity.HIGH if request.depths[0] >= cell_depth else Scarcity.MEDIUM
    for narrow in request.narrows:
        types = {need.options[0].type for need in request.needs if need.role in narrow.roles}
        if len(types) > 1:
            whole = max(whole, Scarcity.HIGH if narrow.depth >= cell_depth else Scarcity.MEDIUM)
    return whole
