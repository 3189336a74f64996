"""The whole error tree. A class exists only where someone handles it differently.

HeteroScaleError
├── ConfigError             the operator can fix it: CLI exit 2, HTTP 422; lists every problem
├── ObservationError        hold and keep the last plan
│   ├── MetricsUnavailable
│   └── SnapshotStale
├── ActuationError
│   ├── SubclusterUnavailable   retry next tick
│   ├── StaleAction             plan again
│   └── OutcomeUnknown          observe the target before touching it again
└── InvariantViolation      our bug: stop acting on that service, keep serving status
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HeteroScaleError(Exception):
    """Base of every error this package raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault in what the operator gave us: where it is, what was found, what is allowed."""

    #: dotted path (`services[0].slo.ttft_s`), or a file name for a fault of the whole file
    path: str
    #: what is allowed, e.g. "must be > 0"
    rule: str
    #: the offending value as written; None when something is absent
    value: object = None
    #: file the fault is in, when known
    file: str | None = None
    #: 1-based line in that file, when known
    line: int | None = None

    def __str__(self) -> str:
        parts = [f"{self.file}:{self.line}" if self.file and self.line else self.file or ""]
        if self.path != self.file:
            parts.append(self.path)
        got = "" if self.value is None else f", got {_as_written(self.value)}"
        return ": ".join([*filter(None, parts), f"{self.rule}{got}"])


#: a longer value is cut in messages
_SHOWN_CHARACTERS = 80


def _as_written(value: object) -> str:
    """Return a value as the operator wrote it, short enough for one line."""
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}…"


class ConfigError(HeteroScaleError):
    """Input the operator can fix; carries every problem found, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ObservationError(HeteroScaleError):
    """What we need to know is not to be had right now."""


class MetricsUnavailable(ObservationError):
    """The metrics source answered nothing usable."""


class SnapshotStale(ObservationError):
    """The newest observation is older than its limit."""


class ActuationError(HeteroScaleError):
    """A change could not be carried out."""


class SubclusterUnavailable(ActuationError):
    """The sub-cluster cannot be reached; nothing was changed."""


class StaleAction(ActuationError):
    """The action's precondition no longer holds; nothing was changed."""


class OutcomeUnknown(ActuationError):
    """The change may or may not have happened."""


class JournalBroken(HeteroScaleError):
    """A journal is not what was written, or does not lead to the plans it holds."""

    def __init__(self, *, record: int, where: str, rule: str) -> None:
        #: 1-based position among the records read
        self.record = record
        #: the segment it is in
        self.where = where
        self.rule = rule
        super().__init__(f"{where}: record {record}: {rule}")


class InvariantViolation(HeteroScaleError):
    """A property this package promises does not hold: a bug of ours."""
