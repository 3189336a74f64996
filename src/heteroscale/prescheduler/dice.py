"""Numbers that look random and follow from content alone: the core has no other randomness."""

from __future__ import annotations

from hashlib import blake2b

from heteroscale.prescheduler.problem import Problem

_MASK = (1 << 64) - 1


class Dice:
    """A stream of integers from a seed (splitmix64)."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def below(self, limit: int) -> int:
        """Return one of 0 to limit − 1; the bias of the remainder is of no account here."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return (mixed ^ (mixed >> 31)) % limit

    def shuffle(self, items: list[int]) -> None:
        """Put a list into another order."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]


def seed_of(problem: Problem) -> int:
    """Return a seed that equal problems share."""
    content = [f"{request.name}:{request.steps}" for request in problem.requests]
    content.append(str(len(problem.cells)))
    return int.from_bytes(blake2b("\n".join(content).encode(), digest_size=8).digest(), "big")
