"""Of several controllers one acts: leases on a real API server, and two whole controllers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from heteroscale.adapters.wall_clock import WallClock, steady_s
from heteroscale.config.cluster_sections import ScalableKind
from heteroscale.controller import Files
from heteroscale.entities.action import OutcomeKind, Rotation, RotationAction
from heteroscale.subcluster.api_server import ApiServer
from heteroscale.subcluster.lease import Lease
from tests.cluster.control_plane import CONTROLLERS, ControlPlane, until
from tests.cluster.exporter import exporter
from tests.cluster.test_in_place import served_tps, written
from tests.cluster.worlds import deployment, fleet_of, in_place, settled, workload
from tests.integration.prometheus_server import scraping

LEASE = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/heteroscale"
DURATION_S = 3


class ClockThatIsOff(WallClock):
    def __init__(self, by_s: float) -> None:
        self._by_s = by_s

    def now_s(self) -> float:
        return super().now_s() + self._by_s


@contextmanager
def lease(
    plane: ControlPlane, namespace: str, identity: str, off_s: float = 0.0
) -> Iterator[Lease]:
    clock = ClockThatIsOff(off_s)
    tried = Lease(
        ApiServer(clock, kubeconfig=plane.controller, limit_s=1.0),
        clock,
        steady_s,
        namespace=namespace,
        name="heteroscale",
        identity=identity,
        duration_s=DURATION_S,
    )
    try:
        yield tried
    finally:
        tried.close()


def test_one_leads_until_it_gives_the_lease_back(plane: ControlPlane) -> None:
    with plane.client() as client, fleet_of(client, "handed-over"):
        with lease(plane, "handed-over", "first") as first:
            until(first.leads, "the first leads")
            with lease(plane, "handed-over", "second") as second:
                until(lambda: second.holder == "first", "the second sees the first")
                assert (first.leads(), second.leads()) == (True, False)
                first.close()
                began_s = steady_s()
                until(second.leads, "the second leads")
                assert steady_s() - began_s < DURATION_S
        spec = client.get(LEASE.format("handed-over")).json()["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("", 1)


def test_no_clock_that_is_off_takes_a_lease_that_is_renewed(plane: ControlPlane) -> None:
    with (
        plane.client() as client,
        fleet_of(client, "renewed"),
        lease(plane, "renewed", "first") as first,
        lease(plane, "renewed", "ahead", 3600.0) as ahead,
        lease(plane, "renewed", "behind", -3600.0) as behind,
    ):
        until(lambda: any(one.leads() for one in (first, ahead, behind)), "one leads")
        leader = next(one for one in (first, ahead, behind) if one.leads())
        end_s = steady_s() + 2.5 * DURATION_S
        leaders: set[Lease] = set()

        def renewed_for_long() -> bool:
            leaders.update(one for one in (first, ahead, behind) if one.leads())
            return steady_s() >= end_s

        until(renewed_for_long, "it was renewed for longer than it lasts")
        assert leaders == {leader}


def test_who_does_not_lead_changes_nothing(plane: ControlPlane) -> None:
    decode = workload("fenced", "decode", ScalableKind.DEPLOYMENT, "decode")
    with (
        plane.client() as client,
        fleet_of(client, "fenced", deployment("decode", 1)),
        in_place(plane, decode, may_change_s=lambda: 0.0) as subcluster,
    ):
        (instance,) = settled(subcluster, "decode")
        action = RotationAction(
            id="withdraw",
            service="chat",
            subcluster="alpha",
            uid=instance.uid,
            to=Rotation.DRAINING,
            version=instance.version,
        )
        until(lambda: settled(subcluster, "decode")[0].state == "ready", "it is ready")
        (instance,) = settled(subcluster, "decode")
        action = replace(action, version=instance.version)
        (outcome,) = subcluster.apply((action,), WallClock().now_s() + 10.0)
        assert outcome.kind is OutcomeKind.REFUSED
        assert outcome.detail.endswith("we do not lead")
        assert subcluster.observe().instances[0].version == instance.version


@contextmanager
def running(files: Files, folder: Path, user: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a whole controller as a process of its own."""
    command = [sys.executable, "-c", "from heteroscale.cli import main; main()", "run"]
    named = {
        "--services": files.services,
        "--metrics": files.metrics,
        "--cluster": files.cluster,
        "--state": folder / user,
        "--kubeconfig": files.kubeconfig,
    }
    options = [str(part) for pair in named.items() for part in pair]
    with (
        (folder / f"{user}.log").open("wb") as log,
        subprocess.Popen([*command, *options], stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            os.kill(process.pid, signal.SIGCONT)
            process.terminate()
            process.wait(20.0)


def changes_by(plane: ControlPlane, user: str, namespace: str) -> list[tuple[str, str]]:
    """Return (time, what) of every change that a user asked for in a namespace."""
    events = map(json.loads, plane.audit.read_text(encoding="utf-8").splitlines())
    return [
        (event["requestReceivedTimestamp"], f"{event['verb']} {event['objectRef']['resource']}")
        for event in events
        if event["user"].get("username") == user
        and event["verb"] in ("create", "update", "patch", "delete")
        and event["objectRef"].get("namespace") == namespace
        and event["stage"] == "ResponseComplete"
    ]


def test_a_leader_stopped_past_its_lease_changes_nothing_when_it_goes_on(
    plane: ControlPlane, tmp_path: Path
) -> None:
    first, second = CONTROLLERS
    labels = {"heteroscale_service": "chat", "heteroscale_role": "decode"}
    pair = deployment("prefill", 1), deployment("decode", 1)

    def counts() -> set[int]:
        found = client.get("/apis/apps/v1/namespaces/e2e/deployments").json()["items"]
        return {one["spec"]["replicas"] for one in found}

    def holder() -> str:
        found = client.get(LEASE.format("e2e")).json()
        return str(found.get("spec", {}).get("holderIdentity", ""))

    with (
        plane.client() as client,
        fleet_of(client, "e2e", *pair),
        exporter("chat", engines=8) as engines,
        scraping(tmp_path, engines.address, labels) as prometheus,
    ):
        engines.rate(180.0)
        until(lambda: served_tps(prometheus) > 150.0, "the load shows in Prometheus")
        files = written(tmp_path, plane, prometheus)
        with files.cluster.open("a", encoding="utf-8") as more:
            more.write(f"lease: {{namespace: e2e, duration_s: {DURATION_S}}}\n")
        ways = [plane.kubeconfig_of(user, user) for user in CONTROLLERS]
        with running(replace(files, kubeconfig=ways[0]), tmp_path, first) as leader:
            until(lambda: counts() == {2}, "the first scales both roles")
            led = holder()
            with running(replace(files, kubeconfig=ways[1]), tmp_path, second):
                os.kill(leader.pid, signal.SIGSTOP)
                until(lambda: holder() not in ("", led), "the second takes over")
                engines.rate(380.0)
                until(lambda: counts() == {4}, "the second scales both roles")
                before = changes_by(plane, first, "e2e")
                assert before
                engines.rate(480.0)
                os.kill(leader.pid, signal.SIGCONT)
                until(lambda: counts() == {5}, "the second goes on")
                said = tmp_path / f"{first}.log"
                until(
                    lambda: "another may lead now" in said.read_text(encoding="utf-8"),
                    "the first knows",
                )
                assert changes_by(plane, first, "e2e") == before
                assert changes_by(plane, second, "e2e")
