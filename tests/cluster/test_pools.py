"""Several accelerators of one role, and pods that find no node, from metric to counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.controller import Files, controller
from heteroscale.entities.reasons import ReasonCode
from heteroscale.loop import TickReport
from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.serving import METRICS, Serving, served_tps, serving
from tests.cluster.worlds import ROUTE, deployment, fleet_of, made, node
from tests.integration.prometheus_server import scraping

PRODUCT = "nvidia.com/gpu.product"
SERVICES = """\
fleet: {interval_s: 1.0, stale_s: 17.0}
services:
  - name: chat
    priority: 50
    slo: {ttft_s: 1.0, tbt_s: 0.04, quantile: 0.9}
    group:
      roles:
        prefill: {share: 1, accelerators: [{type: small, gpus: 1}]}
        decode:
          share: 1
          accelerators: [{type: large, gpus: 1}, {type: small, gpus: 1, capacity: 0.5}]
    policy:
      proportional: [{signal: tps, role: decode, target: 100.0}]
      guard: {cool_down_out_s: 2, cool_down_in_s: 3, stabilization_window_s: 3,
              step_out: 1.0, step_in: 1.0}
    lifecycle: {observe_s: 2, drain_timeout_s: 2, pending_timeout_s: 6}
"""
WORKLOAD = """\
  - {{service: chat, role: {role}, accelerator: {accelerator}, kind: Deployment,
     namespace: {namespace}, name: {role}-{accelerator}}}
"""
#: (role, accelerator) of every count
POOLS = (("prefill", "small"), ("decode", "large"), ("decode", "small"))


def pool(role: str, accelerator: str, replicas: int) -> dict[str, Any]:
    """Return a workload whose pods run on one accelerator alone."""
    made_of = deployment(f"{role}-{accelerator}", replicas)
    made_of["spec"]["template"]["spec"]["nodeSelector"] = {PRODUCT: accelerator}
    return made_of


def machine(name: str, accelerator: str, gpus: int, *, tainted: bool = False) -> dict[str, Any]:
    one = node(name, gpus)
    one["metadata"]["labels"][PRODUCT] = accelerator
    if tainted:
        one["spec"] = {"taints": [{"key": "kept", "value": "others", "effect": "NoSchedule"}]}
    return one


class Pools:
    """A controller beside a service on two accelerators."""

    def __init__(self, client: httpx.Client, namespace: str, files: Files) -> None:
        self._client = client
        self._folder = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self._files = files

    def counts(self) -> dict[str, int]:
        found = self._client.get(self._folder).raise_for_status().json()["items"]
        return {one["metadata"]["name"]: one["spec"]["replicas"] for one in found}

    def until(self, holds: Callable[[], bool], most: int = 60) -> list[TickReport]:
        """Tick until something holds."""
        stop, reports = Event(), list[TickReport]()

        def told(report: TickReport) -> None:
            reports.append(report)
            if holds():
                stop.set()

        with controller(self._files, WallClock(), observe=False) as running:
            running.run(stop, told, most)
        assert stop.is_set(), f"not within {most} ticks: {self.counts()}"
        return reports


@contextmanager
def pools(
    plane: ControlPlane, folder: Path, namespace: str, *nodes: dict[str, Any], replicas: int = 1
) -> Iterator[tuple[Pools, Serving]]:
    """Run a service with one instance of each role, and nodes of its own."""
    with (
        plane.client() as client,
        fleet_of(client, namespace),
        serving("chat") as engines,
        scraping(folder, engines.address, {}) as prometheus,
    ):
        for one in nodes:
            made(client, "/api/v1/nodes", one)
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        for role, accelerator in POOLS:
            spare = (role, accelerator) == ("decode", "small")
            made(client, path, pool(role, accelerator, 0 if spare else replicas))
        engines.load("chat", 380.0)
        until(lambda: served_tps(prometheus) > 360.0, "the load shows in Prometheus")
        workloads = "".join(
            WORKLOAD.format(role=role, accelerator=accelerator, namespace=namespace)
            for role, accelerator in POOLS
        )
        cluster = f'workloads:\n{workloads}routing_label: {{key: {ROUTE}, value: "on"}}\n'
        cluster += f"lease: {{name: {namespace}}}\n"
        texts = {
            "services": SERVICES,
            "cluster": cluster,
            "metrics": METRICS.format(url=prometheus),
        }
        for name, text in texts.items():
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        files = Files(
            services=folder / "services.yaml",
            metrics=folder / "metrics.yaml",
            cluster=folder / "cluster.yaml",
            state=folder / "state",
            kubeconfig=plane.kubeconfig,
        )
        yield Pools(client, namespace, files), engines
        for role, accelerator in POOLS:
            client.delete(f"{path}/{role}-{accelerator}")
        client.delete(f"/api/v1/namespaces/{namespace}/pods")
        for one in nodes:
            client.delete(f"/api/v1/nodes/{one['metadata']['name']}")


def test_a_pool_of_another_accelerator_brings_what_it_is_worth(
    plane: ControlPlane, tmp_path: Path
) -> None:
    nodes = machine("large-0", "large", 2), machine("small-0", "small", 12)
    with pools(plane, tmp_path, "pools", *nodes) as (chat, engines):
        # Four units of decode: two large instances, and four small ones at half a unit each.
        full = {"prefill-small": 4, "decode-large": 2, "decode-small": 4}
        chat.until(lambda: chat.counts() == full)
        engines.load("chat", 180.0)
        fewer = {"prefill-small": 2, "decode-large": 2, "decode-small": 0}
        chat.until(lambda: chat.counts() == fewer)


def test_pods_that_find_no_node_are_no_supply_stop_further_growth_and_are_called_off(
    plane: ControlPlane, tmp_path: Path
) -> None:
    # The planner sees room on a node that keeps our pods away.
    nodes = (
        machine("large-1", "large", 2),
        machine("large-2", "large", 8, tainted=True),
        machine("small-1", "small", 6),
    )
    with pools(plane, tmp_path, "no-node", *nodes, replicas=2) as (chat, engines):
        asked = {"prefill-small": 4, "decode-large": 4, "decode-small": 0}
        grown = chat.until(lambda: chat.counts() == asked)
        engines.load("chat", 780.0)
        called_off = {**asked, "decode-large": 2}
        waited = chat.until(lambda: chat.counts() == called_off)
        assert all(max(chat_counts(one).values()) <= 4 for one in (*grown, *waited))
        told = {notice for one in waited for notice in one.notices}
        assert any("2 of decode on large find no node" in one for one in told)
        codes = {one.code for report in waited for one in report.plan.decisions[0].reasons}
        assert ReasonCode.CALLED_OFF_UNPLACED in codes


def chat_counts(report: TickReport) -> dict[tuple[str, str], int]:
    found = report.snapshot.services["chat"].group_roles
    return {(one.role, one.accelerator): one.replicas for one in found}
