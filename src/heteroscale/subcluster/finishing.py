"""A sub-cluster whose draining instances say what they still have to do.

A pod does not tell; its engine's own metrics do. They are asked for while something drains, and
believed where their newest sample was taken after the draining began.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from heteroscale.entities.action import Action, Outcome
from heteroscale.entities.snapshot import Instance, InstanceState, Observation
from heteroscale.ports import Clock, Subcluster
from heteroscale.subcluster.pods import pod_named

#: epoch seconds → pod → what its engine has to do, and how old the newest sample of it is
Busy = Callable[[float], Mapping[tuple[str, str], tuple[float, float]]]


class Finishing:
    """The same sub-cluster, with requests on what drains; None where nobody tells."""

    def __init__(self, subcluster: Subcluster, clock: Clock, busy: Busy) -> None:
        """Ask `busy` at each observation while something drains."""
        self._subcluster = subcluster
        self._clock = clock
        self._busy = busy

    @property
    def name(self) -> str:
        """Return the sub-cluster's name."""
        return self._subcluster.name

    def observe(self) -> Observation:
        """Return what the sub-cluster holds, with the requests of what drains."""
        seen = self._subcluster.observe()
        if not any(one.state is InstanceState.DRAINING for one in seen.instances):
            return seen
        now_s = self._clock.now_s()
        told = self._busy(now_s)

        def finishing(one: Instance) -> Instance:
            load = told.get(pod_named(one.uid))
            if one.state is not InstanceState.DRAINING or load is None:
                return one
            value, age_s = load
            # What was seen of it before it began to drain says nothing of what it had left.
            known = now_s - age_s >= one.since_s
            return replace(one, requests=math.ceil(value)) if known else one

        return replace(seen, instances=tuple(map(finishing, seen.instances)))

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        """Carry out the batch."""
        return self._subcluster.apply(actions, deadline_s)
