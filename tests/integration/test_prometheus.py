"""The metrics source against a real Prometheus over a history with known answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from heteroscale.adapters.prometheus import PrometheusMetrics
from heteroscale.adapters.prometheus_http import PrometheusServer
from heteroscale.config.metrics import parse_metrics
from heteroscale.config.metrics_sections import ServerSection, SourceSection
from heteroscale.entities.service import FleetSpec, Slo
from heteroscale.entities.snapshot import Instance, InstanceState, Reading, Signal, UnknownCause
from heteroscale.errors import ConfigError, MetricsUnavailable
from tests.integration.prometheus_server import History, prometheus
from tests.unit.journal.fleets import fleet, service

BEGIN_S = 1_700_000_000.0
END_S = BEGIN_S + 300.0
SCRAPE_S = 15

ENGINES = """\
window_s: 60
servers:
  - name: main
    url: {url}
    sources:
      - dialect: vllm
      - dialect: dcgm
        labels: {{service: model, services: {{chat-8b: chat}}}}
      - dialect: dynamo
        labels: {{service: model, services: {{chat-8b: chat}}}}
"""


def engine(service_name: str, role: str, pod: str) -> dict[str, str]:
    return {"heteroscale_service": service_name, "heteroscale_role": role, "instance": pod}


def two_services() -> History:
    """Write five minutes of a service with two engines a role, and of one that speaks vLLM only.

    Decode engines make 100 and 300 tokens/s; the second begins anew after 250 s. Prefill computes
    1,000 tokens/s an engine and takes as many from its cache. The frontend sees 20 requests/s.
    """
    history = History()
    for second in range(0, 301, SCRAPE_S):
        at_s = BEGIN_S + second
        for pod, tps in (("d-0", 100), ("d-1", 300)):
            whose = engine("chat", "decode", pod)
            made = tps * (second - 250 if pod == "d-1" and second > 250 else second)
            history.put("vllm_generation_tokens_total", whose, at_s, made)
            history.put("vllm:num_requests_waiting", whose, at_s, 3)
            history.put("vllm:kv_cache_usage_perc", whose, at_s, tps / 400)
            history.put("up", whose, at_s, 1)
        for pod in ("p-0", "p-1"):
            whose = engine("chat", "prefill", pod)
            for source in ("local_compute", "local_cache_hit"):
                by_source = {**whose, "source": source}
                history.put("vllm:prompt_tokens_by_source_total", by_source, at_s, 1_000 * second)
            history.put("up", whose, at_s, 1)
            for gpu, percent in (("0", 80), ("1", 90)):
                labels = {"model": "chat-8b", "heteroscale_role": "prefill", "instance": pod}
                history.put("DCGM_FI_DEV_GPU_UTIL", {**labels, "gpu": gpu}, at_s, percent)
        model = {"model": "chat-8b", "instance": "frontend"}
        history.put("up", model, at_s, 1)
        history.put("dynamo_frontend_requests_started_total", model, at_s, 20 * second)
        history.put("dynamo_frontend_output_tokens_total", model, at_s, 20 * second * 50)
        for metric, mean in (("input_sequence_tokens", 500), ("output_sequence_tokens", 50)):
            name = f"dynamo_frontend_{metric}"
            history.put(f"{name}_sum", model, at_s, 20 * second * mean)
            history.put(f"{name}_count", model, at_s, 20 * second)
        for metric in ("time_to_first_token_seconds", "inter_token_latency_seconds"):
            name = f"dynamo_frontend_{metric}"
            history.put(f"{name}_count", model, at_s, 20 * second)
            for edge, share in (("0.1", 0.5), ("0.2", 1.0), ("+Inf", 1.0)):
                history.put(f"{name}_bucket", {**model, "le": edge}, at_s, 20 * second * share)
        # Of the second service one engine of two has gone, and it makes no token.
        lone = engine("code", "decode", "c-0")
        history.put("vllm:generation_tokens_total", lone, at_s, 70 * second)
        history.put("vllm:inter_token_latency_seconds_count", lone, at_s, 5)
        for edge in ("0.1", "+Inf"):
            history.put("vllm:inter_token_latency_seconds_bucket", {**lone, "le": edge}, at_s, 5)
        history.put("up", lone, at_s, 1)
        history.put("up", engine("code", "decode", "c-1"), at_s, 0)
    return history


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prometheus(tmp_path_factory.mktemp("prometheus"), two_services()) as address:
        yield address


@contextmanager
def reading(text: str, **options: Any) -> Iterator[PrometheusMetrics]:
    metrics = PrometheusMetrics(parse_metrics(text, "metrics.yaml"), **options)
    try:
        yield metrics
    finally:
        metrics.close()


@pytest.fixture
def source(url: str) -> Iterator[PrometheusMetrics]:
    with reading(ENGINES.format(url=url)) as metrics:
        yield metrics


def by_signal(
    metrics: PrometheusMetrics, spec: FleetSpec, name: str, at_s: float = END_S
) -> Mapping[tuple[str, Signal], Reading]:
    return {(one.role, one.signal): one for one in metrics.read(spec, at_s)[name]}


def ready_decode(index: int) -> Instance:
    return Instance(
        uid=f"code/c-{index}@0",
        service="code",
        role="decode",
        group="g",
        subcluster="alpha",
        accelerator="H20",
        ordinal=index,
        state=InstanceState.READY,
        since_s=0.0,
    )


BOTH = fleet(service("chat"), service("code"))


@pytest.mark.parametrize(
    ("role", "signal", "value"),
    [
        ("decode", Signal.TPS, 20 * 50),
        ("prefill", Signal.TPS, 20 * 500),
        ("prefill", Signal.OFFERED_TPS, 20 * 500),
        ("decode", Signal.OFFERED_TPS, 20 * 50),
        ("prefill", Signal.TTFT, 0.18),
        ("decode", Signal.TBT, 0.18),
        ("decode", Signal.QUEUE_LENGTH, 6),
        ("decode", Signal.KV_USAGE, 0.5),
        ("prefill", Signal.UTILIZATION, 0.85),
    ],
)
def test_a_service_behind_a_gateway_is_read_from_it_and_the_rest_from_its_engines(
    source: PrometheusMetrics, role: str, signal: Signal, value: float
) -> None:
    seen = by_signal(source, BOTH, "chat")[role, signal]
    assert seen.value == pytest.approx(value, rel=1e-6)
    assert (seen.cause, seen.age_s, seen.coverage) == (None, 0.0, 1.0)


def test_engines_add_up_through_a_reset_and_prefill_counts_what_it_computes(url: str) -> None:
    text = ENGINES.format(url=url).split("      - dialect: dcgm")[0]
    with reading(text) as metrics:
        seen = by_signal(metrics, BOTH, "chat")
    assert seen["prefill", Signal.TPS].value == pytest.approx(2_000)
    # Between 240 and 255 s the second engine began anew: of 15 s its counter shows the last 5.
    assert seen["decode", Signal.TPS].value == pytest.approx(100 + 300 * 50 / 60)
    assert seen["decode", Signal.TBT].cause is UnknownCause.MISSING


def test_an_engine_that_went_away_shows_as_coverage_and_silence_as_no_events(
    source: PrometheusMetrics,
) -> None:
    seen = by_signal(source, BOTH, "code")
    tokens = seen["decode", Signal.TPS]
    assert tokens.value == pytest.approx(70)
    assert tokens.coverage == 0.5
    latency = seen["decode", Signal.TBT]
    assert (latency.value, latency.cause) == (None, UnknownCause.NO_EVENTS)
    assert {
        signal for (role, signal), one in seen.items() if one.cause is UnknownCause.MISSING
    } >= {Signal.TTFT, Signal.OFFERED_TPS, Signal.UTILIZATION}


def test_the_cache_of_ready_engines_says_better_what_should_report(url: str) -> None:
    ready = {("code", f"c-{index}"): ready_decode(index) for index in range(4)}
    with reading(ENGINES.format(url=url), pods=lambda: ready) as metrics:
        assert by_signal(metrics, BOTH, "code")["decode", Signal.TPS].coverage == 0.25


def test_age_grows_after_the_last_sample_and_a_minute_of_nothing_is_missing(
    source: PrometheusMetrics,
) -> None:
    seen = by_signal(source, BOTH, "chat", END_S + 40)
    assert seen["decode", Signal.QUEUE_LENGTH].age_s == pytest.approx(40)
    assert seen["decode", Signal.QUEUE_LENGTH].value == 6
    late = by_signal(source, BOTH, "chat", END_S + 100)
    assert late["decode", Signal.TPS].cause is UnknownCause.MISSING


def test_the_number_of_queries_depends_on_rules_alone(source: PrometheusMetrics) -> None:
    many = fleet(*(service(f"s-{index}") for index in range(50)))
    assert len(source.questions(many)) == len(source.questions(BOTH)) == 7 + 1 + 6 + 1 + 9 + 1


def asked(url: str) -> float:
    """Return how many queries a server was ever asked."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    name = "prometheus_http_requests_total"
    own = [one for one in lines if one.startswith(name) and '"/api/v1/query"' in one]
    return sum(float(one.rpartition(" ")[2]) for one in own)


