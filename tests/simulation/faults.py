"""Sub-clusters that misbehave on purpose, between the control loop and the simulated one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from heteroscale.entities.action import Action, Outcome, OutcomeKind
from heteroscale.entities.snapshot import Observation
from heteroscale.errors import SubclusterUnavailable
from heteroscale.ports import Subcluster


class Faulty:
    """Passes everything through, but every `every`-th batch of actions meets a fault."""

    def __init__(self, inner: Subcluster, every: int = 2) -> None:
        self._inner = inner
        self._every = every
        self._batches = 0

    @property
    def name(self) -> str:
        return self._inner.name

    def observe(self) -> Observation:
        return self._inner.observe()

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        self._batches += 1
        if self._batches % self._every:
            return self._inner.apply(actions, deadline_s)
        return self.fault(actions, deadline_s)

    def fault(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        """Do what goes wrong."""
        raise NotImplementedError

    def _unknown(self, actions: Sequence[Action], at_s: float) -> tuple[Outcome, ...]:
        return tuple(
            Outcome(
                action_id=action.id, service=action.service, kind=OutcomeKind.UNKNOWN, at_s=at_s
            )
            for action in actions
        )


class Unreachable(Faulty):
    """Nothing is sent."""

    def fault(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        raise SubclusterUnavailable(f"{self.name}: {len(actions)} not sent by {deadline_s}")


class Twice(Faulty):
    """A retry below us sends the batch again."""

    def fault(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        self._inner.apply(actions, deadline_s)
        return self._inner.apply(actions, deadline_s)


class AnswerLost(Faulty):
    """It happens, and nobody learns of it."""

    def fault(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        self._inner.apply(actions, deadline_s)
        return self._unknown(actions, deadline_s)


class RequestLost(Faulty):
    """It does not happen, and nobody learns of that."""

    def fault(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        return self._unknown(actions, deadline_s)


class Cut(Faulty):
    """Out of reach between the 40th and the 120th look: the cache ages, nothing is sent."""

    def __init__(self, inner: Subcluster) -> None:
        super().__init__(inner)
        self._looks = 0
        self._cache = inner.observe()

    def observe(self) -> Observation:
        self._looks += 1
        if not self._is_cut():
            self._cache = self._inner.observe()
            return self._cache
        return dataclasses.replace(self._cache, age_s=15.0 * (self._looks - 39))

    def apply(self, actions: Sequence[Action], deadline_s: float) -> tuple[Outcome, ...]:
        if self._is_cut():
            raise SubclusterUnavailable(f"{self.name}: out of reach at {deadline_s}")
        return self._inner.apply(actions, deadline_s)

    def _is_cut(self) -> bool:
        return 40 <= self._looks < 120


FAULTS: Mapping[str, Callable[[Subcluster], Subcluster]] = {
    "unreachable": Unreachable,
    "twice": Twice,
    "answer lost": AnswerLost,
    "request lost": RequestLost,
    "cut off": Cut,
}
