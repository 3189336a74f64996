"""How load moves over time: piecewise-linear curves, from files or daily harmonics. No requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from heteroscale.errors import ConfigError, Problem

Floats: TypeAlias = npt.NDArray[np.float64]

S_PER_HOUR = 3600.0
S_PER_DAY = 86_400.0
#: Curves that ship with the package; provenance in curves/README.md.
SHIPPED_CURVES = ("paper_day",)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCurve:
    """A rate, and how long inputs are, over time; straight lines between the points."""

    #: seconds, strictly rising
    times_s: tuple[float, ...]
    #: requests/s, or any multiple of it, at those times
    values: tuple[float, ...]
    #: input tokens per request at those times, relative; () = constant
    mix: tuple[float, ...] = ()
    #: the curve repeats with this period; None = its ends extend to both sides
    period_s: float | None = None

    def rates_at(self, times_s: Floats) -> Floats:
        """Return the rate at each time."""
        return np.interp(times_s, self.times_s, self.values, period=self.period_s)

    def mix_at(self, times_s: Floats) -> Floats:
        """Return the relative input length at each time; ones where the curve has no mix."""
        if not self.mix:
            return np.ones_like(times_s)
        return np.interp(times_s, self.times_s, self.mix, period=self.period_s)

    def knots_s(self, duration_s: float) -> Floats:
        """Return every time in [0, duration_s] at which a straight piece may end."""
        times = np.asarray(self.times_s, dtype=np.float64)
        if self.period_s is not None:
            first = -math.ceil(self.times_s[-1] / self.period_s)
            turns = np.arange(first, math.ceil(duration_s / self.period_s) + 1)
            times = (times + self.period_s * turns[:, None]).ravel()
        return times[(times > 0) & (times < duration_s)]

    def scaled(self, factor: float) -> RateCurve:
        """Return the curve with every rate multiplied."""
        return replace(self, values=tuple(value * factor for value in self.values))

    def with_peak(self, peak_rps: float) -> RateCurve:
        """Return the curve scaled so that its highest point is `peak_rps`."""
        return self.scaled(peak_rps / max(self.values))

    def with_mean(self, mean_rps: float) -> RateCurve:
        """Return a periodic curve scaled so that its mean over one period is `mean_rps`."""
        if self.period_s is None:
            raise ConfigError([Problem(path="curve", rule="must be periodic to have a mean")])
        times = np.append(self.times_s, self.times_s[0] + self.period_s)
        values = np.append(self.values, self.values[0])
        mean = float(np.trapezoid(values, times)) / self.period_s
        return self.scaled(mean_rps / mean)


def constant(rate_rps: float) -> RateCurve:
    """Return the curve that never moves."""
    return RateCurve(times_s=(0.0,), values=(rate_rps,))


def daily(
    mean_rps: float,
    harmonics: Sequence[tuple[int, float, float]],
    weekday_levels: Sequence[float] = (1.0,) * 7,
) -> RateCurve:
    """Return a week, from Monday 00:00, of exp(Σ a·cos(2πk(h - h0)/24)) times each day's level.

    Args:
        mean_rps: mean over the week.
        harmonics: (k, a, h0): cycles a day, log amplitude, an hour of day at which it peaks.
        weekday_levels: Monday first.
    """
    hours = np.arange(0, 7 * 24, 1 / 6)
    log_rate = np.zeros_like(hours)
    for cycles, amplitude, peak_hour in harmonics:
        log_rate += amplitude * np.cos(2 * np.pi * cycles * (hours - peak_hour) / 24)
    values = np.exp(log_rate) * np.repeat(np.asarray(weekday_levels), 24 * 6)
    curve = RateCurve(
        times_s=tuple((hours * S_PER_HOUR).round().tolist()),
        values=tuple(values.tolist()),
        period_s=7 * S_PER_DAY,
    )
    return curve.with_mean(mean_rps)


def load_curve(source: str | Path, *, period_s: float | None = S_PER_DAY) -> RateCurve:
    """Return a curve by the name of a shipped one or from a CSV file.

    The file's first column is `t_s` or `hour`. Of the others, one is the rate; or two are prefill
    and decode tokens (names starting so): arrivals then follow decode, input length prefill/decode.

    Args:
        source: a name in SHIPPED_CURVES, or a path.
        period_s: after which it repeats; None = it does not.

    Raises:
        ConfigError: every bad line.
    """
    if source in SHIPPED_CURVES:
        file = resources.files("heteroscale.workload") / "curves" / f"{source}.csv"
        return _parse_curve(file.read_text("utf-8"), str(source), period_s)
    try:
        text = Path(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        rule = f"must be a readable text file or one of {', '.join(SHIPPED_CURVES)}: {error}"
        raise ConfigError([Problem(path="curve", rule=rule, file=str(source))]) from error
    return _parse_curve(text, str(source), period_s)


def _parse_curve(text: str, file: str, period_s: float | None) -> RateCurve:
    lines = [(n, line.split(",")) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    header = [name.strip() for name in lines[0][1]] if lines else []
    roles = [next((r for r in ("prefill", "decode") if n.startswith(r)), "") for n in header[1:]]
    is_pair = sorted(roles) == ["decode", "prefill"]
    if header[:1] not in (["t_s"], ["hour"]) or not (is_pair or len(header) == 2):
        rule = "must be t_s or hour, then one rate or a prefill and a decode column"
        problem = Problem(path="header", rule=rule, value=",".join(header), file=file, line=1)
        raise ConfigError([problem])
    unit_s = S_PER_HOUR if header[0] == "hour" else 1.0
    rows = _curve_rows(lines[1:], len(header), unit_s, file, period_s)
    times = tuple(row[0] for row in rows)
    if not is_pair:
        return RateCurve(times_s=times, values=tuple(row[1] for row in rows), period_s=period_s)
    prefill, decode = roles.index("prefill") + 1, roles.index("decode") + 1
    values = tuple(row[decode] for row in rows)
    # Where nothing arrives no input has a length; 1 is then never used.
    mix = tuple(row[prefill] / row[decode] if row[decode] else 1.0 for row in rows)
    return RateCurve(times_s=times, values=values, mix=mix, period_s=period_s)


def _curve_rows(
    lines: Sequence[tuple[int, list[str]]],
    columns: int,
    unit_s: float,
    file: str,
    period_s: float | None,
) -> list[tuple[float, ...]]:
    """Return (time_s, values...) of every line; each rule is checked on every line."""
    limit_s = math.inf if period_s is None else period_s
    problems: list[Problem] = []
    rows: list[tuple[float, ...]] = []
    for number, fields in lines:
        try:
            time, *values = (float(field) for field in fields)
        except ValueError:
            values, time = [math.nan], math.nan
        row = (time * unit_s, *values)
        after_s = rows[-1][0] if rows else -math.inf
        if len(row) != columns or not all(math.isfinite(x) and x >= 0 for x in row):
            rule = f"must be {columns} numbers >= 0"
        elif not after_s < row[0] < limit_s:
            rule = f"must be later than the line before and below the period of {limit_s:g} s"
        else:
            rows.append(row)
            continue
        problems.append(
            Problem(path="line", rule=rule, value=",".join(fields), file=file, line=number)
        )
    if not problems and not any(any(row[1:]) for row in rows):
        problems.append(Problem(path="curve", rule="must have a rate above 0 somewhere", file=file))
    if problems:
        raise ConfigError(problems)
    return rows
