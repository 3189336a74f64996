"""What is asked of Prometheus in a tick, and what an answer says of one role."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.adapters.promql import AGE, EXPECTED, SOURCES
from heteroscale.config.metrics_sections import DialectSection, Origin, RuleSection, SourceSection
from heteroscale.entities.service import RolePath

#: (service, role); the role is "" where a gateway speaks for all of a stage
Whose = tuple[str, RolePath]
#: (server, position of the source there): one voice
Voice = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """One query of a tick and what it belongs to."""

    voice: Voice
    source: SourceSection
    dialect: DialectSection
    #: None = it counts what should report
    rule: RuleSection | None
    promql: str
    #: quantiles that are wanted of a histogram, ascending
    quantiles: tuple[float, ...] = ()
    #: whether one voice answers for all roles
    of_gateway: bool = field(init=False)

    def __post_init__(self) -> None:
        """Keep what is asked for of every reading."""
        object.__setattr__(self, "of_gateway", self.dialect.origin is Origin.GATEWAY)


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of one role: stat → figure."""

    figures: Mapping[str, float]

    @property
    def sources(self) -> float:
        """Return how many engines or gateways report it."""
        return self.figures.get(SOURCES, 0.0)

    @property
    def expected(self) -> float:
        """Return how many of them are of those that should; all, where nobody knows them."""
        return self.figures.get(EXPECTED, self.sources)

    @property
    def age_s(self) -> float:
        """Return the age of its newest sample; infinite when there is none."""
        return self.figures.get(AGE, math.inf)
