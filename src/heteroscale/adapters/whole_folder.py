"""A folder that appears as a whole or not at all, whatever ends the process that writes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heteroscale.errors import ConfigError, Problem

#: hidden folders beside the wanted one while it is written: what is new, and what that replaces
_UNFINISHED, _FORMER = "unfinished", "former"


@contextmanager
def whole_folder(wanted: Path, ours: frozenset[str]) -> Iterator[Path]:
    """Yield a folder beside the wanted one that takes its place when nothing was raised.

    Args:
        wanted: made if it is not there; a former one is replaced.
        ours: names of all that may be in it; a folder with anything else is not ours to replace.

    Raises:
        ConfigError: the folder cannot be written, or holds something else.
    """
    try:
        # A link to a folder stays a link; what it points to is replaced.
        folder = wanted.resolve()
        _check_replaceable(folder, ours)
        unfinished = _beside(folder, _UNFINISHED, os.getpid())
        former = _beside(folder, _FORMER, os.getpid())
        _clear_leftovers(folder)
        unfinished.mkdir(parents=True)
    except (OSError, RuntimeError) as error:  # older Pythons: RuntimeError for a loop of links
        raise _unwritable(wanted, error) from error
    try:
        yield unfinished
        if folder.exists():
            folder.rename(former)
        unfinished.rename(folder)
    except OSError as error:
        raise _unwritable(wanted, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def _beside(folder: Path, what: str, process: int) -> Path:
    return folder.parent / f".{folder.name}.{what}-{process}"


def _clear_leftovers(folder: Path) -> None:
    """Remove what runs into this folder left that were killed before they could."""
    if not folder.parent.is_dir():
        return
    for path in sorted(folder.parent.iterdir()):
        for what in (_UNFINISHED, _FORMER):
            process = path.name.removeprefix(_beside(folder, what, 0).name[:-1])
            if process == path.name or not process.isdecimal() or _is_running(int(process)):
                continue
            if what == _FORMER and not folder.exists():
                path.rename(folder)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    """Return whether another process of that number runs; ours has left nothing yet."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _check_replaceable(folder: Path, ours: frozenset[str]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise _refused(folder, "must be a folder")
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    if others:
        rule = f"must be empty, absent or a former run's: it also holds {', '.join(others[:3])}"
        raise _refused(folder, rule)


def _unwritable(folder: Path, error: OSError | RuntimeError) -> ConfigError:
    why = getattr(error, "strerror", None) or error
    return _refused(folder, f"cannot be written: {why}")


def _refused(folder: Path, rule: str) -> ConfigError:
    return ConfigError([Problem(path="--out", rule=rule, value=str(folder))])
