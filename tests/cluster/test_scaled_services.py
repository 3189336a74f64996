"""Controllers that look after ScaledServices, on a real API server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.cluster_sections import ClusterFile, RoutingLabelSection
from heteroscale.controller import Files, controller
from heteroscale.entities.action import OutcomeKind
from heteroscale.entities.service import FleetSpec
from heteroscale.loop import TickReport
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.asked_fleet import AskedFleet
from heteroscale.subcluster.in_place import InPlaceSubcluster
from heteroscale.subcluster.lease import FREEZE
from heteroscale.subcluster.pods import ROTATION
from tests.cluster.control_plane import NOBODY, PATIENCE_S, ControlPlane, until
from tests.cluster.test_custom_resource import install
from tests.cluster.test_doctor import asked as doctor
from tests.cluster.test_doctor import autoscaled
from tests.cluster.test_in_place import ticked
from tests.cluster.worlds import ROUTE, deployment, fleet_of, made
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
    asked = resource(**{"roles": roles, "policy": {"schedules": [always], "guard": guard}, **spec})
    asked["metadata"] = {"name": name, "namespace": namespace}
    return asked


def counts(client: httpx.Client, namespace: str) -> dict[str, int]:
    reply = client.get(f"/apis/apps/v1/namespaces/{namespace}/deployments").json()
    return {one["metadata"]["name"]: one["spec"]["replicas"] for one in reply["items"]}


@contextmanager
def resources(client: httpx.Client, *asked: dict[str, Any]) -> Iterator[None]:
    """Have these resources in the cluster for a while."""
    install(client)
    for one in asked:
        reply = client.post(path(one["metadata"]["namespace"]), json=one)
        assert reply.is_success, reply.text
    try:
        yield
    finally:
        for one in asked:
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


def status_of(client: httpx.Client, namespace: str, name: str = "chat") -> dict[str, Any]:
    return dict(client.get(path(namespace, name)).raise_for_status().json().get("status") or {})


def conditions_of(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def events_of(client: httpx.Client, namespace: str) -> list[tuple[str, str, str]]:
    """Return kind, reason and note of every event of our own, the oldest first."""
    found = client.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events").json()["items"]
    own = [one for one in found if one.get("reportingController") == "heteroscale.dev/controller"]
    own.sort(key=lambda one: one["eventTime"])
    return [(one["type"], one["reason"], one["note"].partition(":")[0]) for one in own]


def columns(client: httpx.Client, namespace: str) -> list[dict[str, Any]]:
    """Return what `kubectl get` prints."""
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    found = client.get(path(namespace), headers=table).raise_for_status().json()
    names = [one["name"] for one in found["columnDefinitions"]]
    return [dict(zip(names, row["cells"], strict=True)) for row in found["rows"]]


def changes_of(plane: ControlPlane, namespace: str) -> Counter[str]:
    """Return how often whoever is no part of the cluster or of this test changed what."""
    found: Counter[str] = Counter()
    for line in plane.audit.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        target = event.get("objectRef") or {}
        theirs = ("kube-", "kwok", "python-httpx/")
        changed = event["verb"] in ("create", "update", "patch", "delete")
        own = not any(one in event["userAgent"] for one in theirs)
        if changed and own and target.get("namespace") == namespace:
            part = target.get("subresource")
            found[target["resource"] + (f"/{part}" if part else "")] += 1
    return found


def all_ready(client: httpx.Client, namespace: str, count: int) -> bool:
    reply = client.get(f"/apis/apps/v1/namespaces/{namespace}/deployments").json()
    return all(one["status"].get("readyReplicas") == count for one in reply["items"])


def test_a_resource_says_what_became_of_it_once_and_in_columns(
    plane: ControlPlane, tmp_path: Path
) -> None:
    pair = deployment("prefill", 1), deployment("decode", 1)
    with (
        plane.client() as client,
        fleet_of(client, "told", *pair),
        resources(client, sized("told", 2), sized("told", 2, "second")),
    ):
        set_up = files(tmp_path, plane, "told")
        ticked(set_up, observe=False, most=4)
        until(lambda: all_ready(client, "told", 2), "the new pods are ready")
        ticked(set_up, observe=False, most=3)
        status = status_of(client, "told")
        assert status["roles"] == [
            {"name": role, "current": 2, "desired": 2, "wouldBe": 2, "ready": 2, "withdrawn": 0}
            for role in ("prefill", "decode")
        ]
        assert conditions_of(status)["Ready"] == ("True", "Planned")
        assert conditions_of(status)["Active"] == ("True", "Enforcing")
        assert status["reason"] == "Schedule"
        assert {one["code"] for one in status["reasons"]} >= {"schedule"}
        scaled = ("Normal", "ScaledOut", "decode 1 → 2, prefill 1 → 2")
        assert [one for one in events_of(client, "told") if "Scaled" in one[1]] == [scaled]
        second = status_of(client, "told", "second")
        assert conditions_of(second)["Ready"] == ("False", "WorkloadTaken")
        row = columns(client, "told")[0]
        assert (row["Name"], row["Mode"], row["Ready"], row["Active"], row["Desired"]) == (
            "chat",
            "enforce",
            "True",
            "True",
            "prefill 2, decode 2",
        )
        written = changes_of(plane, "told")
        kinds = {"deployments/scale", "pods", "scaledservices/status", "events"}
        assert written.keys() <= kinds
        ticked(set_up, observe=False, most=8)
        assert changes_of(plane, "told") == written


def test_a_service_that_is_only_looked_at_says_what_would_be_and_stays_as_it_is(
    plane: ControlPlane, tmp_path: Path
) -> None:
    pair = deployment("prefill", 1), deployment("decode", 1)
    with (
        plane.client() as client,
        fleet_of(client, "looked", *pair),
        resources(client, sized("looked", 2, mode="observe")),
    ):
        ticked(files(tmp_path, plane, "looked"), observe=False, most=4)
        status = status_of(client, "looked")
        assert (status["current"], status["desired"], status["wouldBe"]) == (
            "prefill 1, decode 1",
            "prefill 1, decode 1",
            "prefill 2, decode 2",
        )
        assert conditions_of(status)["Active"] == ("False", "Observing")
        assert counts(client, "looked") == {"prefill": 1, "decode": 1}
        assert changes_of(plane, "looked").keys() == {"scaledservices/status"}


def test_a_controller_that_only_looks_tells_resources_nothing(
    plane: ControlPlane, tmp_path: Path
) -> None:
    pair = deployment("prefill", 1), deployment("decode", 1)
    with (
        plane.client() as client,
        fleet_of(client, "untold", *pair),
        resources(client, sized("untold", 2)),
    ):
        reports = ticked(files(tmp_path, plane, "untold"), observe=True, most=4)
        assert any(report.plan.actions for report in reports)
        assert status_of(client, "untold") == {}
        assert changes_of(plane, "untold") == {}


def test_one_plan_is_carried_out_once_it_is_approved_and_until_its_approval_ends(
    plane: ControlPlane, tmp_path: Path
) -> None:
    pair = deployment("prefill", 1), deployment("decode", 1)

    def approve(plan: str, until: str) -> None:
        change = {"spec": {"approval": {"plan": plan, "until": until}}}
        client.patch(path("approved", "chat"), json=change, headers=MERGE).raise_for_status()

    with (
        plane.client() as client,
        fleet_of(client, "approved", *pair),
        resources(client, sized("approved", 2, mode="recommend")),
    ):
        set_up = files(tmp_path, plane, "approved")
        ticked(set_up, observe=False, most=4)
        plan = status_of(client, "approved")["plan"]
        assert plan
        assert columns(client, "approved")[0]["Plan"] == plan
        for other, until in ((plan, "2026-01-01T00:00:00Z"), ("another", "2036-01-01T00:00:00Z")):
            approve(other, until)
            ticked(set_up, observe=False, most=3)
            assert counts(client, "approved") == {"prefill": 1, "decode": 1}
        approve(plan, "2036-01-01T00:00:00Z")
        ticked(set_up, observe=False, most=4)
        assert counts(client, "approved") == {"prefill": 2, "decode": 2}
        status = status_of(client, "approved")
        assert status["plan"] == ""
        assert [one[1] for one in events_of(client, "approved") if "Scaled" in one[1]] == [
            "ScaledOut"
        ]


def test_whoever_freezes_the_fleet_stops_every_change_until_it_is_thawed(
    plane: ControlPlane, tmp_path: Path
) -> None:
    pair = deployment("prefill", 1), deployment("decode", 1)
    lease = "/apis/coordination.k8s.io/v1/namespaces/heteroscale/leases/heteroscale"

    def freeze(word: str | None) -> None:
        notes = {"metadata": {"annotations": {FREEZE: word}}}
        client.patch(lease, json=notes, headers=MERGE).raise_for_status()

    with (
        plane.client() as client,
        fleet_of(client, "frozen", *pair),
        resources(client, sized("frozen", 2)),
    ):
        set_up = files(tmp_path, plane, "frozen")
        spec = {"holderIdentity": "", "leaseDurationSeconds": 15}
        made(client, lease.rpartition("/")[0], {"metadata": {"name": "heteroscale"}, "spec": spec})
        freeze("true")
        ticked(set_up, observe=False, most=3)
        assert conditions_of(status_of(client, "frozen"))["Active"] == ("False", "Frozen")
        freeze(None)
        (set_up.state / "freeze").touch()
        ticked(set_up, observe=False, most=3)
        assert counts(client, "frozen") == {"prefill": 1, "decode": 1}
        (set_up.state / "freeze").unlink()
        ticked(set_up, observe=False, most=3)
        assert counts(client, "frozen") == {"prefill": 2, "decode": 2}


def out_of_rotation(client: httpx.Client, namespace: str) -> list[str]:
    """Return the apps whose pods are out of rotation, one entry a pod."""
    found = client.get(f"/api/v1/namespaces/{namespace}/pods").json()["items"]
    return sorted(
        one["metadata"]["labels"]["app"]
        for one in found
        if ROTATION in (one["metadata"].get("annotations") or {})
        and ROUTE not in one["metadata"]["labels"]
    )


def test_what_is_out_of_rotation_comes_back_when_its_resource_is_deleted(
    plane: ControlPlane, tmp_path: Path
) -> None:
    pair = deployment("prefill", 2), deployment("decode", 2)
    with (
        plane.client() as client,
        fleet_of(client, "given-up", *pair),
        resources(client, sized("given-up", 1)),
    ):
        until(lambda: all_ready(client, "given-up", 2), "the pods are ready")
        clock, stop = WallClock(), Event()
        with controller(files(tmp_path, plane, "given-up"), clock, observe=False) as running:

            def told(_: TickReport) -> None:
                gone = client.get(path("given-up", "chat")).status_code == httpx.codes.NOT_FOUND
                left = out_of_rotation(client, "given-up")
                if not gone and left:
                    seen.append(left)
                    client.delete(path("given-up", "chat"))
                if gone and not left:
                    stop.set()

            seen: list[list[str]] = []
            running.run(stop, told, most=60)
        assert seen == [["decode", "prefill"]]
        assert out_of_rotation(client, "given-up") == []
        assert counts(client, "given-up") == {"prefill": 2, "decode": 2}
