"""Windows and waits outlive the controller that began them, and no late write spoils them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heteroscale.controller import STATE_FILE
from heteroscale.entities.action import OutcomeKind
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.state import FleetState, ServiceState
from heteroscale.errors import ConfigError, SubclusterUnavailable
from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.memories import CONFIG_MAPS, NAME, leaders, memory_in, namespace_of
from tests.cluster.serving import METRICS, served_tps, serving
from tests.cluster.test_in_place import SERVICES, ticked, writes_of, written
from tests.cluster.worlds import deployment, fleet_of, made
from tests.integration.prometheus_server import scraping

EARLY = FleetState(services={"chat": ServiceState(restores=1)})
LATE = FleetState(services={"chat": ServiceState(restores=2)})


def test_what_a_former_leader_sends_late_is_refused(
    plane: ControlPlane, request: pytest.FixtureRequest
) -> None:
    #: it was asked when it led, stood still, and is asked again when it does not
    led = iter((10.0, 10.0, 0.0))
    with leaders(plane, request.node.name) as store_of:
        former = store_of("former", lambda: next(led))
        former.load()
        newer = store_of("newer")
        newer.load()
        with pytest.raises(SubclusterUnavailable, match="we do not lead"):
            former.save(LATE, frozenset({"chat"}))
        newer.save(EARLY, frozenset({"chat"}))
        assert store_of("next").load() == EARLY


def test_a_leader_goes_on_where_somebody_took_its_memory_away_or_noted_something_on_it(
    plane: ControlPlane, request: pytest.FixtureRequest
) -> None:
    path = memory_in(namespace_of(request.node.name))
    merge = {"Content-Type": "application/merge-patch+json"}
    note = {"metadata": {"annotations": {"read-by": "a person"}}}
    with leaders(plane, request.node.name) as store_of, plane.client() as client:
        store = store_of("leader")
        store.load()
        client.patch(path, json=note, headers=merge).raise_for_status()
        store.save(EARLY, frozenset())
        assert client.get(path).json()["metadata"]["annotations"] == {
            "heteroscale.dev/writer": "leader",
            "read-by": "a person",
        }
        client.delete(path).raise_for_status()
        store.save(LATE, frozenset())
        assert store_of("next").load() == LATE


def test_what_is_larger_than_a_config_map_is_refused_and_what_was_kept_stays(
    plane: ControlPlane, request: pytest.FixtureRequest
) -> None:
    figures = np.random.default_rng(1).random((80_000, 2))
    window = tuple((float(at_s), float(demand)) for at_s, demand in figures)
    grown = FleetState(services={"chat": ServiceState(window=window)})
    with leaders(plane, request.node.name) as store_of:
        store = store_of("leader")
        store.load()
        store.save(EARLY, frozenset())
        with pytest.raises(ConfigError, match="must fit 1044480 bytes, compressed"):
            store.save(grown, frozenset())
        assert store_of("next").load() == EARLY


@pytest.mark.parametrize("content", [b"\x00\x01", b"x\x9c"], ids=["another form", "cut short"])
def test_a_damaged_memory_is_refused_and_kept(
    plane: ControlPlane, request: pytest.FixtureRequest, content: bytes
) -> None:
    namespace = namespace_of(request.node.name)
    damaged = {"metadata": {"name": NAME}, "binaryData": {"state": b64encode(content).decode()}}
    with leaders(plane, request.node.name) as store_of, plane.client() as client:
        made(client, CONFIG_MAPS.format(namespace), damaged)
        with pytest.raises(ConfigError, match=rf"ConfigMap {namespace}/{NAME}: store: is damaged"):
            store_of("leader").load()
        kept = client.get(memory_in(namespace)).json()["binaryData"]["state"]
        assert b64decode(kept) == content


def test_a_wait_that_one_leader_began_binds_the_next_and_observing_keeps_its_own(
    plane: ControlPlane, tmp_path: Path
) -> None:
    waiting = SERVICES.replace("cool_down_in_s: 0", "cool_down_in_s: 3600")
    with (
        plane.client() as client,
        fleet_of(client, "e2e", deployment("prefill", 1), deployment("decode", 1)),
        serving("chat") as engines,
        scraping(tmp_path, engines.address, {}) as prometheus,
    ):
        client.delete(memory_in("heteroscale"))
        engines.load("chat", 280.0)
        until(lambda: served_tps(prometheus) > 250.0, "the load shows in Prometheus")
        files = written(tmp_path, plane, prometheus)
        files.metrics.write_text(METRICS.format(url=prometheus), encoding="utf-8")
        files.services.write_text(waiting, encoding="utf-8")
        before = writes_of(plane, "heteroscale")
        ticked(replace(files, state=tmp_path / "looked"), observe=True, most=2)
        assert writes_of(plane, "heteroscale") == before
        assert (tmp_path / "looked" / STATE_FILE).exists()
        first = ticked(replace(files, state=tmp_path / "first"), observe=False, most=6)
        outcomes = {one.kind for report in first for one in report.outcomes}
        assert outcomes == {OutcomeKind.APPLIED}
        assert not (tmp_path / "first" / STATE_FILE).exists()
        engines.load("chat", 80.0)
        until(lambda: served_tps(prometheus) < 90.0, "the load has gone")
        second = ticked(replace(files, state=tmp_path / "second"), observe=False, most=10)
        assert second[0].state.services["chat"].scale_in_until_s == (
            first[-1].state.services["chat"].scale_in_until_s
        )
        assert all(report.sent == () for report in second)
        reasons = {one.code for one in second[-1].plan.decisions[0].reasons}
        assert ReasonCode.COOL_DOWN_IN in reasons
