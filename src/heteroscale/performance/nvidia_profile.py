"""Profiles as NVIDIA's Dynamo profiler writes them: NPZ or JSON arrays, prefill and decode.

Either one file that holds all arrays, or the profiler's folder with
`selected_{prefill,decode}_interpolation/raw_data.npz` or `{prefill,decode}_raw_data.json`.
Its times are measured on a whole engine, in ms.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heteroscale.errors import ConfigError, Problem
from heteroscale.performance.fit import DecodePoint
from heteroscale.performance.table import Clock, LatencyTable, Source
from heteroscale.performance.table_file import LONGEST_MS, MIN_POINTS

_PREFILL = ("prefill_isl", "prefill_ttft", "prefill_thpt_per_gpu")
_DECODE = ("x_kv_usage", "y_context_length", "z_itl", "z_thpt_per_gpu")
_MAX_KV = "max_kv_tokens"
_TIMES = ("prefill_ttft", "z_itl")
#: throughput per GPU × GPUs × time is the tokens of a step: further off means other GPUs
_TOLERANCE = 0.25
#: what a file that is neither format may raise
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
#: no count or throughput comes near it
_LARGEST = 1e12


def nvidia_profile(
    path: Path, *, accelerator: str, gpus: int, kv_bytes_per_token: int
) -> LatencyTable:
    """Return a profile as a table; the arguments are what it does not say about itself.

    Raises:
        ConfigError: with every fault of the profile.
    """
    problems: list[Problem] = []
    arrays = _arrays(path, problems)
    for key in (*_PREFILL, *_DECODE, _MAX_KV):
        _check_array(arrays, key, path, problems)
    if not problems:
        _check_lengths(arrays, _PREFILL, path, problems)
        _check_lengths(arrays, _DECODE, path, problems)
    if not problems:
        _check_gpus(arrays, gpus, path, problems)
    if problems:
        raise ConfigError(problems)
    capacity = int(arrays[_MAX_KV][0])
    prefill = sorted(zip(arrays["prefill_isl"], arrays["prefill_ttft"], strict=True))
    return LatencyTable(
        model="profile",
        accelerator=accelerator,
        gpus=gpus,
        parallelism="as profiled",
        source=Source(name=str(path), version="", licence="own"),
        clock=Clock.ENGINE,
        kv_bytes_per_token=kv_bytes_per_token,
        kv_capacity_tokens=capacity,
        prefill=tuple(prefill),
        decode=tuple(
            DecodePoint(usage * capacity / context, context, ms)
            for usage, context, ms in zip(
                *(arrays[key] for key in ("x_kv_usage", "y_context_length", "z_itl")), strict=True
            )
        ),
    )


def _arrays(path: Path, problems: list[Problem]) -> dict[str, Any]:
    """Return every array of the file, or of the folder's files, flattened to lists."""
    arrays: dict[str, Any] = {}
    for file in _files(path, problems):
        try:
            arrays |= _json_arrays(file) if file.suffix == ".json" else _npz_arrays(file)
        except _UNREADABLE as error:
            rule = f"must be an NPZ of numbers or a JSON mapping of lists: {error}"
            problems.append(Problem(path=str(file), rule=rule, file=str(file)))
    return arrays


def _files(path: Path, problems: list[Problem]) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = []
    for stage in ("prefill", "decode"):
        places = (
            path / f"selected_{stage}_interpolation" / "raw_data.npz",
            path / f"{stage}_raw_data.json",
        )
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            names = " or ".join(place.relative_to(path).as_posix() for place in places)
            rule = f"must hold {names}"
            problems.append(Problem(path=str(path), rule=rule, file=str(path)))
        else:
            files.append(found)
    return files


def _npz_arrays(file: Path) -> dict[str, Any]:
    # Pickled objects could run code: only plain arrays are read.
    with file.open("rb") as opened:
        loaded = np.load(opened, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("is a single array")
        return {key: loaded[key].ravel().tolist() for key in loaded.files}


def _json_arrays(file: Path) -> dict[str, Any]:
    document = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError("is not a mapping")
    return {key: value if isinstance(value, list) else [value] for key, value in document.items()}


def _check_array(arrays: Mapping[str, Any], key: str, path: Path, problems: list[Problem]) -> None:
    values = arrays.get(key)
    limit = LONGEST_MS if key in _TIMES else _LARGEST
    rule = f"must be a list of numbers > 0 and < {limit:g}"
    if not values:
        problems.append(Problem(path=key, rule=f"is required: {rule}", file=str(path)))
        return
    for value in values:
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
        if not 0 < number < limit:
            problems.append(Problem(path=key, rule=rule, value=value, file=str(path)))
            return
    if key == _MAX_KV and (len(values) != 1 or values[0] < 1):
        problems.append(Problem(path=key, rule="must be one number >= 1", file=str(path)))
    if key == "x_kv_usage" and max(values) > 1:
        rule = "must be shares of max_kv_tokens, at most 1"
        problems.append(Problem(path=key, rule=rule, value=max(values), file=str(path)))


def _check_lengths(
    arrays: Mapping[str, Any], keys: tuple[str, ...], path: Path, problems: list[Problem]
) -> None:
    lengths = {key: len(arrays[key]) for key in keys}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} {length}" for key, length in lengths.items())
        rule = f"must have one value for each point: {told}"
        problems.append(Problem(path=keys[0], rule=rule, file=str(path)))
    elif lengths[keys[0]] < MIN_POINTS:
        rule = f"must have at least {MIN_POINTS} points"
        problems.append(Problem(path=keys[0], rule=rule, value=lengths[keys[0]], file=str(path)))


def _check_gpus(arrays: Mapping[str, Any], gpus: int, path: Path, problems: list[Problem]) -> None:
    """Add a fault where times and throughputs tell of other GPUs than the scenario says."""
    capacity = arrays[_MAX_KV][0]
    batches = [
        usage * capacity / context
        for usage, context in zip(arrays["x_kv_usage"], arrays["y_context_length"], strict=True)
    ]
    for tokens, times, key in (
        (arrays["prefill_isl"], arrays["prefill_ttft"], "prefill_thpt_per_gpu"),
        (batches, arrays["z_itl"], "z_thpt_per_gpu"),
    ):
        told = sorted(
            count / (ms / 1000) / tps
            for count, ms, tps in zip(tokens, times, arrays[key], strict=True)
        )
        middle = told[len(told) // 2]
        if abs(middle / gpus - 1) > _TOLERANCE:
            rule = f"must fit gpus ({gpus}): its times and throughputs are those of {middle:.1f}"
            problems.append(Problem(path=key, rule=rule, file=str(path)))
