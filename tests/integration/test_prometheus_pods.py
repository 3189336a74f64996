"""Series that name their pod alone: what we make of them is what Prometheus makes of labels."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heteroscale.adapters.prometheus import PrometheusMetrics
from heteroscale.adapters.prometheus_pods import PodKey, Pods
from heteroscale.config.metrics import parse_metrics
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import Instance, InstanceState, Reading, Signal, UnknownCause
from tests.integration.prometheus_server import History, prometheus
from tests.unit.journal.fleets import fleet, service

BEGIN_S = 1_700_000_000.0
END_S = BEGIN_S + 300.0
SCRAPE_S = 15
SERVICES, PODS = 40, 3
EDGES = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "1", "+Inf")

METRICS = """\
servers:
  - name: main
    url: {url}
    sources: [{source}]
window_s: 60
latency_window_s: 120
dialects:
  every:
    origin: pods
    rules:
      - {{signal: tps, stage: prefill, counter: prompt_total, less: cached_total}}
      - {{signal: tps, stage: decode, counter: "engine:tokens_total", scale: 0.5}}
      - {{signal: offered_tps, stage: decode, arrivals: arrived_total, lengths: lengths}}
      - {{signal: tbt_s, stage: decode, histogram: gap_seconds}}
      - {{signal: queue_length, stage: decode, gauge: waiting}}
      - {{signal: utilization, stage: decode, mean: busy, scale: 0.01}}
    busy: ["engine:running", waiting]
