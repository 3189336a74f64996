"""The result of a run as JSON. Equal results give equal bytes; only `wall_s` is not of the run.

Every key is documented in docs/result.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TypeAlias

from heteroscale.report.figures import saved_share
from heteroscale.sim.result import Change, FleetResult, PrefixHits, SimulationResult, Timeline

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

#: keys of the run as a whole, the same for each of its services
_SHARED = ("scenario", "seed", "policy", "ticks", "faults", "simulated_s")
#: a plot shows no more, and the file stays small
SIGNIFICANT_DIGITS = 6


def result_json(result: SimulationResult, wall_s: float | None) -> str:
    """Return the documented JSON of a run of one service, with `wall_s` last.

    Args:
        result: what the run left behind.
        wall_s: how long the run took on this machine, seconds; None = not measured.

    Raises:
        ValueError: a figure is NaN or infinite, which JSON cannot say.
    """
    return _text({**_fields(result), "wall_s": _wall(wall_s)}) + "\n"


def fleet_json(fleet: FleetResult, wall_s: float | None) -> str:
    """Return the documented JSON of a run of several services, with `wall_s` last.

    Raises:
        ValueError: a figure is NaN or infinite, which JSON cannot say.
    """
    results = tuple(fleet.services.values())
    first = _fields(results[0])
    shared = {key: first[key] for key in _SHARED if key in first}
    fields: dict[str, Json] = {
        "scenario": shared.pop("scenario"),
        "seed": shared.pop("seed"),
        "policy": shared.pop("policy"),
        "requests": asdict(fleet.requests),
        "input_tokens": asdict(fleet.input_tokens),
        "output_tokens": asdict(fleet.output_tokens),
        "gpu_hours": fleet.gpu_hours,
        "gpu_hours_static_peak": fleet.gpu_hours_static_peak,
        "gpu_hours_saved_share": saved_share(fleet),
        "actions": sum(result.actions for result in results),
        "reversals": sum(result.reversals for result in results),
        "services": {
            name: {key: value for key, value in _fields(result).items() if key not in _SHARED}
            for name, result in fleet.services.items()
        },
        **shared,
        "wall_s": _wall(wall_s),
    }
    return _text(fields) + "\n"


def _wall(wall_s: float | None) -> float | None:
    return None if wall_s is None else round(wall_s, 3)


def _fields(result: SimulationResult) -> dict[str, Json]:
    return {
        "scenario": result.scenario,
        "seed": result.seed,
        "policy": result.policy,
        "mode": result.mode,
        "held_by_operator": list(result.held_by_operator),
        "trace_notes": list(result.trace_notes),
        "slo": {"ttft_s": result.slo_ttft_s, "tbt_s": result.slo_tbt_s},
        "requests": asdict(result.requests),
        "input_tokens": asdict(result.input_tokens),
        "output_tokens": asdict(result.output_tokens),
        "slo_attainment": result.slo_attainment,
        "gpu_hours": result.gpu_hours,
        "gpu_hours_by_accelerator": dict(result.gpu_hours_by_accelerator),
        "gpu_hours_static_peak": result.gpu_hours_static_peak,
        "gpu_hours_saved_share": saved_share(result),
        "static_peak": dict(result.static_peak),
        "static_peak_search": result.static_peak_search.value,
        "static_peak_attainment": result.static_peak_attainment,
        "policy_attainment": result.policy_attainment,
        **({} if result.colocated_peak is None else {"colocated_peak": _pool(result)}),
        "ttft_p50_s": result.ttft_p50_s,
        "ttft_p99_s": result.ttft_p99_s,
        "tbt_p50_s": result.tbt_p50_s,
        "tbt_p99_s": result.tbt_p99_s,
        "actions": result.actions,
        "reversals": result.reversals,
        "out_of_ratio_share": result.out_of_ratio_share,
        "ticks": result.ticks,
        "ticks_not_sent": result.ticks_not_sent,
        "changes": [_change(change) for change in result.changes],
        **({} if result.faults is None else {"faults": [asdict(one) for one in result.faults]}),
        **({} if result.prefix_cache is None else {"prefix_cache": _hits(result.prefix_cache)}),
        "timeline": _timeline(result.timeline),
        "simulated_s": result.simulated_s,
    }


def rounded(value: float | None) -> float | None:
    """Return a figure of a plot to its significant digits; whole numbers lose their ".0"."""
    if value is None:
        return None
    short = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return int(short) if short.is_integer() else short


def _change(change: Change) -> Json:
    return {
        "at_s": change.at_s,
        "service": change.service,
        "direction": change.direction,
        "before": dict(change.before),
        "after": dict(change.after),
        "headline": change.headline,
        "reasons": list(change.reasons),
    }


def _pool(result: SimulationResult) -> Json:
    pool = result.colocated_peak
    if pool is None:
        return None
    return {
        "search": pool.search.value,
        "replicas": pool.replicas,
        "gpus": pool.gpus,
        "gpu_hours": pool.gpus * result.simulated_s / 3600 if pool.gpus else None,
        "attainment": pool.attainment,
    }


def _hits(hits: PrefixHits) -> Json:
    return {
        "lookup_tokens": hits.lookup_tokens,
        "hit_tokens": hits.hit_tokens,
        "hit_rate": hits.rate,
    }


def _timeline(timeline: Timeline) -> Json:
    return {
        "interval_s": timeline.interval_s,
        "start_s": timeline.start_s,
        "series": {
            name: [rounded(value) for value in values] for name, values in timeline.series.items()
        },
        "instances": {
            role: {state: list(counts) for state, counts in states.items()}
            for role, states in timeline.instances.items()
        },
    }


def _text(value: Json, indent: str = "") -> str:
    """Return JSON that can be read and compared with diff: what holds only figures is one line."""
    inner = indent + "  "
    if isinstance(value, Mapping) and any(map(_is_container, value.values())):
        rows = [f"{_compact(name)}: {_text(child, inner)}" for name, child in value.items()]
        brackets = "{}"
    elif isinstance(value, list) and any(map(_is_container, value)):
        rows = [_text(child, inner) for child in value]
        brackets = "[]"
    else:
        return _compact(value)
    body = ",\n".join(inner + row for row in rows)
    return f"{brackets[0]}\n{body}\n{indent}{brackets[1]}"


def _is_container(value: Json) -> bool:
    return isinstance(value, Mapping | list)


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
