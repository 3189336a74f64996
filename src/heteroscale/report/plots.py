"""Which curves share a plot, in what order, colour and unit. The page's script only draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.report.figures import seconds_text
from heteroscale.sim.result import SimulationResult

#: what stands lowest in a stack comes first: what serves, what soon will, what no longer does
STATE_COLOURS: Mapping[str, str] = {
    "ready": "state-ready",
    "held": "state-held",
    "starting": "state-starting",
    "pending": "state-pending",
    "withdrawn": "state-withdrawn",
    "draining": "state-draining",
    "failed": "state-failed",
}
#: of no interest in a picture: it holds no GPU
GONE = "terminated"
#: colours of curves that no plot below knows
SPARE_COLOURS = ("blue", "orange", "green", "purple")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve: a series of the timeline, or `instances/<role>/<state>`."""

    key: str
    label: str
    #: name of a colour in the style sheet, which has one for light and one for dark
    colour: str
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Curves over one time axis."""

    title: str
    #: how figures are written: tps, rps, s, share, count or ratio
    unit: str
    lines: tuple[Line, ...]
    #: what the title alone does not say
    note: str = ""
    #: areas on top of one another, first line lowest
    stacked: bool = False
    #: takes the whole width
    wide: bool = False
    #: a limit to compare with, drawn as a dashed line; None = none
    limit: float | None = None


def plots(result: SimulationResult) -> tuple[Plot, ...]:
    """Return every plot of a run; each series of its timeline is on exactly one of them.

    Prefill stands left and decode right, so that cause and effect share a column.
    """
    known = (*_load(), *_instances(result), *_latency(result), *_hardware(), *_balance())
    shown = {line.key for plot in known for line in plot.lines}
    present = set(result.timeline.series) | {
        f"instances/{role}/{state}"
        for role, states in result.timeline.instances.items()
        for state in states
    }
    kept = tuple(plot for plot in known if any(line.key in present for line in plot.lines))
    return kept + _rest(tuple(key for key in result.timeline.series if key not in shown))


def _load() -> tuple[Plot, ...]:
    return (
        Plot(
            title="Requests",
            unit="rps",
            note="per second; refused = over the admission limit or longer than the KV memory",
            wide=True,
            lines=(
                Line(key="arrived_rps", label="arrived", colour="blue"),
                Line(key="refused_rps", label="refused", colour="red"),
            ),
        ),
        *(
            Plot(
                title=f"{stage.capitalize()} load",
                unit="tps",
                note=note,
                lines=(
                    Line(key=f"{stage}_offered_tps", label="offered", colour="orange", dashed=True),
                    Line(key=f"{stage}_tps", label="served", colour="blue"),
                ),
            )
            for stage, note in (
                ("prefill", "tokens per second"),
                ("decode", "tokens per second; served tokens are capped by capacity"),
            )
        ),
    )


def _instances(result: SimulationResult) -> tuple[Plot, ...]:
    roles = result.timeline.instances
    return tuple(
        Plot(
            title=f"{role.capitalize()} instances",
            unit="count",
            note="by state, stacked",
            stacked=True,
            wide=len(roles) == 1,
            lines=tuple(
                Line(key=f"instances/{role}/{state}", label=state, colour=colour)
                for state, colour in _colours(states).items()
            ),
        )
        for role, states in roles.items()
    )


def _colours(states: Mapping[str, tuple[int, ...]]) -> Mapping[str, str]:
    """Return state → colour for states that ever hold an instance, lowest in the stack first."""
    order = (*STATE_COLOURS, *(state for state in states if state not in STATE_COLOURS))
    return {
        state: STATE_COLOURS.get(state, "grey")
        for state in order
        if state != GONE and any(states.get(state, ()))
    }


def _latency(result: SimulationResult) -> tuple[Plot, ...]:
    return tuple(
        Plot(
            title=name,
            unit="s",
            note=f"{note}; dashed: SLO {seconds_text(limit_s)}",
            limit=limit_s,
            lines=tuple(
                Line(key=f"{name.lower()}_{quantile}_s", label=quantile, colour=colour)
                for quantile, colour in (("p50", "low"), ("p90", "middle"), ("p99", "high"))
            ),
        )
        for name, note, limit_s in (
            ("TTFT", "time to first token", result.slo_ttft_s),
            ("TBT", "time between tokens", result.slo_tbt_s),
        )
    )


def _hardware() -> tuple[Plot, ...]:
    return tuple(
        Plot(
            title=f"{stage.capitalize()} hardware",
            unit="share",
            note="utilization: share of time with a kernel running",
            lines=(
                Line(key=f"{stage}_utilization", label="utilization", colour="blue"),
                Line(key=f"{stage}_sm_activity", label="SM activity", colour="green"),
            ),
        )
        for stage in ("prefill", "decode")
    )


def _balance() -> tuple[Plot, ...]:
    return (
        Plot(
            title="Queues",
            unit="count",
            note="requests waiting",
            lines=(
                Line(key="prefill_queue", label="prefill", colour="blue"),
                Line(key="decode_queue", label="decode", colour="orange"),
            ),
        ),
        Plot(
            title="KV memory",
            unit="share",
            note="in use on decode instances",
            lines=(Line(key="kv_usage", label="in use", colour="purple"),),
        ),
        Plot(
            title="P/D ratio",
            unit="ratio",
            note="prefill supply ÷ decode supply",
            lines=(
                Line(key="ratio", label="supply", colour="blue"),
                Line(key="ratio_in_force", label="in force", colour="orange", dashed=True),
            ),
        ),
        Plot(
            title="SLO attainment",
            unit="attainment",
            note="share of requests inside both limits",
            lines=(Line(key="slo_attainment", label="attained", colour="green"),),
        ),
    )


def _rest(keys: tuple[str, ...]) -> tuple[Plot, ...]:
    """Return a plot for each series that is new to this page: nothing observed stays unseen."""
    return tuple(
        Plot(
            title=key.replace("_", " ").capitalize(),
            unit="count",
            lines=(Line(key=key, label=key, colour=SPARE_COLOURS[at % len(SPARE_COLOURS)]),),
        )
        for at, key in enumerate(keys)
    )
