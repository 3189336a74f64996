"""A process that stands for every engine of the fleet: it follows the pods and tells their metrics.

Loads come in as lines of JSON (service → decode tokens/s); each of a few paths tells of a part of
the services. A service's load is shared by its ready pods that are in rotation.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

from benchmarks.cluster.fleet import CALM_TPS, INPUT_PER_OUTPUT, NAMESPACES, Fleet
from heteroscale.adapters.wall_clock import WallClock
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.scalables import KubeObject
from heteroscale.subcluster.watched import ObjectKey, Watched
from tests.cluster.worlds import ROUTE

#: vLLM's edges of the time between tokens, and a router's of the time to the first one, seconds
TBT_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40)
TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20)
#: shares of the events below the first edges from 0.01 s (tokens) and 0.08 s (first tokens) on
SHARES = (0.3, 0.9)
MADE = "%(made).1f"


@dataclass(slots=True)
class Service:
    """What one service's engines have counted."""

    tps: float = CALM_TPS
    at_s: float | None = None
    first_tokens: float = 0.0
    #: pod → tokens written by it; a prefill pod computes more
    made: dict[ObjectKey, float] = field(default_factory=dict)


class Engines:
    """Counts, and says what it counted."""

    def __init__(self, fleet: Fleet, watches: Sequence[Watched]) -> None:
        self._fleet = fleet
        self._watches = watches
        self._clock = WallClock()
        self._lock = Lock()
        self._services = {name: Service() for name in fleet.names()}
        self._templates: dict[ObjectKey, str] = {}
        self._seen: tuple[object, ...] = ()
        self._pods: dict[str, dict[str, list[ObjectKey]]] = {}

    def load(self, loads: Mapping[str, float]) -> None:
        """Serve so many decode tokens/s from now on."""
        with self._lock:
            now_s = self._clock.now_s()
            for name, tps in loads.items():
                self._count(name, now_s)
                self._services[name].tps = tps

    def text(self, target: int) -> str:
        """Return what one target tells now."""
        with self._lock:
            now_s = self._clock.now_s()
            self._follow()
            return "".join(
                line
                for name in self._fleet.names()
                if self._fleet.target_of(name) == target
                for line in self._told_of(name, now_s)
            )

    def _told_of(self, name: str, now_s: float) -> Iterator[str]:
        self._count(name, now_s)
        service = self._services[name]
        for role, pods in self._pods.get(name, {}).items():
            for pod in pods:
                made = service.made.setdefault(pod, 0.0)
                figures = {"made": made, "first": SHARES[0] * made, "second": SHARES[1] * made}
                yield self._template(pod, name, role) % figures
        arrived = service.first_tokens
        figures = {"made": arrived, "first": SHARES[0] * arrived, "second": SHARES[1] * arrived}
        labels = f'heteroscale_service="{name}"'
        yield _histogram("gateway_time_to_first_token_seconds", labels, TTFT_S, 0.08) % figures

    def _count(self, name: str, now_s: float) -> None:
        service = self._services[name]
        passed_s = 0.0 if service.at_s is None else now_s - service.at_s
        service.at_s = now_s
        service.first_tokens += service.tps / 100.0 * passed_s
        for role, pods in self._pods.get(name, {}).items():
            whole = service.tps * passed_s * (INPUT_PER_OUTPUT if role == "prefill" else 1.0)
            for pod in pods:
                service.made[pod] = service.made.get(pod, 0.0) + whole / len(pods)

    def _follow(self) -> None:
        """Learn which pods there are by now."""
        seen = tuple(one.objects() for one in self._watches)
        if all(one is before for one, before in zip(seen, self._seen, strict=False)) and self._seen:
            return
        self._seen = seen
        self._pods = {}
        for objects in seen:
            for key, pod in objects.items():
                labels = pod["metadata"].get("labels") or {}
                if ROUTE in labels and _ready(pod):
                    name, _, role = labels["app"].partition("-")
                    self._pods.setdefault(name, {}).setdefault(role, []).append(key)

    def _template(self, pod: ObjectKey, service: str, role: str) -> str:
        known = self._templates.get(pod)
        if known is None:
            namespace, name = pod
            whose = f'heteroscale_service="{service}",heteroscale_role="{role}"'
            labels = f'{whose},namespace="{namespace}",pod="{name}",instance="{namespace}/{name}"'
            known = self._templates[pod] = "".join(_lines(role, labels))
        return known


def _lines(role: str, labels: str) -> Iterator[str]:
    yield f"vllm:num_requests_waiting{{{labels}}} 0\n"
    if role == "prefill":
        name, computed = "vllm:prompt_tokens_by_source_total", 'source="local_compute"'
        yield f"{name}{{{labels},{computed}}} {MADE}\n"
        return
    yield f"vllm:generation_tokens_total{{{labels}}} {MADE}\n"
    yield f"vllm:kv_cache_usage_perc{{{labels}}} 0.4\n"
    yield _histogram("vllm:inter_token_latency_seconds", labels, TBT_S, 0.01)


@cache
def _histogram(name: str, labels: str, edges_s: tuple[float, ...], first_s: float) -> str:
    """Return a template: nothing below an edge, then two shares, then everything."""
    at = edges_s.index(first_s)
    counts = ["0"] * at + ["%(first).1f", "%(second).1f"]
    counts += [MADE] * (len(edges_s) - len(counts))
    buckets = [
        f'{name}_bucket{{{labels},le="{edge_s:g}"}} {count}\n'
        for edge_s, count in zip(edges_s, counts, strict=True)
    ]
    buckets.append(f'{name}_bucket{{{labels},le="+Inf"}} {MADE}\n')
    return "".join((*buckets, f"{name}_count{{{labels}}} {MADE}\n"))


def _ready(pod: KubeObject) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def main() -> None:
    """Serve until there are no more loads to read; print the port first."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kubeconfig", type=Path, required=True)
    arguments.add_argument("--services", type=int, required=True)
    arguments.add_argument("--targets", type=int, required=True)
    given = arguments.parse_args()
    fleet = Fleet(
        services=given.services, interval_s=1.0, scrape_s=1.0, targets=given.targets, by_pod=False
    )
    clock = WallClock()
    api = ApiServer(clock, kubeconfig=given.kubeconfig)
    watches = [
        Watched(api, clock, f"/api/v1/namespaces/bench-{index}/pods") for index in range(NAMESPACES)
    ]
    for one in watches:
        one.filled.wait()
    engines = Engines(fleet, watches)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = engines.text(int(self.path.rpartition("/")[2])).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        for line in sys.stdin:
            engines.load(json.loads(line))
        server.shutdown()


if __name__ == "__main__":
    main()
