"""The planner's memory in one JSON file on one machine, replaced as a whole.

A crash at any instant leaves the old file or the new one. Every save is durable, so the acting
services' part is; the loop saves no more than once a minute when nothing acts.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from heteroscale.entities.state import FleetState
from heteroscale.journal.checkpoint import kept, refused, remembered


class FileStore:
    """A store for one controller: nobody else may write the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> FleetState:
        """Return the last saved state, empty when there is no file.

        Raises:
            ConfigError: the file cannot be read or is not what was saved.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return FleetState()
        except OSError as error:
            raise refused(str(self._path), f"cannot be read: {error.strerror}") from error
        return remembered(content, str(self._path))

    def save(self, state: FleetState, acting: frozenset[str]) -> None:  # noqa: ARG002 - all is kept
        """Keep the state; return once all of it survives a crash.

        Raises:
            ConfigError: the file cannot be written; the one before is untouched.
        """
        content = kept(state)
        unfinished = self._path.with_name(f".{self._path.name}.unfinished")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _write_durably(unfinished, content)
            unfinished.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise refused(str(self._path), f"cannot be written: {error.strerror}") from error


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Without this the new name itself may be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
