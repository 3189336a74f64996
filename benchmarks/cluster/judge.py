"""What became of each rise of a load: when Prometheus knew, and when the API server was told.

Both clocks are this machine's. When the query answers outside tolerance is asked of Prometheus
afterwards, at the time of each scrape; when a count was written stands in the audit log.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.cluster.fleet import REPLICAS, TARGET_TPS, TOLERANCE, Fleet

_WRITES = ("create", "update", "patch", "delete")
#: scrapes after a rise that are looked at: a rate follows within its window of four
_SCRAPES = 8


@dataclass(frozen=True, slots=True)
class Write:
    """A change that the controller asked for."""

    #: when it was answered, epoch seconds
    at_s: float
    service: str
    #: the role whose count it sets; None = it moves a pod
    scales: str | None


def writes_of(audit: Path, user: str, since_s: float) -> list[Write]:
    """Return a user's changes of workloads and pods from some moment on, in order."""
    found = [
        write
        for log in audit.parent.glob(f"{audit.stem}*")
        for write in _writes_in(log.open(encoding="utf-8"), user)
        if write.at_s >= since_s
    ]
    return sorted(found, key=lambda one: one.at_s)


def _writes_in(lines: Iterable[str], user: str) -> Iterator[Write]:
    for line in lines:
        if f'"{user}"' not in line:
            continue
        event = json.loads(line)
        target = event.get("objectRef") or {}
        name = target.get("name", "")
        changes = event["verb"] in _WRITES and event["stage"] == "ResponseComplete"
        if changes and target.get("resource") in ("pods", "deployments"):
            at = dt.datetime.fromisoformat(event["stageTimestamp"])
            service, role = name.split("-")[:2]
            counted = role if target["resource"] == "deployments" else None
            yield Write(at.timestamp(), service, counted)


def reactions_s(
    prometheus: httpx.Client, fleet: Fleet, rises: Mapping[str, float], writes: Sequence[Write]
) -> list[float]:
    """Return seconds from each first scrape that asks for more until both roles were written.

    Args:
        rises: service → when its load rose, epoch seconds.
    """
    known_s = known(prometheus, fleet, rises)
    written: dict[str, dict[str, float]] = {}
    for write in writes:
        if write.scales is not None and write.at_s >= rises.get(write.service, float("inf")):
            written.setdefault(write.service, {}).setdefault(write.scales, write.at_s)
    return [
        max(written[service].values()) - at_s
        for service, at_s in known_s.items()
        if set(written.get(service, ())) == set(REPLICAS)
    ]


def known(
    prometheus: httpx.Client, fleet: Fleet, rises: Mapping[str, float]
) -> Mapping[str, float]:
    """Return service → time of the first scrape after which the query is outside tolerance."""
    limit_tps = REPLICAS["decode"] * TARGET_TPS * (1.0 + TOLERANCE)
    window = f"{round(4000 * fleet.scrape_s)}ms"
    found: dict[str, float] = {}
    for target in range(fleet.targets):
        own = {name: at_s for name, at_s in rises.items() if fleet.target_of(name) == target}
        if not own:
            continue
        last_s = max(own.values()) + _SCRAPES * fleet.scrape_s
        series = f'vllm:generation_tokens_total{{engines="{target}"}}'
        query = f"sum by (heteroscale_service) (rate({series}[{window}]))"
        for at_s in _scrapes(prometheus, target, min(own.values()), last_s):
            for service, tps in _vector(prometheus, query, at_s).items():
                if service not in found and at_s >= own.get(service, last_s) and tps > limit_tps:
                    found[service] = at_s
    return found


def _scrapes(
    prometheus: httpx.Client, target: int, begin_s: float, end_s: float
) -> Sequence[float]:
    """Return when a target was scraped, ascending."""
    span = f"{round(1000 * (end_s - begin_s))}ms"
    form = {"query": f'up{{engines="{target}"}}[{span}]', "time": f"{end_s:.3f}"}
    result = prometheus.post("/api/v1/query", data=form).raise_for_status().json()["data"]["result"]
    return [at_s for series in result for at_s, _ in series["values"]]


def _vector(prometheus: httpx.Client, query: str, at_s: float) -> dict[str, float]:
    form = {"query": query, "time": f"{at_s:.3f}"}
    result = prometheus.post("/api/v1/query", data=form).raise_for_status().json()["data"]["result"]
    return {one["metric"]["heteroscale_service"]: float(one["value"][1]) for one in result}
