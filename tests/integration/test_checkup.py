"""What is said of a real Prometheus that lacks something, and nothing of one that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from heteroscale.adapters.prometheus_checkup import metrics_findings
from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.metrics import parse_metrics
from heteroscale.entities.finding import Finding
from heteroscale.entities.service import FleetSpec
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
def findings(folder: Path, history: History, more: str = "") -> Iterator[list[Finding]]:
    with prometheus(folder, history) as url:
        text = f"servers: [{{name: main, url: '{url}', sources: [{{dialect: vllm}}]}}]\n{more}"
        yield list(metrics_findings(parse_metrics(text, None), FLEET, WallClock()))


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
