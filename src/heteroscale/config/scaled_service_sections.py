"""The `ScaledService` resource: a service of one namespace, its roles the workloads that run there.

It speaks the words of the services file. What a workload holds itself (GPUs of an instance, its
accelerator) need not be said again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from heteroscale.config.cluster_sections import ScalableKind
from heteroscale.config.fields import (
    Count,
    Name,
    Positive,
    Section,
    Text,
    broken,
    given,
    need,
    optional,
)
from heteroscale.config.policies import LifecycleSection, PolicySection
from heteroscale.config.services import PauseSection, SloSection
from heteroscale.entities.service import AcceleratorOption, Mode, RoleSpec, ServiceSpec, Stage

GROUP, VERSION, KIND, PLURAL = "heteroscale.dev", "v1alpha1", "ScaledService", "scaledservices"


def instant_s(written: str) -> float:
    """Return the epoch seconds of an RFC 3339 time.

    Raises:
        ValueError: it is none, or says no zone.
    """
    read = dt.datetime.fromisoformat(written)
    if read.tzinfo is None:
        raise ValueError(written)
    return read.timestamp()


def _instant(written: str) -> str:
    try:
        instant_s(written)
    except ValueError as error:
        raise broken("must be a time such as 2026-09-01T12:00:00Z") from error
    return written


class ScaledWorkloadSection(Section):
    """One object of the resource's namespace that holds the count of a role."""

    kind: Annotated[ScalableKind, Field(strict=False)] = need("kind of the object")
    name: Text = need("name of the object")
    component: Text | None = optional(
        None, "name of the role inside the object, for kinds that hold several"
    )
    accelerator: Text | None = optional(
        None,
        "accelerator type of its instances; absent = as its pod template selects nodes, or the"
        " only one of the cluster",
    )
    gpus: Count | None = optional(
        None, "GPUs of one instance; absent = as the containers of its pod template ask for"
    )
    capacity: Positive = given(
        AcceleratorOption, "capacity", "capacity units of one instance; 1.0 for the first listed"
    )


class ScaledLeafSection(Section):
    """A role with instances: workloads that hold its counts, preferred first."""

    share: Count = need("parts of this role in one unit of its parent; the ratio is role → share")
    stage: Annotated[Stage, Field(strict=False)] | None = optional(
        None,
        "prefill, decode or encode; absent = the role's own name says it, or its parent's stage",
    )
    workloads: tuple[ScaledWorkloadSection, ...] = optional(
        (), "roles with instances only: objects that hold its counts, one per accelerator"
    )
    min_replicas: Count = given(
        RoleSpec, "min_replicas", "roles with instances only: fewest capacity units"
    )
    max_replicas: Count = given(
        RoleSpec, "max_replicas", "roles with instances only: most capacity units"
    )


class ScaledRoleSection(ScaledLeafSection):
    """A part of a service. Either it has workloads or roles of its own."""

    roles: Mapping[Name, ScaledLeafSection] = optional(
        {}, "nested roles (MoE): one unit of this role is its children's shares together"
    )


class ApprovalSection(Section):
    """Lets one plan of a service in mode recommend be carried out."""

    plan: Text = need("status.plan of the plan that is approved, and of no other")
    until: Annotated[str, AfterValidator(_instant)] = Field(
        description="when the approval ends, e.g. 2026-09-01T12:00:00Z",
        json_schema_extra={"format": "date-time"},
    )


class ScaledServiceSection(Section):
    """What a service should be scaled by."""

    roles: Annotated[Mapping[Name, ScaledRoleSection], Field(min_length=1)] = need(
        "name → role; usually prefill and decode"
    )
    slo: SloSection = need("service-level objective")
    policy: PolicySection = need("how it is sized")
    priority: Annotated[int, Field(ge=0, le=100)] = optional(50, "the higher is served first")
    lifecycle: LifecycleSection = optional(LifecycleSection(), "how instances enter and leave")
    mode: Annotated[Mode, Field(strict=False)] = given(
        ServiceSpec,
        "mode",
        "observe = publish only, recommend = wait for approval of each plan, enforce = act",
    )
    pause: PauseSection = optional(PauseSection(), "directions that are stopped")
    pin: Mapping[str, Count] = given(
        ServiceSpec, "pin", "leaf role → capacity units held fixed, within the role's bounds"
    )
    approval: ApprovalSection | None = optional(
        None, "mode recommend: the plan that may be carried out"
    )


class MetadataSection(Section):
    """What the resource is called, and where; other metadata is not read."""

    model_config = ConfigDict(extra="ignore")

    name: Name = need("name of the service, unique among all that one controller looks after")
    namespace: Name = optional("default", "namespace of the resource and of its workloads")


class ScaledServiceFile(Section):
    """One `ScaledService` as it is applied; its status is not read."""

    model_config = ConfigDict(extra="ignore")

    apiVersion: Literal["heteroscale.dev/v1alpha1"] = need("heteroscale.dev/v1alpha1")  # noqa: N815
    kind: Literal["ScaledService"] = need("ScaledService")
    metadata: MetadataSection = need("what it is called, and where")
    spec: ScaledServiceSection = need("what it is scaled by")

    def workloads(self) -> Iterator[ScaledWorkloadSection]:
        """Yield every workload of every role."""
        for role in self.spec.roles.values():
            yield from role.workloads
            for part in role.roles.values():
                yield from part.workloads
