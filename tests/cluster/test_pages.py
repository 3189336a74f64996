"""What a controller on a real cluster answers over HTTP, read by a real Prometheus."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from heteroscale.adapters.listener import listening
from heteroscale.adapters.wall_clock import WallClock
from heteroscale.cli.logs import JsonLines
from heteroscale.controller import controller
from tests.cluster.control_plane import TOKEN, ControlPlane, until
from tests.cluster.exporter import exporter
from tests.cluster.test_in_place import served_tps, written
from tests.cluster.worlds import deployment, fleet_of
from tests.integration.prometheus_server import binary, scraping


def asked(prometheus: str, query: str) -> list[float]:
    reply = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}).json()
    return [float(one["value"][1]) for one in reply["data"]["result"]]


def test_a_controller_says_how_it_is_and_what_it_did(
    plane: ControlPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "own").mkdir()
    labels = {"heteroscale_service": "chat", "heteroscale_role": "decode"}
    with (
        plane.client() as client,
        fleet_of(client, "e2e", deployment("prefill", 1), deployment("decode", 1)),
        exporter("chat", engines=8) as engines,
        scraping(tmp_path, engines.address, labels) as prometheus,
    ):
        engines.rate(180.0)
        until(lambda: served_tps(prometheus) > 150.0, "the load shows in Prometheus")
        files, stop = written(tmp_path, plane, prometheus), Event()
        with (
            controller(files, WallClock(), observe=False) as running,
            listening("127.0.0.1", 0, running.pages()) as port,
            scraping(tmp_path / "own", f"127.0.0.1:{port}", {}) as own,
        ):
            url = f"http://127.0.0.1:{port}"
            assert httpx.get(f"{url}/nowhere").status_code == httpx.codes.NOT_FOUND
            assert httpx.get(f"{url}/healthz").text == "ok\n"
            until(
                lambda: "no tick has ended" in httpx.get(f"{url}/readyz").text,
                "it leads, and has not ticked yet",
            )
            loop = Thread(target=running.run, args=(stop,))
            loop.start()
            try:
                until(lambda: httpx.get(f"{url}/readyz").is_success, "it is ready")
                applied = 'sum(heteroscale_actions_total{outcome="applied"})'
                until(lambda: asked(own, applied) == [2.0], "Prometheus knows what was done")
                until(
                    lambda: asked(own, "heteroscale_replicas") == [2.0, 2.0],
                    "Prometheus knows the counts",
                )
                assert asked(own, "heteroscale_leader") == [1.0]
                text = httpx.get(f"{url}/metrics").text
            finally:
                stop.set()
                loop.join()
        check = [binary("promtool"), "check", "metrics"]
        checked = subprocess.run(check, input=text, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    sent = [line for line in lines if "outcome" in line]
    assert {(line["action"]["role"], line["outcome"]) for line in sent} == {
        ("prefill", "applied"),
        ("decode", "applied"),
    }
    assert TOKEN not in json.dumps(lines)
