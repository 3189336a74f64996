"""Engines whose series name their pod alone: the cluster's own cache says whose they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.exporter import Exporter, exporter_of
from tests.cluster.test_doctor import asked
from tests.cluster.test_in_place import CLUSTER, METRICS, served_tps, ticked, written
from tests.cluster.worlds import deployment, fleet_of
from tests.integration.prometheus_server import scraping

NAMESPACE = "by-pod"


def pods_of(client: httpx.Client) -> Sequence[str]:
    """Return the labels of every decode pod, and of one that is nobody's."""
    selected = {"labelSelector": "app=decode"}
    items = client.get(f"/api/v1/namespaces/{NAMESPACE}/pods", params=selected).json()["items"]
    names = [one["metadata"]["name"] for one in items]
    return [f'namespace="{NAMESPACE}",pod="{name}"' for name in (*names, "stranger")]


@contextmanager
def reported(client: httpx.Client) -> Iterator[Exporter]:
    """Serve the metrics of the pods that are there now, the stranger's among them."""
    until(lambda: len(pods_of(client)) == 3, "both pods are made")
    pods = pods_of(client)
    with exporter_of(lambda: pods) as engines:
        yield engines


def test_load_that_only_pods_tell_of_scales_both_roles_and_the_doctor_says_how(
    plane: ControlPlane, tmp_path: Path
) -> None:
    pair = deployment("prefill", 1), deployment("decode", 2)
    with (
        plane.client() as client,
        fleet_of(client, NAMESPACE, *pair),
        reported(client) as engines,
        scraping(tmp_path, engines.address, {}) as prometheus,
    ):
        # 3 engines by their own account, one of them nobody's: 280 tokens/s are the service's
        engines.rate(420.0)
        until(lambda: served_tps(prometheus) > 400.0, "the load shows in Prometheus")
        files = written(tmp_path, plane, prometheus)
        files.cluster.write_text(CLUSTER.replace("e2e", NAMESPACE), encoding="utf-8")
        joined = METRICS.format(url=prometheus).replace("labels: {source: instance}", "pods: {}")
        files.metrics.write_text(joined, encoding="utf-8")
        said = asked(files)
        assert said.returncode == 0, said.stdout
        assert "told apart by namespace, pod, and the cluster knows whose a pod is" in said.stdout
        assert "1 pods that report are no engines of these workloads" in said.stdout
        first = ticked(files, observe=True, most=3)[-1]
        (tps,) = [
            one
            for one in first.snapshot.services["chat"].readings
            if (one.role, one.signal) == ("decode", "tps")
        ]
        assert tps.value is not None
        assert 250.0 < tps.value < 310.0
        assert tps.coverage == 1.0
        ticked(files, observe=False, most=4)
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
        items = client.get(path).json()["items"]
        counts = {one["metadata"]["name"]: one["spec"]["replicas"] for one in items}
        assert counts == {"prefill": 3, "decode": 3}
