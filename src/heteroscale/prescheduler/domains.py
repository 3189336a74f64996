"""Domains as ranges of cells, level by level, so that a question to all of them is one sum."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.problem import Problem

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: scarcer than any domain: an accelerator is not there at all
NOWHERE = 9


class Level:
    """The domains whose paths have one length, each a range of cells."""

    def __init__(self, problem: Problem, depth: int) -> None:
        self.depth = depth
        paths: list[DomainPath] = []
        of = [-1] * len(problem.cells)
        starts: list[int] = []
        ends: list[int] = []
        for index, cell in enumerate(problem.cells):
            path = cell.domain[:depth]
            if len(path) < depth:
                continue
            if paths and paths[-1] == path:
                ends[-1] = index + 1
            else:
                paths.append(path)
                starts.append(index)
                ends.append(index + 1)
            of[index] = len(paths) - 1
        self.paths: Sequence[DomainPath] = paths
        self.starts, self.ends = starts, ends
        self._edges = np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)
        #: cell → its domain; −1 = none of this level
        self.of: Sequence[int] = of
        self._scarcity: dict[str, Ints] = {}
        self._problem = problem

    def place(self, path: DomainPath) -> int | None:
        """Return the index of a domain; None = it has no healthy node."""
        index = bisect_left(self.paths, path)
        return index if index < len(self.paths) and self.paths[index] == path else None

    def sums(self, rooms: Floats) -> Floats:
        """Return row by row the sum over each domain of what its cells have."""
        totals = np.zeros((rooms.shape[0], rooms.shape[1] + 1))
        np.cumsum(rooms, axis=1, out=totals[:, 1:])
        starts, ends = self._edges
        sums: Floats = totals[:, ends] - totals[:, starts]
        return sums

    def scarcity(self, accelerator: str) -> Ints:
        """Return the least scarce class in which each domain has an accelerator."""
        if accelerator not in self._scarcity:
            least = np.full(len(self.paths), NOWHERE, dtype=np.int64)
            cells = self._problem.cells
            for index, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
                least[index] = min(
                    (c.scarcity for c in cells[start:end] if c.accelerator == accelerator),
                    default=NOWHERE,
                )
            self._scarcity[accelerator] = least
        return self._scarcity[accelerator]


class Domains:
    """Every level that the requests of a problem speak of, built on first use."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._levels: dict[int, Level] = {}
        self._of: dict[tuple[int, int, str], list[int]] = {}

    def level(self, depth: int) -> Level:
        """Return the domains of one path length."""
        if depth not in self._levels:
            self._levels[depth] = Level(self._problem, depth)
        return self._levels[depth]

    def cells(self, depth: int, place: int, accelerator: str) -> list[int]:
        """Return the cells of one accelerator in a domain, the least scarce first."""
        key = (depth, place, accelerator)
        found = self._of.get(key)
        if found is None:
            level, cells = self.level(depth), self._problem.cells
            found = [
                index
                for index in range(level.starts[place], level.ends[place])
                if cells[index].accelerator == accelerator
            ]
            found.sort(key=lambda index: (cells[index].scarcity, cells[index].idle, index))
            self._of[key] = found
        return found

    def inside(self, depth: int, around: int, place: int) -> range:
        """Return which domains of a level lie in one of a wider (or the same) level."""
        outer, inner = self.level(around), self.level(depth)
        start, end = outer.starts[place], outer.ends[place]
        return range(bisect_left(inner.starts, start), bisect_left(inner.starts, end))
