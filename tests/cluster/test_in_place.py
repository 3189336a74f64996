"""Kinds other than the Deployment of the contract, and the controller from metric to pods."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from threading import Event

import httpx
import pytest

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.cluster_sections import ScalableKind
from heteroscale.controller import Files, controller
from heteroscale.entities.action import OutcomeKind, ScaleAction
from heteroscale.entities.snapshot import InstanceState
from heteroscale.loop import TickReport
from heteroscale.subcluster.in_place import InPlaceSubcluster
from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.exporter import exporter
from tests.cluster.kinds import installed
from tests.cluster.worlds import deployment, fleet_of, in_place, made, settled, workload
from tests.integration.prometheus_server import scraping

APPLIED, STALE, REFUSED = OutcomeKind.APPLIED, OutcomeKind.STALE, OutcomeKind.REFUSED


def scale(subcluster: InPlaceSubcluster, replicas: int, *remove: str) -> ScaleAction:
    group = next(one for one in subcluster.observe().group_roles if one.role == "decode")
    return ScaleAction(
        id=f"scale-{replicas}",
        service="chat",
        subcluster="alpha",
        group=group.group,
        role="decode",
        accelerator="H20",
        domain=(),
        replicas=replicas,
        expected_replicas=group.replicas,
        version=group.version,
        remove=remove,
    )


def applied(subcluster: InPlaceSubcluster, action: ScaleAction) -> OutcomeKind:
    return subcluster.apply((action,), WallClock().now_s() + 10.0)[0].kind


def test_a_stateful_set_loses_its_highest_ordinals_and_nobody_else(plane: ControlPlane) -> None:
    decode = workload("sets", "decode", ScalableKind.STATEFUL_SET, "decode")
    sets = deployment("decode", 3, kind="StatefulSet")
    with (
        plane.client() as client,
        fleet_of(client, "sets", sets),
        in_place(plane, decode) as subcluster,
    ):
        ordinals = [one.ordinal for one in settled(subcluster, "decode")]
        assert ordinals == [0, 1, 2]
        first, *_, last = settled(subcluster, "decode")
        assert applied(subcluster, scale(subcluster, 2, first.uid)) is REFUSED
        assert applied(subcluster, scale(subcluster, 2, last.uid)) is APPLIED
        assert [one.ordinal for one in settled(subcluster, "decode")] == [0, 1]


def test_a_count_changed_by_hand_is_seen_and_what_was_planned_before_is_stale(
    plane: ControlPlane,
) -> None:
    decode = workload("by-hand", "decode", ScalableKind.DEPLOYMENT, "decode")
    with (
        plane.client() as client,
        fleet_of(client, "by-hand", deployment("decode", 2)),
        in_place(plane, decode) as subcluster,
    ):
        planned = scale(subcluster, 3)
        until(lambda: all(one.state == "ready" for one in settled(subcluster, "decode")), "ready")
        first = subcluster.engines()
        path = "/apis/apps/v1/namespaces/by-hand/deployments/decode"
        merge = {"Content-Type": "application/merge-patch+json"}
        client.patch(path, json={"spec": {"replicas": 5}}, headers=merge).raise_for_status()
        until(lambda: len(settled(subcluster, "decode")) == 5, "five instances")
        assert applied(subcluster, planned) is STALE
        assert len(settled(subcluster, "decode")) == 5
        # of pods that have not changed the instances are the same, not only equal
        assert all(subcluster.engines()[pod] is one for pod, one in first.items())


def test_a_component_of_an_object_is_patched_under_test_of_its_name_and_count(
    plane: ControlPlane,
) -> None:
    api = "/apis/workload.serving.volcano.sh/v1alpha1/namespaces/servings/modelservings"
    roles = [{"name": "prefill", "replicas": 1}, {"name": "decode", "replicas": 2}]
    chat = {
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelServing",
        "metadata": {"name": "chat"},
        "spec": {"template": {"roles": roles}},
    }
    decode = workload("servings", "decode", ScalableKind.MODEL_SERVING, "chat")
    decode = decode.model_copy(update={"component": "decode"})
    with (
        plane.client() as client,
        installed(client, "ModelServing"),
        fleet_of(client, "servings"),
    ):
        made(client, api, chat)
        with in_place(plane, decode) as subcluster:
            planned = scale(subcluster, 4)
            assert applied(subcluster, planned) is APPLIED
            assert client.get(f"{api}/chat").json()["spec"]["template"]["roles"] == [
                {"name": "prefill", "replicas": 1},
                {"name": "decode", "replicas": 4},
            ]
            assert applied(subcluster, replace(planned, replicas=3)) is STALE


SERVICES = """\
fleet: {interval_s: 1.0}
services:
  - name: chat
    priority: 50
    slo: {ttft_s: 1.0, tbt_s: 0.04, quantile: 0.9}
    group:
      roles:
        prefill: {share: 1, accelerators: [{type: H20, gpus: 1}]}
        decode: {share: 1, accelerators: [{type: H20, gpus: 1}]}
    policy:
      proportional: [{signal: tps, role: decode, target: 100.0}]
      guard: {cool_down_out_s: 0, stabilization_window_s: 5, cool_down_in_s: 0}
