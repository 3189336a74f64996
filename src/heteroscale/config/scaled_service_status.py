"""What the controller says of a `ScaledService`, in the manner of Kubernetes: its status."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from heteroscale.config.fields import Section, need, optional
from heteroscale.entities.service import Mode

#: sentences shown at most, and the longest of a message
MOST_REASONS = 16
LONGEST_MESSAGE = 4096


class StatusSection(Section):
    """A mapping of a status: the keys are those of Kubernetes."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class ConditionSection(StatusSection):
    """One thing that is true of the resource, or not."""

    type: Literal["Ready", "Active", "Degraded"] = need(
        "Ready = understood and planned; Active = its workloads are changed where the plan says"
        " so; Degraded = something is lacking or stands in the way"
    )
    status: Literal["True", "False", "Unknown"] = need("whether it is true")
    reason: Annotated[str, Field(min_length=1, max_length=64)] = need("why, in one word")
    message: Annotated[str, Field(max_length=LONGEST_MESSAGE)] = need("why, in sentences")
    observed_generation: int = need("generation of the resource that this was said of")
    last_transition_time: str = Field(
        description="when the status changed last", json_schema_extra={"format": "date-time"}
    )


class RoleStatusSection(StatusSection):
    """Counts of one role with instances, over all of its workloads."""

    name: str = need("the role, by path")
    current: int = need("replicas that its workloads asked for when the tick looked")
    desired: int = need("the same with what the tick changed")
    would_be: int = need("the same, were the whole plan carried out")
    ready: int = need("instances in rotation")
    withdrawn: int = need("instances out of rotation that still run and can come back")


class ReasonSection(StatusSection):
    """Why one step of planning changed, kept or refused something."""

    code: str = need("the reason in one word, as the journal has it")
    message: Annotated[str, Field(max_length=LONGEST_MESSAGE)] = need("the reason in a sentence")


class ScaledServiceStatus(StatusSection):
    """Written by the controller that leads, and only when something has changed."""

    observed_generation: int = need("generation of the resource that this was said of")
    mode: Mode = need("how far decisions go: observe, recommend or enforce")
    current: str = optional("", "counts by role as they were: prefill 9, decode 7")
    desired: str = optional("", "counts by role after what was changed")
    would_be: str = optional("", "counts by role, were the whole plan carried out")
    roles: tuple[RoleStatusSection, ...] = optional((), "counts of each role with instances")
    reason: str = optional("", "what decided, in one word")
    reasons: Annotated[tuple[ReasonSection, ...], Field(max_length=MOST_REASONS)] = optional(
        (), "why the counts are to be as they are; figures are those of the last change"
    )
    plan: str = optional("", "names the plan that waits for approval; empty = none does")
    changed_at: str | None = Field(
        default=None,
        description="when a count or an instance was changed last",
        json_schema_extra={"format": "date-time"},
    )
    conditions: tuple[ConditionSection, ...] = optional((), "Ready, Active and Degraded")
