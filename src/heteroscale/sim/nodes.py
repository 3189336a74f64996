"""Free GPUs of a simulated sub-cluster's nodes: first fit inside a domain.

It answers where an instance can stand right now; who gets to ask first is the caller's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from heteroscale.entities.service import AcceleratorOption
from heteroscale.entities.topology import DomainPath, Node


class NodePool:
    """Nodes in a fixed order with the GPUs that are free on each."""

    def __init__(self, nodes: Sequence[Node], levels: Sequence[str]) -> None:
        """Take nodes in first-fit order and level names, narrowest first."""
        self._nodes = tuple(nodes)
        self._levels = tuple(levels)
        self._free = [node.gpus for node in self._nodes]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes in order; the same object until the health of one changes."""
        return self._nodes

    def set_health(self, index: int, healthy: bool) -> None:
        """Let a node take new instances, or no longer."""
        changed = dataclasses.replace(self._nodes[index], healthy=healthy)
        self._nodes = (*self._nodes[:index], changed, *self._nodes[index + 1 :])

    def node(self, index: int) -> Node:
        """Return the node at an index that `take` gave out."""
        return self._nodes[index]

    def free(self, index: int) -> int:
        """Return the GPUs nobody has on one node."""
        return self._free[index]

    def take(self, shape: AcceleratorOption, domain: DomainPath) -> tuple[int, ...] | None:
        """Reserve the first nodes in `domain` that hold one instance; None = it does not fit."""
        for candidates in self._candidates(shape, domain):
            chosen = tuple(islice(candidates, shape.nodes))
            if len(chosen) == shape.nodes:
                for index in chosen:
                    self._free[index] -= shape.gpus
                return chosen
        return None

    def has_room(self, wanted: Iterable[tuple[AcceleratorOption, DomainPath, int]]) -> bool:
        """Return whether so many instances of each shape fit their domains together right now."""
        free = list(self._free)
        fits = all(
            self.take(shape, domain) is not None
            for shape, domain, replicas in wanted
            for _ in range(replicas)
        )
        self._free = free
        return fits

    def give_back(self, indices: Sequence[int], gpus: int) -> None:
        """Free what one instance held."""
        for index in indices:
            self._free[index] += gpus

    def _candidates(self, shape: AcceleratorOption, domain: DomainPath) -> Iterator[Iterable[int]]:
        """Yield, per domain an instance may not leave, the nodes with room, first-fit order."""
        fitting = (
            index
            for index, node in enumerate(self._nodes)
            if self._free[index] >= shape.gpus
            and node.accelerator == shape.type
            and node.healthy
            and node.domain[: len(domain)] == domain
        )
        if shape.nodes == 1 or shape.within is None:
            yield fitting
            return
        by_domain: dict[DomainPath, list[int]] = {}
        for index in fitting:
            by_domain.setdefault(self._prefix(index, shape.within), []).append(index)
        yield from by_domain.values()

    def _prefix(self, index: int, level: str) -> DomainPath:
        path = self._nodes[index].domain
        return path[: len(path) - self._levels.index(level)]
