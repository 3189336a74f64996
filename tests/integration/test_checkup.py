"""What is said of a real Prometheus that lacks something, and nothing of one that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from heteroscale.adapters.prometheus_checkup import metrics_findings, ways
from heteroscale.adapters.prometheus_pods import Pods
from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.metrics import parse_metrics
from heteroscale.entities.finding import Finding
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.snapshot import Instance, InstanceState
from tests.builders import build_service
from tests.integration.prometheus_server import History, prometheus

FLEET = FleetSpec(services=(build_service("chat"),))
#: everything that vLLM engines of a role tell
PREFILL = ("vllm:prompt_tokens_by_source_total", "vllm:num_requests_waiting")
DECODE = (
    "vllm_generation_tokens_total",
    "vllm:inter_token_latency_seconds_bucket",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
)


def told(every_s: float, labels: Mapping[str, str], *, up: bool = True) -> History:
    """Return what one engine of each role told until now."""
    history = History()
    now_s = WallClock().now_s()
    for role, metrics in (("prefill", PREFILL), ("decode", DECODE)):
        own = {**labels, "instance": role, "source": "local_compute", "le": "+Inf"}
        own |= {"heteroscale_role": role} if labels else {}
        for metric in (*metrics, *(("up",) if up else ())):
            for step in range(7, -1, -1):
                history.put(metric, own, now_s - 1.0 - step * every_s, 7.0 - step)
    return history


@contextmanager
def findings(
    folder: Path,
    history: History,
    more: str = "",
    *,
    source: str = "dialect: vllm",
    pods: Pods | None = None,
) -> Iterator[list[Finding]]:
    with prometheus(folder, history) as url:
        text = f"servers: [{{name: main, url: '{url}', sources: [{{{source}}}]}}]\n{more}"
        yield list(metrics_findings(parse_metrics(text, None), FLEET, WallClock(), pods or {}))


def by_pod(pod_label: str = "pod") -> History:
    """Return what one engine of each role told until now, and nobody labelled but with its pod."""
    history = told(15.0, {})
    namespace_label = pod_label.replace("pod", "namespace")
    for metric, series in history.families.items():
        history.families[metric] = {
            tuple(sorted({**dict(key), pod_label: pod, namespace_label: "prod"}.items())): samples
            for key, samples in series.items()
            for pod in (dict(key)["instance"],)
        }
    return history


def engine(role: str, name: str) -> tuple[tuple[str, str], Instance]:
    instance = Instance(
        uid=f"prod/{name}@0",
        service="chat",
        role=role,
        group="g",
        subcluster="alpha",
        accelerator="H20",
        ordinal=0,
        state=InstanceState.READY,
        since_s=0.0,
    )
    return ("prod", name), instance


def test_nothing_is_said_where_nothing_is_amiss(tmp_path: Path) -> None:
    with findings(tmp_path, told(15.0, {"heteroscale_service": "chat"})) as found:
        assert found == []


def test_series_without_our_labels_are_nobodys_and_the_rule_to_add_is_told(tmp_path: Path) -> None:
    with findings(tmp_path, told(15.0, {})) as found:
        grave = [one for one in found if not one.note]
    assert [one.where for one in grave] == ["prometheus main: dialect vllm", "service chat"]
    unlabelled, unknown = grave
    assert "none with the labels heteroscale_service and heteroscale_role" in unlabelled.what
    assert "target_label: heteroscale_service}" in unlabelled.mend
    assert "target_label: heteroscale_role}" in unlabelled.mend
    assert unknown.what == "nobody tells tps of decode, which its policy reads"


def test_another_services_name_is_told_beside_the_one_that_is_missing(tmp_path: Path) -> None:
    with findings(tmp_path, told(15.0, {"heteroscale_service": "chart"})) as found:
        (only,) = found
    assert only.what.endswith("which its policy reads; it is told of chart/decode")


def test_a_window_of_less_than_two_scrapes_is_too_short(tmp_path: Path) -> None:
    history = told(15.0, {"heteroscale_service": "chat"})
    with findings(tmp_path, history, "window_s: 12") as found:
        (only,) = found
    assert only.what.startswith(
        "window_s of 12 s holds fewer than two scrapes of vllm:prompt_tokens"
    )


def test_targets_without_labels_and_signals_without_series_are_noted(tmp_path: Path) -> None:
    history = told(15.0, {"heteroscale_service": "chat"}, up=False)
    del history.families["vllm:kv_cache_usage_perc"]
    with findings(tmp_path, history) as found:
        assert all(one.note for one in found)
        usage, targets = found
    assert usage.what == (
        "kv_usage of decode: there is no series of vllm:kv_cache_usage_perc "
        "(nor with _ in place of the colon)"
    )
    assert targets.what.startswith("the series `up` lacks the labels")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9"])
def test_a_server_that_does_not_answer_is_all_that_is_said(address: str) -> None:
    file = parse_metrics(
        f"servers: [{{name: main, url: '{address}', sources: [{{dialect: vllm}}]}}]", None
    )
    (only,) = metrics_findings(file, FLEET, WallClock())
    assert only.where == "prometheus main"
    assert only.what.startswith("it gives no answer (main: ")


BY_POD = "dialect: vllm, pods: {}"
PAIR: Pods = dict((engine("prefill", "prefill"), engine("decode", "decode")))


def test_series_that_name_their_pod_need_no_other_label(tmp_path: Path) -> None:
    with findings(tmp_path, by_pod(), source=BY_POD, pods=PAIR) as found:
        assert found == []


def test_pods_that_say_nothing_and_pods_of_nobody_are_told(tmp_path: Path) -> None:
    pods = dict((engine("prefill", "prefill"), engine("decode", "decode")))
    pods |= dict(engine("decode", f"decode-{index}") for index in range(4))
    history = by_pod()
    for series in history.families.values():
        for key, samples in list(series.items()):
            labels = {**dict(key), "pod": "stranger"}
            series[tuple(sorted(labels.items()))] = samples
    with findings(tmp_path, history, source=BY_POD, pods=pods) as found:
        silent, strangers = found
    assert silent.what == (
        "4 ready pods of chat/decode report nothing: "
        "prod/decode-0, prod/decode-1, prod/decode-2, ..."
    )
    assert not silent.note
    assert strangers.what == "1 pods that report are no engines of these workloads"
    assert strangers.note


def test_series_without_a_pod_are_told_the_rule_that_names_it(tmp_path: Path) -> None:
    with findings(tmp_path, told(15.0, {}), source=BY_POD, pods=PAIR) as found:
        podless, unknown = found
    assert "none with the labels namespace and pod" in podless.what
    assert "[__meta_kubernetes_pod_name], target_label: pod}" in podless.mend
    assert unknown.what == "nobody tells tps of decode, which its policy reads"


def test_pods_of_another_cluster_are_nobodys(tmp_path: Path) -> None:
    with findings(tmp_path, by_pod(), source=BY_POD) as found:
        foreign, _ = found
    assert foreign.what.endswith("and none of a pod of these workloads")


@pytest.mark.parametrize(
    ("label", "written"),
    [("pod", "{}"), ("exported_pod", "{namespace: exported_namespace, pod: exported_pod}")],
)
def test_who_names_pods_but_no_service_is_told_of_both_ways(
    tmp_path: Path, label: str, written: str
) -> None:
    with findings(tmp_path, by_pod(label)) as found:
        unlabelled, _ = found
    other_way = f"; or write `pods: {written}` for this source: they name their pods"
    assert unlabelled.mend.endswith(other_way)


def test_how_series_are_told_apart_is_said_of_every_source() -> None:
    sources = "[{dialect: vllm, pods: {}}, {dialect: dcgm}, {dialect: dynamo}]"
    file = parse_metrics(
        f"servers: [{{name: main, url: 'http://127.0.0.1:9', sources: {sources}}}]", None
    )
    said, apart = "prometheus main: dialect", "series are told apart by"
    assert list(ways(file)) == [
        f"{said} vllm: {apart} namespace, pod, and the cluster knows whose a pod is",
        f"{said} dcgm: {apart} heteroscale_service, heteroscale_role",
        f"{said} dynamo: {apart} heteroscale_service",
    ]
