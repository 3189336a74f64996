"""Figures in Prometheus' text format (version 0.0.4), and nothing of where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

#: label values of one series, in the order of its family's labels
Values = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric and its series."""

    name: str
    kind: Literal["counter", "gauge"]
    #: one sentence
    help: str
    labels: tuple[str, ...] = ()
    series: Mapping[Values, float]


class Histogram:
    """Durations counted into buckets that are never changed."""

    def __init__(self, name: str, help: str, bounds: Sequence[float]) -> None:  # noqa: A002 - as Prometheus says
        """Count nothing yet; `bounds` ascend."""
        self._name = name
        self._help = help
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def take(self, value: float) -> None:
        """Count one value."""
        self._counts[sum(value > bound for bound in self._bounds)] += 1
        self._sum += value

    def lines(self) -> Iterator[str]:
        """Yield it in the text format."""
        yield from _head(self._name, "histogram", self._help)
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            shown = bound if isinstance(bound, str) else f"{bound:g}"
            yield f'{self._name}_bucket{{le="{shown}"}} {total}\n'
        yield f"{self._name}_sum {self._sum!r}\n"
        yield f"{self._name}_count {total}\n"


def exposition(families: Iterable[Family]) -> Iterator[str]:
    """Yield the lines of families, each family's series in order."""
    for family in families:
        yield from _head(family.name, family.kind, family.help)
        for values, figure in sorted(family.series.items()):
            pairs = zip(family.labels, values, strict=True)
            labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)
            yield (
                f"{family.name}{{{labels}}} {figure!r}\n"
                if labels
                else (f"{family.name} {figure!r}\n")
            )


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}\n"
    yield f"# TYPE {name} {kind}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