"""
CLUSTER = """\
name: alpha
workloads:
  - {service: chat, role: prefill, accelerator: H20,
     kind: Deployment, namespace: e2e, name: prefill}
  - {service: chat, role: decode, accelerator: H20,
     kind: Deployment, namespace: e2e, name: decode}
routing_label: {key: heteroscale.dev/route, value: "on"}
"""
METRICS = """\
servers:
  - {{name: main, url: "{url}", sources: [{{dialect: vllm, labels: {{source: instance}}}}]}}
window_s: 5
"""


def written(
    folder: Path, plane: ControlPlane, prometheus: str, kubeconfig: Path | None = None
) -> Files:
    for name, text in (
        ("services", SERVICES),
        ("cluster", CLUSTER),
        ("metrics", METRICS.format(url=prometheus)),
    ):
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return Files(
        services=folder / "services.yaml",
        metrics=folder / "metrics.yaml",
        cluster=folder / "cluster.yaml",
        state=folder / "state",
        kubeconfig=kubeconfig or plane.controller,
    )


def ticked(files: Files, *, observe: bool, most: int) -> list[TickReport]:
    clock, reports = WallClock(), list[TickReport]()
    with controller(files, clock, observe=observe) as running:
        running.run(Event(), reports.append, most)
    return reports


def writes_of(plane: ControlPlane, namespace: str) -> list[str]:
    """Return the changes that somebody other than the cluster's own parts asked for."""
    found = []
    for line in plane.audit.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        target = event.get("objectRef") or {}
        own = "kube-" in event["userAgent"] or "kwok" in event["userAgent"]
        changes = event["verb"] in ("create", "update", "patch", "delete")
        if changes and not own and target.get("namespace") == namespace:
            found.append(f"{event['verb']} {target.get('resource')} {event['userAgent']}")
    return found


def served_tps(prometheus: str) -> float:
    query = 'sum(rate({__name__=~"vllm[:_]generation_tokens_total"}[5s]))'
    reply = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}).json()
    return sum(float(one["value"][1]) for one in reply["data"]["result"])


@pytest.fixture
def pair() -> tuple[dict[str, object], dict[str, object]]:
    return deployment("prefill", 1), deployment("decode", 1)


def test_a_metric_that_crosses_scales_both_roles_and_observing_writes_nothing(
    plane: ControlPlane, tmp_path: Path, pair: tuple[dict[str, object], dict[str, object]]
) -> None:
    labels = {"heteroscale_service": "chat", "heteroscale_role": "decode"}
    with (
        plane.client() as client,
        fleet_of(client, "e2e", *pair),
        exporter("chat") as engines,
        scraping(tmp_path, engines.address, labels) as prometheus,
    ):
        engines.rate(280.0)
        until(lambda: served_tps(prometheus) > 250.0, "the load shows in Prometheus")
        files = written(tmp_path, plane, prometheus)
        before = writes_of(plane, "e2e")
        observed = ticked(files, observe=True, most=8)
        assert any(report.plan.actions for report in observed)
        assert writes_of(plane, "e2e") == before
        replicas = "/apis/apps/v1/namespaces/e2e/deployments"
        ticked(files, observe=False, most=8)
        counts = {
            one["metadata"]["name"]: one["spec"]["replicas"]
            for one in client.get(replicas).json()["items"]
        }
        assert counts == {"prefill": 3, "decode": 3}
        final = ticked(files, observe=False, most=6)[-1]
        states = {one.state for one in final.snapshot.services["chat"].instances}
        assert states == {InstanceState.READY}
