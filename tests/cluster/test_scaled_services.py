"""Controllers that look after ScaledServices, on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.cluster_sections import ClusterFile, RoutingLabelSection
from heteroscale.controller import Files
from heteroscale.entities.action import OutcomeKind
from heteroscale.entities.service import FleetSpec
from heteroscale.loop import TickReport
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.asked_fleet import AskedFleet
from heteroscale.subcluster.in_place import InPlaceSubcluster
from tests.cluster.control_plane import NOBODY, PATIENCE_S, ControlPlane, until
from tests.cluster.test_custom_resource import install
from tests.cluster.test_doctor import asked as doctor
from tests.cluster.test_doctor import autoscaled
from tests.cluster.test_in_place import ticked
from tests.cluster.worlds import ROUTE, deployment, fleet_of
from tests.unit.config.scaled_services import resource

MERGE = {"Content-Type": "application/merge-patch+json"}
#: nobody listens there: services are sized by the clock alone
NO_METRICS = "servers: [{name: main, url: http://127.0.0.1:9, sources: [{dialect: vllm}]}]\n"


def path(namespace: str, name: str = "") -> str:
    base = f"/apis/heteroscale.dev/v1alpha1/namespaces/{namespace}/scaledservices"
    return f"{base}/{name}" if name else base


def sized(namespace: str, replicas: int, name: str = "chat", **spec: Any) -> dict[str, Any]:
    """Return a service that has so many of each role at all times."""
    always = {
        "name": "always",
        "timezone": "UTC",
        "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        "start": "00:00",
        "end": "24:00",
        "replicas": {"prefill": replicas, "decode": replicas},
    }
    guard = {"cool_down_out_s": 0, "cool_down_in_s": 0, "stabilization_window_s": 0, "step_out": 1}
    roles = {
        role: {"share": 1, "workloads": [{"kind": "Deployment", "name": role}]}
        for role in ("prefill", "decode")
    }
    made = resource(**{"roles": roles, "policy": {"schedules": [always], "guard": guard}, **spec})
    made["metadata"] = {"name": name, "namespace": namespace}
    return made


def counts(client: httpx.Client, namespace: str) -> dict[str, int]:
    reply = client.get(f"/apis/apps/v1/namespaces/{namespace}/deployments").json()
    return {one["metadata"]["name"]: one["spec"]["replicas"] for one in reply["items"]}


@contextmanager
def resources(client: httpx.Client, *made: dict[str, Any]) -> Iterator[None]:
    """Have these resources in the cluster for a while."""
    install(client)
    for one in made:
        reply = client.post(path(one["metadata"]["namespace"]), json=one)
        assert reply.is_success, reply.text
    try:
        yield
    finally:
        for one in made:
            client.delete(path(one["metadata"]["namespace"], one["metadata"]["name"]))


def files(folder: Path, plane: ControlPlane, *namespaces: str, services: str = "[]") -> Files:
    label = f'{{key: {ROUTE}, value: "on"}}'
    for name, text in (
        ("services", f"fleet: {{interval_s: 0.5}}\nservices: {services}\n"),
        (
            "cluster",
            f"name: alpha\nnamespaces: [{', '.join(namespaces)}]\nrouting_label: {label}\n",
        ),
        ("metrics", NO_METRICS),
    ):
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return Files(
        services=folder / "services.yaml",
        metrics=folder / "metrics.yaml",
        cluster=folder / "cluster.yaml",
        state=folder / "state",
        kubeconfig=plane.controller,
    )


def outcomes(reports: list[TickReport]) -> set[OutcomeKind]:
    return {one.kind for report in reports for one in report.outcomes}


def test_a_service_is_scaled_as_its_resource_says_and_as_it_is_changed(
    plane: ControlPlane, tmp_path: Path
) -> None:
    pair = deployment("prefill", 1), deployment("decode", 1)
    with (
        plane.client() as client,
        fleet_of(client, "asked", *pair),
        resources(client, sized("asked", 2)),
    ):
        set_up = files(tmp_path, plane, "asked")
        reports = ticked(set_up, observe=False, most=4)
        assert counts(client, "asked") == {"prefill": 2, "decode": 2}
        assert outcomes(reports) == {OutcomeKind.APPLIED}
        more = sized("asked", 3)["spec"]["policy"]["schedules"]
        change = {"spec": {"policy": {"schedules": more}}}
        client.patch(path("asked", "chat"), json=change, headers=MERGE).raise_for_status()
        ticked(set_up, observe=False, most=4)
        assert counts(client, "asked") == {"prefill": 3, "decode": 3}


def test_what_is_wrong_with_one_resource_stops_no_other(
    plane: ControlPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = deployment("prefill", 1), deployment("decode", 1)
    mars = sized("beside", 2, "mars")
    mars["spec"]["policy"]["schedules"][0]["timezone"] = "Mars/Olympus"
    gone = {"share": 1, "workloads": [{"kind": "Deployment", "name": "gone", "gpus": 1}]}
    sets = {"share": 1, "workloads": [{"kind": "PodCliqueScalingGroup", "name": "p", "gpus": 1}]}
    roles = sized("beside", 2)["spec"]["roles"]
    with (
        plane.client() as client,
        fleet_of(client, "beside", *pair),
        resources(
            client,
            mars,
            sized("beside", 2, "absent", roles={**roles, "decode": gone}),
            sized("beside", 2, "kindless", roles={**roles, "decode": sets}),
            sized("beside", 2),
            sized("beside", 2, "second"),
        ),
    ):
        reports = ticked(files(tmp_path, plane, "beside"), observe=False, most=4)
        assert counts(client, "beside") == {"prefill": 2, "decode": 2}
        assert outcomes(reports) == {OutcomeKind.APPLIED}
    told = [one.getMessage() for one in caplog.records if "not looked after" in one.getMessage()]
    said = {one.split(" is not looked after: ")[0]: one.split(": ", 1)[1] for one in told}
    assert "must be an IANA time zone" in said["ScaledService beside/mars"]
    assert said["ScaledService beside/absent"] == "Deployment beside/gone is not there"
    assert "HTTP 404" in said["ScaledService beside/kindless"]
    assert "is scaled for service" in said["ScaledService beside/second"]


@contextmanager
def asked_fleet(
    plane: ControlPlane, *namespaces: str, kubeconfig: Path | None = None
) -> Iterator[tuple[AskedFleet, InPlaceSubcluster]]:
    label = RoutingLabelSection(key=ROUTE, value="on")
    file = ClusterFile(name="alpha", namespaces=namespaces, routing_label=label)
    clock = WallClock()

    def api() -> ApiServer:
        return ApiServer(clock, kubeconfig=kubeconfig or plane.controller)

    with closing(InPlaceSubcluster(file, api(), clock)) as subcluster:
        fleet = FleetSpec(services=())
        with closing(AskedFleet(file, fleet, api(), clock, subcluster)) as asked:
            assert kubeconfig or subcluster.wait_until_filled(PATIENCE_S)
            yield asked, subcluster


def test_workloads_of_a_deleted_resource_are_seen_until_nothing_of_it_is_remembered(
    plane: ControlPlane,
) -> None:
    pair = deployment("prefill", 1), deployment("decode", 1)
    with (
        plane.client() as client,
        fleet_of(client, "deleted", *pair),
        resources(client, sized("deleted", 1)),
        asked_fleet(plane, "deleted") as (asked, subcluster),
    ):
        assert asked.settle(PATIENCE_S) == ""
        assert [one.name for one in asked.now(()).services] == ["chat"]
        client.delete(path("deleted", "chat")).raise_for_status()
        until(lambda: asked.now({"chat"}).services == (), "it is no longer asked for")
        assert {one.service for one in subcluster.observe().group_roles} == {"chat"}
        asked.now(())
        assert subcluster.observe().group_roles == ()


def test_what_may_not_be_listed_is_not_taken_as_empty(plane: ControlPlane) -> None:
    with plane.client() as client:
        install(client)
    nobody = plane.kubeconfig_of(NOBODY, NOBODY)
    with asked_fleet(plane, "asked", kubeconfig=nobody) as (asked, _):
        assert "forbidden" in asked.settle(0.5)


def test_a_check_up_says_what_is_wrong_with_resources_and_looks_at_their_workloads(
    plane: ControlPlane, tmp_path: Path
) -> None:
    pair = deployment("prefill", 1), deployment("decode", 1)
    mars = sized("checked", 2, "mars")
    mars["spec"]["policy"]["schedules"][0]["timezone"] = "Mars/Olympus"
    with (
        plane.client() as client,
        fleet_of(client, "checked", *pair),
        resources(client, mars, sized("checked", 1)),
        autoscaled(client, "checked", "mine", "decode"),
    ):
        set_up = files(tmp_path, plane, "checked")
        said = doctor(set_up).stdout
    assert "cluster alpha: ScaledService checked/mars: it is not looked after: spec.policy" in said
    assert "HorizontalPodAutoscaler mine" in said
