"""Dynamo's own lever where discovery is kept in files: an engine's model card, away and back.

An engine has two records: its endpoint, and the card of the model that it serves there. A front end
sends requests to the engines that have both. Without its card an engine gets none, and finishes
what it has. Without its endpoint the same, but for requests that were sent and not yet answered by
a stream: the front end calls those off, and unless it may migrate them (`--migration-limit`) they
fail. An engine keeps its records fresh as long as they are there and does not write them again.
"""

from __future__ import annotations

from pathlib import Path

_ENDPOINT = "%2Fgenerate%2F"
#: Dynamo's own prefix of files that are not records yet
_UNFINISHED = ".tmp_"


class FileDiscovery:
    """The records of one Dynamo, as an operator may change them."""

    def __init__(self, root: Path, aside: Path) -> None:
        """Keep what is taken away in the folder `aside`, which must not lie below `root`."""
        self._cards = root / "v1" / "mdc"
        self._aside = aside
        aside.mkdir(parents=True, exist_ok=True)

    def lists(self, engine: str) -> bool:
        """Return whether an engine is found by who looks for one."""
        return self._record(self._cards, engine) is not None

    def withdraw(self, engine: str) -> None:
        """Take an engine's card away, if it is there.

        A file that is only moved is not missed: Dynamo looks for removals.
        """
        card = self._record(self._cards, engine)
        if card is not None:
            _put(self._aside / card.name, card.read_bytes())
            card.unlink()

    def restore(self, engine: str) -> None:
        """Put an engine's card back, if it was taken away, as fresh as a new one."""
        kept = self._record(self._aside, engine)
        if kept is not None:
            _put(self._cards / kept.name, kept.read_bytes())
            kept.unlink()

    def _record(self, folder: Path, engine: str) -> Path | None:
        if not folder.is_dir():
            return None
        found = (one for one in folder.iterdir() if one.name.endswith(f"{_ENDPOINT}{engine}"))
        return next(found, None)


def _put(path: Path, content: bytes) -> None:
    """Write a file that is whole whenever somebody sees it."""
    unfinished = path.with_name(f"{_UNFINISHED}{path.name[-16:]}")
    unfinished.write_bytes(content)
    unfinished.rename(path)
