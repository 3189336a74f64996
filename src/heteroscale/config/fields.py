"""Building blocks of every section: strictness, number ranges, and defaults from the entities.

A section mirrors what is written in YAML. It never repeats a default: `given` takes it from the
entity it becomes, so code, documentation and examples cannot drift apart.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

#: error type of a rule whose text is already in the project's own words
RULE = "rule"

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
TIME_OF_DAY = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
TIME_OF_DAY_END = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"

METRIC_NAME = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"
LABEL_NAME = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
HTTP_URL = r"^https?://\S+$"

#: pattern → its rule in words
PATTERNS = {
    DNS_LABEL: "must be a DNS label: at most 63 of a-z, 0-9 and '-', no '-' at either end",
    TIME_OF_DAY: "must be a time of day from 00:00 to 23:59",
    METRIC_NAME: "must be the name of a metric",
    LABEL_NAME: "must be the name of a label",
    HTTP_URL: "must be an address that begins with http:// or https://",
    TIME_OF_DAY_END: "must be a time of day from 00:00 to 24:00",
}

Name = Annotated[str, Field(pattern=DNS_LABEL)]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
#: 0 to 1, 0 excluded
Part = Annotated[float, Field(gt=0, le=1)]
#: 0 to 1, both included
Share = Annotated[float, Field(ge=0, le=1)]
#: 0 to 1, 1 excluded
Band = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A mapping in a file: known keys only, no conversion between types, no NaN or infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def default_of(entity: type, name: str) -> Any:
    """Return the default of an entity's field; a field without one is our mistake: KeyError."""
    for field in dataclasses.fields(entity):
        if field.name == name and field.default is not dataclasses.MISSING:
            return field.default
        if field.name == name and field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
    raise KeyError(f"{entity.__name__}.{name} has no default")


def given(entity: type, name: str, description: str) -> Any:
    """Return a field whose default is the entity's."""
    return Field(default=default_of(entity, name), description=description)


def need(description: str) -> Any:
    """Return a field that must be written."""
    return Field(description=description)


def optional(default: object, description: str) -> Any:
    """Return a field with a default of the file format itself (no entity holds it)."""
    return Field(default=default, description=description)


def broken(rule: str) -> PydanticCustomError:
    """Return the error to raise from a validator: one rule, in the project's own words."""
    return PydanticCustomError(RULE, "{rule}", {"rule": rule})
