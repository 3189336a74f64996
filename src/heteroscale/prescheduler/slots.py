"""Free slots of every cell within one cycle: a few integers each, so that trying costs additions.

A slot of size s is room for one instance of s GPUs. While every size on an accelerator divides the
next larger one, instances fit a cell exactly when, for each size s,

    Σ over sizes g ≥ s of instances(g) × slots of size s in one of size g  ≤  slots of size s

whatever their order, so no node is chosen before the end (`seats`). Other sizes are packed anew
at each question, largest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from heteroscale.prescheduler.domains import Floats, Level
from heteroscale.prescheduler.objective import BROKEN, STIRRED, broken_nodes, size_of
from heteroscale.prescheduler.problem import Cell, Problem

#: accelerator and GPUs of one instance over all its nodes
Kind = tuple[str, int]
#: what `Slots.keep` notes of a cell: slots left, what small instances use, instances, rooms,
#: penalty, and the refresh up to which sums know it; less than 0 = none does
Kept = tuple[list[int], list[int], list[int], list[int], float, int]


class _Shape:
    """How sizes share a node: equal for all cells of one accelerator and node size."""

    def __init__(self, sizes: Sequence[int], rows: Sequence[int], node_gpus: int) -> None:
        self.sizes = sizes
        self.rows = rows
        self.unknown = [-1] * len(sizes)
        self.small = [size for size in sizes if size < node_gpus]
        spans = [size for size in sizes if size >= node_gpus]
        self.exact = all(b % a == 0 for a, b in (*pairwise(self.small), *pairwise(spans)))
        chain = sorted({*sizes, node_gpus})
        #: no GPU of a node is left over whatever the sizes: sums over cells tell all
        self.even = all(b % a == 0 for a, b in pairwise(chain))
        #: slots of size j in a whole node
        self.per_node = [node_gpus // size for size in self.small]
        #: place of a size → (place, slots of that size it takes) for itself and every smaller one
        self.takes = [
            [(j, self._slots(size, less, node_gpus)) for j, less in enumerate(sizes[: i + 1])]
            for i, size in enumerate(sizes)
        ]

    def _slots(self, size: int, less: int, node_gpus: int) -> int:
        if size < node_gpus:
            return size // less
        if less < node_gpus:
            return size // node_gpus * (node_gpus // less)
        return size // less


class Slots:
    """What is left of every cell as instances are put there and lifted again."""

    def __init__(self, problem: Problem) -> None:
        self.cells = problem.cells
        sizes: dict[str, set[int]] = {}
        for request in problem.requests:
            for need in request.needs:
                for option in need.options:
                    sizes.setdefault(option.type, set()).add(size_of(option))
        ordered = {kind: sorted(own) for kind, own in sizes.items()}
        self.places: dict[Kind, int] = {
            (kind, size): place for kind, own in ordered.items() for place, size in enumerate(own)
        }
        #: kind → its place among all, sorted
        self.rows: dict[Kind, int] = {kind: row for row, kind in enumerate(sorted(self.places))}
        shapes: dict[tuple[str, int], _Shape] = {}
        self._shapes: list[_Shape] = []
        #: per cell: slots left by place of their size; what small instances use; instances
        self._left: list[list[int]] = []
        self._small: list[list[int]] = []
        self._partial: list[list[int]] = []
        self._counts: list[list[int]] = []
        for cell in self.cells:
            key = (cell.accelerator, cell.node_gpus)
            shape = shapes.get(key)
            if shape is None:
                own = ordered.get(cell.accelerator, [])
                rows = [self.rows[cell.accelerator, size] for size in own]
                shape = _Shape(own, rows, cell.node_gpus)
                shapes[key] = shape
            self._shapes.append(shape)
            self._left.append([slots_of(cell, size) for size in shape.sizes])
            self._partial.append(
                [sum(gpus // s * n for gpus, n in cell.partial.items()) for s in shape.small]
            )
            self._small.append([0] * len(shape.small))
            self._counts.append([0] * len(shape.sizes))
        self._uneven = {kind for (kind, _), shape in shapes.items() if not shape.even}
        #: room by place of size, and penalty; less than 0 = not worked out since the last change
        self._known = [shape.unknown.copy() for shape in self._shapes]
        self._harm = [-1.0] * len(self.cells)
        self._dirty: set[int] = set(range(len(self.cells)))
        self._refreshes = 0
        #: by row of a kind: room per cell as of the last refresh, and per level its sums
        self._rooms = [[0] * len(self.cells) for _ in self.rows]
        self._sums: dict[int, list[Floats]] = {}
        self._summed: list[tuple[Sequence[int], list[Floats]]] = []

    def sizes(self, cell: int) -> Sequence[int]:
        """Return the sizes that are asked for on a cell's accelerator, by place."""
        return self._shapes[cell].sizes

    def even(self, accelerator: str) -> bool:
        """Return whether every size divides the next larger one and a node, in every cell."""
        return accelerator not in self._uneven

    def room(self, cell: int, place: int) -> int:
        """Return how many more instances of a size fit a cell."""
        room = self._known[cell][place]
        if room < 0:
            shape = self._shapes[cell]
            left = self._left[cell]
            if shape.exact:
                room = min([left[j] // slots for j, slots in shape.takes[place]])
            else:
                room = self._packed(cell, place)
            self._known[cell][place] = room
        return room

    def take(self, cell: int, place: int, replicas: int) -> None:
        """Put instances of a size into a cell that has room for them; fewer than 0 = lift them."""
        shape = self._shapes[cell]
        left = self._left[cell]
        small = self._small[cell]
        for j, slots in shape.takes[place]:
            left[j] -= slots * replicas
            if place < len(small):
                small[j] += slots * replicas
        self._counts[cell][place] += replicas
        self._known[cell] = shape.unknown.copy()
        self._harm[cell] = -1.0
        self._dirty.add(cell)

    def keep(self, cell: int) -> Kept:
        """Return a cell as it is, to come back to."""
        return (
            self._left[cell].copy(),
            self._small[cell].copy(),
            self._counts[cell].copy(),
            self._known[cell],  # replaced by every change, never changed
            self.penalty(cell),
            -1 if cell in self._dirty else self._refreshes,
        )

    def restore(self, cell: int, kept: Kept) -> None:
        """Let a cell be as it was; what was kept is used up."""
        self._left[cell], self._small[cell], self._counts[cell] = kept[:3]
        self._known[cell], self._harm[cell], refreshes = kept[3:]
        if refreshes == self._refreshes:
            self._dirty.discard(cell)
        else:
            self._dirty.add(cell)

    def penalty(self, cell: int) -> float:
        """Return what the objective takes off for broken nodes and a stirred switch."""
        harm = self._harm[cell]
        if harm < 0:
            harm = 0.0
            if any(self._counts[cell]):
                harm = BROKEN * self.broken(cell) + STIRRED * self.cells[cell].idle
            self._harm[cell] = harm
        return harm

    def broken(self, cell: int) -> int:
        """Return how many whole nodes the instances put here break."""
        shape = self._shapes[cell]
        if not shape.exact:
            return broken_nodes(self.cells[cell], self._by_size(cell)) or 0
        broken = 0
        for used, partial, each in zip(
            self._small[cell], self._partial[cell], shape.per_node, strict=True
        ):
            if used > partial:
                broken = max(broken, -((partial - used) // each))
        return broken

    def breaks(self, cell: int, place: int) -> bool:
        """Return whether the next instance of a size would break a whole node, as a rule."""
        small = self._small[cell]
        return place < len(small) and small[place] >= self._partial[cell][place]

    def sums(self, level: Level) -> Sequence[Floats]:
        """Return by row of a kind its room in each domain of a level: whole numbers."""
        if self._dirty:
            self._refresh()
        sums = self._sums.get(level.depth)
        if sums is None:
            sums = [*level.sums(np.array(self._rooms, dtype=float))]
            self._sums[level.depth] = sums
            self._summed.append((level.of, sums))
        return sums

    def _refresh(self) -> None:
        # Sums of whole numbers: in which order cells are looked at makes no difference.
        for cell in self._dirty:
            for place, row in enumerate(self._shapes[cell].rows):
                rooms = self._rooms[row]
                room = self.room(cell, place)
                more = room - rooms[cell]
                if more:
                    rooms[cell] = room
                    for of, sums in self._summed:
                        if of[cell] >= 0:
                            sums[row][of[cell]] += more
        self._dirty.clear()
        self._refreshes += 1

    def _packed(self, cell: int, place: int) -> int:
        counts = self._by_size(cell)
        size = self._shapes[cell].sizes[place]
        low, high = 0, self._left[cell][place] + counts[size]
        while low < high:
            middle = (low + high + 1) // 2
            tried = {**counts, size: counts[size] + middle}
            if broken_nodes(self.cells[cell], tried) is None:
                high = middle - 1
            else:
                low = middle
        return low

    def _by_size(self, cell: int) -> dict[int, int]:
        return dict(zip(self._shapes[cell].sizes, self._counts[cell], strict=True))


def slots_of(cell: Cell, size: int) -> int:
    """Return how many instances of one size an untouched cell holds."""
    if size >= cell.node_gpus:
        spans = -(-size // cell.node_gpus)
        return sum(nodes // spans for nodes in cell.whole)
    whole = sum(cell.whole) * (cell.node_gpus // size)
    return whole + sum(gpus // size * nodes for gpus, nodes in cell.partial.items())
