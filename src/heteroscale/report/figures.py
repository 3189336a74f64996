"""The headline figures of a run in words, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from heteroscale.sim.result import Change, FleetResult, PrefixHits, Search, SimulationResult

UNKNOWN = "–"
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number worth a card."""

    label: str
    value: str
    #: what it is measured against
    note: str = ""
    #: False = worse than what it is measured against, None = not a matter of better or worse
    good: bool | None = None


def saved_share(result: SimulationResult | FleetResult) -> float | None:
    """Return the share of the static peak's GPU-hours that was not used; None = not searched."""
    if not result.gpu_hours_static_peak:
        return None
    return 1.0 - result.gpu_hours / result.gpu_hours_static_peak


def headline(result: SimulationResult) -> tuple[Figure, ...]:
    """Return what a reader wants to know first, most important first."""
    return (
        _gpu_hours(result),
        _attainment(result),
        _latency("TTFT", result.ttft_p50_s, result.ttft_p99_s, result.slo_ttft_s),
        _latency("TBT", result.tbt_p50_s, result.tbt_p99_s, result.slo_tbt_s),
        Figure(
            label="Requests",
            value=short_count(result.requests.arrived),
            note=f"{result.requests.running:,} still running, {result.requests.refused:,} refused",
        ),
        Figure(
            label="Tokens in / out",
            value=f"{short_count(result.input_tokens.arrived)}"
            f" / {short_count(result.output_tokens.arrived)}",
            note=f"{short_count(result.input_tokens.completed)}"
            f" / {short_count(result.output_tokens.completed)} completed",
        ),
        *_prefix_hits(result.prefix_cache),
        Figure(
            label="Changes",
            value=f"{result.actions:,}",
            note=_changes_note(result),
        ),
        Figure(
            label="Outside the ratio",
            value=share_text(result.out_of_ratio_share),
            note="of ticks had a role's supply beyond its tolerance",
        ),
    )


#: what stands above the columns of `fleet_row`
FLEET_COLUMNS = (
    "service",
    "SLO attained",
    "GPU-hours",
    "saved",
    "TTFT p99",
    "TBT p99",
    "requests",
    "changes",
)


def fleet_row(name: str, result: SimulationResult) -> tuple[str, ...]:
    """Return one service's line of the fleet's table."""
    attained = result.slo_attainment
    return (
        name,
        UNKNOWN if attained is None else share_text(attained, 2),
        hours_text(result.gpu_hours),
        _saved_text(result),
        seconds_text(result.ttft_p99_s),
        seconds_text(result.tbt_p99_s),
        short_count(result.requests.arrived),
        f"{result.actions:,}",
    )


def fleet_total(fleet: FleetResult) -> tuple[str, ...]:
    """Return the line of all services together; what has no sum is blank."""
    return (
        "all",
        "",
        hours_text(fleet.gpu_hours),
        _saved_text(fleet),
        "",
        "",
        short_count(fleet.requests.arrived),
        f"{sum(result.actions for result in fleet.services.values()):,}",
    )


def _saved_text(result: SimulationResult | FleetResult) -> str:
    saved = saved_share(result)
    return UNKNOWN if saved is None else share_text(saved)


def conditions(result: SimulationResult) -> tuple[str, ...]:
    """Return what a reader must know of the run before its figures, in words; most have none."""
    not_enforced = () if result.mode == "enforce" else (_mode_text(result),)
    return (*not_enforced, *result.held_by_operator, *result.trace_notes)


def _mode_text(result: SimulationResult) -> str:
    ticks = counted(result.ticks_not_sent, "tick")
    return f"mode {result.mode}: changes of {ticks} not sent"


def _changes_note(result: SimulationResult) -> str:
    return f"{counted(result.reversals, 'reversal')} in {counted(result.ticks, 'tick')}"


