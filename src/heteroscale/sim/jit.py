"""Compiles the event kernel with numba where it is installed and leaves it as it is elsewhere.

`HETEROSCALE_NO_NUMBA=1` asks for the uncompiled one: equal to the last bit, only slower.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_HERE = Path(__file__).resolve().parent


def _numba() -> Any:
    """Return the compiler, or None when it is missing or not wanted."""
    if os.environ.get("HETEROSCALE_NO_NUMBA") == "1":
        return None
    try:
        return importlib.import_module("numba")
    except ImportError:
        sys.stderr.write("heteroscale: no numba here; the simulator runs about 100× slower\n")
        return None


numba = _numba()
#: Whether the kernel is compiled.
COMPILED: bool = numba is not None


def _cache_directory() -> str:
    """Return a cache folder that belongs to exactly these sources.

    numba renews a cached function when its own file changes, but not when a function that it calls
    changes in another file; the kernel spans files, so their digest is part of the folder's name.
    """
    digest = hashlib.sha256()
    for source in [_HERE / "jit.py", *sorted(_HERE.glob("kernel*.py"))]:
        digest.update(source.read_bytes())
    root = _HERE / "__pycache__"
    if not os.access(root if root.exists() else _HERE, os.W_OK):
        root = Path.home() / ".cache" / "heteroscale"
    return str(root / f"kernel-{digest.hexdigest()[:16]}")


# numpy's error model spares a check for each division; nothing here divides by zero. Compiled
# without reference counts: the kernel makes no array, and counting costs 6/7 of it.
_OPTIONS = {"error_model": "numpy", "_nrt": False}
_CACHE = _cache_directory() if COMPILED else ""


def njit(function: Callable[P, R]) -> Callable[P, R]:
    """Return an entry from Python into the kernel, compiled at its first call, cached on disk."""
    if numba is None:
        return function
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = before or _CACHE
    compiled: Callable[P, R]
    try:
        compiled = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder to cache in
        compiled = numba.njit(**_OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = before
    return compiled


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Return a part of the kernel that is compiled into its callers: the state is wide to pass."""
    return _part(function, inline=True)


def outlined(function: Callable[P, R]) -> Callable[P, R]:
    """Return a part of the kernel that stays a call: it is large, and seldom what is needed."""
    return _part(function, inline=False)


def _part(function: Callable[P, R], *, inline: bool) -> Callable[P, R]:
    """Let the kernel compile a function as a part of it; a call from Python runs it as it is.

    A way in from Python for each part, which unpacks the whole state, took half of all compiling.
    """
    if numba is None:
        return function
    extending = importlib.import_module("numba.extending")
    ways_in = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    part: Callable[P, R] = extending.register_jitable(**_OPTIONS, **ways_in, forceinline=inline)(
        function
    )
    return part