"""
BY_LABELS = "{dialect: every, labels: {source: pod}}"
BY_POD = "{dialect: every, pods: {namespace: ns}}"


def named(index: int, role: str, pod: int) -> PodKey:
    return f"team-{index % 2}", f"s-{index}-{role}-{pod}"


def uneven(chance: random.Random) -> History:
    """Write five minutes of engines that differ, begin anew, know other edges, or make nothing."""
    history = History()
    for index in range(SERVICES):
        for role in ("prefill", "decode"):
            for pod in range(PODS):
                namespace, name = named(index, role, pod)
                whose = {"heteroscale_service": f"s-{index}", "heteroscale_role": role}
                labels = {**whose, "ns": namespace, "pod": name}
                put_engine(history, labels, role, chance, idle=index == 0)
    return history


def put_engine(
    history: History, labels: Mapping[str, str], role: str, chance: random.Random, *, idle: bool
) -> None:
    made = dict.fromkeys((*EDGES, "tokens", "cached", "arrived", "lengths"), 0.0)
    known = EDGES if chance.random() < 0.7 else EDGES[::2] + EDGES[-1:]
    for second in range(0, 301, SCRAPE_S):
        at_s = BEGIN_S + second
        if chance.random() < 0.03:
            made = dict.fromkeys(made, 0.0)
        if not idle:
            made["tokens"] += chance.uniform(0.0, 5_000.0)
            made["cached"] += chance.uniform(0.0, 5_000.0)
            made["arrived"] += chance.randrange(30)
            made["lengths"] += chance.uniform(0.0, 3_000.0)
            for place in range(len(EDGES)):
                events = chance.randrange(50)
                for edge in EDGES[place:]:
                    made[edge] += events
        if role == "prefill":
            history.put("prompt_total", labels, at_s, made["tokens"])
            if not labels["pod"].endswith("-2"):
                history.put("cached_total", labels, at_s, made["cached"])
            continue
        history.put("engine:tokens_total", labels, at_s, made["tokens"])
        history.put("arrived_total", labels, at_s, made["arrived"])
        history.put("lengths_sum", labels, at_s, made["lengths"])
        history.put("lengths_count", labels, at_s, made["arrived"])
        history.put("gap_seconds_count", labels, at_s, made["+Inf"])
        for edge in known:
            history.put("gap_seconds_bucket", {**labels, "le": edge}, at_s, made[edge])
        history.put("waiting", labels, at_s, chance.randrange(9))
        for gpu in range(1 + int(labels["pod"][-1])):
            history.put("busy", {**labels, "gpu": str(gpu)}, at_s, chance.uniform(0.0, 100.0))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pods")
    with prometheus(folder, uneven(random.Random(3))) as address:
        yield address


def every_pod(states: Mapping[PodKey, InstanceState] | None = None) -> dict[PodKey, Instance]:
    """Return the cache of a cluster that holds every pod; ready unless told otherwise."""
    return {
        key: Instance(
            uid=f"{key[0]}/{key[1]}@0",
            service=f"s-{index}",
            role=role,
            group="g",
            subcluster="alpha",
            accelerator="H20",
            ordinal=pod,
            state=(states or {}).get(key, InstanceState.READY),
            since_s=0.0,
        )
        for index in range(SERVICES)
        for role in ("prefill", "decode")
        for pod in range(PODS)
        for key in (named(index, role, pod),)
    }


@contextmanager
def reading(url: str, source: str, pods: Pods) -> Iterator[PrometheusMetrics]:
    file = parse_metrics(METRICS.format(url=url, source=source), None)
    with closing(PrometheusMetrics(file, pods=lambda: pods)) as metrics:
        yield metrics


FLEET = fleet(*(service(f"s-{index}") for index in range(SERVICES)))


def read(
    metrics: PrometheusMetrics, at_s: float = END_S, spec: FleetSpec = FLEET
) -> dict[tuple[str, str, Signal], Reading]:
    return {
        (name, one.role, one.signal): one
        for name, readings in metrics.read(spec, at_s).items()
        for one in readings
    }


@pytest.mark.parametrize("back_s", [0, 7, 40, 95, 150])
def test_pods_merged_here_read_as_labels_merged_by_prometheus(url: str, back_s: float) -> None:
    pods = every_pod()
    with reading(url, BY_LABELS, pods) as labelled, reading(url, BY_POD, pods) as joined:
        theirs, ours = read(labelled, END_S - back_s), read(joined, END_S - back_s)
    assert theirs.keys() == ours.keys()
    for key, one in theirs.items():
        value: Any = None if one.value is None else pytest.approx(one.value, rel=1e-9, abs=1e-12)
        assert ours[key] == replace(one, value=value), key
    causes = {one.cause for one in ours.values()}
    assert causes <= {None, UnknownCause.NO_EVENTS}
    assert sum(one.value is not None for one in ours.values()) > 5 * SERVICES


def test_one_query_a_rule_and_none_for_targets(url: str) -> None:
    with reading(url, BY_POD, every_pod()) as metrics:
        assert len(metrics.questions(FLEET)) == 6


def test_a_pod_of_nobody_counts_for_nobody_and_a_role_without_pods_is_missing(url: str) -> None:
    pods = every_pod()
    lost = [named(4, "decode", pod) for pod in range(PODS)]
    some = {key: one for key, one in pods.items() if key not in (*lost, named(5, "decode", 0))}
    with reading(url, BY_POD, pods) as whole, reading(url, BY_POD, some) as part:
        all_of, seen = read(whole), read(part)
    assert seen["s-4", "decode", Signal.TPS].cause is UnknownCause.MISSING
    less, more = seen["s-5", "decode", Signal.TPS], all_of["s-5", "decode", Signal.TPS]
    assert less.value is not None
    assert more.value is not None
    assert less.value < more.value
    assert less.coverage == 1.0


def test_coverage_counts_ready_pods_alone_and_the_others_still_serve(url: str) -> None:
    withdrawn = {named(6, "decode", 0): InstanceState.WITHDRAWN}
    silent = {("team-0", "s-6-decode-9"): every_pod()[named(6, "decode", 1)]}
    with (
        reading(url, BY_POD, every_pod()) as whole,
        reading(url, BY_POD, {**every_pod(withdrawn), **silent}) as part,
    ):
        key = ("s-6", "decode", Signal.QUEUE_LENGTH)
        assert read(part)[key].value == read(whole)[key].value
        assert read(part)[key].coverage == pytest.approx(2 / 3)


def test_a_pod_that_has_gone_counts_as_long_as_its_tokens_are_in_the_window(url: str) -> None:
    gone = {key: one for key, one in every_pod().items() if key != named(7, "decode", 1)}
    held = [every_pod()]
    file = parse_metrics(METRICS.format(url=url, source=BY_POD), None)
    with closing(PrometheusMetrics(file, pods=lambda: held[-1])) as metrics:
        read(metrics, END_S - 180.0)
        held.append(gone)
        key = ("s-7", "decode", Signal.TPS)
        kept = read(metrics, END_S - 120.0)[key]
        after = read(metrics, END_S)[key]
    with reading(url, BY_POD, every_pod()) as whole, reading(url, BY_POD, gone) as part:
        assert kept.value == read(whole, END_S - 120.0)[key].value
        assert after.value == read(part, END_S)[key].value
    assert after.coverage == 1.0


def test_what_engines_have_to_do_is_told_by_pod_with_its_age(tmp_path: Path) -> None:
    history = History()
    for name, running, waiting in (("idle", 0.0, 0.0), ("busy", 2.0, 3.0)):
        labels = {"ns": "team", "pod": name}
        history.put("engine:running", labels, END_S - 20.0, running)
        history.put("waiting", labels, END_S - 10.0, waiting)
    history.put("engine_running", {"ns": "team", "pod": "renamed"}, END_S - 10.0, 1.0)
    with prometheus(tmp_path, history) as address, reading(address, BY_POD, {}) as metrics:
        told = metrics.busy(END_S)
    assert told == {
        ("team", "idle"): (0.0, 20.0),
        ("team", "busy"): (5.0, 20.0),
        ("team", "renamed"): (1.0, 10.0),
    }


def test_a_server_that_does_not_answer_tells_of_no_pod() -> None:
    with reading("http://127.0.0.1:9", BY_POD, {}) as metrics:
        assert metrics.busy(END_S) == {}
