"""The run as equal intervals: every series a report plots, one entry per interval.

Everything is counted, nothing is sampled: figures are exact over their interval, gauges are those
at its end.
"""

from __future__ import annotations

from collections.abc import Mapping

from heteroscale.entities.service import RolePath
from heteroscale.entities.snapshot import SUPPLY_STATES, InstanceState
from heteroscale.sim.result import Timeline
from heteroscale.sim.sampling import RoleIndex, Sample, Span
from heteroscale.sim.signals import kv_usage

#: States an interval is counted in; a terminated instance is in no count.
_STATES = tuple(state for state in InstanceState if state is not InstanceState.TERMINATED)
_QUANTILES = (0.5, 0.9, 0.99)
_TTFT = ("ttft_p50_s", "ttft_p90_s", "ttft_p99_s")
_TBT = ("tbt_p50_s", "tbt_p90_s", "tbt_p99_s")


class TimelineRecorder:
    """Collects one interval after the other."""

    def __init__(
        self, shares: tuple[Mapping[RolePath, int], Mapping[RolePath, int]], first: Sample
    ) -> None:
        """Start at the run's first sample; `shares` as `unit_shares` gives them."""
        self._shares = shares
        roles = [role for of_stage in shares for role in of_stage]
        self._roles = roles
        self._last = first
        self._series: dict[str, list[float | None]] = {}
        self._instances: dict[str, dict[str, list[int]]] = {
            role: {state.value: [] for state in _STATES} for role in roles
        }

    def record(
        self,
        sample: Sample,
        states: Mapping[str, Mapping[InstanceState, int]],
        ratio_in_force: float | None,
    ) -> None:
        """Close the interval that ends with `sample`."""
        figures = _figures(Span(self._last, sample), sample)
        prefill, decode = (_units(of_stage, states) for of_stage in self._shares)
        figures["ratio"] = prefill / decode if decode else None
        figures["ratio_in_force"] = ratio_in_force
        for name, value in figures.items():
            self._series.setdefault(name, []).append(value)
        for role in self._roles:
            for state in _STATES:
                self._instances[role][state.value].append(states[role].get(state, 0))
        self._last = sample

    def timeline(self, interval_s: float, start_s: float) -> Timeline:
        """Return everything recorded; states that never occurred are left out."""
        return Timeline(
            interval_s=interval_s,
            start_s=start_s,
            series={name: tuple(values) for name, values in self._series.items()},
            instances={
                role: {state: tuple(counts) for state, counts in by_state.items() if any(counts)}
                for role, by_state in self._instances.items()
            },
        )


def _units(
    shares: Mapping[RolePath, int], states: Mapping[str, Mapping[InstanceState, int]]
) -> float:
    """Return how many units of a stage its instances in supply make."""
    return min(
        sum(count for state, count in states[role].items() if state in SUPPLY_STATES) / share
        for role, share in shares.items()
    )


def _figures(span: Span, sample: Sample) -> dict[str, float | None]:
    attained, ended = span.attained()
    figures: dict[str, float | None] = {
        "arrived_rps": span.arrived_rps(),
        "refused_rps": span.refused_rps(),
        "prefill_offered_tps": span.arrived_input_tps(),
        "decode_offered_tps": span.arrived_decode_tps(),
    }
    for index, role in ((RoleIndex.PREFILL, "prefill"), (RoleIndex.DECODE, "decode")):
        figures[f"{role}_tps"] = span.tps(index)
        figures[f"{role}_utilization"] = span.utilization(index)
        figures[f"{role}_sm_activity"] = span.sm_activity(index)
        figures[f"{role}_queue"] = float(sample.counters.roles[index].waiting)
    for part in sample.parts:
        figures[f"{part}_utilization"] = span.utilization(RoleIndex.PREFILL, part)
        figures[f"{part}_sm_activity"] = span.sm_activity(RoleIndex.PREFILL, part)
    figures["kv_usage"] = kv_usage(sample)
    figures |= zip(_TTFT, span.ttft_s(*_QUANTILES), strict=True)
    figures |= zip(_TBT, span.tbt_s(*_QUANTILES), strict=True)
    figures["slo_attainment"] = attained / ended if ended else None
    return figures
