"""A tolerant look at what was written, so that rules between fields run beside other faults.

A value that already has a fault, or is of another kind than asked for, reads as unknown (None);
one that is absent reads as its default.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heteroscale.config.document import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One value of a document and where it stands."""

    value: object
    place: Place = ()
    #: places that have a fault of their own
    faulty: frozenset[Place] = frozenset()
    written: bool = True

    def at(self, *keys: str) -> View:
        """Return what stands below by these keys; `written` is False where nothing does."""
        view = self
        for key in keys:
            below = view.value if isinstance(view.value, dict) else {}
            view = View(
                value=below.get(key),
                place=(*view.place, key),
                faulty=self.faulty,
                written=key in below,
            )
        return view

    @property
    def sound(self) -> bool:
        """Whether it may be judged: nothing is wrong with it by itself."""
        return self.place not in self.faulty

    def entries(self) -> tuple[tuple[str, View], ...]:
        """Return key and view of everything in a mapping, in written order."""
        if not isinstance(self.value, dict):
            return ()
        return tuple((str(key), self.at(str(key))) for key in self.value)

    def items(self) -> Iterator[View]:
        """Yield a view of each element of a list."""
        if isinstance(self.value, tuple):
            for index, element in enumerate(self.value):
                yield View(value=element, place=(*self.place, index), faulty=self.faulty)

    def number(self, default: float | None = None) -> float | None:
        """Return a number; None = unknown."""
        if not self.written:
            return default
        if isinstance(self.value, int | float) and not isinstance(self.value, bool) and self.sound:
            return self.value
        return None

    def text(self, default: str | None = None) -> str | None:
        """Return a text; None = unknown, absent without a default, or written as null."""
        if not self.written:
            return default
        return self.value if isinstance(self.value, str) and self.sound else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A broken rule between fields, before file and line are known."""

    view: View
    rule: str
    #: whether the value there is worth showing
    shown: bool = True
