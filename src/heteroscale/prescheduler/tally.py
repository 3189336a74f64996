"""Whether steps fit a domain, told by the sums over its cells: no cell is asked.

While every size on an accelerator divides the next larger one and a node, a cell with room for an
instance has all the smaller slots in it to spare. Instances then fit a domain only if, for each
size s,

    GPUs of instances of size ≥ s  ≤  s × Σ over cells of room(s)

and, taken largest first, always if so.
"""

from __future__ import annotations

from collections.abc import Mapping

from heteroscale.entities.service import UNIT_SLACK
from heteroscale.prescheduler.domains import Level
from heteroscale.prescheduler.form import Form, Manner
from heteroscale.prescheduler.slots import Slots


class Tally:
    """One domain's room for one request."""

    def __init__(
        self, form: Form, slots: Slots, level: Level, place: int, quota: Mapping[str, int]
    ) -> None:
        self._form = form
        self._ways = form.ways_in((level.depth, place))
        sums = slots.sums(level)
        #: as `Way.limits` counts them
        self._gpus = [size * int(sums[row][place]) for row, size in form.kinds]
        self._gpus += [quota[kind] for kind in form.quotas]

    def holds(self, steps: int, manner: Manner) -> bool:
        """Return whether so many steps fit in a manner; False is final, True where it is `sure`.

        Args:
            manner: of an order of which sums tell something.
        """
        form, gpus = self._form, self._gpus.copy()
        for need in form.orders[manner.order]:
            owed = form.each[need] * steps
            ways = self._ways[need]
            held = owed * (8 - manner.share) / 8 if len(ways) > 1 else 0.0
            for way in reversed(ways) if manner.reverse else ways:
                capacity, size = way.option.capacity, way.size
                replicas = -int(-(owed - held - UNIT_SLACK) // capacity)
                for limit in way.limits:
                    replicas = min(replicas, gpus[limit] // size)
                if replicas > 0:
                    owed -= replicas * capacity
                    for limit in way.limits:
                        gpus[limit] -= replicas * size
                held = 0.0
                if owed <= UNIT_SLACK:
                    break
            else:
                return False
        return True
