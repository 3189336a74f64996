"""How commands that read a journal open it."""

from __future__ import annotations

from pathlib import Path

from heteroscale.adapters.journal_file import JournalReader
from heteroscale.errors import ConfigError, Problem

_GZIP = b"\x1f\x8b"


def opened(journal: Path) -> JournalReader:
    """Return the reader of a journal's folder or of one of its files.

    Raises:
        ConfigError: there is none, or the file is of another kind.
    """
    if journal.is_file():
        with journal.open("rb") as file:
            start = file.read(len(_GZIP))
        if start and start != _GZIP:
            rule = "must be a gzip journal: a folder with journal-*.jsonl.gz, or one of them"
            raise ConfigError([Problem(path="journal", rule=rule, file=str(journal))])
    return JournalReader(journal)
