"""Runs the policy of one service over one tick, and says what its reasons are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heteroscale.entities.decision import Decision, Reason
from heteroscale.entities.reasons import describe
from heteroscale.entities.service import ServiceSpec
from heteroscale.entities.snapshot import ServiceSnapshot
from heteroscale.entities.state import ServiceState
from heteroscale.policy.coordinate import coordinate
from heteroscale.policy.period import NO_PERIOD
from heteroscale.policy.ratio import configured
from heteroscale.policy.signal import judged, latencies
from heteroscale.policy.situation import Situation
from heteroscale.policy.sizing import Sized, size
from heteroscale.policy.supply import tally
from tests.builders import NOW_S, build_state


def decide(
    spec: ServiceSpec,
    snapshot: ServiceSnapshot,
    state: ServiceState | None = None,
    *,
    now_s: float = NOW_S,
    utc_offsets_s: Mapping[str, int] | None = None,
    frozen: bool = False,
) -> tuple[Decision, ServiceState]:
    """Return the decision and memory of one tick; without memory given, the window is full."""
    sized, after = run_size(
        spec, snapshot, state, now_s=now_s, utc_offsets_s=utc_offsets_s, frozen=frozen
    )
    decision = coordinate(spec, sized)
    for reason in decision.reasons:
        assert describe(reason)
    return decision, after


def run_size(
    spec: ServiceSpec,
    snapshot: ServiceSnapshot,
    state: ServiceState | None = None,
    *,
    now_s: float = NOW_S,
    utc_offsets_s: Mapping[str, int] | None = None,
    frozen: bool = False,
) -> tuple[Sized, ServiceState]:
    """Return the size and memory of one tick."""
    return size(
        spec,
        snapshot,
        build_state(now_s=now_s) if state is None else state,
        now_s=now_s,
        utc_offsets_s=utc_offsets_s or {},
        frozen=frozen,
    )


def situate(
    spec: ServiceSpec,
    snapshot: ServiceSnapshot,
    state: ServiceState | None = None,
    **fields: Any,
) -> Situation:
    """Return what the strategies are given."""
    counted = tally(spec, snapshot.instances)
    signals = judged(snapshot.readings, spec.policy.trust)
    given: dict[str, Any] = {
        "spec": spec,
        "state": state or ServiceState(),
        "now_s": NOW_S,
        "signals": signals,
        "latencies": latencies(signals, spec.slo),
        "tally": counted,
        "held": counted.supply,
        "base": counted.supply[spec.policy.anchor],
        "ratio": configured(spec.group),
        "weights": spec.group.weights({}),
        "period": NO_PERIOD,
    }
    return Situation(**(given | fields))


def codes(reasons: tuple[Reason, ...]) -> list[str]:
    """Return the codes of the reasons, in order."""
    return [str(reason.code) for reason in reasons]
