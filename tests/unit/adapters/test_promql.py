from __future__ import annotations

import pytest

from heteroscale.adapters.promql import Spans, rule_query, selector, target_query
from heteroscale.config.metrics import shipped_dialects
from heteroscale.config.metrics_sections import RuleSection, SourceSection
from heteroscale.entities.service import Stage
from heteroscale.entities.snapshot import Signal

SPANS = Spans(rate="60000ms", latency="120000ms", quantiles=(0.9, 0.99))
VLLM = shipped_dialects()["vllm"]
BY = "heteroscale_service, heteroscale_role"


def test_a_colon_in_a_name_may_have_become_an_underscore() -> None:
    assert selector("vllm:x_total", {}) == '{__name__=~"vllm[:_]x_total"}'
    assert selector("plain", {}) == "plain"


def test_a_condition_cannot_leave_its_quotes() -> None:
    assert selector("x", {"a": 'b"\\d'}) == 'x{a=~"b\\"\\\\d"}'


def test_a_gauge_is_summed_counted_and_dated_by_service_and_role() -> None:
    rule = RuleSection(signal=Signal.QUEUE_LENGTH, stage=Stage.DECODE, gauge="waiting")
    source = SourceSection(dialect="vllm", match={"namespace": "prod"})
    series = 'waiting{namespace=~"prod"}'
    assert rule_query(rule, VLLM, source, SPANS).split(" or ") == [
        f'label_replace(sum by ({BY}) ({series}), "stat", "value", "", "")',
        (
            f"label_replace(count by ({BY}) (count by ({BY}, instance) ({series})), "
            '"stat", "sources", "", "")'
        ),
        f'label_replace(min by ({BY}) (time() - timestamp({series})), "stat", "age_s", "", "")',
    ]


def test_every_quantile_of_the_fleet_is_taken_of_merged_buckets() -> None:
    rule = next(rule for rule in VLLM.rules if rule.histogram is not None)
    query = rule_query(rule, VLLM, SourceSection(dialect="vllm"), SPANS)
    for quantile in ("0.9", "0.99"):
        assert (
            f"histogram_quantile({quantile}, sum by ({BY}, le) "
            '(rate({__name__=~"vllm[:_]inter_token_latency_seconds_bucket"}[120000ms])))'
        ) in query
        assert f'"stat", "q{quantile}"' in query


def test_a_gateway_is_grouped_by_service_alone() -> None:
    dynamo = shipped_dialects()["dynamo"]
    source = SourceSection(dialect="dynamo")
    assert target_query(dynamo, source) == (
        "count by (heteroscale_service) (count by (heteroscale_service, instance) (up))"
    )


@pytest.mark.parametrize("name", sorted(shipped_dialects()))
def test_a_shipped_dialect_asks_no_more_than_nine_questions_of_known_stages(name: str) -> None:
    rules = shipped_dialects()[name].rules
    assert len(rules) <= 9
    assert {rule.stage for rule in rules} <= {Stage.PREFILL, Stage.DECODE}
