"""What was found amiss outside, before anything depends on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be, and what mends it."""

    #: what it is about, e.g. "prometheus main: dialect vllm"
    where: str
    #: what is so, in one clause
    what: str
    #: what to do about it
    mend: str
    #: whether the service can be looked after nevertheless, only less well
    note: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n    → {self.mend}"
