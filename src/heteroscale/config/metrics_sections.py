"""The metrics file: Prometheus servers, what speaks there, and dialects of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from heteroscale.config.fields import (
    HTTP_URL,
    LABEL_NAME,
    METRIC_NAME,
    Name,
    Positive,
    Section,
    Text,
    need,
    optional,
)
from heteroscale.entities.service import Stage
from heteroscale.entities.snapshot import Signal

MetricName = Annotated[str, Field(pattern=METRIC_NAME)]
LabelName = Annotated[str, Field(pattern=LABEL_NAME)]
#: regular expressions that a label's whole value must match, by label
Matchers = Mapping[LabelName, str]


class Origin(StrEnum):
    """Who says it."""

    #: each engine of its own role, seen once per pod
    PODS = "pods"
    #: what stands in front of the engines: one voice for all roles of a service
    GATEWAY = "gateway"


class RuleSection(Section):
    """How one signal of one stage is read; exactly one of the ways to read it is written."""

    signal: Annotated[Signal, Field(strict=False)] = need("signal that is read")
    stage: Annotated[Stage, Field(strict=False)] = need("stage of the roles it belongs to")
    counter: MetricName | None = optional(None, "counter whose rates are summed")
    less: MetricName | None = optional(None, "counter whose rates are taken off those of `counter`")
    gauge: MetricName | None = optional(None, "gauge that is summed")
    mean: MetricName | None = optional(None, "gauge whose mean is taken")
    histogram: MetricName | None = optional(
        None, "histogram, named without _bucket, whose merged buckets give the SLO's quantile"
    )
    arrivals: MetricName | None = optional(
        None, "counter of requests; its rate is multiplied by the mean of `lengths`"
    )
    lengths: MetricName | None = optional(
        None, "histogram of tokens a request, named without _sum; stands with `arrivals`"
    )
    where: Matchers = optional({}, "label → regular expression its whole value matches")
    scale: Positive = optional(1.0, "factor from the metric's unit to ours, e.g. 0.01 for percent")


class DialectSection(Section):
    """The metrics of one kind of engine or gateway."""

    origin: Annotated[Origin, Field(strict=False)] = need("pods (engines) or gateway")
    rules: tuple[RuleSection, ...] = Field(
        min_length=1,
        description="of several for one signal and stage the first that answers for a role is used",
    )
    busy: tuple[MetricName, ...] = optional(
        (),
        "gauges of an engine of which one is above 0 while it has a request, or KV that another is "
        "still to fetch; read of engines that drain, where series name their pod",
    )


class LabelsSection(Section):
    """Labels of a series that say whose it is."""

    service: LabelName = optional("heteroscale_service", "label that names the service")
    role: LabelName = optional(
        "heteroscale_role", "label that names the role by path; not read from gateways"
    )
    source: LabelName = optional("instance", "label that tells one engine from another")
    services: Mapping[str, Name] = optional(
        {}, "value of the service label → service; values not listed are names themselves"
    )
    roles: Mapping[str, str] = optional(
        {}, "value of the role label → role; values not listed are paths themselves"
    )


class PodLabelsSection(Section):
    """Labels of a series that say which pod it is of."""

    namespace: LabelName = optional("namespace", "label that names the pod's namespace")
    pod: LabelName = optional("pod", "label that names the pod")


class SourceSection(Section):
    """One dialect as it is spoken on one server."""

    dialect: Name = need("a dialect that is shipped, or one of `dialects`")
    labels: LabelsSection = optional(LabelsSection(), "labels that say whose a series is")
    pods: PodLabelsSection | None = optional(
        None,
        "series name their pod, and the cluster knows whose it is; {} = by the labels namespace "
        "and pod; null = by `labels`; engines only",
    )
    match: Matchers = optional({}, "further conditions on every series: label → regular expression")


class BasicAuthSection(Section):
    """A user and where the password lies."""

    username: Text = need("user name")
    password_file: Text = need("file that holds the password; read anew for each tick")


class TlsSection(Section):
    """Files for an encrypted connection."""

    ca_file: Text | None = optional(
        None, "certificates to trust; null = those of the operating system"
    )
    cert_file: Text | None = optional(None, "our certificate, where the server asks for one")
    key_file: Text | None = optional(None, "its key; null = it lies in cert_file")


class ServerSection(Section):
    """One Prometheus server, or whatever answers its query API."""

    name: Name = need("how notices name it; unique")
    url: Annotated[str, Field(pattern=HTTP_URL)] = need(
        "base address, without /api/v1; user names and passwords do not belong here"
    )
    timeout_s: Annotated[float, Field(gt=0, le=60)] = optional(5.0, "limit of one query")
    bearer_token_file: Text | None = optional(None, "file of a token; read anew for each tick")
    basic: BasicAuthSection | None = optional(None, "user and password instead of a token")
    tls: TlsSection = optional(TlsSection(), "files for an encrypted connection")
    sources: tuple[SourceSection, ...] = Field(min_length=1, description="what speaks there")


class MetricsFile(Section):
    """Where signals are read."""

    servers: tuple[ServerSection, ...] = Field(
        min_length=1, description="servers; each service's sources may be spread over several"
    )
    window_s: Annotated[float, Field(gt=0, le=3600)] = optional(
        60.0, "span of rates; at least two scrapes, better four"
    )
    latency_window_s: Annotated[float, Field(gt=0, le=3600)] = optional(
        60.0, "span of the events that a latency's quantile is taken of"
    )
    dialects: Mapping[Name, DialectSection] = optional(
        {}, "dialects of one's own; one named like a shipped dialect takes its place"
    )