def counted(count: int, noun: str) -> str:
    """Return "1 tick" or "5,760 ticks"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def hours_text(gpu_hours: float) -> str:
    """Return GPU-hours with decimals where there are few."""
    return f"{gpu_hours:,.0f}" if gpu_hours >= 9.995 else f"{gpu_hours:.2f}"


#: search → what stands where the comparison would
NO_COMPARISON: Mapping[Search, str] = {
    Search.NOT_SEARCHED: "no fixed fleet was searched to compare with",
    Search.NONE_ATTAINS: "no fixed fleet attains as much",
    Search.NOTHING_ENDED: "no fixed fleet to compare with: no request ended in the busiest hours",
    Search.FOUND: "",
}


def _gpu_hours(result: SimulationResult) -> Figure:
    saved = saved_share(result)
    if saved is None:
        return Figure(
            label="GPU-hours",
            value=hours_text(result.gpu_hours),
            note=NO_COMPARISON[result.static_peak_search] + _pool_text(result),
        )
    return Figure(
        label="GPU-hours saved",
        value=share_text(saved),
        note=f"{hours_text(result.gpu_hours)} against"
        f" {hours_text(result.gpu_hours_static_peak or 0.0)} fixed"
        f" ({counts_text(result.static_peak)}){_pool_text(result)}",
        good=saved > 0,
    )


def _pool_text(result: SimulationResult) -> str:
    """Return what co-located engines would need, where they were searched."""
    pool = result.colocated_peak
    if pool is None:
        return ""
    if pool.search is not Search.FOUND:
        return "; no co-located pool attains as much"
    hours = pool.gpus * result.simulated_s / 3600
    return f"; {hours_text(hours)} co-located ({pool.replicas} engines)"


def _busiest_text(result: SimulationResult) -> str:
    """Return what was attained in the compared hours, where there was a search."""
    if result.policy_attainment is None:
        return ""
    text = f"; busiest hours {share_text(result.policy_attainment, 2)}"
    if result.static_peak_attainment is None:
        return text
    return f"{text}, fixed {share_text(result.static_peak_attainment, 2)}"


def _attainment(result: SimulationResult) -> Figure:
    limits = (
        f"TTFT ≤ {seconds_text(result.slo_ttft_s)}, mean gap ≤ {seconds_text(result.slo_tbt_s)}"
    )
    attained = result.slo_attainment
    return Figure(
        label="SLO attained",
        value=UNKNOWN if attained is None else share_text(attained, 2),
        note=limits + _busiest_text(result),
    )


def _prefix_hits(hits: PrefixHits | None) -> tuple[Figure, ...]:
    """Return the hit rate where prefix caches were asked for anything."""
    if hits is None:
        return ()
    return (
        Figure(
            label="Prefix cache hits",
            value=share_text(hits.rate),
            note=f"of {short_count(hits.lookup_tokens)} prompt tokens were not computed again",
        ),
    )


def _latency(name: str, p50_s: float | None, p99_s: float | None, slo_s: float) -> Figure:
    return Figure(
        label=f"{name} p99",
        value=seconds_text(p99_s),
        note=f"median {seconds_text(p50_s)}, SLO {seconds_text(slo_s)}",
    )


def share_text(share: float, digits: int = 1) -> str:
    """Return a 0-1 share as people read it; never rounded up to a perfect 100 %."""
    text = f"{100 * share:.{digits}f}"
    if share < 1.0 and float(text) == 100.0:  # 0.99998 is not "100.00 %"
        text = f"{100 - 10**-digits:.{digits}f}"
    return f"{text} %"


def seconds_text(value_s: float | None) -> str:
    """Return a duration in the unit people say it in; None is a dash."""
    if value_s is None:
        return UNKNOWN
    if value_s < 0.9995:
        return f"{1000 * value_s:.3g} ms"
    return f"{value_s:.3g} s" if value_s < 100 else f"{value_s:,.0f} s"


def short_count(count: int) -> str:
    """Return three digits and a unit above ten thousand."""
    for limit, unit in ((1e9, "bn"), (1e6, "M"), (1e4, "k")):
        if count >= limit:
            return f"{count / (1000.0 if unit == 'k' else limit):.3g} {unit}"
    return f"{count:,}"


def counts_text(replicas: Mapping[str, int]) -> str:
    """Return "26 prefill + 20 decode"."""
    return " + ".join(f"{count} {role}" for role, count in replicas.items()) or "fleet"


def moves_text(change: Change) -> str:
    """Return "prefill 12 → 14, decode 9 → 11" over every role either side knows."""
    roles = (*change.before, *(role for role in change.after if role not in change.before))
    return ", ".join(
        f"{role} {change.before.get(role, 0)} → {change.after.get(role, 0)}" for role in roles
    )


def clock_text(result: SimulationResult, at_s: float) -> str:
    """Return the UTC time of day of a moment of the run, with the date in runs of several days."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(seconds=result.timeline.start_s + at_s)
    return f"{moment:%d %b %H:%M:%S}" if result.simulated_s > DAY_S else f"{moment:%H:%M:%S}"


def span_text(simulated_s: float) -> str:
    """Return how long the run lasted: "24 h", "7 days", "90 s"."""
    if simulated_s >= 2 * DAY_S:
        return f"{simulated_s / DAY_S:.3g} days"
    if simulated_s >= 3600:
        return f"{simulated_s / 3600:.3g} h"
    return f"{simulated_s / 60:.3g} min" if simulated_s >= 120 else f"{simulated_s:.3g} s"
