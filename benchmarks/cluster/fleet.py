"""The services of the benchmark: their names, their pods, and the three files of a controller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: role → pods of a service at first; the ratio is kept
REPLICAS = {"prefill": 2, "decode": 3}
#: decode tokens/s wanted of a pod, and how far above the whole a load may be
TARGET_TPS = 100.0
TOLERANCE = 0.1
#: decode tokens/s that hold the first pods, and that ask for one more of each role
CALM_TPS, BUSY_TPS = 285.0, 390.0
#: prompt tokens computed per token written
INPUT_PER_OUTPUT = 8.0
NAMESPACES = 10
GPUS_OF_NODE = 8
#: pods that may be there beside the first ones, as a share of those
ROOM = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """How many services there are, and how often they are looked at."""

    services: int
    interval_s: float
    scrape_s: float
    #: exporters' targets that the engines are spread over
    targets: int
    #: whether series are joined by namespace and pod; else a label names service and role
    by_pod: bool

    @property
    def pods(self) -> int:
        """Return the pods at first."""
        return self.services * sum(REPLICAS.values())

    @property
    def nodes(self) -> int:
        """Return the nodes that hold them, and some more."""
        return int(self.pods * (1.0 + ROOM) / GPUS_OF_NODE) + 1

    def names(self) -> tuple[str, ...]:
        """Return the services' names."""
        return tuple(f"s{index:04d}" for index in range(self.services))

    def target_of(self, service: str) -> int:
        """Return which target tells of a service."""
        return int(service[1:]) % self.targets


def namespace_of(service: str) -> str:
    """Return the namespace of a service's workloads."""
    return f"bench-{int(service[1:]) % NAMESPACES}"


def services_text(fleet: Fleet) -> str:
    """Return the services file."""
    return "\n".join(
        (
            f"fleet: {{interval_s: {fleet.interval_s:g}}}",
            "services:",
            *(_service(name, fleet.interval_s) for name in fleet.names()),
        )
    )


def _service(name: str, interval_s: float) -> str:
    shares = ", ".join(
        f"{role}: {{share: {share}, accelerators: [{{type: H20, gpus: 1}}]}}"
        for role, share in REPLICAS.items()
    )
    return f"""\
  - name: {name}
    priority: 50
    slo: {{ttft_s: 1.0, tbt_s: 0.04, quantile: 0.9}}
    group: {{roles: {{{shares}}}}}
    policy:
      proportional: [{{signal: tps, role: decode, target: {TARGET_TPS}}}]
      guard:
        {{tolerance_out: {TOLERANCE}, cool_down_out_s: 0, cool_down_in_s: 0,
          stabilization_window_s: {interval_s:g}, step_in: 0.5}}
    lifecycle: {{observe_s: {interval_s:g}, drain_timeout_s: {interval_s:g}}}"""


def cluster_text(fleet: Fleet) -> str:
    """Return the cluster file."""
    workloads = (
        f"  - {{service: {name}, role: {role}, accelerator: H20, kind: Deployment, "
        f"namespace: {namespace_of(name)}, name: {name}-{role}}}"
        for name in fleet.names()
        for role in REPLICAS
    )
    route = 'routing_label: {key: heteroscale.dev/route, value: "on"}'
    return "\n".join(("workloads:", *workloads, route, ""))


def metrics_text(fleet: Fleet, prometheus: str) -> str:
    """Return the metrics file: engines that speak vLLM, and a gateway that knows the TTFT."""
    whose = ", pods: {}" if fleet.by_pod else ""
    return f"""\
servers:
  - name: main
    url: {prometheus}
    timeout_s: 10
    sources: [{{dialect: vllm{whose}}}, {{dialect: gateway}}]
dialects:
  gateway:
    origin: gateway
    rules: [{{signal: ttft_s, stage: prefill, histogram: "gateway_time_to_first_token_seconds"}}]
window_s: {4 * fleet.scrape_s:g}
latency_window_s: {4 * fleet.scrape_s:g}
"""


def waves(fleet: Fleet, acting: float) -> Iterator[tuple[str, ...]]:
    """Yield the services whose load rises in each tick; no service is in two waves.

    A service acts in four ticks of its rise and fall: out, then withdrawn, drained and gone.
    """
    size = max(1, round(fleet.services * acting / 4.0))
    names = fleet.names()
    for begin in range(0, fleet.services - size + 1, size):
        yield names[begin : begin + size]
