"""A week of two production services: Azure's 2024 rates, with lengths of its 2023 traces.

The rates come from a file of the user's (10-minute steps, requests a minute, one column a service);
lengths come from the two request traces where given, else from the presets' quantiles. Nothing of
either is shipped.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heteroscale.errors import ConfigError, Problem
from heteroscale.workload.arrivals import ArrivalSource
from heteroscale.workload.generator import generate
from heteroscale.workload.lengths import EmpiricalLengths, Lengths
from heteroscale.workload.loaders import open_trace
from heteroscale.workload.merge import merged
from heteroscale.workload.presets import preset
from heteroscale.workload.rate_curve import S_PER_DAY, RateCurve
from heteroscale.workload.traffic import TrafficSpec

S_PER_WEEK = 7 * S_PER_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """One of the two services."""

    column: str
    #: of the published week
    requests: int
    #: preset whose lengths and gaps stand in
    preset: str


#: Requests as published for the two full traces of 2024.
_SERVICES: Mapping[str, _Service] = {
    "code": _Service(column="code_req_per_min", requests=16_803_695, preset="azure2023_code"),
    "conv": _Service(column="conv_req_per_min", requests=27_303_999, preset="azure2023_conv"),
}
WEEK_REQUESTS = sum(service.requests for service in _SERVICES.values())


def azure_week(
    rates: Path,
    *,
    seed: int,
    code_trace: Path | None = None,
    conv_trace: Path | None = None,
    requests: int = WEEK_REQUESTS,
) -> ArrivalSource:
    """Return both services' requests of the week as one stream, in chunks.

    Each service's week begins at its own first midnight. Straight lines join the rates; gaps are
    gamma with the shapes of 2024 (0.23 code, 0.87 conversation).

    Args:
        rates: CSV, plain or gzip, with the columns minute, code_req_per_min, conv_req_per_min.
        seed: of every draw.
        code_trace: whose lengths the code service has; None = the preset's quantiles.
        conv_trace: as above, for the conversation service.
        requests: of both services together, exactly; split as published.

    Raises:
        ConfigError: a file cannot be read, or has other columns or values.
    """
    curves = _curves(rates)
    traces = {"code": code_trace, "conv": conv_trace}
    counts = {"code": round(requests * _SERVICES["code"].requests / WEEK_REQUESTS)}
    counts["conv"] = requests - counts["code"]
    streams = np.random.SeedSequence(seed).generate_state(len(_SERVICES)).tolist()
    return merged(
        [
            generate(_spec(service, curves[name], traces[name], counts[name]), stream)
            for (name, service), stream in zip(_SERVICES.items(), streams, strict=True)
        ]
    )


def _spec(service: _Service, curve: RateCurve, trace: Path | None, requests: int) -> TrafficSpec:
    base = preset(service.preset)
    inputs: Lengths = base.input_lengths
    outputs: Lengths = base.output_lengths
    if trace is not None:
        chunks = list(open_trace(trace))
        inputs = EmpiricalLengths(tokens=np.concatenate([one.input_tokens for one in chunks]))
        outputs = EmpiricalLengths(tokens=np.concatenate([one.output_tokens for one in chunks]))
    return TrafficSpec(
        rate=curve,
        duration_s=S_PER_WEEK,
        input_lengths=inputs,
        output_lengths=outputs,
        gap_shape=preset(service.preset.replace("2023", "2024")).gap_shape,
        requests=requests,
    )


def _curves(path: Path) -> Mapping[str, RateCurve]:
    """Return each service's rates in requests/s."""
    rows = csv.DictReader(io.StringIO(_text(path)))
    columns = ("minute", *(service.column for service in _SERVICES.values()))
    missing = [name for name in columns if name not in (rows.fieldnames or ())]
    if missing:
        rule = f"must have the columns {', '.join(columns)}"
        problem = Problem(path="header", rule=rule, value=",".join(rows.fieldnames or ()))
        raise ConfigError([_in_file(problem, path, 1)])
    problems: list[Problem] = []
    read: list[tuple[float, ...]] = []
    for row in rows:
        try:
            values = tuple(float(row[name] or "") for name in columns)
        except ValueError:
            values = (math.nan,)
        after = read[-1][0] if read else -math.inf
        if all(math.isfinite(one) and one >= 0 for one in values) and values[0] > after:
            read.append(values)
            continue
        rule = "must be a later minute than the line before and rates >= 0"
        problem = Problem(path="line", rule=rule, value=",".join(str(row[c]) for c in columns))
        problems.append(_in_file(problem, path, rows.line_num))
    if not problems and not all(any(row[i] for row in read) for i in (1, 2)):
        rule = "must have a rate above 0 for each service"
        problems.append(_in_file(Problem(path="rates", rule=rule), path, None))
    if problems:
        raise ConfigError(problems)
    minutes, *rates = zip(*read, strict=True)
    times_s = tuple(60.0 * minute for minute in minutes)
    return {
        name: RateCurve(times_s=times_s, values=tuple(rate / 60.0 for rate in of_one))
        for name, of_one in zip(_SERVICES, rates, strict=True)
    }


def _text(path: Path) -> str:
    try:
        packed = path.read_bytes()
        plain = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
        return plain.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        rule = f"must be a readable text file, plain or gzip: {error}"
        raise ConfigError([_in_file(Problem(path="rates", rule=rule), path, None)]) from error


def _in_file(problem: Problem, path: Path, line: int | None) -> Problem:
    return Problem(
        path=problem.path, rule=problem.rule, value=problem.value, file=str(path), line=line
    )