def test_what_two_stages_read_is_asked_for_once(url: str) -> None:
    text = ENGINES.format(url=url).split("      - dialect: dcgm")[0]
    with reading(text) as metrics:
        before = asked(url)
        seen = by_signal(metrics, BOTH, "chat")
        # both roles' requests wait in the same metric
        assert asked(url) - before == len(metrics.questions(BOTH)) - 1
    assert seen["decode", Signal.QUEUE_LENGTH].value == 6


def test_a_fourth_quantile_is_refused(source: PrometheusMetrics) -> None:
    shares = (0.5, 0.9, 0.95, 0.99)
    each = (
        replace(service(f"s-{share:g}"), slo=Slo(ttft_s=1.0, tbt_s=0.04, quantile=share))
        for share in shares
    )
    with pytest.raises(ConfigError, match="at most 3 values over all services"):
        source.read(fleet(*each), END_S)


def test_a_second_server_that_stops_answering_leaves_unknown_what_it_told_of(url: str) -> None:
    second = f"""\
  - name: second
    url: {url}
    sources: [{{dialect: vllm}}]
"""
    text = ENGINES.format(url=url).split("      - dialect: dcgm")[0] + second
    gone = ServerSection(
        name="second",
        url="http://127.0.0.1:9",
        timeout_s=1.0,
        sources=(SourceSection(dialect="vllm"),),
    )
    with reading(text) as metrics, closing(PrometheusServer(gone)) as nobody:
        both = by_signal(metrics, BOTH, "code")["decode", Signal.TPS]
        assert both.value == pytest.approx(140)
        metrics._servers["second"].close()
        metrics._servers["second"] = nobody
        alone = by_signal(metrics, BOTH, "code")["decode", Signal.TPS]
        assert (alone.value, alone.cause) == (None, UnknownCause.MISSING)
        assert any(notice.startswith("second: ") for notice in metrics.notices)


def test_a_query_that_the_server_refuses_is_named_and_the_others_count(url: str) -> None:
    text = ENGINES.format(url=url).replace("window_s: 60", "window_s: 0.0001")
    with reading(text) as metrics:
        seen = by_signal(metrics, BOTH, "chat")
        assert seen["decode", Signal.QUEUE_LENGTH].value == 6
        assert seen["decode", Signal.TPS].cause is UnknownCause.MISSING
        assert any("HTTP 400" in notice for notice in metrics.notices)


def test_nobody_there_is_no_metrics_at_all() -> None:
    with (
        reading(ENGINES.format(url="http://127.0.0.1:9")) as nobody,
        pytest.raises(MetricsUnavailable, match="main: "),
    ):
        nobody.read(BOTH, END_S)
